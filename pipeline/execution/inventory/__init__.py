"""Inventory: what the detector may size with, what moving it costs, and where it should stand."""
