"""Tests of the MEXC dialect."""
