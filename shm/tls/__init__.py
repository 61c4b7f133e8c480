"""TLS from jitted code."""
