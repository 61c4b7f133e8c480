"""Bybit's WebSocket order entry: frames of orders and cancels, and what comes back. Sans-I/O.

::

    {"reqId":"p-a1","header":{"X-BAPI-TIMESTAMP":"1700000000000","X-BAPI-RECV-WINDOW":"5000"},"op":"order.create",
     "args":[{"category":"linear","symbol":"BTCUSDT", …}]}
    {"reqId":"p-a1","retCode":0,"retMsg":"OK","op":"order.create","data":{"orderId":"o1","orderLinkId":"a1"},
     "retExtInfo":{},"header":{"X-Bapi-Limit-Status":"9","X-Bapi-Limit-Reset-Timestamp":"1700000000001"},"connId":"c"}

An answer of 0 says that the request was taken for processing, not what became of the order. A request is refused that
comes later than its window behind its timestamp: that is how an order expires.

*Source:* Bybit V5 documentation, "WebSocket Trade".
"""

from __future__ import annotations

import msgspec

from pipeline.exchanges.bybit.errors import code_of, of_address
from pipeline.exchanges.bybit.signing import BybitSigner
from pipeline.exchanges.parsing.venue_json import ABSENT, decode
from pipeline.exchanges.transport.refusals import error_of_code
from pipeline.model.errors import VenueError
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template import Pieces

CREATE, CANCEL, LOGIN = "order.create", "order.cancel", "auth"
RATE_SILENCE_S = 1.0  # limits of orders count per second
RATE_SILENCE_MAX_S = 10.0


class Header(msgspec.Struct, rename={"left": "X-Bapi-Limit-Status", "reset_ms": "X-Bapi-Limit-Reset-Timestamp"}):
    """``header`` of a reply: what is left of the running second, and when it ends (unix ms)."""

    left: str = ""
    reset_ms: str = ""


class ApiReply(msgspec.Struct):
    """One frame of the order socket."""

    op: str = ""
    reqId: str = ""
    retCode: int = 0
    retMsg: str = ""
    data: msgspec.Raw = ABSENT
    header: Header = msgspec.field(default_factory=Header)


_reply = msgspec.json.Decoder(ApiReply)


def parse_reply(venue: str, payload: bytes | memoryview) -> ApiReply:
    """One frame. Raises ``ProtocolViolation``."""
    return decode(_reply, payload, venue, "order reply")


def reply_error(venue: str, reply: ApiReply, now_ms: int) -> VenueError | None:
    """The error of a reply; None for a request that was taken. ``now_ms``: the venue's clock."""
    if reply.retCode == 0:
        return None
    return of_address(error_of_code(venue, 200, code_of(reply.retCode, reply.retMsg), _silence_s(reply.header, now_ms)))


def _silence_s(header: Header, now_ms: int) -> float:
    text = header.reset_ms
    if not (text.isascii() and text.isdigit()):
        return RATE_SILENCE_S
    return min(RATE_SILENCE_MAX_S, max(RATE_SILENCE_S, (int(text) - now_ms) / 1000))


def orders_left(reply: ApiReply) -> int | None:
    """Orders that the account may still place in the running second; None where the reply does not say."""
    text = reply.header.left
    return int(text) if text.isascii() and text.isdigit() else None


def call_frame(operation: str, request_id: str, body: bytes, timestamp_ms: int, window_ms: int) -> bytes:
    """One request; ``body``: the REST body of the same call."""
    head = f'{{"reqId":"{request_id}","header":{{"X-BAPI-TIMESTAMP":"{timestamp_ms}","X-BAPI-RECV-WINDOW":"'
    return f'{head}{BybitSigner.window(window_ms)}"}},"op":"{operation}","args":['.encode() + body + b"]}"


def call_pieces(operation: str, id_prefix: str, body: Pieces, window_ms: int) -> Pieces:
    """:func:`call_frame` with holes; its ``reqId`` is ``id_prefix`` and the client id."""
    return [
        f'{{"reqId":"{id_prefix}'.encode(),
        template.id_text(template.leg(ENTRY_LEG.client)),
        b'","header":{"X-BAPI-TIMESTAMP":"',
        template.integer_text(template.leg(ENTRY_LEG.now_ms)),
        f'","X-BAPI-RECV-WINDOW":"{BybitSigner.window(window_ms)}"}},"op":"{operation}","args":['.encode(),
        *body,
        b"]}",
    ]
