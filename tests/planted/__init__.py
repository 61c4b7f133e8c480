"""Bugs that tests plant on purpose, to see that a checker sees them."""
