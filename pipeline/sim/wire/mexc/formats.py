"""MEXC spot v3 formats: order types, statuses, ids, error codes, and the JSON rows of orders, trades and symbols.

Source: MEXC spot v3 "Spot Account/Trade", "Public API Definitions", "Error Code"; rows as recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce, TradingStatus
from pipeline.model.structs import CoinIdentity
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.orders import OrderStatus, RejectReason, SimOrder, SimReject, SimTrade
from pipeline.sim.wire.coins import confirmations, withdraw_fee
from pipeline.sim.wire.numbers import exact_text, fraction_digits, rate_text

ORDER_TYPES: dict[str, tuple[OrderKind, TimeInForce]] = {
    "LIMIT": (OrderKind.LIMIT, TimeInForce.GTC),
    "MARKET": (OrderKind.MARKET, TimeInForce.IOC),
    "LIMIT_MAKER": (OrderKind.LIMIT, TimeInForce.POST_ONLY),
    "IMMEDIATE_OR_CANCEL": (OrderKind.LIMIT, TimeInForce.IOC),
    "FILL_OR_KILL": (OrderKind.LIMIT, TimeInForce.FOK),
}
SIDES = {"BUY": OrderSide.BUY, "SELL": OrderSide.SELL}
_TYPE_OF = {pair: name for name, pair in ORDER_TYPES.items()}
_WS_TYPE = {"LIMIT": 1, "LIMIT_MAKER": 2, "IMMEDIATE_OR_CANCEL": 3, "FILL_OR_KILL": 4, "MARKET": 5}
_WS_STATUS = {"NEW": 1, "FILLED": 2, "PARTIALLY_FILLED": 3, "CANCELED": 4, "PARTIALLY_CANCELED": 5}
_SIDE_TYPE = {
    TradingStatus.TRADING: 1,
    TradingStatus.BUY_ONLY: 2,
    TradingStatus.SELL_ONLY: 3,
    TradingStatus.HALTED: 4,
}
_ORDER_ID_PREFIX = "C02__"


class MexcError(Exception):
    """A refusal with MEXC's code and text; almost all come with HTTP 400."""

    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.status = status


# Codes by document; where the documents leave a doubt (post-only that would take, a duplicate client id) the
# nearest documented code stands in, so that a client must not rely on it.
_REJECTS: dict[RejectReason, tuple[int, str]] = {
    RejectReason.UNKNOWN_SYMBOL: (10007, "bad symbol"),
    RejectReason.SYMBOL_HALTED: (30000, "Suspended transaction for the symbol"),
    RejectReason.SIDE_BARRED: (30001, "Current transaction direction is not allowed to place an order"),
    RejectReason.BAD_PARAMETER: (700004, "Parameter error"),
    RejectReason.BAD_PRICE_TICK: (30087, "Order price precision is invalid"),
    RejectReason.BAD_QTY_STEP: (10096, "amount precision is invalid"),
    RejectReason.PRICE_BAND: (30010, "no valid trade price"),
    RejectReason.NO_LIQUIDITY: (30010, "no valid trade price"),
    RejectReason.INSUFFICIENT_MARGIN: (10101, "Insufficient balance"),
    RejectReason.WOULD_LIQUIDATE: (10101, "Insufficient balance"),
    RejectReason.POST_ONLY_WOULD_TAKE: (30041, "current order type can not place order"),
    RejectReason.FOK_NOT_FILLED: (30041, "current order type can not place order"),
    RejectReason.REDUCE_ONLY: (700004, "Parameter error"),
    RejectReason.DUPLICATE_CLIENT_ID: (730002, "Parameter error: duplicate newClientOrderId"),
    RejectReason.TOO_MANY_ORDERS: (30029, "Cannot exceed the maximum order limit"),
    RejectReason.EXPIRED: (700003, "Timestamp for this request is outside of the recvWindow."),
    RejectReason.ORDER_NOT_FOUND: (-2011, "Unknown order sent"),
    RejectReason.ORDER_FINISHED: (-2011, "Unknown order sent"),
    RejectReason.NOT_PERMITTED: (700007, "No permission to access the endpoint."),
    RejectReason.INJECTED: (30016, "Trading disabled"),
}


