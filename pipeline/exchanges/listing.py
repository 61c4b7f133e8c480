"""Which public questions list everything that a market trades, and how their answers are read.

Each dialect folder has a ``listing.py`` with ``LISTINGS``: market -> :class:`Listing`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.rows import OddRows

#: (venue, payload, odd rows) -> (symbol, base, quote) of each symbol that trades.
ParseSymbols = Callable[[str, bytes, OddRows], list[tuple[str, str, str]]]
#: (venue, payload, odd rows) -> quote coin traded in 24 h by symbol.
ParseVolumes = Callable[[str, bytes, OddRows], dict[str, Decimal]]


class PublicQuestion(msgspec.Struct, frozen=True):
    """A public GET: path below the client's base, and its weight."""

    path: str
    weight: float = 1.0


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One market: what trades, and what it traded in 24 h."""

    symbols: PublicQuestion
    parse_symbols: ParseSymbols
    volumes: PublicQuestion
    parse_volumes: ParseVolumes
