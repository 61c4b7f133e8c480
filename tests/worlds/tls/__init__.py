"""Peers that speak TLS, with certificates of a test's own authority."""
