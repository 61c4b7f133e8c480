"""Exchanges asked directly, without an engine: one object for each venue, and a REST client for other purposes.

Names are loaded from their modules: ``from arbitrage.direct.factory import FullExchangeFactory``.
"""
