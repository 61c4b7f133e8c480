"""What a feed must know of a venue's public streams, sans-I/O: addresses, topics, subscriptions, their answers.

One implementation a dialect (``<dialect>/public_stream.py``). It holds no socket, and of its connections' state only
the ids of their requests: one row of ids for all of them, because an answer is matched by its id alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import IntEnum

import msgspec


class ControlKind(IntEnum):
    """What a control frame (anything that is no market data) says."""

    ACK = 0  # topics are subscribed
    REFUSED = 1  # topics are refused, with a reason; the others of the same request stand
    PONG = 2
    RECONNECT = 3  # the venue announces the end of this connection
    OTHER = 4


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """One control frame, decoded. ``topics``: those that it is about; () where it names none."""

    kind: ControlKind
    topics: tuple[str, ...] = ()
    reason: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One frame to send, and the topics that its answer accepts or refuses."""

    payload: bytes
    topics: tuple[str, ...] = ()


class PublicStream(ABC):
    """Public streams of one venue.

    A *topic* is the smallest thing that can be subscribed (a channel of a symbol). ``book_topic`` carries the book,
    ``anchor_topic`` a ticker that pushes all the time: it proves that the connection lives.
    """

    topics_per_connection_max = 200
    #: A subscription is answered with a whole book on its own topic, whose numbering REST does not share: a lost book
    #: is asked for by subscribing anew, never by REST.
    whole_books_pushed = False
    ticker_of_every_symbol = True  # False: one ticker per connection, as its anchor
    #: Nothing on the stream shows that a book's own updates have stopped, so a quiet one is compared with REST.
    compares_quiet_books = False
    #: How far topics of one connection run apart, in ms of venue time, as recordings show: a frame of one topic proves
    #: that whatever the others had to say this long before has arrived. A feed begins with this value and then measures
    #: (``connection_proofs.py``): it goes below it on calm connections, and above it where steps are larger.
    cross_topic_lag_ms = 100
    frames_per_s_max = 10.0  # our control frames
    ping_interval_s = 15.0
    stall_after_s = 10.0  # no frame of any kind while subscribed: the connection is replaced
    life_s = 23 * 3600.0  # a planned change comes before the venue ends the connection (24 h)

    _ids_taken = 0

    @property
    def can_be_doubled(self) -> bool:
        """Whether two connections bring the same updates under the same numbers; not known where each begins with a
        whole book of its own."""
        return not self.whole_books_pushed

    def take_ids(self, count: int) -> int:
        """The first of ``count`` ids that no request of any connection has had."""
        first = self._ids_taken + 1
        self._ids_taken += count
        return first

    @abstractmethod
    def url(self) -> str:
        """Address of a connection."""

    def headers(self) -> Mapping[str, str]:
        """Headers of its upgrade request."""
        return {}

    @abstractmethod
    def book_topic(self, symbol: str) -> str:
        """The topic that carries the symbol's book."""

    @abstractmethod
    def anchor_topic(self, symbol: str) -> str:
        """The topic that carries the symbol's best prices."""

    @abstractmethod
    def subscribe(self, topics: Sequence[str], request_id: int, wall_s: int) -> list[Request]:
        """Frames that ask for ``topics``. ``request_id``: the first of as many ids as there are topics
        (:meth:`take_ids`); ``wall_s``: unix time, which some venues want in the frame."""

    @abstractmethod
    def unsubscribe(self, topics: Sequence[str], request_id: int, wall_s: int) -> list[Request]:
        """Frames that end ``topics``; otherwise as :meth:`subscribe`."""

    @abstractmethod
    def control(self, payload: bytes) -> Control:
        """Decodes a control frame. Raises ``ProtocolViolation``."""

    def ping(self, wall_s: int) -> bytes:
        """The venue's own ping as a text frame; b"" = protocol pings only."""
        return b""
