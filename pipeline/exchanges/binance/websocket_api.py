"""Binance WebSocket API frames: signed calls, and what comes back. Sans-I/O.

::

    {"id":"p-a1","method":"order.place","params":{"apiKey":"...", ... ,"signature":"..."}}
    {"id":"p-a1","status":200,"result":{...},"rateLimits":[{"rateLimitType":"ORDERS","interval":"SECOND",
     "intervalNum":10,"limit":50,"count":12}, ...]}
    {"id":"p-a1","status":400,"error":{"code":-2010,"msg":"..."},"rateLimits":[...]}
    {"id":"p-a1","status":418,"error":{"code":-1003,"msg":"...","data":{"serverTime":1659142907531,
     "retryAfter":1659146400000}}}
    {"subscriptionId":0,"event":{"e":"executionReport", ...}}

What is signed is the query of the parameters in the order of their names: :func:`signed_text` makes it of the frame's
own bytes, so that frame and signature cannot differ.

*Source:* Binance spot WebSocket API, USDⓈ-M futures WebSocket API: request and response format, request security,
rate limits (read 2026).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pipeline.exchanges.binance.errors import code_of, of_weight
from pipeline.exchanges.binance.signing import BinanceSigner
from pipeline.exchanges.parsing.venue_json import ABSENT, decode
from pipeline.exchanges.transport.refusals import (
    BAN_DEFAULT_S,
    IP_BAN,
    RETRY_AFTER_DEFAULT_S,
    SILENCE_MAX_S,
    error_of_code,
    printable,
)
from pipeline.model.errors import GatewayRefused, VenueError
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template import Pieces

#: Intervals of order counts that matter here; a day's is never near.
ORDER_INTERVALS = ("SECOND", "MINUTE")

#: Parameters of a call in the order of their names; a whole number stands bare, text in quotes.
Params = Sequence[tuple[str, str | int]]


class _Silence(msgspec.Struct):
    serverTime: int = 0
    retryAfter: int = 0


class Refusal(msgspec.Struct):
    """``error`` of a reply."""

    code: int | None = None
    msg: str | None = ""
    data: _Silence | None = None


class RateCount(msgspec.Struct):
    """One row of ``rateLimits``: ``count`` of ``limit`` in the running interval."""

    rateLimitType: str
    interval: str
    intervalNum: int = 1
    limit: int = 0
    count: int = 0


class ApiFrame(msgspec.Struct):
    """Any frame of a connection: a reply (``id``, ``status``) or a push (``event``)."""

    id: str | int | None = None
    status: int = 0
    result: msgspec.Raw = ABSENT
    error: Refusal | None = None
    rateLimits: list[RateCount] = []
    event: msgspec.Raw = ABSENT


_frame = msgspec.json.Decoder(ApiFrame)


def parse_frame(venue: str, payload: bytes | memoryview) -> ApiFrame:
    """One frame. Raises ``ProtocolViolation``."""
    return decode(_frame, payload, venue, "WebSocket API frame")


def reply_error(venue: str, frame: ApiFrame) -> VenueError | None:
    """The error of a reply; None for a success."""
    if 200 <= frame.status < 300 and frame.error is None:
        return None
    refusal = frame.error or Refusal()
    if refusal.code is None:
        text = printable(refusal.msg or "no error")
        return GatewayRefused(f"{venue}: status {frame.status} without a code: {text}", venue=venue, code=frame.status)
    return of_weight(error_of_code(venue, frame.status, code_of(refusal.code, refusal.msg or ""), _silence_s(frame)))


def _silence_s(frame: ApiFrame) -> float:
    reported = frame.error.data if frame.error is not None else None
    if reported is None or reported.retryAfter <= reported.serverTime:
        return BAN_DEFAULT_S if frame.status == IP_BAN else RETRY_AFTER_DEFAULT_S
    return min(SILENCE_MAX_S, (reported.retryAfter - reported.serverTime) / 1000)


def orders_left(frame: ApiFrame) -> int | None:
    """Orders that the account may still place in the running seconds and in the running minute, where USDⓈ-M counts
    that; None where the reply does not say."""
    left = [
        max(0, row.limit - row.count)
        for row in frame.rateLimits
        if row.rateLimitType == "ORDERS" and row.interval in ORDER_INTERVALS
    ]
    return min(left) if left else None


def signed_text(params: bytes | memoryview) -> bytes:
    """What is signed, of the inside of ``params`` before its signature: ``"apiKey":"k","timestamp":1`` is
    ``apiKey=k&timestamp=1``. Values are letters, digits and ``._-`` alone (:func:`call_frame`)."""
    return bytes(params).replace(b'":', b"=").replace(b',"', b"&").replace(b'"', b"")


def call_frame(signer: BinanceSigner, method: str, call_id: str, params: Params) -> bytes:
    """A signed call; ``params`` with ``apiKey`` and ``timestamp``, in any order. Raises ``ValueError`` for a value
    that JSON or the query would write otherwise."""
    for name, value in params:
        if isinstance(value, str) and not _is_plain(value):
            raise ValueError(f"{name} is not letters, digits and ._-: {value!r}")
    inside = ",".join(
        f'"{name}":{value}' if isinstance(value, int) else f'"{name}":"{value}"' for name, value in sorted(params)
    ).encode()
    signature = signer.sign(signed_text(inside)).encode()
    return b'%b%b,"signature":"%b"}}' % (_head(method, call_id), inside, signature)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.replace("_", "").replace("-", "").replace(".", "").isalnum()


def _head(method: str, call_id: str) -> bytes:
    return f'{{"id":"{call_id}","method":"{method}","params":{{'.encode()


def call_pieces(method: str, id_prefix: str, inside: Pieces, signature_bytes: int) -> Pieces:
    """:func:`call_frame` with holes; its ``id`` is ``id_prefix`` and the client id."""
    return [
        f'{{"id":"{id_prefix}'.encode(),
        template.id_text(template.leg(ENTRY_LEG.client)),
        f'","method":"{method}","params":{{'.encode(),
        template.mark(template.leg(ENTRY_LEG.sign_from)),
        *inside,
        template.mark(template.leg(ENTRY_LEG.sign_to)),
        b',"signature":"',
        template.gap(template.leg(ENTRY_LEG.signature), signature_bytes),
        b'"}}',
    ]
