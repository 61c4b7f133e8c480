"""Binance public streams of spot and USDⓈ-M: combined-stream URL, SUBSCRIBE frames, answers. Sans-I/O.

::

    {"method":"SUBSCRIBE","params":["btcusdt@depth@100ms"],"id":1}  ->  {"result":null,"id":1}
    {"code":2,"msg":"Invalid request: …"}                            refusal without an id
    {"e":"serverShutdown","E":…}                                     this connection ends soon

An unknown symbol is acknowledged and stays silent: only its snapshot fails.

*Source:* Binance spot and USDⓈ-M futures, WebSocket market streams: diff. depth, how to manage a local order book.
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

REQUESTS_REMEMBERED_MAX = 256


class _Error(msgspec.Struct):
    code: int = 0
    msg: str = ""


class _Reply(msgspec.Struct):
    id: int | str | None = None
    result: object = None
    code: int | None = None
    msg: str = ""
    error: _Error | None = None
    event: str = msgspec.field(name="e", default="")


_reply = msgspec.json.Decoder(_Reply)


class BinancePublicStream(PublicStream):
    """:class:`PublicStream` of one Binance market."""

    topics_per_connection_max = 400  # the venue takes 1024
    frames_per_s_max = 3.0  # 5 inbound messages a second, pings and pongs among them
    ping_interval_s = 60.0
    stall_after_s = 10.0

    def __init__(self, venue: VenueConfig) -> None:
        self._venue = venue.name
        self._ws = venue.ws.rstrip("/")
        self._market = venue.market
        # recordings: spot up to 4 ms in 13,208 events, USDⓈ-M up to 36 ms in 168,607
        self.cross_topic_lag_ms = 10 if venue.market == "spot" else 50
        self._asked: OrderedDict[int, tuple[str, ...]] = OrderedDict()

    def url(self) -> str:
        """Raw frames (``/ws``): every stream here names its symbol. USDⓈ-M books live on the ``/public`` route."""
        if self._ws.endswith("/ws") or self._ws.endswith("/stream"):
            return self._ws
        route = "/public" if self._market == "futures" and not self._ws.endswith("/public") else ""
        return f"{self._ws}{route}/ws"

    def book_topic(self, symbol: str) -> str:
        return f"{symbol.lower()}@depth@100ms"

    def anchor_topic(self, symbol: str) -> str:
        return f"{symbol.lower()}@bookTicker"

    def subscribe(self, topics: Sequence[str], request_id: int, wall_s: int) -> list[Request]:
        return self._frames("SUBSCRIBE", topics, request_id)

    def unsubscribe(self, topics: Sequence[str], request_id: int, wall_s: int) -> list[Request]:
        return self._frames("UNSUBSCRIBE", topics, request_id)

    def _frames(self, method: str, topics: Sequence[str], request_id: int) -> list[Request]:
        if not topics:
            return []
        params = ",".join(f'"{topic}"' for topic in topics)
        payload = f'{{"method":"{method}","params":[{params}],"id":{request_id}}}'.encode()
        if method == "SUBSCRIBE":
            self._asked[request_id] = tuple(topics)
            while len(self._asked) > REQUESTS_REMEMBERED_MAX:
                self._asked.popitem(last=False)
        return [Request(payload=payload, topics=tuple(topics))]

    def control(self, payload: bytes) -> Control:
        reply = decode(_reply, payload, self._venue, "control frame")
        if reply.event == "serverShutdown":
            return Control(kind=ControlKind.RECONNECT, reason="serverShutdown")
        topics = self._asked.get(reply.id, ()) if isinstance(reply.id, int) else ()
        refusal = reply.error or (_Error(code=reply.code, msg=reply.msg) if reply.code is not None else None)
        if refusal is not None:
            return Control(kind=ControlKind.REFUSED, topics=topics, reason=printable(f"{refusal.code} {refusal.msg}"))
        if topics:
            return Control(kind=ControlKind.ACK, topics=topics)
        return Control(kind=ControlKind.OTHER, reason=printable(reply.event))


def make_public_stream(venue: VenueConfig) -> BinancePublicStream:
    """Public streams of one market."""
    return BinancePublicStream(venue)
