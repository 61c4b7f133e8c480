"""What recorded messages of a dialect look like: said by the dialect (its ``recordings.py``), asked here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

#: What decoding a message may raise; the last: nested a thousand deep.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
SizeOf = Callable[[dict[str, object]], tuple[str, str] | None]
"""A row of a recorded contract list -> (symbol, base coins per contract as text); None for another row."""


def _nothing(payload: bytes, market: str = "") -> str:
    """No objection."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingShape:
    """``market_of``: the market whose push this is, "" where it may be another exchange's; ``snapshot_symbol``: the
    symbol of a REST snapshot, "" where it names none, None for what is no snapshot of this exchange; ``refusal``: why a
    push (of that market) can be no recording that we read, "" where it can; ``unusable``: of a message in a recording
    without one usable push, what it is instead."""

    market_of: Callable[[bytes], str]
    snapshot_symbol: Callable[[bytes], str | None]
    refusal: Callable[[bytes, str], str] = _nothing
    unusable: Callable[[bytes], str] = _nothing
    contract_size: SizeOf | None = None


Shapes = Mapping[str, RecordingShape]
"""By dialect."""
