"""MEXC: which refusals are definitive and which leave the outcome open.

A code that is not in the table is ambiguous for an order, whatever its HTTP status: query, never assume.

*Source:* MEXC spot v3, error codes. Undocumented: the code of a duplicate client id (-2010 is taken as on Binance,
whose API this one follows; both readings lead to a query).
"""

from __future__ import annotations

import msgspec

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.transport.refusals import OwnCode, error_of_reply, printable
from pipeline.model.errors import VenueError

_KINDS: dict[str, tuple[int, ...]] = {
    "funds": (30004, 30005, 10101),
    "row": (
        *(10007, 30014, 30021, 730001, -1121),  # symbol
        *(30002, 30003, 10096, 10097, 10102),  # notional, amount
        30087,  # price precision
    ),
    "rejected": (
        *(-1128, 10095, 10098, 30025),  # combination of parameters, no amount, risk control, nobody on the other side
        30010,  # price
        *(700004, 700008, 730002, 33333, 44444, 700013, 10015),  # parameters
        *(30029, 30032),  # caps on open orders, position
    ),
    "clock": (700003, 10073, 700005),
    "auth": (700002, 602, 700001, 10001, 10072, 400, 700006, 700007, 401, 403),
    "disabled": (
        *(30000, 30001, 30016, 30018, 30019, 30020, 30027, 30028, 30041, 30051, 60005, 70011),
        *(26, 10099, 140001, 140002),  # operation not allowed; sub-accounts
    ),
    "not_found": (-2011, -2013, 22222, 30026),
    "rate": (429, 510),
    "duplicate": (-2010,),
    "unknown": (500, 503, 504, 20002, 11444, 20001, 730000, 730003, 730100),
    "unknown of wallets": (10100, 10103, *range(10200, 10203), 10206, 10211, 10212, 10216, 10219, 10222, 10232, 10259),
    "unknown of wallets and sub-accounts": (10265, 10268, 730101, *range(730600, 730603), *range(730700, 730708)),
    "unknown of margin and loans": (88004, 88009, 88013, 88015),
    "unknown of contracts": (402, 406, 501, 511, 513, *(600, 601, 603, 604), *range(701, 705), 801, *range(1000, 1003)),
    "unknown of contract orders": (2003, 2005, 2009, 2011),
}
#: Codes that are a status of HTTP as well, with the venue's text. Under another one, or in a body of another shape,
#: a gateway may have said it, which is no word about a key or an order.
_SHARED_CODES = {400: "api key required", 401: "no authority", 403: "access denied"}
KIND_OF_CODE: dict[int, str] = {code: kind.split()[0] for kind, codes in _KINDS.items() for code in codes}


class _Body(msgspec.Struct):
    code: int | str | None = None
    msg: str | None = None


class _ExactBody(msgspec.Struct, forbid_unknown_fields=True):
    """What the venue's refusals have, and nothing beside it."""

    code: int | str
    msg: str
    extend: msgspec.Raw = msgspec.field(name="_extend", default=msgspec.Raw(b"null"))


_decoder = msgspec.json.Decoder(_Body)
_exact = msgspec.json.Decoder(_ExactBody)


def own_code(reply: HttpReply) -> OwnCode | None:
    """The venue's own code; a success may carry one, too (0 and 200 mean nothing there)."""
    ok = 200 <= reply.status < 300
    if ok and b'"code"' not in reply.body[:400] and b'"code"' not in reply.body[-400:]:
        return None
    try:
        body = _decoder.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # a bare list has no code
    code = int(body.code) if body.code is not None and str(body.code).lstrip("-").isdigit() else None
    if code is None or (ok and code in (0, 200)):
        return None
    if code in _SHARED_CODES and not _is_venues_text(reply.body, _SHARED_CODES[code]):
        return OwnCode(str(code), None, f"code {code}: {printable(body.msg or '')}") if ok else None
    return OwnCode(str(code), KIND_OF_CODE.get(code), f"code {code}: {printable(body.msg or '')}")


def _is_venues_text(payload: bytes, text: str) -> bool:
    try:
        return _exact.decode(payload).msg.strip().rstrip(".!").lower() == text
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def error_of(venue: str, reply: HttpReply) -> VenueError | None:
    """The error that a reply carries; None for a success."""
    return error_of_reply(venue, reply, own_code)
