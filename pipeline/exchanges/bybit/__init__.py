"""Bybit V5: spot and USDT perpetuals, market data."""
