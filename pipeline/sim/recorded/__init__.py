"""Recorded frames served over the wire as a simulated exchange."""
