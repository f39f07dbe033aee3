"""Is it an honest autoencoder? The suite that holds an architecture to the contract."""
