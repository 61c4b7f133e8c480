"""Gate.io spot rows: currency pairs, currencies, orders, trades, balances, tickers.

Source: Gate.io APIv4 "Spot"; WebSocket v4 "spot.orders", "spot.usertrades", "spot.balances".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, OrderSide, TradingStatus
from pipeline.model.structs import CoinIdentity
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.decimals import PPM
from pipeline.sim.exchange.events import BalanceEvent, MarketTrade
from pipeline.sim.exchange.fees import POINTS
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.orders import OrderStatus, SimOrder, SimTrade
from pipeline.sim.wire.gateio.formats import TIF_TEXT, ms_fraction, order_text, side_text, trade_text
from pipeline.sim.wire.numbers import exact_text, fraction_digits, rate_text
from pipeline.sim.wire.recent_trades import day_figures

GT = "GT"
_TRADE_STATUS = {
    TradingStatus.TRADING: "tradable",
    TradingStatus.BUY_ONLY: "buyable",
    TradingStatus.SELL_ONLY: "sellable",
    TradingStatus.HALTED: "untradable",
}


def pair_row(instrument: SimInstrument) -> dict[str, Any]:
    """GET /spot/currency_pairs; minima are absent when there are none; ``fee`` is in percent."""
    row: dict[str, Any] = {
        "id": instrument.symbol,
        "base": instrument.base,
        "base_name": instrument.identity.asset or instrument.base,
        "quote": instrument.quote,
        "quote_name": instrument.quote,
        "fee": exact_text(Decimal(instrument.list_taker_fee_ppm).scaleb(-4)),
    }
    if instrument.min_qty:
        row["min_base_amount"] = exact_text(instrument.min_qty)
    if instrument.min_notional:
        row["min_quote_amount"] = exact_text(instrument.min_notional)
    if instrument.max_qty:
        row["max_base_amount"] = exact_text(instrument.max_qty)
    row["max_quote_amount"] = exact_text(instrument.max_notional or Decimal(5_000_000))
    return row | {
        "amount_precision": fraction_digits(instrument.lot),
        "precision": fraction_digits(instrument.tick),
        "trade_status": _TRADE_STATUS[instrument.status],
        "sell_start": 0,
        "buy_start": 0,
        "delisting_time": instrument.delisted_s,
        "type": "normal",
        "trade_url": f"https://www.gate.com/trade/{instrument.symbol}",
        "st_tag": False,
    }


def currency_rows(identities: Iterable[CoinIdentity]) -> list[dict[str, Any]]:
    """GET /spot/currencies; ``chains[].addr`` is the contract address."""
    rows = []
    for coin in identities:
        no_withdraw, no_deposit = not coin.withdraw_enabled, not coin.deposit_enabled
        chains = [
            {
                "name": network.upper(),
                "addr": contract,
                "withdraw_disabled": no_withdraw,
                "withdraw_delayed": False,
                "deposit_disabled": no_deposit,
            }
            for network, contract in coin.networks
        ]
        rows.append(
            {
                "currency": coin.asset,
                "name": coin.asset,
                "delisted": False,
                "withdraw_disabled": no_withdraw,
                "withdraw_delayed": False,
                "deposit_disabled": no_deposit,
                "trade_disabled": False,
                "chain": chains[0]["name"] if chains else coin.asset,
                "chains": chains,
            }
        )
    return rows


def status_text(order: SimOrder) -> str:
    """open, closed (filled) or cancelled."""
    if order.is_open:
        return "open"
    return "closed" if order.status is OrderStatus.FILLED else "cancelled"


def order_row(order: SimOrder) -> dict[str, Any]:
    """An order as REST and the WebSocket API show it. ``fill_price`` is the deprecated name of the filled total."""
    by_quote = order.quote_qty is not None
    amount = order.quote_qty if order.quote_qty is not None else order.qty
    left = amount - (order.filled_quote if by_quote else order.filled_qty)
    asset, fee = next(iter(order.fees.items()), ("", Decimal(0)))
    pair_quote = order.symbol.rpartition("_")[2]
    received = order.symbol.partition("_")[0] if order.side is OrderSide.BUY else pair_quote
    total = exact_text(order.filled_quote)
    return {
        "id": str(order.order_id),
        "text": order_text(order),
        "amend_text": order.amend_text or "-",
        "create_time": str(order.created_ms // 1000),
        "update_time": str(order.updated_ms // 1000),
        "create_time_ms": order.created_ms,
        "update_time_ms": order.updated_ms,
        "status": status_text(order),
        "currency_pair": order.symbol,
        "type": "market" if order.kind is OrderKind.MARKET else "limit",
        "account": "spot",
        "side": side_text(order.side),
        "amount": exact_text(amount),
        "price": exact_text(order.price),
        "time_in_force": TIF_TEXT[order.tif],
        "iceberg": "0",
        "left": exact_text(max(Decimal(0), left)),
        "filled_amount": exact_text(order.filled_qty),
        "fill_price": total,
        "filled_total": total,
        "avg_deal_price": exact_text(round(order.average_price, 12)) if order.filled_qty else "",
        "fee": exact_text(fee),
        "fee_currency": asset or received,
        "point_fee": exact_text(order.coin_fees.get(POINTS, Decimal(0))),
        "gt_fee": exact_text(order.coin_fees.get(GT, Decimal(0))),
        "gt_maker_fee": "0",
        "gt_taker_fee": "0",
        "gt_discount": GT in order.coin_fees,
        "rebated_fee": "0",
        "rebated_fee_currency": pair_quote,
        "finish_as": order.finish_as,
    }


def order_push(order: SimOrder, event: str, uid: int, *, fees: bool) -> dict[str, Any]:
    """An item of ``spot.orders``: an order without ``status``, with ``event``; its times are strings."""
    row = order_row(order)
    del row["status"]
    row |= {
        "create_time_ms": str(order.created_ms),
        "update_time_ms": str(order.updated_ms),
        "event": event,
        "user": uid,
        "stp_id": 0,
        "stp_act": "-",
        "biz_info": "-",
    }
    if not fees:
        for name in (
            "fee",
            "fee_currency",
            "point_fee",
            "gt_fee",
            "gt_discount",
            "rebated_fee",
            "rebated_fee_currency",
        ):
            del row[name]
    return row


def _coin_fee(trade: SimTrade, coin: str) -> str:
    return exact_text(trade.coin_fee) if trade.coin_asset == coin else "0"


def trade_row(trade: SimTrade) -> dict[str, Any]:
    """GET /spot/my_trades."""
    return {
        "id": str(trade.trade_id),
        "create_time": str(trade.ts_ms // 1000),
        "create_time_ms": ms_fraction(trade.ts_ms),
        "currency_pair": trade.symbol,
        "order_id": str(trade.order_id),
        "side": side_text(trade.side),
        "role": "maker" if trade.is_maker else "taker",
        "amount": exact_text(trade.qty),
        "price": exact_text(trade.price),
        "fee": exact_text(trade.fee),
        "fee_currency": trade.fee_asset,
        "point_fee": _coin_fee(trade, POINTS),
        "gt_fee": _coin_fee(trade, GT),
        "sequence_id": str(trade.trade_id),
        "text": trade_text(trade),
        "amend_text": "-",
    }


def trade_push(trade: SimTrade, uid: int, *, fees: bool) -> dict[str, Any]:
    """An item of ``spot.usertrades``: the same trade with a numeric id and time."""
    row: dict[str, Any] = {
        "id": trade.trade_id,
        "user_id": uid,
        "order_id": str(trade.order_id),
        "currency_pair": trade.symbol,
        "create_time": trade.ts_ms // 1000,
        "create_time_ms": ms_fraction(trade.ts_ms),
        "side": side_text(trade.side),
        "amount": exact_text(trade.qty),
        "role": "maker" if trade.is_maker else "taker",
        "price": exact_text(trade.price),
        "text": trade_text(trade),
        "id_market": trade.trade_id,
        "amend_text": "-",
        "biz_info": "-",
    }
    if fees:
        row |= {"fee": exact_text(trade.fee), "fee_currency": trade.fee_asset}
        row |= {"point_fee": _coin_fee(trade, POINTS), "gt_fee": _coin_fee(trade, GT)}
    return row


def balance_row(asset: str, free: Decimal, locked: Decimal, update_id: int) -> dict[str, Any]:
    """GET /spot/accounts."""
    return {"currency": asset, "available": exact_text(free), "locked": exact_text(locked), "update_id": update_id}


_CHANGE_TYPES = {
    "order-create": "order-create",
    "order-match": "order-match",
    "fee": "order-match",
    "point-fee": "trade-fee-deduct",
}


def balance_push(event: BalanceEvent, account: SimAccount) -> dict[str, Any]:
    """An item of ``spot.balances``; ``change`` is what the available amount moved by."""
    kind = _CHANGE_TYPES.get(event.reason, "order-update" if event.reason == "order-cancel" else event.reason)
    return {
        "timestamp": str(event.ts_ms // 1000),
        "timestamp_ms": str(event.ts_ms),
        "user": account.uid,
        "currency": event.asset,
        "change": exact_text(event.change - event.locked_change),
        "total": exact_text(event.free + event.locked),
        "available": exact_text(event.free),
        "freeze": exact_text(event.locked),
        "freeze_change": exact_text(event.locked_change),
        "change_type": kind,
    }


#: ``debit_fee``: what fees are taken in; 3: the tier's rates, plain.
DEBIT_FEES = {GT: 1, POINTS: 2}


def _discounted(fee_ppm: int, rate: Decimal | None) -> str:
    return exact_text(Decimal(fee_ppm) * rate / PPM) if rate is not None else "0"


def fee_row(account: SimAccount, spot: SimInstrument | None, futures: SimInstrument | None) -> dict[str, Any]:
    """GET /wallet/fee: the account's own rates as fractions; ``gt_*`` where fees are paid in GT."""
    deduction = account.fee_deduction
    rate = deduction.rate if deduction is not None and deduction.enabled and deduction.coin == GT else None
    return {
        "user_id": int(account.uid),
        "taker_fee": rate_text(spot.taker_fee_ppm if spot else 2000),
        "maker_fee": rate_text(spot.maker_fee_ppm if spot else 2000),
        "gt_discount": rate is not None,
        "gt_taker_fee": _discounted(spot.taker_fee_ppm if spot else 2000, rate),
        "gt_maker_fee": _discounted(spot.maker_fee_ppm if spot else 2000, rate),
        "loan_fee": "0.18",
        "point_type": "1",
        "futures_taker_fee": rate_text(futures.taker_fee_ppm if futures else 500),
        "futures_maker_fee": rate_text(futures.maker_fee_ppm if futures else 200),
        "debit_fee": DEBIT_FEES.get(deduction.coin, 3) if deduction is not None and deduction.enabled else 3,
    }


def public_trade_row(instrument: SimInstrument, trade: MarketTrade) -> dict[str, Any]:
    """GET /spot/trades."""
    return {
        "id": str(trade.trade_id),
        "create_time": str(trade.ts_ms // 1000),
        "create_time_ms": ms_fraction(trade.ts_ms),
        "currency_pair": trade.symbol,
        "side": side_text(trade.side),
        "amount": exact_text(instrument.qty(trade.qty)),
        "price": instrument.price_text(trade.price),
        "sequence_id": str(trade.trade_id),
    }


def ticker_row(instrument: SimInstrument, bid: str, ask: str, trades: Sequence[MarketTrade]) -> dict[str, Any]:
    """GET /spot/tickers and ``spot.tickers``: over the trades that are kept."""
    day = day_figures(instrument, trades)
    return {
        "currency_pair": instrument.symbol,
        "last": day.last,
        "lowest_ask": ask,
        "highest_bid": bid,
        "change_percentage": exact_text(round(day.ratio * 100, 2)),
        "base_volume": exact_text(day.base),
        "quote_volume": exact_text(day.quote),
        "high_24h": day.high,
        "low_24h": day.low,
    }
