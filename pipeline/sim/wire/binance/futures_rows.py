"""Binance USDⓈ-M rows: orders, trades, balances, positions, income, forced orders, brackets. Quantities are base coin.

Source: Binance USDⓈ-M futures API, trade and account endpoints (read 2026).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.accounts import BookEntry, SimAccount, SimPosition
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.futures.margin import MarginAccount, initial_margin, maintenance_margin, tier_of, unrealised
from pipeline.sim.exchange.futures.positions import LONG, SHORT
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.orders import SimOrder, SimTrade
from pipeline.sim.wire.binance.formats import side_text, status_text
from pipeline.sim.wire.numbers import exact_text

SIDES = {"single": "BOTH", LONG: "LONG", SHORT: "SHORT"}
TIF_TEXT = {TimeInForce.POST_ONLY: "GTX"}
#: Client ids of the venue's own orders, by what forced them.
_FORCED_IDS = {"liquidation": "autoclose-{id}", "adl": "adl_autoclose{id}", "settlement": "settlement_autoclose-{id}"}
#: ``er`` by how an order ended.
EXPIRY_REASONS = {
    "stp": "1", "ioc": "2", "reduce_out": "4", "reduce_only": "4", "liquidated": "5", "auto_deleveraged": "5",
    "position_closed": "7", "fok": "10", "poc": "11",
}  # fmt: skip
#: Ends that the venue calls a cancel; all others have expired.
_CANCELLED = frozenset({"cancelled"})
INCOME_TYPES = {
    "deposit": "TRANSFER",
    "withdraw": "TRANSFER",
    "pnl": "REALIZED_PNL",
    "fee": "COMMISSION",
    "trade-fee-deduct": "COMMISSION",
    "fund": "FUNDING_FEE",
}


#: What a position of GET /fapi/v3/account has of a row of positionRisk.
ACCOUNT_POSITION = (
    *("symbol", "positionSide", "positionAmt", "isolatedMargin", "notional", "isolatedWallet"),
    *("initialMargin", "maintMargin", "updateTime"),
)


def places(value: Decimal, digits: int = 8) -> str:
    """A number with so many digits behind the point at most."""
    return exact_text(round(value, digits))


def client_id(order: SimOrder) -> str:
    """Of an order of the venue itself: what says so."""
    return _FORCED_IDS[order.forced].format(id=order.order_id) if order.forced else order.client_id


def order_status(order: SimOrder) -> str:
    """``status``: what is not cancelled by its owner has expired. A forced fill at one price is an ADL's own state."""
    if order.forced == "adl" and order.filled_qty:
        return "NEW_ADL"
    status = status_text(order)
    return "EXPIRED" if status == "CANCELED" and order.finish_as not in _CANCELLED else status


def order_side(order: SimOrder, account: SimAccount) -> str:
    """``positionSide``: in hedge mode an order that opens is of its own direction, one that reduces of the other."""
    if not account.dual_side:
        return "BOTH"
    return "LONG" if (order.side is OrderSide.BUY) is not order.reduce_only else "SHORT"


def order_row(order: SimOrder, account: SimAccount, *, full: bool = True) -> dict[str, Any]:
    """An order; ``full``: of a query, with its average price and its time."""
    is_market = order.kind is OrderKind.MARKET
    kind = "MARKET" if is_market else "LIMIT"
    row: dict[str, Any] = {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": order_status(order),
        "clientOrderId": client_id(order),
        "price": exact_text(order.price),
        "origQty": exact_text(order.qty),
        "executedQty": exact_text(order.filled_qty),
        "cumQty": exact_text(order.filled_qty),
        "timeInForce": "GTC" if is_market else TIF_TEXT.get(order.tif, order.tif.name),
        "type": kind,
        "origType": kind,
        "reduceOnly": order.reduce_only and not account.dual_side,
        "closePosition": False,
        "side": side_text(order.side),
        "positionSide": order_side(order, account),
        "stopPrice": "0",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "updateTime": order.updated_ms,
    }
    if full:
        row |= {"avgPrice": places(order.average_price), "cumQuote": places(order.filled_quote)}
        row["time"] = order.created_ms
    return row


def trade_row(trade: SimTrade, order: SimOrder, row: SimInstrument, account: SimAccount) -> dict[str, Any]:
    """GET /fapi/v1/userTrades: without a client id."""
    return {
        "symbol": trade.symbol,
        "pair": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "side": side_text(trade.side),
        "price": exact_text(trade.price),
        "qty": exact_text(trade.qty),
        "quoteQty": exact_text(trade.quote),
        "baseQty": exact_text(trade.qty),
        "realizedPnl": exact_text(trade.realised_pnl),
        "marginAsset": row.quote,
        "commission": exact_text(trade.coin_fee or trade.fee),
        "commissionAsset": trade.coin_asset or trade.fee_asset,
        "time": trade.ts_ms,
        "positionSide": order_side(order, account),
        "buyer": trade.side is OrderSide.BUY,
        "maker": trade.is_maker,
    }


def balance_rows(account: SimAccount, margin: MarginAccount, settle: str, now_ms: int) -> list[dict[str, Any]]:
    """GET /fapi/v3/balance: the coin of margin, and coins that only lie there."""
    rows = []
    for asset, wallet in account.wallets.items():
        if asset == settle:
            total, free = margin.total, margin.available
            cross, gain = margin.total - margin.isolated_margin, margin.cross_unrealised
        else:
            total = free = cross = wallet.total
            gain = ZERO
        rows.append(
            {
                "accountAlias": "SgsR",
                "asset": asset,
                "balance": exact_text(total),
                "crossWalletBalance": exact_text(cross),
                "crossUnPnl": exact_text(gain),
                "availableBalance": exact_text(free),
                "maxWithdrawAmount": exact_text(free),
                "marginAvailable": True,
                "updateTime": now_ms,
            }
        )
    return rows


