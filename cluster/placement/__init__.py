"""Which actor runs where, and starting and ending them."""
