"""Latency benches: one question per file, a C floor beside it where there is one. Run: ``python -m bench``."""