def refusal(reject: SimReject, instrument: SimInstrument | None, side: OrderSide | None) -> MexcError:
    """MEXC's code for a venue-neutral refusal."""
    reason = reject.reason
    if reason is RejectReason.INSUFFICIENT_BALANCE:
        return MexcError(30005, "Oversold") if side is OrderSide.SELL else MexcError(30004, "Insufficient position")
    if reason in (RejectReason.QTY_TOO_SMALL, RejectReason.NOTIONAL_TOO_SMALL):
        bound = f"{exact_text(instrument.min_notional)}{instrument.quote}" if instrument else "0"
        return MexcError(30002, f"The minimum transaction volume cannot be less than:{bound}")
    if reason in (RejectReason.QTY_TOO_LARGE, RejectReason.NOTIONAL_TOO_LARGE):
        bound = f"{exact_text(instrument.max_notional)}{instrument.quote}" if instrument else "0"
        return MexcError(30003, f"The maximum transaction volume cannot be greater than:{bound}")
    code, text = _REJECTS[reason]
    return MexcError(code, text, 403 if reason is RejectReason.NOT_PERMITTED else 400)


def order_id_text(order_id: int) -> str:
    """An order id as REST and streams write it."""
    return f"{_ORDER_ID_PREFIX}{order_id}"


def parse_order_id(text: str) -> int:
    """Raises -2013/-2011-like not-found by returning -1 for text that no order of ours can have."""
    digits = text.removeprefix(_ORDER_ID_PREFIX)
    return int(digits) if digits.isascii() and digits.isdigit() else -1


def trade_id_text(trade_id: int) -> str:
    """The same text by REST and by stream: clients deduplicate on it."""
    return f"{trade_id}X1"


def type_text(order: SimOrder) -> str:
    """The order type of REST rows."""
    if order.kind is OrderKind.MARKET:
        return "MARKET"
    return _TYPE_OF[(order.kind, order.tif)]


def status_text(order: SimOrder) -> str:
    """The order status of REST rows."""
    if order.status is OrderStatus.NEW:
        return "NEW"
    if order.status is OrderStatus.PARTIALLY_FILLED:
        return "PARTIALLY_FILLED"
    if order.status is OrderStatus.FILLED:
        return "FILLED"
    return "PARTIALLY_CANCELED" if order.filled_qty else "CANCELED"


def ws_type(order: SimOrder) -> int:
    """The order type of private pushes."""
    return _WS_TYPE[type_text(order)]


def ws_status(order: SimOrder) -> int:
    """The order status of private pushes."""
    return _WS_STATUS[status_text(order)]


def side_text(side: OrderSide) -> str:
    """ "BUY" or "SELL"."""
    return "BUY" if side is OrderSide.BUY else "SELL"


def order_row(order: SimOrder) -> dict[str, Any]:
    """GET /order, /openOrders, /allOrders."""
    return {
        "symbol": order.symbol,
        "orderId": order_id_text(order.order_id),
        "orderListId": -1,
        "clientOrderId": order.client_id,
        "price": exact_text(order.price),
        "origQty": exact_text(order.qty),
        "executedQty": exact_text(order.filled_qty),
        "cummulativeQuoteQty": exact_text(order.filled_quote),
        "status": status_text(order),
        "timeInForce": None,
        "type": type_text(order),
        "side": side_text(order.side),
        "stopPrice": None,
        "icebergQty": None,
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        "isWorking": True,
        "origQuoteOrderQty": exact_text(order.quote_qty) if order.quote_qty is not None else "0",
    }


def cancel_row(order: SimOrder, orig_client_id: str) -> dict[str, Any]:
    """DELETE /order and /openOrders."""
    return {
        "symbol": order.symbol,
        "origClientOrderId": orig_client_id,
        "orderId": order_id_text(order.order_id),
        "clientOrderId": order.client_id,
        "price": exact_text(order.price),
        "origQty": exact_text(order.qty),
        "executedQty": exact_text(order.filled_qty),
        "cummulativeQuoteQty": exact_text(order.filled_quote),
        "status": status_text(order),
        "timeInForce": None,
        "type": type_text(order),
        "side": side_text(order.side),
    }


