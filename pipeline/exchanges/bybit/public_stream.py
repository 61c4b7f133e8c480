"""Bybit public streams of spot and linear: subscribe frames, answers, pings. Sans-I/O.

::

    {"req_id":"1","op":"subscribe","args":["orderbook.50.BTCUSDT"]}
      -> {"success":true,"ret_msg":"","conn_id":"c","req_id":"1","op":"subscribe"}
    {"success":false,"ret_msg":"error:handler not found,topic:X", …}   one bad topic refuses its whole request
    {"op":"ping"} -> {"success":true,"ret_msg":"pong","op":"ping", …}

A book begins with a whole one (type ``snapshot``) on its own topic, which may come before the acknowledgement; it is
asked for again by subscribing anew. ``orderbook.1`` (best prices, repeated after 3 s of quiet) is the ticker: those of
``tickers`` on spot have no prices of the book. Each topic is asked for by itself, so that a refusal is of it alone.

*Source:* Bybit V5 documentation: WebSocket connect, order book.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from pipeline.exchanges.feed.public_stream import Control, ControlKind, PublicStream, Request
from pipeline.exchanges.parsing.venue_json import decode
from pipeline.exchanges.transport.refusals import printable

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

REQUESTS_REMEMBERED_MAX = 2048
_ALREADY = "already subscribed"  # harmless: the topic stands


class _Reply(msgspec.Struct):
    success: bool | None = None
    ret_msg: str = ""
    req_id: str = ""
    op: str = ""


_reply = msgspec.json.Decoder(_Reply)


class BybitPublicStream(PublicStream):
    """:class:`PublicStream` of one Bybit market."""

    topics_per_connection_max = 200  # 21,000 characters of topics; a name has about 25
    whole_books_pushed = True
    compares_quiet_books = True  # ids of tickers and depth do not compare
    frames_per_s_max = 20.0
    ping_interval_s = 20.0  # 10 min without traffic closes; the venue advises 20 s
    stall_after_s = 25.0  # pongs at least
    cross_topic_lag_ms = 100  # not measured: no recording; the slower book's own pace is 20 ms

    def __init__(self, venue: VenueConfig) -> None:
        self._venue = venue.name
        self._ws = venue.ws
        self._asked: OrderedDict[str, str] = OrderedDict()  # req_id -> topic

    def url(self) -> str:
        return self._ws

    def book_topic(self, symbol: str) -> str:
        return f"orderbook.50.{symbol}"

    def anchor_topic(self, symbol: str) -> str:
        return f"orderbook.1.{symbol}"

    def subscribe(self, topics: Sequence[str], request_id: int, wall_s: int) -> list[Request]:
        requests = self._frames("subscribe", topics, request_id)
        for number, topic in enumerate(topics, request_id):
            self._asked[str(number)] = topic
        while len(self._asked) > REQUESTS_REMEMBERED_MAX:
            self._asked.popitem(last=False)
        return requests

    def unsubscribe(self, topics: Sequence[str], request_id: int, wall_s: int) -> list[Request]:
        return self._frames("unsubscribe", topics, request_id)

    def _frames(self, operation: str, topics: Sequence[str], request_id: int) -> list[Request]:
        return [
            Request(payload=f'{{"req_id":"{number}","op":"{operation}","args":["{topic}"]}}'.encode(), topics=(topic,))
            for number, topic in enumerate(topics, request_id)
        ]

    def control(self, payload: bytes) -> Control:
        reply = decode(_reply, payload, self._venue, "control frame")
        if reply.op == "pong" or reply.ret_msg == "pong":
            return Control(kind=ControlKind.PONG)
        topic = self._asked.get(reply.req_id)
        if reply.op != "subscribe" or reply.success is None or topic is None:
            return Control(kind=ControlKind.OTHER, reason="" if reply.success else printable(reply.ret_msg))
        if reply.success or _ALREADY in reply.ret_msg:
            return Control(kind=ControlKind.ACK, topics=(topic,))
        return Control(kind=ControlKind.REFUSED, topics=(topic,), reason=printable(reply.ret_msg))

    def ping(self, wall_s: int) -> bytes:
        return b'{"op":"ping"}'


def make_public_stream(venue: VenueConfig) -> BybitPublicStream:
    """Public streams of one market."""
    return BybitPublicStream(venue)
