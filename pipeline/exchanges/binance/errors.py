"""Binance: which refusals are definitive and which leave the outcome open; spot and USDⓈ-M, REST and WebSocket API.

*Source:* Binance spot REST API and USDⓈ-M futures API: error codes.
"""

from __future__ import annotations

import msgspec

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.transport.rest import RETRY_AFTER_DEFAULT_S, http_error, printable, retry_after_s, table_error
from pipeline.model.errors import OutcomeUnknown, VenueError

_KINDS: dict[str, tuple[int, ...]] = {
    "funds": (-2019, -2018),
    "rejected": (
        *(-1121, -1013, -1111, -1102, -1100, -1116, -1117, -1104, -1106, -1112, -1114, -1115, -4015),
        *(-4164, -4014, -4023, -4001, -4002, -4013, -4003, -4004, -4005, -4131, -4024, -4016),
        *(-5022, -5021, -2022, -2025, -2027, -4028, -4061, -4067, -4068, -4046, -4059, -1193, -2028, -4120),
    ),
    "clock": (-1021, -5028),
    "auth": (-1022, -2014, -2015, -1002),
    "disabled": (-4140, -4141, -4087, -4088),
    "not_found": (-2011, -2013, -2026),
    "rate": (-1003, -1015, -1008),
    "duplicate": (-4116,),
    "unknown": (-1001, -1006, -1007, -1016, -1000),
}
KIND_OF_CODE: dict[int, str] = {code: kind for kind, codes in _KINDS.items() for code in codes}
#: -2010 says everything in its text
_NEW_ORDER_REJECTED = -2010
_KIND_OF_TEXT: tuple[tuple[str, str], ...] = (
    ("insufficient balance", "funds"),
    ("Duplicate order", "duplicate"),
    ("Market is closed", "disabled"),
    ("may not place", "disabled"),
    ("immediately match", "rejected"),
)
#: USDⓈ-M: these two 503 texts are failures, every other 503 is unknown
_FAILED_503 = (b"Service Unavailable.", b"Internal error; unable to process your request. Please try again.")


class _Body(msgspec.Struct):
    code: int = 0
    msg: str = ""


_decoder = msgspec.json.Decoder(_Body)


def refusal_error(venue: str, status: int, code: int, msg: str, retry_s: float = RETRY_AFTER_DEFAULT_S) -> VenueError:
    """Error of one refusal, by HTTP (or WebSocket API) status, code and text."""
    text = f"code {code}: {printable(msg)}"
    kind = KIND_OF_CODE.get(code)
    if code == _NEW_ORDER_REJECTED:
        kind = next((found for needle, found in _KIND_OF_TEXT if needle in msg), "rejected")
    if status in (418, 429) or kind == "rate":
        return table_error(venue, "rate", text, api_code=str(code), retry_s=retry_s)
    if kind is None or status >= 500:
        return OutcomeUnknown(f"{venue}: status {status}: {text}", venue=venue, code=status, api_code=str(code))
    return table_error(venue, kind, text, api_code=str(code))


def error_of(venue: str, reply: HttpReply) -> VenueError | None:
    """The error that a REST reply carries; None for a success."""
    if 200 <= reply.status < 300:
        return None
    if reply.status == 503 and any(text in reply.body for text in _FAILED_503):
        return table_error(venue, "rejected", f"HTTP 503: {printable(reply.body)}", api_code="503")
    try:
        body = _decoder.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return http_error(venue, reply, printable(reply.body))
    return refusal_error(venue, reply.status, body.code, body.msg, retry_after_s(reply))
