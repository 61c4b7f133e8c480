"""What a feed must know of a venue's public streams; sans-I/O, one implementation per dialect (``session.py``).

A session turns topics of instruments into frames and control frames into verdicts. It holds no socket and no state of
a connection except the ids of its own requests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import IntEnum

import msgspec


class ControlKind(IntEnum):
    ACK = 0  # topics are subscribed
    REFUSED = 1  # topics are refused, with a reason; the others of the same request stand
    PONG = 2
    RECONNECT = 3  # the venue announces the end of this connection
    OTHER = 4


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """Verdict on one control frame. ``topics`` are those that the frame speaks of (may be none)."""

    kind: ControlKind
    topics: tuple[str, ...] = ()
    reason: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One outgoing control frame and the topics that its answer decides about."""

    payload: bytes
    topics: tuple[str, ...] = ()


class PublicStream(ABC):
    """Public streams of one venue.

    A *topic* is the smallest thing that can be subscribed (a channel of a symbol). ``book_topic`` carries the book,
    ``anchor_topic`` a ticker that pushes all the time: it proves that the connection lives.
    """

    topics_per_connection_max = 200
    ticker_of_every_symbol = True  # False: one ticker per connection, as its anchor
    #: How far back venue time may run between topics of one connection: a frame proves that everything older than this
    #: has arrived. From recordings; the feed measures, raises it where it must, and never goes below.
    cross_topic_lag_ms = 100
    frames_per_s_max = 10.0  # our control frames
    ping_interval_s = 15.0
    stall_after_s = 10.0  # no frame of any kind while subscribed
    life_s = 23 * 3600.0

    @abstractmethod
    def url(self) -> str: ...

    def headers(self) -> Mapping[str, str]:
        return {}

    @abstractmethod
    def book_topic(self, symbol: str) -> str: ...

    @abstractmethod
    def anchor_topic(self, symbol: str) -> str: ...

    @abstractmethod
    def subscribe(self, topics: Sequence[str], request_id: int, wall_s: int) -> list[Request]: ...

    @abstractmethod
    def unsubscribe(self, topics: Sequence[str], request_id: int, wall_s: int) -> list[Request]: ...

    @abstractmethod
    def control(self, payload: bytes) -> Control:
        """Verdict on a control frame. Raises ``ProtocolViolation``."""

    def ping(self, wall_s: int) -> bytes:
        """The venue's own ping as a text frame; b"" = protocol pings only."""
        return b""