def placed_row(order: SimOrder) -> dict[str, Any]:
    """POST /order: no status, no fills: they come by stream and by query."""
    return {
        "symbol": order.symbol,
        "orderId": order_id_text(order.order_id),
        "orderListId": -1,
        "price": exact_text(order.price),
        "origQty": exact_text(order.qty),
        "type": type_text(order),
        "side": side_text(order.side),
        "transactTime": order.created_ms,
    }


def trade_row(trade: SimTrade) -> dict[str, Any]:
    """GET /myTrades."""
    return {
        "symbol": trade.symbol,
        "id": trade_id_text(trade.trade_id),
        "orderId": order_id_text(trade.order_id),
        "orderListId": -1,
        "price": exact_text(trade.price),
        "qty": exact_text(trade.qty),
        "quoteQty": exact_text(trade.quote),
        "commission": exact_text(trade.coin_fee or trade.fee),
        "commissionAsset": trade.coin_asset or trade.fee_asset,
        "time": trade.ts_ms,
        "isBuyer": trade.side is OrderSide.BUY,
        "isMaker": trade.is_maker,
        "isBestMatch": True,
        "isSelfTrade": False,
        "clientOrderId": trade.client_id or None,
    }


def symbol_row(instrument: SimInstrument) -> dict[str, Any]:
    """One row of GET /exchangeInfo, all fields of the recorded row. Status 1 online, 2 paused."""
    price_digits = fraction_digits(instrument.tick)
    qty_digits = fraction_digits(instrument.lot)
    halted = instrument.status is TradingStatus.HALTED
    maximum = exact_text(instrument.max_notional or Decimal(2_000_000))
    return {
        "symbol": instrument.symbol,
        "status": "3" if instrument.is_delisted else "2" if halted else "1",
        "baseAsset": instrument.base,
        "baseAssetPrecision": qty_digits,
        "quoteAsset": instrument.quote,
        "quotePrecision": price_digits,
        "quoteAssetPrecision": price_digits,
        "baseCommissionPrecision": qty_digits,
        "quoteCommissionPrecision": price_digits,
        "orderTypes": list(ORDER_TYPES),
        "isSpotTradingAllowed": not halted,
        "isMarginTradingAllowed": False,
        "quoteAmountPrecision": exact_text(instrument.min_notional),
        "baseSizePrecision": exact_text(instrument.min_qty),
        "permissions": ["SPOT"],
        "filters": [],
        "maxQuoteAmount": maximum,
        "makerCommission": rate_text(instrument.list_maker_fee_ppm),
        "takerCommission": rate_text(instrument.list_taker_fee_ppm),
        "quoteAmountPrecisionMarket": exact_text(instrument.min_notional),
        "maxQuoteAmountMarket": maximum,
        "fullName": instrument.identity.asset or instrument.base,
        "tradeSideType": _SIDE_TYPE[instrument.status],
    }


def coin_rows(identities: Iterable[CoinIdentity]) -> list[dict[str, Any]]:
    """GET /capital/config/getall: one row per coin with its networks, contracts and switches."""
    rows = []
    for coin in identities:
        networks = [
            {
                "coin": coin.asset,
                "depositDesc": None,
                "depositEnable": coin.deposit_enabled,
                "minConfirm": confirmations(network),
                "name": coin.asset,
                "Name": coin.asset,
                "network": network.upper(),
                "netWork": network.upper(),
                "withdrawEnable": coin.withdraw_enabled,
                "withdrawFee": withdraw_fee(coin.asset, network),
                "withdrawIntegerMultiple": None,
                "withdrawMax": "1000000",
                "withdrawMin": "1",
                "sameAddress": False,
                "contract": contract,
                "withdrawTips": None,
                "depositTips": None,
            }
            for network, contract in coin.networks
        ]
        rows.append({"coin": coin.asset, "name": coin.asset, "Name": coin.asset, "networkList": networks})
    return rows
