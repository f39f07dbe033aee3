"""How a network comes to be, is trained and is scored."""
