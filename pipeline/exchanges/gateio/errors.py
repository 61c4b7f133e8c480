"""Gate.io: which refusals are definitive and which leave the outcome open; spot and futures, REST and WebSocket API.

A label that is not in the table is ambiguous for an order: query, never assume. 5xx is ambiguous whatever its label.

*Source:* Gate.io API v4, list of error labels; its WebSocket documents' error codes.
"""

from __future__ import annotations

import msgspec

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.transport.refusals import OwnCode, error_of_reply, printable
from pipeline.model.errors import VenueError

_KINDS: dict[str, str] = {
    "funds": """BALANCE_NOT_ENOUGH INSUFFICIENT_AVAILABLE MARGIN_BALANCE_NOT_ENOUGH FUTURES_BALANCE_NOT_ENOUGH
        LIQUIDATE_IMMEDIATELY""",
    "row": """INVALID_CURRENCY_PAIR INVALID_CURRENCY INVALID_PARAM_VALUE AMOUNT_TOO_LITTLE QUANTITY_NOT_ENOUGH
        AMOUNT_TOO_MUCH INVALID_PRECISION CONTRACT_NOT_FOUND SIZE_TOO_SMALL SIZE_TOO_LARGE ERR_QUOTA_LOWER_LIMIT
        ORDER_BOOK_NOT_FOUND""",
    "rejected": """MISSING_REQUIRED_PARAM INVALID_ARGUMENT INVALID_REQUEST_BODY BAD_REQUEST
        INVALID_CONTENT_TYPE PRICE_THRESHOLD_EXCEEDED CANCEL_FAIL POC_FILL_IMMEDIATELY FOK_NOT_FILL
        RISK_LIMIT_EXCEEDED PRICE_TOO_DEVIATED
        MARKET_PRICE_TOO_DEVIATED CONTRACT_NO_COUNTER ORDER_NOT_OWNED TOO_MANY_ORDERS ORDER_POC_IMMEDIATE ORDER_POC
        ORDER_FOK INCREASE_POSITION REDUCE_EXCEEDED POSITION_EMPTY POSITION_DUAL_MODE POSITION_HOLDING ORDER_PENDING
        LEVERAGE_TOO_HIGH LEVERAGE_TOO_LOW NO_CHANGE POSITION_NOT_FOUND PRICE_OVER_LIQUIDATION PRICE_OVER_BANKRUPT
        RISK_LIMIT_TOO_LOW RISK_LIMIT_TOO_lOW RISK_LIMIT_TOO_HIGH RISK_LIMIT_NOT_MULTIPLE POSITION_CROSS_MARGIN
        POSITION_IN_LIQUIDATION POSITION_IN_CLOSE REMOVE_TOO_MUCH INVALID_PROTOCOL NOT_ACCEPTABLE METHOD_NOT_ALLOWED
        MARGIN_NOT_SUPPORTED TOO_MANY_CURRENCY_PAIRS MIXED_ACCOUNT_TYPE AUTO_TRIGGER_PRICE_LESS_LAST
        AUTO_TRIGGER_PRICE_GREATE_LAST""",
    "clock": "REQUEST_EXPIRED",
    "auth": """INVALID_KEY INVALID_SIGNATURE IP_FORBIDDEN READ_ONLY FORBIDDEN MISSING_REQUIRED_HEADER
        AUTHENTICATION_FAILED INVALID_CREDENTIALS USER_NOT_FOUND""",
    "disabled": "TRADE_RESTRICTED ACCOUNT_LOCKED SUB_ACCOUNT_LOCKED CONTRACT_IN_DELISTING",
    "not_found": "ORDER_NOT_FOUND CLIENT_ID_NOT_FOUND ORDER_CLOSED ORDER_CANCELLED ORDER_FINISHED",
    "rate": "TOO_MANY_REQUESTS TOO_FAST",
    "duplicate": "REPEATED_CREATION DUPLICATE_REQUEST ORDER_EXISTS",
    "unknown": "TOO_BUSY SERVER_ERROR INTERNAL NOT_FOUND ACCOUNT_EXCEPTION CROSS_ACCOUNT_NOT_FOUND",
    "unknown of wallets": """SUB_ACCOUNT_NOT_FOUND SUB_ACCOUNT_TRANSFER_FAILED MARGIN_BALANCE_EXCEPTION
        MARGIN_TRANSFER_FAILED TOO_MUCH_FUTURES_AVAILABLE ADDRESS_NOT_USED WITHDRAWAL_OVER_LIMIT INVALID_WITHDRAW_ID
        INVALID_WITHDRAW_CANCEL_STATUS API_WITHDRAW_DISABLED""",
    "unknown of loans": """USER_LOAN_EXCEEDED NO_MATCHED_LOAN NOT_MERGEABLE REPAY_TOO_MUCH AUTO_BORROW_TOO_MUCH
        LOAN_NOT_FOUND LOAN_RECORD_NOT_FOUND""",
}
KIND_OF_LABEL: dict[str, str] = {label: kind.split()[0] for kind, labels in _KINDS.items() for label in labels.split()}


class Refusal(msgspec.Struct):
    """Body of a refusal; futures sometimes say ``detail`` for ``message``."""

    label: str | None = ""
    message: str | None = ""
    detail: str | None = ""


_decoder = msgspec.json.Decoder(Refusal)


def code_of(refusal: Refusal) -> OwnCode | None:
    """The venue's own code of one refusal, REST or WebSocket API; None without a label."""
    if not refusal.label:
        return None
    text = f"{refusal.label}: {printable(refusal.message or refusal.detail or '')}"
    return OwnCode(refusal.label, KIND_OF_LABEL.get(refusal.label), text)


def own_code(reply: HttpReply) -> OwnCode | None:
    """The venue's own code in a REST reply; none in a success (200, 201, 202, 204)."""
    if 200 <= reply.status < 300:
        return None
    try:
        return code_of(_decoder.decode(reply.body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def error_of(venue: str, reply: HttpReply) -> VenueError | None:
    """The error that a REST reply carries; None for a success."""
    return error_of_reply(venue, reply, own_code)
