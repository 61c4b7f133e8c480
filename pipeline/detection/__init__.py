"""Jitted detection: one kernel per strategy, shared edge arithmetic and depth walk, the scan loop."""
