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
        *(
            -1014,
            -1020,
            -1023,
            *range(-1106, -1099),
            -1108,
            -1109,
            -1110,
            *range(-1120, -1111),
            -1122,
            *range(-1128, -1125),
        ),
        *(-1130, -1131, -1134, -1135, -1136, -1145, -1151, -1193),
        *(-2016, *range(-2025, -2019), -2027, -2028),
        # USDⓈ-M: parameters, filters and modes of orders and accounts
        *(*range(-4012, -4005), *range(-4022, -4014), *range(-4033, -4023), -4044, *range(-4049, -4044)),
        *(
            *range(-4062, -4051),
            *range(-4077, -4062),
            *range(-4082, -4078),
            *range(-4086, -4083),
            -4104,
            -4114,
            -4115,
            -4117,
            -4118,
            -4120,
        ),
        *(-4131, *range(-4139, -4134), -4142, -4144, -4161, -4165, *range(-4172, -4166), -4183, -4184, -4531),
        *(-4202, -4203, -4205, -4206, *range(-4211, -4207), -5021, -5022, *range(-5027, -5024)),
        *(*range(-5040, -5036), -5047),
    ),
    "clock": (-1021, -5028),
    "auth": (-1002, -1005, -1011, -1022, -1099, -2008, -2014, -2015, -2017),
    "disabled": (-4087, -4088, -4140, -4141, -4192, *range(-4403, -4399), -5024),
    "not_found": (-2011, -2013, -2026, -1125),
    "rate": (-1003, -1015, -1008),
    "duplicate": (-4116,),
    "unknown": (*range(-1001, -999), -1004, -1006, -1007, -1010, -1016, -2012, -4000, -4078, -4083, -5041),
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
