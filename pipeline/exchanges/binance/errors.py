"""Binance: which refusals are definitive and which leave the outcome open; spot and USDⓈ-M, REST and WebSocket API.

*Source:* Binance spot REST API and USDⓈ-M futures API: error codes.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.transport.refusals import OwnCode, error_of_reply, printable
from pipeline.model.errors import RateLimited, VenueError

_Error = TypeVar("_Error", bound=VenueError | None)

_KINDS: dict[str, tuple[int, ...]] = {
    "funds": (-2019, -2018, -4050, -4051),
    "row": (-1121, -1013, -1111, -4164, -4014, -4023, -4001, -4002, -4013, -4003, -4004, -4005),
    "rejected": (
        *(-1102, -1100, -1116, -1117, -1104, -1106, -1112, -1114, -1115, -4015, -4131, -4024, -4016),
        *(
            -1014,
            -1020,
            -1101,
            -1103,
            -1105,
            -1108,
            -1118,
            -1119,
            -1122,
            -1128,
            -1130,
            -1131,
            -1134,
            -1135,
            -1145,
            -2016,
        ),
        *(-5022, -5021, -2022, -2025, -2027, -4028, -4061, -4067, -4068, -4046, -4059, -1193, -2028, -4120),
        *(-2020, -2021, -2023, -4045, -4047, -4048, -4053, -4054, -4055, -4118, -4161),
        *(-4167, -4168, -4169, -4170, -4171, -4531),
    ),
    "clock": (-1021, -5028),
    "auth": (-1022, -2014, -2015, -1002),
    "disabled": (-4140, -4141, -4087, -4088, -5024),
    "not_found": (-2011, -2013, -2026, -1125),
    "rate": (-1003, -1015, -1008),
    "duplicate": (-4116,),
    "unknown": (-1001, -1006, -1007, -1016, -1000),
}
KIND_OF_CODE: dict[int, str] = {code: kind for kind, codes in _KINDS.items() for code in codes}
#: These say everything in their text; without a known one: what they usually mean.
_IN_TEXT = {-2010: "rejected", -2011: "not_found"}
_KIND_OF_TEXT: tuple[tuple[str, str], ...] = (
    ("insufficient balance", "funds"),
    ("Duplicate order", "duplicate"),
    ("Market is closed", "disabled"),
    ("may not place", "disabled"),
    ("trading is not enabled", "disabled"),
    ("restricted for this account", "disabled"),
    ("immediately match", "rejected"),
)
#: USDⓈ-M: these two 503 texts are failures, every other 503 is unknown
_FAILED_503 = ("Service Unavailable.", "Internal error; unable to process your request. Please try again.")


#: The weight of the address is used up: the venue's code for it, or a gateway's 429.
_OF_WEIGHT = ("-1003", "429")
#: Throttled before anything was looked at, whatever the status (USDⓈ-M answers 503).
_THROTTLED = -1008


class _Body(msgspec.Struct):
    code: int | None = None
    msg: str | None = ""


class _ExactBody(msgspec.Struct, forbid_unknown_fields=True):
    """What the venue's refusals have, and nothing beside it: a gateway has the same texts in other shapes."""

    msg: str
    code: int = 0


_decoder = msgspec.json.Decoder(_Body)
_exact = msgspec.json.Decoder(_ExactBody)


def own_code(reply: HttpReply) -> OwnCode | None:
    """The venue's own code in a REST reply; two texts of a 503 need none."""
    if 200 <= reply.status < 300:
        return None
    if reply.status == 503 and _is_failure(reply.body):
        return OwnCode("503", "rejected", printable(reply.body), certain=True)
    try:
        body = _decoder.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if body.code is None:
        return None
    return code_of(body.code, body.msg or "")


def code_of(code: int, msg: str) -> OwnCode:
    """The venue's own code, of a REST reply or of the WebSocket API."""
    kind = KIND_OF_CODE.get(code)
    if code in _IN_TEXT:
        kind = next((found for needle, found in _KIND_OF_TEXT if needle in msg), _IN_TEXT[code])
    return OwnCode(str(code), kind, f"code {code}: {printable(msg)}", certain=code == _THROTTLED)


def _is_failure(payload: bytes) -> bool:
    try:
        body = _exact.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return body.msg in _FAILED_503 and body.code <= 0  # the venue's codes are negative, a gateway's is the status


def error_of(venue: str, reply: HttpReply) -> VenueError | None:
    """The error that a REST reply carries; None for a success."""
    return of_weight(error_of_reply(venue, reply, own_code))


def of_weight(error: _Error) -> _Error:
    """``error``, which is of the address where its weight is used up: that counts questions, cancels and orders."""
    if isinstance(error, RateLimited) and error.api_code in _OF_WEIGHT:
        error.of_address = True
    return error
