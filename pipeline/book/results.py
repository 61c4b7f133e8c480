"""What ``VenueBooks`` answers: results of frames and snapshots, totals, the best prices of a book."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec

from pipeline.book.frame_kernels import (
    RESULT_APPLIED,
    RESULT_BUFFERED,
    RESULT_CONTROL,
    RESULT_DROPPED,
    RESULT_NEED_SNAPSHOT,
    RESULT_OTHER,
    RESULT_PRICE_PRECISION,
    RESULT_REJECTED,
    RESULT_RESYNC,
    RESULT_TICKER,
)
from pipeline.book.memory import COUNTER_NAMES


class FrameResult(IntEnum):
    """What became of a frame. From ``NEED_SNAPSHOT`` on, ``VenueBooks.needs_snapshot`` may name the book."""

    APPLIED = RESULT_APPLIED
    DROPPED = RESULT_DROPPED  # older than the book
    TICKER = RESULT_TICKER
    OTHER_TOPIC = RESULT_OTHER  # or a symbol that is not ours
    CONTROL = RESULT_CONTROL  # an answer or notice for the caller to read
    BUFFERED = RESULT_BUFFERED  # waiting for a snapshot
    NEED_SNAPSHOT = RESULT_NEED_SNAPSHOT  # gap or first update; published as gap, update buffered
    RESYNC = RESULT_RESYNC  # crossed or contradicted; published as untradable
    REJECTED = RESULT_REJECTED  # bytes that the venue's documents do not allow; the book is invalid
    PRICE_PRECISION = RESULT_PRICE_PRECISION  # ``needed_price_exp`` says how many digits; the book is invalid


class SnapshotResult(IntEnum):
    """What became of a snapshot."""

    SYNCED = 0  # the book stands on it and on every update since
    STALE = 1  # older than the book or than the first buffered update, or the book came out crossed: fetch again
    REJECTED = 2  # bytes that the venue's documents do not allow, or too much for the memory; the book is invalid
    PRICE_PRECISION = 3  # the same as of a frame


class BookCounters(msgspec.Struct, frozen=True):
    """Totals of one venue; see ``memory.COUNTER_NAMES`` for what each one counts."""

    frames: int
    messages: int
    applied: int
    dropped: int
    gaps: int
    resyncs: int
    fast_path: int
    slow_path: int
    crossed: int
    rejected: int
    inexact_levels: int
    tickers: int
    contradicted: int
    other: int
    control: int
    snapshots: int
    stale_snapshots: int
    buffered: int
    published: int
    overflowed: int
    filled: int


assert BookCounters.__struct_fields__ == COUNTER_NAMES


class Top(NamedTuple):
    """Best level of each side in fixed point; (0, 0) = empty side."""

    update_id: int
    bid: int
    bid_qty: int
    ask: int
    ask_qty: int