def position_row(position: SimPosition, row: SimInstrument, liq_price: Decimal | None) -> dict[str, Any]:
    """GET /fapi/v3/positionRisk; without leverage and margin mode. ``liq_price`` None: no price liquidates."""
    mark = row.reference_price()
    gain = unrealised(position, mark)
    wallet = ZERO if position.is_cross else position.margin
    initial = initial_margin(position, mark)
    return {
        "symbol": position.symbol,
        "positionSide": SIDES[position.mode],
        "positionAmt": exact_text(position.qty),
        "entryPrice": places(position.entry_price, 11),
        "breakEvenPrice": places(position.entry_price, 11),
        "markPrice": places(mark),
        "unRealizedProfit": places(gain),
        "liquidationPrice": places(liq_price) if liq_price is not None else "0",
        "isolatedMargin": places(wallet + gain) if wallet else "0",
        "notional": places(position.qty * mark),
        "marginAsset": row.quote,
        "isolatedWallet": places(wallet),
        "initialMargin": places(initial),
        "maintMargin": places(maintenance_margin(row, position.qty, mark)),
        "positionInitialMargin": places(initial),
        "openOrderInitialMargin": "0",
        "adl": 1 if position.qty else 0,
        "bidNotional": "0",
        "askNotional": "0",
        "updateTime": position.updated_ms,
    }


def account_row(
    account: SimAccount,
    margin: MarginAccount,
    settle: str,
    positions: list[tuple[SimPosition, SimInstrument]],
    now_ms: int,
) -> dict[str, Any]:
    """GET /fapi/v3/account."""
    assets = []
    for row in balance_rows(account, margin, settle, now_ms):
        own = row["asset"] == settle
        gain = margin.unrealised_pnl if own else ZERO
        assets.append(
            {
                "asset": row["asset"],
                "walletBalance": row["balance"],
                "unrealizedProfit": places(gain),
                "marginBalance": places(Decimal(row["balance"]) + gain),
                "maintMargin": places(margin.maintenance if own else ZERO),
                "initialMargin": places(margin.position_margin + margin.order_margin if own else ZERO),
                "positionInitialMargin": places(margin.position_margin if own else ZERO),
                "openOrderInitialMargin": places(margin.order_margin if own else ZERO),
                "crossWalletBalance": row["crossWalletBalance"],
                "crossUnPnl": row["crossUnPnl"],
                "availableBalance": row["availableBalance"],
                "maxWithdrawAmount": row["maxWithdrawAmount"],
                "updateTime": now_ms,
            }
        )
    held = []
    for position, row_of in positions:
        shown = position_row(position, row_of, None)
        held.append({name: shown[name] for name in ACCOUNT_POSITION} | {"unrealizedProfit": shown["unRealizedProfit"]})
    return {
        "totalInitialMargin": places(margin.position_margin + margin.order_margin),
        "totalMaintMargin": places(margin.maintenance),
        "totalWalletBalance": places(margin.total),
        "totalUnrealizedProfit": places(margin.unrealised_pnl),
        "totalMarginBalance": places(margin.equity),
        "totalPositionInitialMargin": places(margin.position_margin),
        "totalOpenOrderInitialMargin": places(margin.order_margin),
        "totalCrossWalletBalance": places(margin.total - margin.isolated_margin),
        "totalCrossUnPnl": places(margin.cross_unrealised),
        "availableBalance": places(margin.available),
        "maxWithdrawAmount": places(margin.available),
        "assets": assets,
        "positions": held,
    }


def symbol_config(position: SimPosition, row: SimInstrument) -> dict[str, Any]:
    """GET /fapi/v1/symbolConfig."""
    return {
        "symbol": position.symbol,
        "marginType": "CROSSED" if position.is_cross else "ISOLATED",
        "isAutoAddMargin": False,
        "leverage": int(position.leverage),
        "maxNotionalValue": max_notional(row, int(position.leverage)),
    }


def max_notional(row: SimInstrument, leverage: int) -> str:
    """The largest position that a leverage allows."""
    caps = [tier.cap for tier in row.tiers if leverage <= tier.leverage_max]
    return exact_text(caps[-1] if caps else row.tiers[0].cap)


def bracket_row(row: SimInstrument) -> dict[str, Any]:
    """GET /fapi/v1/leverageBracket: numbers, not text."""
    floor, brackets = ZERO, []
    for number, tier in enumerate(row.tiers, 1):
        brackets.append(
            {
                "bracket": number,
                "initialLeverage": tier.leverage_max,
                "notionalCap": float(tier.cap),
                "notionalFloor": float(floor),
                "maintMarginRatio": float(tier.maintenance_rate),
                "cum": float(tier.deduction),
            }
        )
        floor = tier.cap
    return {"symbol": row.symbol, "notionalCoef": 1.0, "brackets": brackets}


def income_row(entry: BookEntry) -> dict[str, Any]:
    """GET /fapi/v1/income."""
    kind = INCOME_TYPES.get(entry.reason, "TRANSFER")
    return {
        "symbol": entry.symbol,
        "incomeType": kind,
        "income": exact_text(entry.change),
        "asset": entry.asset,
        "info": str(entry.trade_id) if entry.trade_id else kind,
        "time": entry.ts_ms,
        "tranId": entry.entry_id,
        "tradeId": str(entry.trade_id) if entry.trade_id else "",
    }


def leverage_tier_max(row: SimInstrument, value: Decimal) -> int:
    """The largest leverage that a position of this value may have."""
    return tier_of(row, value).leverage_max
