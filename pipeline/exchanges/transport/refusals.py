"""Who said it: which error an answer carries, decided in one place for every dialect, REST, order entry and upgrades.

* An answer with the venue's own code is the venue's. The dialect's table says what the code means; only codes of
  kind "auth" are a refused key.
* Everything else (a page, an empty body, a proxy's JSON, whatever the status) comes from a gateway before the venue
  (CDN, WAF, load balancer): ``GatewayRefused``. It says nothing about a key and nothing about an order, and it passes.
* 429 and 418 ask for silence, whoever said them: a 429 for its kind of requests, a 418 for the address. How long
  stands in Retry-After, in a header with the time of the reset, or only in the text ("banned until 1795899827562").

*Source:* API documents of MEXC, Gate.io and Binance, sections on rate limits and errors; RFC 9110 section 10.2.3
(Retry-After).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

import msgspec

from pipeline.exchanges.base import HttpReply
from pipeline.model.clock import wall_ms
from pipeline.model.errors import (
    AuthRefused,
    ClockRefused,
    GatewayRefused,
    InstrumentRefused,
    InsufficientBalance,
    OrderNotFound,
    OutcomeUnknown,
    RateLimited,
    TradingDisabled,
    VenueError,
    VenueRejected,
)

RETRY_AFTER_DEFAULT_S = 10.0  # a 429 without a time: one whole window of every venue here
BAN_DEFAULT_S = 120.0  # a 418 lasts two minutes at least
SILENCE_MAX_S = 3 * 86_400.0  # the longest ban that a venue here knows
IP_BAN = 418
SILENCE_STATUS = (IP_BAN, 429)
RESET_HEADERS = ("x-gate-ratelimit-reset-timestamp", "x-gat-ratelimit-reset-timestamp")  # the documents spell both
TEXT_BYTES_MAX = 4096  # of a body that is searched for a time

DUPLICATE = "duplicate"  # api_code of an OutcomeUnknown that is evidence: an order with this client id exists

#: Kinds of a dialect's error table that are the venue's definitive no. The rest: ``rate`` (definitive, and silence),
#: ``unknown`` (ambiguous), ``duplicate`` (ambiguous, and evidence that the order exists: query it).
DEFINITIVE: Mapping[str, type[VenueRejected]] = {
    "rejected": VenueRejected,
    "row": InstrumentRefused,  # symbol, tick, lot, least or largest amount: the row is read anew
    "clock": ClockRefused,
    "funds": InsufficientBalance,
    "auth": AuthRefused,
    "disabled": TradingDisabled,
    "not_found": OrderNotFound,
}

_UNTIL = re.compile(rb"until[^0-9]{0,16}(\d{13}|\d{10})(?!\d)", re.IGNORECASE)
_AFTER = re.compile(
    rb"(?:retry|again|wait)[^0-9.]{0,24}(\d{1,6})\s*(ms|milliseconds?|s|sec|seconds?|min|minutes?|h|hours?)\b",
    re.IGNORECASE,
)
_UNIT_S = {b"ms": 0.001, b"mil": 0.001, b"s": 1.0, b"sec": 1.0, b"min": 60.0, b"h": 3600.0, b"hou": 3600.0}


class OwnCode(msgspec.Struct, frozen=True):
    """The venue's own code in an answer. ``kind``: of the dialect's table, None for a code that is not in it.

    ``certain``: the code is the venue's definitive word even where the status is 5xx."""

    api_code: str
    kind: str | None
    text: str
    certain: bool = False


def error_of_reply(venue: str, reply: HttpReply, own_code: Callable[[HttpReply], OwnCode | None]) -> VenueError | None:
    """The error that a whole answer carries; None for a success. ``own_code`` reads the dialect's code, if any."""
    if is_page(reply):
        return gateway_error(venue, reply)
    own = own_code(reply)
    if own is not None:
        return error_of_code(venue, reply.status, own, silence_s(reply))
    return None if 200 <= reply.status < 300 else gateway_error(venue, reply)


