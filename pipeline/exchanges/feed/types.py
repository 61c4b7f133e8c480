"""Small records of a feed: what it needs of an instrument, how a test may set it, what it counts."""

from __future__ import annotations

from decimal import Decimal

import msgspec

#: A feed's counter ``<venue>.wanted_digits.<instrument>``: digits after the point that a price of it needs.
WANTED_DIGITS = "wanted_digits"


class FeedInstrument(msgspec.Struct, frozen=True, kw_only=True):
    """What a feed needs of a catalogue row."""

    symbol: str
    book_index: int
    instrument_id: int
    price_exp: int
    qty_exp: int
    row_epoch: int
    multiplier: Decimal = Decimal(1)


class FeedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``sockets``: connections with the same topics, 1 or 2. The others are overrides for tests; None = what the
    dialect's ``PublicStream`` says."""

    sockets: int = 1
    life_s: float | None = None
    stall_after_s: float | None = None


class Counters(msgspec.Struct):
    """What a feed counts beside the books' own counters."""

    connects: int = 0
    disconnects: int = 0
    planned_changes: int = 0
    refused_topics: int = 0
    snapshots_failed: int = 0
    rest_books: int = 0
    bad_frames: int = 0
    disorder_ms_max: int = 0
    late_episodes: int = 0
    silences: int = 0  # connections that said nothing for a while and went on
    pauses: int = 0
    deepened: int = 0  # snapshots taken by standing books whose price had come near the end of the last one
    behind_ticker: int = 0  # books lost because no update followed a ticker that was ahead of them
    uncompared: int = 0  # books, now, that are other than their tickers for good: their own updates prove them
    quiet: int = (
        0  # connections without data whose books the venue's REST has confirmed (refused by age: quiet_unproved)
    )
