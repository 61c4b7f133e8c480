"""Bybit's codes: what a ``retCode`` says. Refusals come with HTTP 200; texts vary and decide nothing.

A code that is not in the table leaves an order's outcome open. So does a throttled order (kind ``rate``): whether it
can be live is not documented, and ``order_session.py`` takes it as unknown.

*Source:* Bybit V5 documentation, error codes; enums. Which of them are ambiguous: as nautilus_trader's adapter treats
them, widened by every text that says time-out, system error or duplicate request. Every code of V5's own ranges (10xxx,
110xxx, 170xxx) that ccxt 4.5 lists is here; those of other products (12xxx to 3xxxx, 13xxxx to 18xxxx) answer other
endpoints.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.transport.refusals import OwnCode, error_of_reply, is_page, printable, reported_silence_s
from pipeline.model.errors import RateLimited, VenueError, VenueRejected

_Error = TypeVar("_Error", bound=VenueError | None)

ADDRESS_CODES = frozenset({"10018", "10403"})  # too many requests of the address, over all its accounts
ADDRESS_BAN = 403  # the same, as HTTP's status
ADDRESS_SILENCE_S = 600.0  # after both
SILENCE_MIN_S, SILENCE_MAX_S = 1.0, 600.0  # budgets count per second

_KINDS: dict[str, tuple[int, ...]] = {
    "rate": (429, 10006, 10018, 10403, 10429, 20003, 170005, 170222),
    "unknown": (10000, 10014, 10016, 10019, 20006, 110079, 170001, 170007, 170032, 170234, 170310, 500000),
    "unknown timeout": (170146, 170147, 170149, 170150),
    "unknown by its text": (110035, 170035, 170144, 170191, 170195, 170196),  # "submitted", "locked", "may not be"
    "duplicate": (110030, 110072, 170141),
    "clock": (10002,),
    "auth": (10003, 10004, 10005, 10007, 10009, 10010, 10020, 10024, 10027, 10028, 10029, 20001),
    "rejected": (10001, 10017, 110003, 110017, 110025, 110026, 110043, 110120, 110121, 30208, 30209),
    "rejected spot price": (170192, 170193, 170194, 170204, 170206, 170218, 170371, 170372),
    "rejected spot parameter": (170105, 170115, 170116, 170117, 170130, 170145, 170202, 170203, 170210, 170221),
    "rejected spot": (170010, 170011, 170019, 170036, 170037, 170227, 170241),
    "rejected caps": (110009, 110016, 110020, 110021, 110022, 110061, 110089, 110090, 170810),
    "rejected position": (110005, 110011, 110019, 110031, 110032, 110034, 110039, 110040, 110041, 110046, 110070),
    "rejected parameter": (110049, 110050, *range(110054, 110061), 110062, 110064, 110092, 110093),
    "rejected modes": (110013, 110015, 110018, 110024, *range(110027, 110030), 110033, 110036, 110037, 110038),
    "rejected account": (110047, 110048, 110065, 110067, 110068, 110069, 110071, 110073, 34036, 34040, 3400045),
    "row": (110094, 170124, *range(170132, 170138), 170140, 170148, *range(170197, 170201), 170228, 170229),
    "row quantity": (170381, 170382),
    "funds": (110004, 110006, 110007, 110012, 110014, 110044, 110045, *range(110051, 110054), 170131, 170033),
    "funds borrowed": (170034, 170223, 170226),
    "disabled": (10008, 110023, 110042, 110063, 110066, 110074, 30228, 170031, 170121, 170151, 170157, 170159, 170201),
    "disabled spot": (170209, 170217, 170224),
    "not_found": (110001, 110008, 110010, 170139, 170142, 170143, 170190, 170213),
}
#: Code -> kind of ``transport/refusals.py``; a code that is not here leaves an outcome open.
KIND_OF_CODE: dict[int, str] = {code: kind.partition(" ")[0] for kind, codes in _KINDS.items() for code in codes}
#: Refusals that say that a setting stands so already: position mode, margin mode, leverage.
UNCHANGED = frozenset({"110025", "110026", "110027", "110043", "34036", "34040"})


class _Head(msgspec.Struct):
    retCode: int | None = None
    retMsg: str = ""
    time: int = 0


_head = msgspec.json.Decoder(_Head)


def code_of(code: int, text: str) -> OwnCode:
    """The venue's own code of one refusal, REST or WebSocket."""
    return OwnCode(str(code), KIND_OF_CODE.get(code), f"code {code}: {printable(text)}")


def own_code(reply: HttpReply) -> OwnCode | None:
    """The venue's own code in a reply; None for a success and for what is no answer of the venue."""
    try:
        head = _head.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if head.retCode is None or (head.retCode == 0 and 200 <= reply.status < 300):
        return None
    return code_of(head.retCode, head.retMsg)


def error_of(venue: str, reply: HttpReply) -> VenueError | None:
    """The error that a REST reply carries; None for a success.

    A 403 that refuses no key says that the address has asked too much. But for pages: an edge answers with those for
    many reasons, and one that is gone after a minute must not cost ten.
    """
    error = error_of_reply(venue, reply, own_code)
    if reply.status == ADDRESS_BAN and _bans(reply, error):
        text = error.message if error is not None else f"{venue}: HTTP {reply.status}"
        silence_s = max(ADDRESS_SILENCE_S, reported_silence_s(reply) or 0.0)
        return RateLimited(text, retry_after_s=silence_s, venue=venue, api_code=str(reply.status), of_address=True)
    if isinstance(error, RateLimited):
        error.retry_after_s = _until_reset_s(reply) or error.retry_after_s
    return of_address(error)


def _bans(reply: HttpReply, error: VenueError | None) -> bool:
    if isinstance(error, RateLimited) or b"too frequent" in reply.body:
        return True
    return not is_page(reply) and not isinstance(error, VenueRejected)


def of_address(error: _Error) -> _Error:
    """``error``, which is of the address, and for ten minutes, where its code says so."""
    if isinstance(error, RateLimited) and error.api_code in ADDRESS_CODES:
        error.of_address = True
        error.retry_after_s = max(ADDRESS_SILENCE_S, error.retry_after_s)
    return error


def _until_reset_s(reply: HttpReply) -> float | None:
    """Seconds until the budget's window ends, both times of the venue; None where it does not say."""
    reset = reply.headers.get("x-bapi-limit-reset-timestamp", "")
    try:
        sent_ms = _head.decode(reply.body).time
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not sent_ms or not (reset.isascii() and reset.isdigit()):
        return None
    return min(SILENCE_MAX_S, max(SILENCE_MIN_S, (int(reset) - sent_ms) / 1000))
