"""Events from a venue to the executor. pipeline/exchanges/base.py says what may be concluded from each."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Literal

import msgspec

from pipeline.model.errors import VenueError
from pipeline.model.structs import Balance, Fill, OrderUpdate, Position


class OutcomeKind(StrEnum):
    """What an answer to a request says: taken, refused for certain, or nothing that settles it."""

    ACKED = "acked"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class PlaceOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one placement request. ``error`` is set unless ``kind`` is ``acked``."""

    venue: str
    symbol: str
    client_id: str
    kind: OutcomeKind
    update: OrderUpdate | None = None
    error: VenueError | None = None
    recv_mono_ns: int = 0


class CancelOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one cancel request. ``error`` is set unless ``kind`` is ``acked``."""

    venue: str
    symbol: str
    client_id: str
    order_id: str
    kind: OutcomeKind
    update: OrderUpdate | None = None
    error: VenueError | None = None
    recv_mono_ns: int = 0


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """Order entry and private stream of a venue, taken together. ``clock_known``: what is signed goes by a reading of
    the venue's clock, not by ours."""

    venue: str
    state: Literal["up", "down"]
    recv_mono_ns: int
    reason: str = ""
    clock_known: bool = True


class FundingNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A venue's stream says that funding was booked. It rounds the amount and gives no id: REST is to be queried."""

    venue: str
    symbol: str
    venue_wall_ms: int
    recv_mono_ns: int


class MoneyNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A venue's stream says that money moved without an order (deposit, withdrawal, transfer). A balance follows."""

    venue: str
    asset: str
    amount: Decimal  # signed change of the total
    reason: str  # as the venue names it
    recv_mono_ns: int


#: Every event of a venue.
VenueEvent = (
    OrderUpdate | Fill | Balance | Position | PlaceOutcome | CancelOutcome | SessionState | FundingNotice | MoneyNotice
)
#: Takes the events of a session, in the order of their arrival.
EventSink = Callable[[VenueEvent], None]
