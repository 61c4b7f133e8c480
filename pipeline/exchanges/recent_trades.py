"""Which public question lists a symbol's newest trades, and how the answer is read.

Each dialect folder may have a ``recent_trades.py`` with ``RECENT``: market -> :class:`TradesQuestion`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from pipeline.model.enums import OrderSide


class PublicTrade(msgspec.Struct, frozen=True, kw_only=True):
    """One trade of others. ``qty``: base coin; where the venue counts contracts, those until the client has multiplied
    them."""

    trade_id: str  # "" where the venue tells none
    side: OrderSide  # of the taker
    price: Decimal
    qty: Decimal
    venue_wall_ms: int


class TradesQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A public GET. ``query``: (symbol, limit) -> its query; ``parse``: (venue, payload) -> trades in any order, raises
    ``ProtocolViolation``. ``in_contracts``: quantities are contracts."""

    path: str
    query: Callable[[str, int], str]
    parse: Callable[[str, bytes], list[PublicTrade]]
    weight: float = 1.0
    limit_max: int = 1000
    in_contracts: bool = False