def error_of_code(venue: str, status: int, own: OwnCode, retry_s: float = RETRY_AFTER_DEFAULT_S) -> VenueError:
    """The error of the venue's own code under ``status`` (HTTP, or the same in a frame of a WebSocket API).

    5xx and 408 are ambiguous by every venue's own words, whatever their code, but for a code that is ``certain``.
    """
    text = f"{venue}: status {status}: {own.text}"
    ambiguous = (status >= 500 or status == 408) and not own.certain
    if status in SILENCE_STATUS or (own.kind == "rate" and not ambiguous):
        return RateLimited(text, retry_after_s=retry_s, venue=venue, api_code=own.api_code, of_address=status == IP_BAN)
    definitive = DEFINITIVE.get(own.kind or "")
    if definitive is not None and not ambiguous:
        return definitive(text, venue=venue, api_code=own.api_code)
    api_code = DUPLICATE if own.kind == DUPLICATE and not ambiguous else own.api_code
    return OutcomeUnknown(text, venue=venue, code=status, api_code=api_code)


def gateway_error(venue: str, reply: HttpReply, where: str = "") -> GatewayRefused | RateLimited:
    """The error of an answer without the venue's own code; ``where``: to what it was one, for the message."""
    text = printable(reply.body) or "empty body"
    message = f"{venue}: HTTP {reply.status}{where} without the venue's own code: {text}"
    if reply.status in SILENCE_STATUS:
        return RateLimited(
            message,
            retry_after_s=silence_s(reply),
            venue=venue,
            api_code=str(reply.status),
            of_address=reply.status == IP_BAN,
        )
    return GatewayRefused(message, venue=venue, code=reply.status, retry_after_s=reported_silence_s(reply) or 0.0)


def is_page(reply: HttpReply) -> bool:
    """The body is markup, which no venue answers with."""
    return reply.body.lstrip()[:1] == b"<"


def silence_s(reply: HttpReply) -> float:
    """Seconds of silence that a 429, a 418 or a ban asks for; a default where it does not say."""
    reported = reported_silence_s(reply)
    if reported is None:
        return BAN_DEFAULT_S if reply.status == IP_BAN else RETRY_AFTER_DEFAULT_S
    return reported


def reported_silence_s(reply: HttpReply) -> float | None:
    """The longest silence that headers or text name, in seconds; None where they name none.

    Times of day are compared with the answer's own Date where it has one: our wall clock may be wrong."""
    now_ms = _date_ms(reply.headers.get("date", "")) or wall_ms()
    found = [_retry_after_s(reply.headers.get("retry-after", ""), now_ms)]
    found += [_until_s(reply.headers.get(name, ""), now_ms) for name in RESET_HEADERS if reply.status in SILENCE_STATUS]
    text = reply.body[:TEXT_BYTES_MAX]
    until = _UNTIL.search(text)
    if until is not None:
        found.append(_until_s(until[1].decode(), now_ms))
    after = _AFTER.search(text) if reply.status in SILENCE_STATUS else None
    if after is not None:
        found.append(int(after[1]) * _UNIT_S[after[2].lower()[:3]])
    reported = [seconds for seconds in found if seconds is not None]
    return min(SILENCE_MAX_S, max(reported)) if reported else None


def _retry_after_s(text: str, now_ms: int) -> float | None:
    """Seconds, or an HTTP date."""
    if text.isascii() and text.isdigit():
        return float(text)
    at_ms = _date_ms(text)
    return max(0.0, (at_ms - now_ms) / 1000) if at_ms else None


def _until_s(text: str, now_ms: int) -> float | None:
    """A moment in unix ms or s."""
    if not (text.isascii() and text.isdigit()) or not 10 <= len(text) <= 13:
        return None
    at_ms = int(text) if len(text) == 13 else int(text) * 1000
    return max(0.0, (at_ms - now_ms) / 1000)


def _date_ms(text: str) -> int:
    """Unix ms of an HTTP date; 0 where it is none."""
    if not text or text.isdigit():
        return 0
    try:
        return int(parsedate_to_datetime(text).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return 0


def printable(text: str | bytes, limit: int = 200) -> str:
    """Venue text for messages and logs: one line, no control characters, bounded."""
    if isinstance(text, bytes):
        text = text[: 4 * limit].decode("utf-8", "replace")
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean[:limit]
