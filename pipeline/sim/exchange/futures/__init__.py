"""Futures of a simulated venue: positions, margin, what the venue does to them by itself."""
