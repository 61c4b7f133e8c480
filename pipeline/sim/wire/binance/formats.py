"""Binance formats: order types, statuses, error codes; the JSON rows of spot's orders, trades and balances.

Source: Binance spot REST and WebSocket API, error codes and enums (read 2026).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.model.structs import CoinIdentity
from pipeline.sim.exchange.orders import OrderStatus, RejectReason, SimOrder, SimReject, SimTrade
from pipeline.sim.wire.coins import confirmations, withdraw_fee

SIDES = {"BUY": OrderSide.BUY, "SELL": OrderSide.SELL}
TIFS = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}
EIGHT = Decimal("0.00000001")


class BinanceError(Exception):
    """A refusal with Binance's code and text; almost all come with status 400. ``retry_ms``: end of a silence."""

    def __init__(self, code: int, text: str, status: int = 400, retry_ms: int = 0) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.status = status
        self.retry_ms = retry_ms


_CLOSED = (-2010, "Market is closed.")
_UNKNOWN_ORDER = (-2011, "Unknown order sent.")
_REJECTS: dict[RejectReason, tuple[int, str]] = {
    RejectReason.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    RejectReason.SYMBOL_HALTED: _CLOSED,
    RejectReason.SIDE_BARRED: _CLOSED,
    RejectReason.BAD_PARAMETER: (-1106, "Parameter was sent when not required."),
    RejectReason.BAD_PRICE_TICK: (-1013, "Filter failure: PRICE_FILTER"),
    RejectReason.BAD_QTY_STEP: (-1013, "Filter failure: LOT_SIZE"),
    RejectReason.QTY_TOO_SMALL: (-1013, "Filter failure: LOT_SIZE"),
    RejectReason.QTY_TOO_LARGE: (-1013, "Filter failure: LOT_SIZE"),
    RejectReason.NOTIONAL_TOO_SMALL: (-1013, "Filter failure: NOTIONAL"),
    RejectReason.NOTIONAL_TOO_LARGE: (-1013, "Filter failure: NOTIONAL"),
    RejectReason.PRICE_BAND: (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    RejectReason.NO_LIQUIDITY: (-2010, "Order book liquidity is less than LOT_SIZE filter minimum quantity."),
    RejectReason.INSUFFICIENT_BALANCE: (-2010, "Account has insufficient balance for requested action."),
    RejectReason.INSUFFICIENT_MARGIN: (-2019, "Margin is insufficient."),
    RejectReason.WOULD_LIQUIDATE: (-2023, "User in liquidation mode now."),
    RejectReason.POST_ONLY_WOULD_TAKE: (-2010, "Order would immediately match and take."),
    RejectReason.FOK_NOT_FILLED: (-2010, "Order would not be filled."),
    RejectReason.REDUCE_ONLY: (-2022, "ReduceOnly Order is rejected."),
    RejectReason.DUPLICATE_CLIENT_ID: (-2010, "Duplicate order sent."),
    RejectReason.TOO_MANY_ORDERS: (-1013, "Filter failure: MAX_NUM_ORDERS"),
    RejectReason.EXPIRED: (-1021, "Timestamp for this request is outside of the recvWindow."),
    RejectReason.ORDER_NOT_FOUND: _UNKNOWN_ORDER,
    RejectReason.ORDER_FINISHED: _UNKNOWN_ORDER,
    RejectReason.NOT_PERMITTED: (-2015, "Invalid API-key, IP, or permissions for action."),
    RejectReason.INJECTED: (-2010, "This account may not place or cancel orders."),
}


#: USDⓈ-M: what it says otherwise. Source: USDⓈ-M futures API, error codes.
_FUTURES_REJECTS: dict[RejectReason, tuple[int, str]] = _REJECTS | {
    RejectReason.SYMBOL_HALTED: (-4140, "Invalid symbol status for opening position."),
    RejectReason.SIDE_BARRED: (-4140, "Invalid symbol status for opening position."),
    RejectReason.BAD_PRICE_TICK: (-4014, "Price not increased by tick size."),
    RejectReason.BAD_QTY_STEP: (-4023, "Quantity not increased by step size."),
    RejectReason.QTY_TOO_SMALL: (-4004, "Quantity less than min quantity."),
    RejectReason.QTY_TOO_LARGE: (-4005, "Quantity greater than max quantity."),
    RejectReason.NOTIONAL_TOO_SMALL: (
        -4164,
        "Order's notional must be no smaller than 5 (unless you choose reduce only).",
    ),
    RejectReason.NOTIONAL_TOO_LARGE: (-2027, "Exceeded the maximum allowable position at current leverage."),
    RejectReason.PRICE_BAND: (-4016, "Limit price can't be higher than the limit."),
    RejectReason.NO_LIQUIDITY: (-4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit."),
    RejectReason.INSUFFICIENT_BALANCE: (-2018, "Balance is insufficient."),
    RejectReason.POST_ONLY_WOULD_TAKE: (
        -5022,
        "Due to the order could not be executed as maker, the Post Only order will be rejected.",
    ),
    RejectReason.FOK_NOT_FILLED: (
        -5021,
        "Due to the order could not be filled immediately, the FOK order has been rejected.",
    ),
    RejectReason.DUPLICATE_CLIENT_ID: (-4116, "ClientOrderId is duplicated."),
    RejectReason.TOO_MANY_ORDERS: (-2025, "Reach max open order limit."),
    RejectReason.EXPIRED: (-5028, "Timestamp for this request is outside of the ME recvWindow."),
    RejectReason.INJECTED: (-4088, "User can not place order currently."),
}


def refusal(reject: SimReject, *, futures: bool = False) -> BinanceError:
    """Binance's code for a venue-neutral refusal."""
    code, text = (_FUTURES_REJECTS if futures else _REJECTS)[reject.reason]
    return BinanceError(code, text, 401 if reject.reason is RejectReason.NOT_PERMITTED else 400)


def eight(value: Decimal) -> str:
    """Eight digits behind the point, as the venue writes amounts; more where the value has them."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -8:
        text = format(value.normalize(), "f")
        return text if len(text.partition(".")[2]) > 8 else format(value.quantize(EIGHT), "f")
    return format(value.quantize(EIGHT), "f")


def type_text(order: SimOrder) -> str:
    """``type`` of an order."""
    if order.kind is OrderKind.MARKET:
        return "MARKET"
    return "LIMIT_MAKER" if order.tif is TimeInForce.POST_ONLY else "LIMIT"


def tif_text(order: SimOrder) -> str:
    """``timeInForce``; GTC where the type says it."""
    return "GTC" if order.tif is TimeInForce.POST_ONLY or order.kind is OrderKind.MARKET else order.tif.name


def status_text(order: SimOrder) -> str:
    """``status``: what IOC, FOK and market orders leave unfilled has expired, not been cancelled."""
    if order.status is OrderStatus.FILLED or (order.qty > 0 and order.filled_qty == order.qty):
        return "FILLED"
    if order.status is OrderStatus.CANCELED:
        return {"ioc": "EXPIRED", "fok": "EXPIRED", "stp": "EXPIRED_IN_MATCH"}.get(order.finish_as, "CANCELED")
    return "PARTIALLY_FILLED" if order.filled_qty else "NEW"


def side_text(side: OrderSide) -> str:
    """ "BUY" or "SELL"."""
    return "BUY" if side is OrderSide.BUY else "SELL"


def _amounts(order: SimOrder) -> dict[str, Any]:
    return {
        "price": eight(order.price),
        "origQty": eight(order.qty),
        "executedQty": eight(order.filled_qty),
        "origQuoteOrderQty": eight(order.quote_qty) if order.quote_qty is not None else "0.00000000",
        "cummulativeQuoteQty": eight(order.filled_quote),
        "status": status_text(order),
        "timeInForce": tif_text(order),
        "type": type_text(order),
        "side": side_text(order.side),
    }


def order_row(order: SimOrder) -> dict[str, Any]:
    """GET of orders."""
    names = {"symbol": order.symbol, "orderId": order.order_id, "orderListId": -1, "clientOrderId": order.client_id}
    times = {"time": order.created_ms, "updateTime": order.updated_ms, "workingTime": order.created_ms}
    rest = {"stopPrice": "0.00000000", "icebergQty": "0.00000000", "isWorking": True}
    return names | _amounts(order) | times | rest | {"selfTradePreventionMode": "NONE"}


def placed_row(order: SimOrder, trades: Iterable[SimTrade], answer: str) -> dict[str, Any]:
    """The answer to a placement; ``answer``: ACK, RESULT or FULL."""
    row: dict[str, Any] = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_id,
        "transactTime": order.created_ms,
    }
    if answer == "ACK":
        return row
    row |= _amounts(order) | {"workingTime": order.created_ms, "selfTradePreventionMode": "NONE"}
    if answer == "FULL":
        row["fills"] = [
            {
                "price": eight(one.price),
                "qty": eight(one.qty),
                "commission": eight(one.coin_fee or one.fee),
                "commissionAsset": one.coin_asset or one.fee_asset,
                "tradeId": one.trade_id,
            }
            for one in trades
        ]
    return row


def cancel_row(order: SimOrder, cancel_id: str) -> dict[str, Any]:
    """DELETE of an order: ``clientOrderId`` is the cancel's own."""
    names = {"symbol": order.symbol, "origClientOrderId": order.client_id, "orderId": order.order_id}
    names |= {"orderListId": -1, "clientOrderId": cancel_id, "transactTime": order.updated_ms}
    return names | _amounts(order) | {"selfTradePreventionMode": "NONE"}


def trade_row(trade: SimTrade) -> dict[str, Any]:
    """GET /myTrades: without a client id."""
    return {
        "symbol": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "orderListId": -1,
        "price": eight(trade.price),
        "qty": eight(trade.qty),
        "quoteQty": eight(trade.quote),
        "commission": eight(trade.coin_fee or trade.fee),
        "commissionAsset": trade.coin_asset or trade.fee_asset,
        "time": trade.ts_ms,
        "isBuyer": trade.side is OrderSide.BUY,
        "isMaker": trade.is_maker,
        "isBestMatch": True,
    }


def coin_rows(identities: Iterable[CoinIdentity]) -> list[dict[str, Any]]:
    """GET /sapi/v1/capital/config/getall."""
    rows = []
    for coin in identities:
        networks = [
            {
                "network": network.upper(),
                "coin": coin.asset,
                "name": network.upper(),
                "isDefault": number == 0,
                "contractAddress": contract,
                "depositEnable": coin.deposit_enabled,
                "withdrawEnable": coin.withdraw_enabled,
                "withdrawFee": withdraw_fee(coin.asset, network),
                "minConfirm": confirmations(network),
                "unLockConfirm": confirmations(network),
                "estimatedArrivalTime": 2,
                "busy": False,
                "withdrawMin": "1",
                "withdrawMax": "1000000",
                "withdrawIntegerMultiple": "0.00000001",
            }
            for number, (network, contract) in enumerate(coin.networks)
        ]
        rows.append(
            {
                "coin": coin.asset,
                "name": coin.asset,
                "depositAllEnable": coin.deposit_enabled,
                "withdrawAllEnable": coin.withdraw_enabled,
                "free": "0",
                "locked": "0",
                "trading": True,
                "networkList": networks,
            }
        )
    return rows
