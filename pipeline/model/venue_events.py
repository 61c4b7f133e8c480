"""What a venue says to the executor, as events. pipeline/exchanges/base.py says who may conclude what from them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Literal

import msgspec

from pipeline.model.errors import VenueError
from pipeline.model.structs import Balance, Fill, OrderUpdate, Position


class OutcomeKind(StrEnum):
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
    """Order entry and private stream of a venue, taken together."""

    venue: str
    state: Literal["up", "down"]
    recv_mono_ns: int
    reason: str = ""


class FundingNews(msgspec.Struct, frozen=True, kw_only=True):
    """A venue booked funding. Its stream rounds the amount and does not name the booking: the books are to be asked."""

    venue: str
    symbol: str
    venue_wall_ms: int
    recv_mono_ns: int


VenueEvent = OrderUpdate | Fill | Balance | Position | PlaceOutcome | CancelOutcome | SessionState | FundingNews
EventSink = Callable[[VenueEvent], None]
