"""Readings and live views of an instance out of shared memory."""
