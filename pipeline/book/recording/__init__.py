"""Recorded market data: reading the files, and their messages through the production books."""
