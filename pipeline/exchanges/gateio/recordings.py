"""How recorded messages of Gate.io are recognised: by their channels, snapshots by their fields."""

from __future__ import annotations

import re

from pipeline.book.recording.shapes import RecordingShape

_CHANNEL = re.compile(rb'"channel"\s*:\s*"(spot|futures)\.')


def market_of(payload: bytes) -> str:
    """``spot`` or ``futures`` of a push."""
    channel = _CHANNEL.search(payload)
    return channel[1].decode() if channel is not None else ""


def snapshot_symbol(payload: bytes) -> str | None:
    """ "" for an order book, which names no symbol; None for anything else."""
    book = b'"channel"' not in payload and b'"asks"' in payload and b'"bids"' in payload and b'"id"' in payload
    return "" if book else None


def contract_size(row: dict[str, object]) -> tuple[str, str] | None:
    """(symbol, ``quanto_multiplier``) of a row of /futures/usdt/contracts."""
    return (str(row["name"]), str(row["quanto_multiplier"])) if "name" in row and "quanto_multiplier" in row else None


SHAPE = RecordingShape(market_of=market_of, snapshot_symbol=snapshot_symbol, contract_size=contract_size)
