"""Which plugins there are, where they come from, and what their code is."""
