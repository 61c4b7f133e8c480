"""How recorded messages of Binance are recognised.

``pu`` in depth updates is USDⓈ-M (COIN-M, known by its symbols, is refused), depth updates without it are spot. Partial
books (``@depth5``) are no depth updates.
"""

from __future__ import annotations

import re

import msgspec

from pipeline.book.recording.shapes import UNREADABLE, RecordingShape

_DEPTH_EVENT = re.compile(rb'"e"\s*:\s*"depthUpdate"')
_PARTIAL = re.compile(rb'"stream"\s*:\s*"[^"]*@depth[0-9]')
_COIN_MARGINED = re.compile(rb'"s"\s*:\s*"([A-Z0-9]+USD_(?:PERP|[0-9]{6}))"')
_PREVIOUS = re.compile(rb'"pu"\s*:\s*[0-9]')


class _SnapshotHead(msgspec.Struct):
    """Names that a recorded snapshot may carry besides its id."""

    lastUpdateId: int | None = None
    s: str = ""
    symbol: str = ""


class _Wrapped(msgspec.Struct):
    stream: str = ""
    data: _SnapshotHead | None = None


def market_of(payload: bytes) -> str:
    """``spot`` or ``futures`` of a depth update."""
    # A push that names its channel is another exchange's: this one names streams.
    if _DEPTH_EVENT.search(payload) is None or _PARTIAL.search(payload) is not None or b'"channel"' in payload[:200]:
        return ""
    return "futures" if _PREVIOUS.search(payload) is not None else "spot"


def snapshot_symbol(payload: bytes) -> str | None:
    """None: not a snapshot; else the symbol that it names, or "" ."""
    if b'"lastUpdateId"' not in payload:
        return None
    try:
        if b'"stream"' in payload[:100]:
            wrapped = msgspec.json.decode(payload, type=_Wrapped)
            if wrapped.data is None or wrapped.data.lastUpdateId is None or "@depth" in wrapped.stream:
                return None
            return wrapped.data.s or wrapped.data.symbol or wrapped.stream.partition("@")[0].upper()
        head = msgspec.json.decode(payload, type=_SnapshotHead)
    except UNREADABLE:
        return None
    return None if head.lastUpdateId is None else head.s or head.symbol


def refusal(payload: bytes, market: str) -> str:
    """Why a push is of no market that we read."""
    coin = _COIN_MARGINED.search(payload) if market == "futures" else None
    if coin is None:
        return ""
    return (
        f"a recording of Binance COIN-M futures ({coin[1].decode()}): quantities are contracts of US dollars, which no "
        "venue here has; wanted spot or USDⓈ-M"
    )


def unusable(payload: bytes) -> str:
    """What a message without a usable update is."""
    partial = _PARTIAL.search(payload) is not None
    return "partial books only (depth5, depth10, depth20), wanted their updates (@depth)" if partial else ""


SHAPE = RecordingShape(market_of=market_of, snapshot_symbol=snapshot_symbol, refusal=refusal, unusable=unusable)
