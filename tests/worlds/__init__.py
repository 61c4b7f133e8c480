"""Worlds that tests share: simulated venues, execution on virtual time, whole instances."""
