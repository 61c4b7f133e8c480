"""Bybit's rows of orders, executions, positions and the wallet; the same for REST and the private stream.

Source: Bybit V5 documentation "Get Open & Closed Orders", "Get Trade History", "Get Position Info", "Get Wallet
Balance", "Get Transaction Log"; enums (orderStatus, rejectReason, cancelType, createType, execType).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.accounts import BookEntry, SimAccount, SimPosition
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.futures.margin import MarginAccount, initial_margin, maintenance_margin, unrealised
from pipeline.sim.exchange.futures.positions import LONG, SHORT
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.orders import OrderStatus, RejectReason, SimOrder, SimReject, SimTrade
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.bybit.market import BybitError
from pipeline.sim.wire.numbers import exact_text, rate_text

TIFS = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK, "PostOnly": TimeInForce.POST_ONLY}
_TIF_TEXT = {tif: text for text, tif in TIFS.items()}
IDX = {"single": 0, LONG: 1, SHORT: 2}
#: By how an order ended: (rejectReason, cancelType).
_ENDS = {
    "cancelled": ("EC_PerCancelRequest", "CancelByUser"),
    "ioc": ("EC_NoImmediateQtyToFill", "UNKNOWN"),
    "fok": ("EC_CancelForNoFullFill", "UNKNOWN"),
    "poc": ("EC_PostOnlyWillTakeLiquidity", "UNKNOWN"),
    "stp": ("EC_BySelfMatch", "CancelBySmp"),
    "reduce_only": ("EC_NoError", "CancelByReduceOnly"),
    "reduce_out": ("EC_NoError", "CancelByReduceOnly"),
    "liquidated": ("EC_NoError", "CancelByPrepareLiq"),
    "auto_deleveraged": ("EC_NoError", "CancelByPrepareAdl"),
    "position_closed": ("EC_NoError", "CancelBySettle"),
}
_CREATED = {"liquidation": "CreateByLiq", "adl": "CreateByAdl_PassThrough", "settlement": "CreateBySettle"}
_EXECUTED = {"liquidation": "BustTrade", "adl": "AdlTrade", "settlement": "Delivery"}
#: Of a transaction log, by the reason in the account's book.
LOG_TYPES = {
    "deposit": "TRANSFER_IN",
    "withdraw": "TRANSFER_OUT",
    "fund": "SETTLEMENT",
    "order-match": "TRADE",
    "fee": "TRADE",
    "pnl": "TRADE",
    "trade-fee-deduct": "TRADE",
}
#: Reason of a refusal -> code of contracts, code of spot, text.
_REFUSALS: dict[RejectReason, tuple[int, int, str]] = {
    RejectReason.UNKNOWN_SYMBOL: (10001, 170121, "symbol invalid"),
    RejectReason.SYMBOL_HALTED: (110074, 170151, "This contract is not live"),
    RejectReason.SIDE_BARRED: (110023, 170217, "only position reduction is supported"),
    RejectReason.BAD_PARAMETER: (10001, 170130, "params error"),
    RejectReason.BAD_PRICE_TICK: (10001, 170134, "Price invalid"),
    RejectReason.BAD_QTY_STEP: (10001, 170137, "Qty invalid"),
    RejectReason.QTY_TOO_SMALL: (10001, 170136, "The number of contracts is below the minimum"),
    RejectReason.QTY_TOO_LARGE: (10001, 170124, "The number of contracts exceeds the maximum limit allowed"),
    RejectReason.NOTIONAL_TOO_SMALL: (110094, 170140, "Order does not meet minimum order value"),
    RejectReason.NOTIONAL_TOO_LARGE: (110090, 170124, "Order value exceeds the limit"),
    RejectReason.PRICE_BAND: (110003, 170193, "Order price exceeds the allowable range"),
    RejectReason.NO_LIQUIDITY: (10001, 170210, "The order price is out of permissible range: buy: [0,0] invalid"),
    RejectReason.INSUFFICIENT_BALANCE: (110007, 170131, "Insufficient balance"),
    RejectReason.INSUFFICIENT_MARGIN: (110007, 170131, "ab not enough for new order"),
    RejectReason.WOULD_LIQUIDATE: (110040, 170210, "The order will trigger a forced liquidation"),
    RejectReason.REDUCE_ONLY: (110017, 170130, "current position is zero, cannot fix reduce-only order qty"),
    RejectReason.DUPLICATE_CLIENT_ID: (110072, 170141, "OrderLinkedID is duplicate"),
    RejectReason.TOO_MANY_ORDERS: (110020, 170810, "Too many open orders"),
    RejectReason.EXPIRED: (10002, 10002, "invalid request, please check your server timestamp or recv_window param."),
    RejectReason.ORDER_NOT_FOUND: (110001, 170213, "Order does not exist or too late to cancel"),
    RejectReason.ORDER_FINISHED: (110001, 170142, "Order does not exist or too late to cancel"),
    RejectReason.NOT_PERMITTED: (10005, 10005, "Permission denied, please check your API key permissions."),
}


def refusal(reject: SimReject, category: str) -> BybitError:
    """A venue's refusal in Bybit's code."""
    linear, spot, text = _REFUSALS.get(reject.reason, (110066, 170151, reject.text or "Trading is not allowed now"))
    return BybitError(linear if category == "linear" else spot, text)


def side_text(side: OrderSide) -> str:
    return "Buy" if side is OrderSide.BUY else "Sell"


def places(value: Decimal, digits: int = 8) -> str:
    """A number with so many digits behind the point at most."""
    return exact_text(round(value, digits))


# --- ids: the venue's are texts, not numbers ---


def order_id_text(order_id: int) -> str:
    return f"{order_id:08x}-aaaa-4000-8000-{order_id:012d}"


def trade_id_text(trade_id: int) -> str:
    return f"{trade_id:08x}-eeee-5000-8000-{trade_id:012d}"


def order_number(text: str) -> int | None:
    """The order that an id names; None for an id of another form."""
    tail = text.rpartition("-")[2]
    return int(tail) if tail.isascii() and tail.isdigit() and order_id_text(int(tail)) == text else None


# --- orders and executions ---


def status_text(order: SimOrder, category: str) -> str:
    if order.is_open:
        return "PartiallyFilled" if order.filled_qty else "New"
    if order.status is OrderStatus.FILLED:
        return "Filled"
    return "PartiallyFilledCanceled" if category == "spot" and order.filled_qty else "Cancelled"


def order_row(order: SimOrder, category: str, account: SimAccount) -> dict[str, Any]:
    """An order as lists and the stream write it."""
    reject, cancel = _ENDS.get(order.finish_as, ("EC_NoError", "UNKNOWN"))
    average = places(order.average_price) if order.filled_qty else ""
    return {
        "category": category,
        "symbol": order.symbol,
        "orderId": order_id_text(order.order_id),
        "orderLinkId": "" if order.forced else order.client_id,
        "blockTradeId": "",
        "side": side_text(order.side),
        "positionIdx": position_idx(order, account),
        "orderStatus": status_text(order, category),
        "cancelType": cancel,
        "rejectReason": reject,
        "createType": _CREATED.get(order.forced, "CreateByUser"),
        "timeInForce": _TIF_TEXT[order.tif],
        "isLeverage": "0" if category == "spot" else "",
        "price": exact_text(order.price),
        "qty": exact_text(order.quote_qty if order.quote_qty is not None else order.qty),
        "avgPrice": average,
        "leavesQty": exact_text(order.left_qty if order.is_open else ZERO),
        "leavesValue": exact_text(order.left_qty * order.price if order.is_open else ZERO),
        "cumExecQty": exact_text(order.filled_qty),
        "cumExecValue": exact_text(order.filled_quote),
        "cumExecFee": exact_text(sum(order.fees.values(), ZERO)),
        "cumFeeDetail": {asset: exact_text(fee) for asset, fee in order.fees.items() if fee},
        "orderType": "Market" if order.kind is OrderKind.MARKET else "Limit",
        "stopOrderType": "",
        "marketUnit": "",
        "triggerPrice": "",
        "takeProfit": "",
        "stopLoss": "",
        "reduceOnly": order.reduce_only,
        "closeOnTrigger": False,
        "smpType": "None",
        "createdTime": str(order.created_ms),
        "updatedTime": str(order.updated_ms),
    }


def position_idx(order: SimOrder, account: SimAccount) -> int:
    """0 in one-way mode; in hedge mode of what opens by its direction, of what reduces by the other."""
    if not account.dual_side:
        return 0
    return 1 if (order.side is OrderSide.BUY) is not order.reduce_only else 2


def execution_row(trade: SimTrade, order: SimOrder, row: SimInstrument, category: str) -> dict[str, Any]:
    """An execution; the coin of the fee stands only on spot."""
    asset = trade.coin_asset or trade.fee_asset
    fee = trade.coin_fee or trade.fee
    rate = row.maker_fee_ppm if trade.is_maker else row.taker_fee_ppm
    return {
        "category": category,
        "symbol": trade.symbol,
        "execId": trade_id_text(trade.trade_id),
        "orderId": order_id_text(trade.order_id),
        "orderLinkId": "" if order.forced else trade.client_id,
        "side": side_text(trade.side),
        "orderPrice": exact_text(order.price),
        "orderQty": exact_text(order.qty),
        "orderType": "Market" if order.kind is OrderKind.MARKET else "Limit",
        "stopOrderType": "UNKNOWN",
        "createType": _CREATED.get(order.forced, "CreateByUser"),
        "execFee": exact_text(fee),
        "feeRate": rate_text(rate),
        "feeCurrency": asset if category == "spot" or trade.coin_asset else "",
        "execPrice": exact_text(trade.price),
        "execQty": exact_text(trade.qty),
        "execType": _EXECUTED.get(order.forced, "Trade"),
        "execValue": exact_text(trade.quote),
        "execTime": str(trade.ts_ms),
        "isMaker": trade.is_maker,
        "leavesQty": exact_text(order.left_qty),
        "closedSize": exact_text(trade.close_qty),
        "seq": trade.trade_id,
    }


def funding_row(entry: BookEntry, position: SimPosition, row: SimInstrument) -> dict[str, Any]:
    """Funding as an execution: a fee above 0 was paid."""
    return {
        "category": "linear",
        "symbol": entry.symbol,
        "execId": f"fund-{entry.entry_id}",
        "orderId": f"fund-{entry.entry_id}",
        "orderLinkId": "",
        "side": "Buy" if position.qty >= 0 else "Sell",
        "orderType": "UNKNOWN",
        "execFee": exact_text(-entry.change),
        "feeRate": exact_text(row.funding_rate),
        "feeCurrency": "",
        "execPrice": places(row.reference_price()),
        "execQty": exact_text(abs(position.qty)),
        "execType": "Funding",
        "execValue": places(abs(position.qty) * row.reference_price()),
        "execTime": str(entry.ts_ms),
        "isMaker": False,
        "leavesQty": "0",
        "seq": entry.entry_id,
    }


# --- positions and money ---


def position_row(position: SimPosition, venue: SimVenue, account: SimAccount, *, pushed: bool) -> dict[str, Any]:
    """A position; the stream names its entry otherwise. No price liquidates: ``liqPrice`` is empty."""
    row, mark = venue.instruments[position.symbol], venue.mark_price(position.symbol)
    liquidation = venue.liquidation_price(account, position) if position.qty else None
    initial = initial_margin(position, mark)
    backed = initial if position.is_cross else position.margin
    side = "Buy" if position.qty > 0 else "Sell" if position.qty < 0 else ""
    return {
        **({"category": "linear", "entryPrice": places(position.entry_price, 10)} if pushed else {}),
        **({} if pushed else {"avgPrice": places(position.entry_price, 10)}),
        "positionIdx": IDX[position.mode],
        "symbol": position.symbol,
        "side": side,
        "size": exact_text(abs(position.qty)),
        "positionValue": places(abs(position.cost)),
        "tradeMode": 0,
        "autoAddMargin": 0,
        "positionStatus": "Normal",
        "leverage": exact_text(position.leverage),
        "markPrice": places(mark),
        "liqPrice": places(liquidation) if liquidation is not None else "",
        "bustPrice": "",
        "positionIM": places(initial),
        "positionMM": places(maintenance_margin(row, position.qty, mark)),
        "positionBalance": places(backed) if position.qty else "0",
        "takeProfit": "",
        "stopLoss": "",
        "trailingStop": "0",
        "unrealisedPnl": places(unrealised(position, mark)),
        "curRealisedPnl": places(position.realised_pnl),
        "cumRealisedPnl": places(position.realised_pnl - position.paid_fees - position.paid_funding),
        "adlRankIndicator": 1 if position.qty else 0,
        "isReduceOnly": False,
        "riskId": 1,
        "riskLimitValue": exact_text(row.tiers[0].cap),
        "createdTime": str(position.span.opened_ms or position.updated_ms),
        "updatedTime": str(position.updated_ms),
        "seq": position.update_seq,
    }


def coin_row(asset: str, total: Decimal, locked: Decimal, margin: MarginAccount | None) -> dict[str, Any]:
    """One coin of the wallet; ``margin``: where contracts settle in it."""
    gain = margin.unrealised_pnl if margin else ZERO
    return {
        "coin": asset,
        "equity": exact_text(total + gain),
        "usdValue": "",
        "walletBalance": exact_text(total),
        "free": "",
        "locked": exact_text(locked),
        "spotHedgingQty": "0",
        "borrowAmount": "0",
        "availableToWithdraw": "",
        "accruedInterest": "0",
        "totalOrderIM": exact_text(margin.order_margin if margin else ZERO),
        "totalPositionIM": exact_text(margin.position_margin if margin else ZERO),
        "totalPositionMM": exact_text(margin.maintenance if margin else ZERO),
        "unrealisedPnl": exact_text(gain),
        "cumRealisedPnl": "0",
        "bonus": "0",
        "marginCollateral": True,
        "collateralSwitch": True,
    }


def log_row(entry: BookEntry, category: str) -> dict[str, Any]:
    """A row of the transaction log; ``funding`` above 0 was received."""
    kind = LOG_TYPES.get(entry.reason, "ADJUSTMENT")
    change = exact_text(entry.change)
    return {
        "id": f"{entry.entry_id}_{entry.asset}",
        "symbol": entry.symbol,
        "category": category,
        "side": "None",
        "transactionTime": str(entry.ts_ms),
        "type": kind,
        "qty": "0",
        "size": "0",
        "currency": entry.asset,
        "tradePrice": "0",
        "funding": change if kind == "SETTLEMENT" else "",
        "fee": exact_text(-entry.change) if entry.reason == "fee" else "0",
        "cashFlow": change if kind != "SETTLEMENT" and entry.reason != "fee" else "0",
        "change": change,
        "cashBalance": exact_text(entry.balance),
        "feeRate": "",
        "bonusChange": "",
        "tradeId": trade_id_text(entry.trade_id) if entry.trade_id else "",
        "orderId": order_id_text(entry.order_id) if entry.order_id else "",
        "orderLinkId": "",
    }
