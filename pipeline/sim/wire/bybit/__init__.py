"""Simulated Bybit: the public side of V5, spot and USDT perpetuals."""
