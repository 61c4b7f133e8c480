"""Gate.io: which refusals are definitive and which leave the outcome open; spot and futures, REST and WebSocket API.

A label that is not in the table is ambiguous for an order: query, never assume. 5xx is ambiguous whatever its label.

*Source:* Gate.io API v4, list of error labels; its WebSocket documents' error codes.
"""

from __future__ import annotations

import msgspec

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.transport.rest import RETRY_AFTER_DEFAULT_S, http_error, printable, retry_after_s, table_error
from pipeline.model.errors import OutcomeUnknown, VenueError

_KINDS: dict[str, str] = {
    "funds": "BALANCE_NOT_ENOUGH INSUFFICIENT_AVAILABLE MARGIN_BALANCE_NOT_ENOUGH LIQUIDATE_IMMEDIATELY",
    "rejected": """INVALID_CURRENCY_PAIR INVALID_CURRENCY INVALID_PARAM_VALUE AMOUNT_TOO_LITTLE QUANTITY_NOT_ENOUGH
        AMOUNT_TOO_MUCH INVALID_PRECISION MISSING_REQUIRED_PARAM INVALID_ARGUMENT INVALID_REQUEST_BODY BAD_REQUEST
        INVALID_CONTENT_TYPE PRICE_THRESHOLD_EXCEEDED ORDER_BOOK_NOT_FOUND CANCEL_FAIL POC_FILL_IMMEDIATELY FOK_NOT_FILL
        RISK_LIMIT_EXCEEDED CONTRACT_NOT_FOUND SIZE_TOO_SMALL SIZE_TOO_LARGE ERR_QUOTA_LOWER_LIMIT PRICE_TOO_DEVIATED
        MARKET_PRICE_TOO_DEVIATED CONTRACT_NO_COUNTER ORDER_NOT_OWNED TOO_MANY_ORDERS ORDER_POC_IMMEDIATE ORDER_POC
        ORDER_FOK INCREASE_POSITION REDUCE_EXCEEDED POSITION_EMPTY POSITION_DUAL_MODE POSITION_HOLDING ORDER_PENDING
        LEVERAGE_TOO_HIGH LEVERAGE_TOO_LOW NO_CHANGE POSITION_NOT_FOUND""",
    "clock": "REQUEST_EXPIRED",
    "auth": """INVALID_KEY INVALID_SIGNATURE IP_FORBIDDEN READ_ONLY FORBIDDEN MISSING_REQUIRED_HEADER
        AUTHENTICATION_FAILED INVALID_CREDENTIALS USER_NOT_FOUND""",
    "disabled": "TRADE_RESTRICTED ACCOUNT_LOCKED CONTRACT_IN_DELISTING",
    "not_found": "ORDER_NOT_FOUND CLIENT_ID_NOT_FOUND ORDER_CLOSED ORDER_CANCELLED ORDER_FINISHED",
    "rate": "TOO_MANY_REQUESTS",
    "duplicate": "REPEATED_CREATION DUPLICATE_REQUEST ORDER_EXISTS",
    "unknown": "TOO_BUSY SERVER_ERROR INTERNAL",
}
KIND_OF_LABEL: dict[str, str] = {label: kind for kind, labels in _KINDS.items() for label in labels.split()}


class Refusal(msgspec.Struct):
    """Body of a refusal; futures sometimes say ``detail`` for ``message``."""

    label: str = ""
    message: str = ""
    detail: str = ""


_decoder = msgspec.json.Decoder(Refusal)


def refusal_error(venue: str, status: int, refusal: Refusal, retry_s: float = RETRY_AFTER_DEFAULT_S) -> VenueError:
    """Error of one refusal, by its HTTP or header status and label."""
    text = f"{refusal.label}: {printable(refusal.message or refusal.detail)}"
    kind = KIND_OF_LABEL.get(refusal.label)
    if status in (418, 429) or kind == "rate":
        return table_error(venue, "rate", text, api_code=refusal.label, retry_s=retry_s)
    if status >= 500 or status == 408 or kind is None:
        return OutcomeUnknown(f"{venue}: status {status}: {text}", venue=venue, code=status, api_code=refusal.label)
    return table_error(venue, kind, text, api_code=refusal.label)


def error_of(venue: str, reply: HttpReply) -> VenueError | None:
    """The error that a REST reply carries; None for a success (200, 201, 202, 204)."""
    if 200 <= reply.status < 300:
        return None
    try:
        refusal = _decoder.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return http_error(venue, reply, printable(reply.body))
    if not refusal.label:
        return http_error(venue, reply, printable(reply.body))
    return refusal_error(venue, reply.status, refusal, retry_after_s(reply))
