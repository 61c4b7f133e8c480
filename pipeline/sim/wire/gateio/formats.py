"""Formats that Gate.io spot and futures share: labels, texts, numbers, times, and the request as handlers see it.

Source: Gate.io APIv4 "Error Handling", "label list"; WebSocket v4; labels that public connectors handle.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from pipeline.model.enums import OrderSide, TimeInForce
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.orders import RejectReason, SimOrder, SimReject, SimTrade
from pipeline.sim.wire.numbers import exact_text

TIF_OF = {"gtc": TimeInForce.GTC, "ioc": TimeInForce.IOC, "poc": TimeInForce.POST_ONLY, "fok": TimeInForce.FOK}
TIF_TEXT = {tif: text for text, tif in TIF_OF.items()}
REST_TEXT = "apiv4"  # ``text`` of an order that came without one
WS_TEXT = "apiv4-ws"
_CLIENT_TEXT = re.compile(r"t-[0-9A-Za-z_.\-]{1,28}\Z")
_TEXT_BYTES_MAX = 30


class GateError(Exception):
    """A refusal: HTTP status (and the WebSocket API's ``header.status``), label, message."""

    def __init__(self, label: str, text: str, status: int = 400) -> None:
        super().__init__(f"{label}: {text}")
        self.label = label
        self.text = text
        self.status = status


class ApiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request after the checks, from REST or from the WebSocket API.

    ``args``: what the path names (order id, contract); ``params``: query, or the body's object; ``items``: a body
    that is an array. ``decimal_sizes``: the client sent ``X-Gate-Size-Decimal: 1``.
    """

    params: dict[str, Any]
    args: tuple[str, ...] = ()
    items: list[Any] = []
    account: SimAccount | None = None
    api_key: str = ""
    now_ms: int = 0
    expiry_ms: int = 0
    decimal_sizes: bool = False

    @property
    def owner(self) -> SimAccount:
        """The account that signed; only signed routes may ask."""
        assert self.account is not None
        return self.account

    def required(self, name: str) -> str:
        """A parameter as text. Raises ``GateError`` when it is missing or empty."""
        value = self.params.get(name)
        if value is None or value == "":
            raise GateError("MISSING_REQUIRED_PARAM", f"Missing required parameter: {name}")
        return str(value)

    def text(self, name: str, default: str = "") -> str:
        """A parameter as text; ``default`` when it is missing or empty."""
        value = self.params.get(name)
        return default if value is None or value == "" else str(value)

    def integer(self, name: str, default: int) -> int:
        """A whole number from 0; ``default`` when it is missing. Raises ``GateError`` for another text."""
        text = self.text(name)
        if not text:
            return default
        if not text.isascii() or not text.isdigit():
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `{name}` value: {text}")
        return int(text)

    def decimal(self, name: str) -> Decimal:
        """A required number. Raises ``GateError`` when it is missing or not finite."""
        return number(self.required(name), name)

    def flag(self, name: str) -> bool:
        """True for ``true`` and ``1``."""
        return str(self.params.get(name)).lower() in ("true", "1")


def with_params(call: ApiRequest, item: Any) -> ApiRequest:
    """One item of a batch as a single request."""
    if not isinstance(item, dict):
        raise GateError("INVALID_REQUEST_BODY", "Invalid request body")
    return ApiRequest(
        params=item,
        account=call.account,
        now_ms=call.now_ms,
        expiry_ms=call.expiry_ms,
        decimal_sizes=call.decimal_sizes,
    )


def number(text: str, name: str) -> Decimal:
    """Finite decimals only; raises ``GateError`` with the parameter's name."""
    try:
        value = Decimal(text) if text.isascii() and "_" not in text else Decimal("NaN")
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `{name}` value: {text}")
    return value


def client_text(call: ApiRequest) -> str:
    """The order's own ``text``, checked: ``t-`` and at most 28 of ``[0-9A-Za-z_.-]``; empty when not given."""
    text = call.text("text")
    if not text or text in (REST_TEXT, WS_TEXT, "api", "web", "app"):
        return ""
    if len(text) > _TEXT_BYTES_MAX or not _CLIENT_TEXT.match(text):
        raise GateError("INVALID_PARAM_VALUE", f"Invalid text: {text}")
    return text


def amend_text(call: ApiRequest) -> str:
    """The remark of an amendment: the rules of ``text``; empty when not given."""
    text = call.text("amend_text")
    if text and text != "-" and not _CLIENT_TEXT.match(text):
        raise GateError("INVALID_PARAM_VALUE", f"Invalid amend_text: {text}")
    return text


def order_text(order: SimOrder) -> str:
    """The ``text`` field of an order."""
    return order.client_id or order.text or REST_TEXT


def trade_text(trade: SimTrade) -> str:
    """The ``text`` field of an own trade: its order's."""
    return trade.client_id or trade.text or REST_TEXT


def split_id(text: str) -> tuple[int | None, str | None]:
    """(order id, client text) of an id in a path or payload: digits are the venue's, the rest is the client's."""
    if text.isascii() and text.isdigit():
        return int(text), None
    return None, text


def refusal(reject: SimReject, instrument: SimInstrument | None, *, futures: bool) -> GateError:
    """Gate.io's label for a venue-neutral refusal."""
    reason = reject.reason
    if reason is RejectReason.NOTIONAL_TOO_SMALL and instrument is not None and not futures:
        least, quote = exact_text(instrument.min_notional), instrument.quote
        size = reject.text.partition(" ")[0]
        text = f"Your order size {size} {quote} is too small. The minimum is {least} {quote}"
        return GateError("INVALID_PARAM_VALUE", text)
    if reason is RejectReason.QTY_TOO_SMALL and instrument is not None and not futures:
        least, base = exact_text(instrument.min_qty), instrument.base
        size = reject.text.partition(" ")[0]
        text = f"Your order size {size} {base} is too small. The minimum is {least} {base}"
        return GateError("INVALID_PARAM_VALUE", text)
    label, text, status = (_FUTURES if futures else _SPOT).get(reason) or _COMMON[reason]
    return GateError(label, text or reject.text, status)


_COMMON: dict[RejectReason, tuple[str, str, int]] = {
    RejectReason.BAD_PARAMETER: ("INVALID_PARAM_VALUE", "", 400),
    RejectReason.DUPLICATE_CLIENT_ID: ("REPEATED_CREATION", "Order text already used", 400),
    RejectReason.TOO_MANY_ORDERS: ("TOO_MANY_ORDERS", "Too many open orders", 400),
    RejectReason.EXPIRED: ("REQUEST_EXPIRED", "Request Expired", 403),
    RejectReason.ORDER_NOT_FOUND: ("ORDER_NOT_FOUND", "Order not found", 404),
    RejectReason.NOT_PERMITTED: ("READ_ONLY", "Read only API key", 403),
    RejectReason.INJECTED: ("TRADE_RESTRICTED", "Trade restricted", 400),
    RejectReason.INSUFFICIENT_MARGIN: ("INSUFFICIENT_AVAILABLE", "Insufficient available balance", 400),
    RejectReason.WOULD_LIQUIDATE: ("LIQUIDATE_IMMEDIATELY", "The position would be liquidated immediately", 400),
    RejectReason.REDUCE_ONLY: ("INCREASE_POSITION", "Reduce-only order would increase the position", 400),
    RejectReason.NOTIONAL_TOO_SMALL: ("AMOUNT_TOO_LITTLE", "", 400),
    RejectReason.NOTIONAL_TOO_LARGE: ("AMOUNT_TOO_MUCH", "", 400),
}

# Spot has no label for a halted pair: the pair is refused as not tradable.
_SPOT: dict[RejectReason, tuple[str, str, int]] = {
    RejectReason.UNKNOWN_SYMBOL: ("INVALID_CURRENCY_PAIR", "Invalid currency pair", 400),
    RejectReason.SYMBOL_HALTED: ("INVALID_CURRENCY_PAIR", "Currency pair is not tradable", 400),
    RejectReason.SIDE_BARRED: ("INVALID_CURRENCY_PAIR", "Currency pair is not tradable in this direction", 400),
    RejectReason.BAD_PRICE_TICK: ("INVALID_PRECISION", "", 400),
    RejectReason.BAD_QTY_STEP: ("INVALID_PRECISION", "", 400),
    RejectReason.QTY_TOO_SMALL: ("AMOUNT_TOO_LITTLE", "", 400),
    RejectReason.QTY_TOO_LARGE: ("AMOUNT_TOO_MUCH", "", 400),
    RejectReason.PRICE_BAND: ("PRICE_THRESHOLD_EXCEEDED", "Price deviates too far from the market", 400),
    RejectReason.NO_LIQUIDITY: ("ORDER_BOOK_NOT_FOUND", "Order book not found", 400),
    RejectReason.INSUFFICIENT_BALANCE: ("BALANCE_NOT_ENOUGH", "Not enough balance", 400),
    RejectReason.POST_ONLY_WOULD_TAKE: ("POC_FILL_IMMEDIATELY", "Order would match and take immediately", 400),
    RejectReason.FOK_NOT_FILLED: ("FOK_NOT_FILL", "Order cannot be filled completely", 400),
    RejectReason.ORDER_FINISHED: ("ORDER_CLOSED", "Order already closed", 400),
}

_FUTURES: dict[RejectReason, tuple[str, str, int]] = {
    RejectReason.UNKNOWN_SYMBOL: ("CONTRACT_NOT_FOUND", "Contract not found", 400),
    RejectReason.SYMBOL_HALTED: ("CONTRACT_IN_DELISTING", "Contract is not trading", 400),
    RejectReason.SIDE_BARRED: ("CONTRACT_IN_DELISTING", "Contract is not trading in this direction", 400),
    RejectReason.BAD_PRICE_TICK: ("INVALID_PARAM_VALUE", "", 400),
    RejectReason.BAD_QTY_STEP: ("INVALID_PARAM_VALUE", "", 400),
    RejectReason.QTY_TOO_SMALL: ("SIZE_TOO_SMALL", "", 400),
    RejectReason.QTY_TOO_LARGE: ("SIZE_TOO_LARGE", "", 400),
    RejectReason.PRICE_BAND: ("PRICE_TOO_DEVIATED", "", 400),
    RejectReason.NO_LIQUIDITY: ("CONTRACT_NO_COUNTER", "No counterparty", 400),
    RejectReason.INSUFFICIENT_BALANCE: ("INSUFFICIENT_AVAILABLE", "Insufficient available balance", 400),
    RejectReason.POST_ONLY_WOULD_TAKE: ("ORDER_POC_IMMEDIATE", "", 400),
    RejectReason.FOK_NOT_FILLED: ("ORDER_FOK", "", 400),
    RejectReason.ORDER_FINISHED: ("ORDER_FINISHED", "Order has finished", 400),
}


def side_text(side: OrderSide) -> str:
    """ "buy" or "sell"."""
    return "buy" if side is OrderSide.BUY else "sell"


def ms_fraction(ms: int) -> str:
    """Milliseconds as the trade channels write them: with three more digits."""
    return f"{ms}.000"
