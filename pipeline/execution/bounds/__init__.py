"""Bounds of what may stand alone, and for how long."""
