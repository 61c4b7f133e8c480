"""MEXC public streams: channels, subscriptions, acknowledgements and refusals. Sans-I/O.

A refusal has code 0 like an acknowledgement; only the text differs (note two spaces, full-width colon)::

    {"id":0,"code":0,"msg":"spot@public.aggre.depth.v3.api.pb@10ms@BTCUSDT,spot@public...."}
    {"id":0,"code":0,"msg":"Not Subscribed successfully! [ch].  Reason： Blocked! "}
    {"id":0,"code":0,"msg":"Subscribed successful! [a,b]. Not Subscribed successfully! [c].  Reason： Blocked! "}

*Source:* MEXC spot v3, WebSocket market streams. At most 30 topics a connection; a connection without subscription is
closed after 30 s, without data after 60 s; 24 h life.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from pipeline.exchanges.feed.public_stream import Control, ControlKind, PublicStream, Request
from pipeline.exchanges.parsing.venue_json import decode
from pipeline.exchanges.transport.refusals import printable

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

DEPTH = "spot@public.aggre.depth.v3.api.pb@10ms@"
BOOK_TICKER = "spot@public.aggre.bookTicker.v3.api.pb@10ms@"  # at 10ms unchanged quotes repeat: a steady anchor
TOPICS_MAX = 30
_REFUSED = re.compile(r"Not Subscribed successfully! \[(?P<topics>[^\]]*)\]\.?\s*(?:Reason[：:]\s*(?P<why>[^!]*!?))?")
_ACCEPTED = re.compile(r"(?<!Not )Subscribed successful! \[(?P<topics>[^\]]*)\]")
_CHANNEL = re.compile(r"spot@[A-Za-z0-9.@+_-]+\Z")


class ControlReply(msgspec.Struct):
    """Any text frame."""

    msg: str = ""
    code: int = 0
    id: int | None = None


control_decoder = msgspec.json.Decoder(ControlReply)


def _split(text: str) -> list[str]:
    return [topic.strip() for topic in text.split(",") if topic.strip()]


def parse_ack(msg: str) -> tuple[list[str], dict[str, str]]:
    """(accepted topics, refused topics with reason) of a subscription's answer. ([], {}) = no such answer."""
    refused: dict[str, str] = {}
    for match in _REFUSED.finditer(msg):
        reason = (match["why"] or "no reason given").strip()
        refused.update(dict.fromkeys(_split(match["topics"]), reason))
    accepted = [topic for match in _ACCEPTED.finditer(msg) for topic in _split(match["topics"])]
    if not refused and not accepted:
        topics = _split(msg)
        if topics and all(_CHANNEL.match(topic) for topic in topics):
            accepted = topics
    return accepted, refused


class MexcPublicStream(PublicStream):
    """:class:`PublicStream` of MEXC spot."""

    topics_per_connection_max = TOPICS_MAX
    ticker_of_every_symbol = False  # 30 topics are few, and nothing says that versions of ticker and depth compare
    compares_quiet_books = True
    cross_topic_lag_ms = 20  # no recording to measure: small, and raised by what the feed sees
    frames_per_s_max = 50.0
    ping_interval_s = 15.0
    stall_after_s = 10.0

    def __init__(self, venue: VenueConfig) -> None:
        self._venue = venue.name
        self._ws = venue.ws

    def url(self) -> str:
        return self._ws

    def book_topic(self, symbol: str) -> str:
        return DEPTH + symbol

    def anchor_topic(self, symbol: str) -> str:
        return BOOK_TICKER + symbol

    def subscribe(self, topics: Sequence[str], request_id: int, wall_s: int) -> list[Request]:
        return self._frames("SUBSCRIPTION", topics, request_id)

    def unsubscribe(self, topics: Sequence[str], request_id: int, wall_s: int) -> list[Request]:
        return self._frames("UNSUBSCRIPTION", topics, request_id)

    def _frames(self, method: str, topics: Sequence[str], request_id: int) -> list[Request]:
        if not topics:
            return []
        params = ",".join(f'"{topic}"' for topic in topics)
        payload = f'{{"method":"{method}","params":[{params}],"id":{request_id}}}'.encode()
        return [Request(payload=payload, topics=tuple(topics))]

    def control(self, payload: bytes) -> Control:
        reply = decode(control_decoder, payload, self._venue, "control frame")
        if reply.msg.upper() == "PONG":
            return Control(kind=ControlKind.PONG)
        accepted, refused = parse_ack(reply.msg)
        if refused:
            reason = "; ".join(sorted(set(refused.values())))
            return Control(kind=ControlKind.REFUSED, topics=tuple(refused), reason=printable(reason))
        if accepted:
            return Control(kind=ControlKind.ACK, topics=tuple(accepted))
        return Control(kind=ControlKind.OTHER, reason=printable(reply.msg))

    def ping(self, wall_s: int) -> bytes:
        return b'{"method":"PING"}'


def make_public_stream(venue: VenueConfig) -> MexcPublicStream:
    """Public streams of one venue."""
    return MexcPublicStream(venue)
