"""What the times that venues announce (listing, delisting, delivery) say of an instrument at a given moment.

An instrument that is not listed yet is halted, whatever its row says. Hours before its end it is *ending*: nothing new
is entered there, and hedges with a leg there leave while both markets still work. (A venue may withdraw an
announcement: the next row that is read from it says so.)
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from pipeline.model.enums import TradingStatus
from pipeline.model.structs import InstrumentSpec
from pipeline.model.units import S_PER_HOUR

OPENED_FOR_S = 60  # after a listing time its row is read again, until it says that it is traded
NEVER_S = 4_102_444_800  # 2100: Binance gives perpetual contracts a delivery date there


def announced_s(seconds: float) -> int:
    """A venue's time in unix seconds as a whole number; 0 where it says none, or one that is never."""
    return int(seconds) if 0 < seconds < NEVER_S else 0


def at_time(spec: InstrumentSpec, wall_s: int, before_end_h: int) -> InstrumentSpec:
    """``spec`` as its times make it at ``wall_s`` (unix); ``before_end_h``: how long before its end it is ending."""
    status = TradingStatus.HALTED if spec.trading_from_wall_s > wall_s else spec.status
    until_s = spec.trading_until_wall_s
    near = until_s > 0 and wall_s >= until_s - before_end_h * S_PER_HOUR
    ending, unreadable = spec.ending or near, spec.unreadable and not near
    if (status, ending, unreadable) == (spec.status, spec.ending, spec.unreadable):
        return spec
    return msgspec.structs.replace(spec, status=status, ending=ending, unreadable=unreadable)


def just_opened(specs: Iterable[InstrumentSpec], wall_s: int) -> list[str]:
    """Venues of instruments that are halted and whose listing time has come: their next row may say that they trade."""
    opened = range(wall_s - OPENED_FOR_S, wall_s + 1)
    return sorted(
        {spec.venue for spec in specs if spec.status is TradingStatus.HALTED and spec.trading_from_wall_s in opened}
    )


def halted_text(spec: InstrumentSpec, wall_s: int) -> str:
    """Why an instrument that the venue lists is halted."""
    if spec.trading_from_wall_s <= wall_s:
        return "suspended by the venue"
    return f"not open yet: the venue opens it at {_utc(spec.trading_from_wall_s)}"


def ending_text(spec: InstrumentSpec) -> str:
    """Why nothing new is entered on an instrument that is ending."""
    if spec.unreadable:
        return f"{spec.venue} {spec.symbol}: its row cannot be read"
    if not spec.trading_until_wall_s:
        return f"{spec.venue} {spec.symbol}: the venue only lets positions be reduced"
    return f"{spec.venue} {spec.symbol} ends trading at {_utc(spec.trading_until_wall_s)}"


def _utc(wall_s: int) -> str:
    return f"{datetime.fromtimestamp(wall_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
