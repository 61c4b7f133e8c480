"""Gate.io WebSocket trading frames: login, order_place, order_cancel, and what comes back. Sans-I/O.

A placement is answered twice: an echo with ``"ack":true``, then the result (``ack`` false or absent)::

    {"request_id":"p-a1","ack":true,"header":{"status":"200","channel":"futures.order_place","event":"api", ...},
     "data":{"result":{"req_id":"p-a1","req_param":{...}}}}
    {"request_id":"p-a1","ack":false,"header":{...,"status":"200"},
     "data":{"result":{"id":74046511,"status":"open", ...}}}
    {"request_id":"p-a1","header":{"status":"401", ...},
     "data":{"errs":{"label":"INVALID_KEY","message":"Invalid key provided"}}}

The echo proves nothing but receipt by the gateway, so it ends no request.

*Source:* Gate.io API v4, spot and futures WebSocket API: login, order place and cancel; ``req_header`` with
``x-gate-exptime`` (unix ms) in the venue's WebSocket documentation of order_place.
"""

from __future__ import annotations

import msgspec

from pipeline.exchanges.gateio.errors import Refusal, code_of
from pipeline.exchanges.gateio.signing import GateSigner
from pipeline.exchanges.parsing.venue_json import ABSENT, decode
from pipeline.exchanges.transport.refusals import error_of_code, printable
from pipeline.model.errors import GatewayRefused, VenueError
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template import Pieces

RATE_SILENCE_S = 1.0  # limits of the trading channels count per second
RATE_SILENCE_MAX_S = 10.0


class Header(msgspec.Struct):
    """``header`` of a reply; the venue has spelled the name of the reset stamp in two ways."""

    status: str | int = "200"
    channel: str = ""
    response_time: str | int = ""
    reset_a: str | int | None = msgspec.field(name="x_gate_ratelimit_reset_timestamp", default=None)
    reset_b: str | int | None = msgspec.field(name="x_gat_ratelimit_reset_timestamp", default=None)


class Data(msgspec.Struct):
    """``data`` of a reply: what was done, or why it was refused."""

    result: msgspec.Raw = ABSENT
    errs: Refusal | None = None


class ApiReply(msgspec.Struct):
    """One frame of the trading connection."""

    request_id: str
    header: Header
    data: Data
    ack: bool | None = None


class LoginResult(msgspec.Struct):
    """``data.result`` of a login: the account's user id."""

    uid: str | int = ""


_reply = msgspec.json.Decoder(ApiReply)
_login = msgspec.json.Decoder(LoginResult)


def parse_reply(venue: str, payload: bytes | memoryview) -> ApiReply:
    """One frame of the trading connection. Raises ``ProtocolViolation``."""
    return decode(_reply, payload, venue, "trading reply")


def reply_error(venue: str, reply: ApiReply, now_wall_ms: int) -> VenueError | None:
    """The error of a final reply; None for a success."""
    status = int(reply.header.status) if str(reply.header.status).isdigit() else 0
    if 200 <= status < 300 and reply.data.errs is None:
        return None
    own = code_of(reply.data.errs or Refusal())
    if own is None:
        text = printable(bytes(reply.data.result))
        return GatewayRefused(f"{venue}: status {status} without a label: {text}", venue=venue, code=status)
    return error_of_code(venue, status, own, _silence_s(reply.header, now_wall_ms))


def reply_ms(reply: ApiReply) -> int:
    """When the venue sent a reply, in unix ms of its clock; 0: it does not say."""
    text = str(reply.header.response_time)
    return int(text) if text.isdecimal() and text.isascii() else 0


def _silence_s(header: Header, now_wall_ms: int) -> float:
    text = str(header.reset_a or header.reset_b or "")
    if not text.isdigit():
        return RATE_SILENCE_S
    return min(RATE_SILENCE_MAX_S, max(RATE_SILENCE_S, (int(text) - now_wall_ms) / 1000))


def login_frame(signer: GateSigner, prefix: str, req_id: str, time_s: int) -> bytes:
    """``spot.login`` or ``futures.login`` (``prefix`` is the market's channel prefix)."""
    channel = f"{prefix}.login"
    signature = signer.api_login(channel, b"", time_s)
    return (
        f'{{"time":{time_s},"channel":"{channel}","event":"api","payload":{{"api_key":"{signer.api_key}",'
        f'"signature":"{signature}","timestamp":"{time_s}","req_id":"{req_id}"}}}}'
    ).encode()


def login_uid(venue: str, reply: ApiReply) -> str:
    """The account's user id, "" where the venue does not send it."""
    return str(decode(_login, bytes(reply.data.result), venue, "login reply").uid)


def call_frame(channel: str, req_id: str, req_param: bytes, time_s: int, expiry_ms: int = 0) -> bytes:
    """One trading call; ``expiry_ms`` (the venue's clock) makes the venue refuse it when late."""
    header = b',"req_header":{"x-gate-exptime":"%d"}' % expiry_ms if expiry_ms else b""
    return b'{"time":%d,"channel":"%b","event":"api","payload":{"req_id":"%b","req_param":%b%b}}' % (
        time_s,
        channel.encode(),
        req_id.encode(),
        req_param,
        header,
    )


def call_pieces(channel: str, id_prefix: str, req_param: Pieces) -> Pieces:
    """:func:`call_frame` of a placement that expires, with holes; its ``req_id`` is ``id_prefix`` and the client id."""
    return [
        b'{"time":',
        template.integer_text(template.leg(ENTRY_LEG.now_s)),
        f',"channel":"{channel}","event":"api","payload":{{"req_id":"{id_prefix}'.encode(),
        template.id_text(template.leg(ENTRY_LEG.client)),
        b'","req_param":',
        *req_param,
        b',"req_header":{"x-gate-exptime":"',
        template.integer_text(template.leg(ENTRY_LEG.expiry_ms)),
        b'"}}}',
    ]


def cancel_param(market: str, symbol: str, name: str) -> bytes:
    """``req_param`` of order_cancel; ``name`` is the venue's id or "t-" and ours."""
    if market == "spot":
        return f'{{"order_id":"{name}","currency_pair":"{symbol}"}}'.encode()
    return f'{{"order_id":"{name}"}}'.encode()
