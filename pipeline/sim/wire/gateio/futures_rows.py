"""Gate.io USDT futures rows: contracts, orders, trades, positions, account, tickers. Sizes are signed contracts.

With ``X-Gate-Size-Decimal: 1`` sizes are decimal strings; without it integers, truncated toward zero.
Source: Gate.io APIv4 "Futures"; WebSocket v4 "futures.orders" and its neighbours; recorded contract rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, TradingStatus
from pipeline.sim.exchange.accounts import ACCOUNT_MODES, SimAccount, SimPosition
from pipeline.sim.exchange.events import BalanceEvent, MarketTrade
from pipeline.sim.exchange.fees import POINTS
from pipeline.sim.exchange.futures.margin import MarginAccount, maintenance_margin, tier_of, unrealised
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.orders import SimOrder, SimTrade
from pipeline.sim.wire.gateio.formats import TIF_TEXT, order_text, trade_text
from pipeline.sim.wire.numbers import exact_text, rate_text
from pipeline.sim.wire.recent_trades import day_figures

_STATUS = {
    TradingStatus.TRADING: "trading",
    TradingStatus.BUY_ONLY: "trading",
    TradingStatus.SELL_ONLY: "trading",
    TradingStatus.HALTED: "circuit_breaker",
}
_SIZE_MAX = Decimal(1_000_000)
NEVER_SHORT = "99999999"  # ``liq_price`` of a short position that no price liquidates
_FINISHED_AS = {"fok": "cancelled", "poc": "cancelled", "expired": "cancelled"}


def contracts(instrument: SimInstrument, qty: Decimal) -> Decimal:
    """Contracts of a quantity in base coin."""
    return qty / instrument.multiplier


def size(value: Decimal, decimal_sizes: bool) -> str | int:
    """A number of contracts as JSON: text with the decimal header, else an integer truncated toward zero."""
    return exact_text(value) if decimal_sizes else int(value)


def units_size(instrument: SimInstrument, units: int, decimal_sizes: bool) -> str | int:
    """Contracts of a book level, from units."""
    if instrument.unit == instrument.multiplier:
        return str(units) if decimal_sizes else units
    return size(contracts(instrument, instrument.qty(units)), decimal_sizes)


def is_fractional(instrument: SimInstrument) -> bool:
    """True where the contract trades in fractions (``enable_decimal``)."""
    return instrument.lot < instrument.multiplier


def _status_text(instrument: SimInstrument) -> str:
    if instrument.is_delisted:
        return "delisted"
    return "delisting" if instrument.only_reduces else _STATUS[instrument.status]


def contract_row(
    instrument: SimInstrument, *, decimal_sizes: bool, orderbook_id: int, last: str, trade_id: int
) -> dict[str, Any]:
    """GET /futures/usdt/contracts: every field of the recorded row and the newer ones."""
    mark = exact_text(instrument.reference_price())
    funding = exact_text(instrument.funding_rate)
    least = contracts(instrument, instrument.min_qty or instrument.lot)
    most = contracts(instrument, instrument.max_qty) if instrument.max_qty else _SIZE_MAX
    return {
        "name": instrument.symbol,
        "type": "direct",
        "quanto_multiplier": exact_text(instrument.multiplier),
        "ref_discount_rate": "0",
        "order_price_deviate": rate_text(instrument.price_band_ppm),
        "maintenance_rate": exact_text(instrument.tiers[0].maintenance_rate),
        "mark_type": "index",
        "last_price": last,
        "mark_price": mark,
        "index_price": mark,
        "funding_rate_indicative": funding,
        "mark_price_round": "0.01",
        "funding_offset": 0,
        "in_delisting": instrument.only_reduces,
        "risk_limit_base": exact_text(instrument.tiers[0].cap),
        "interest_rate": "0.0003",
        "order_price_round": exact_text(instrument.tick),
        "order_size_min": size(least, decimal_sizes),
        "ref_rebate_rate": "0.2",
        "funding_interval": instrument.funding_interval_s,
        "risk_limit_step": "1000000",
        "leverage_min": "1",
        "leverage_max": str(instrument.leverage_max),
        "risk_limit_max": "30000000",
        "maker_fee_rate": rate_text(instrument.list_maker_fee_ppm),
        "taker_fee_rate": rate_text(instrument.list_taker_fee_ppm),
        "funding_rate": funding,
        "order_size_max": size(most, decimal_sizes),
        "funding_next_apply": instrument.funding_next_s,
        "short_users": 0,
        "long_users": 0,
        "config_change_time": 1682318841,
        "create_time": 1546300800,
        "trade_size": size(Decimal(0), decimal_sizes),
        "position_size": size(Decimal(0), decimal_sizes),
        "funding_impact_value": "60000",
        "orders_limit": 100,
        "trade_id": trade_id,
        "orderbook_id": orderbook_id,
        "enable_bonus": True,
        "enable_credit": True,
        "funding_cap_ratio": "0.75",
        "status": _status_text(instrument),
        "delisting_time": instrument.delisting_s,
        "delisted_time": instrument.delisted_s,
        "launch_time": 1546300800,
        "enable_decimal": is_fractional(instrument),
    }


def order_row(order: SimOrder, instrument: SimInstrument, account: SimAccount, decimal_sizes: bool) -> dict[str, Any]:
    """An order as REST and the WebSocket API show it; ``fill_price`` is the average."""
    sign = int(order.side)
    is_market = order.kind is OrderKind.MARKET
    row: dict[str, Any] = {
        "id": order.order_id,
        "user": int(account.uid),
        "contract": order.symbol,
        "create_time": order.created_ms / 1000,
        "update_time": order.updated_ms / 1000,
        "update_id": order.update_seq + 1,
        "size": size(contracts(instrument, order.qty) * sign, decimal_sizes),
        "iceberg": size(Decimal(0), decimal_sizes),
        "left": size(contracts(instrument, order.left_qty) * sign, decimal_sizes),
        "price": "0" if is_market else exact_text(order.price),
        "fill_price": exact_text(round(order.average_price, 12)),
        "mkfr": rate_text(instrument.maker_fee_ppm),
        "tkfr": rate_text(instrument.taker_fee_ppm),
        "tif": TIF_TEXT[order.tif],
        "refu": 0,
        "is_reduce_only": order.reduce_only,
        "is_close": order.is_close,
        "is_liq": order.forced in ("liquidation", "adl"),
        "text": order_text(order),
        "status": "open" if order.is_open else "finished",
        "stp_id": 0,
        "stp_act": "-",
        "amend_text": order.amend_text or "-",
        "biz_info": "-",
    }
    if not order.is_open:
        row["finish_time"] = order.finished_ms / 1000
        row["finish_as"] = _FINISHED_AS.get(order.finish_as, order.finish_as)
    return row


def order_push(order: SimOrder, instrument: SimInstrument, account: SimAccount, decimal_sizes: bool) -> dict[str, Any]:
    """An item of ``futures.orders``: prices and rates are numbers here, not strings."""
    row = order_row(order, instrument, account, decimal_sizes)
    for name in ("price", "fill_price", "mkfr", "tkfr"):
        row[name] = float(row[name])
    return row | {
        "create_time": order.created_ms // 1000,
        "create_time_ms": order.created_ms,
        "finish_as": row.get("finish_as", "_new" if not order.filled_qty else "_update"),
        "finish_time": order.finished_ms // 1000,
        "finish_time_ms": order.finished_ms,
        "update_time": order.updated_ms,
        "refr": 0,
        "user": account.uid,
        "stop_loss_price": "",
        "stop_profit_price": "",
    }


def trade_row(trade: SimTrade, instrument: SimInstrument, decimal_sizes: bool) -> dict[str, Any]:
    """GET /futures/usdt/my_trades."""
    sign = int(trade.side)
    return {
        "id": trade.trade_id,
        "create_time": trade.ts_ms / 1000,
        "contract": trade.symbol,
        "order_id": str(trade.order_id),
        "size": size(contracts(instrument, trade.qty) * sign, decimal_sizes),
        "price": exact_text(trade.price),
        "text": trade_text(trade),
        "fee": exact_text(trade.fee),
        "point_fee": exact_text(trade.coin_fee),
        "role": "maker" if trade.is_maker else "taker",
        "close_size": size(contracts(instrument, trade.close_qty) * sign, decimal_sizes),
    }


def timerange_trade_row(trade: SimTrade, instrument: SimInstrument, decimal_sizes: bool) -> dict[str, Any]:
    """GET /futures/usdt/my_trades_timerange: the id is called ``trade_id`` and is text."""
    row = trade_row(trade, instrument, decimal_sizes)
    del row["id"]
    return {"trade_id": str(trade.trade_id)} | row


def trade_push(trade: SimTrade, instrument: SimInstrument, decimal_sizes: bool) -> dict[str, Any]:
    """An item of ``futures.usertrades``: fees are numbers."""
    return {
        "id": str(trade.trade_id),
        "create_time": trade.ts_ms // 1000,
        "create_time_ms": trade.ts_ms,
        "contract": trade.symbol,
        "order_id": str(trade.order_id),
        "size": size(contracts(instrument, trade.qty) * int(trade.side), decimal_sizes),
        "price": exact_text(trade.price),
        "role": "maker" if trade.is_maker else "taker",
        "text": trade_text(trade),
        "fee": float(trade.fee),
        "point_fee": float(trade.coin_fee),
    }


def _price_text(price: Decimal | None, instrument: SimInstrument, *, is_short: bool) -> str:
    """A liquidation price to the tick; "99999999" for a short that no price liquidates, "0" for a long."""
    if price is None:
        return NEVER_SHORT if is_short else "0"
    return exact_text(round(price / instrument.tick) * instrument.tick)


def position_row(
    position: SimPosition,
    instrument: SimInstrument,
    account: SimAccount,
    *,
    decimal_sizes: bool,
    pending_orders: int,
    liq_price: Decimal | None,
) -> dict[str, Any]:
    """GET /futures/usdt/positions; ``leverage`` "0" means cross. ``liq_price`` None: no price liquidates."""
    mark, is_cross = instrument.reference_price(), position.is_cross
    value = abs(position.qty) * mark
    tier = tier_of(instrument, value)
    initial = value / position.leverage
    leverage = exact_text(position.leverage)
    pnl = position.realised_pnl - position.paid_fees - position.paid_funding
    return {
        "user": int(account.uid),
        "contract": position.symbol,
        "size": size(contracts(instrument, position.qty), decimal_sizes),
        "leverage": "0" if is_cross else leverage,
        "risk_limit": exact_text(tier.cap),
        "leverage_max": str(tier.leverage_max),
        "maintenance_rate": exact_text(tier.maintenance_rate),
        "average_maintenance_rate": exact_text(tier.maintenance_rate),
        "value": exact_text(value),
        "margin": exact_text(round(initial if is_cross else position.margin, 8)),
        "initial_margin": exact_text(round(initial, 8)),
        "maintenance_margin": exact_text(round(maintenance_margin(instrument, position.qty, mark), 8)),
        "entry_price": exact_text(round(position.entry_price, 12)),
        "liq_price": _price_text(liq_price, instrument, is_short=position.qty < 0),
        "mark_price": exact_text(mark),
        "unrealised_pnl": exact_text(unrealised(position, mark)),
        "realised_pnl": exact_text(pnl),
        "pnl_pnl": exact_text(position.realised_pnl),
        "pnl_fund": exact_text(-position.paid_funding),
        "pnl_fee": exact_text(-position.paid_fees),
        "history_pnl": exact_text(pnl),
        "last_close_pnl": "0",
        "realised_point": "0",
        "history_point": "0",
        "adl_ranking": 5,
        "pending_orders": pending_orders,
        "close_order": None,
        "mode": position.mode,
        "update_time": position.updated_ms // 1000,
        "update_id": position.update_seq,
        "open_time": position.span.opened_ms // 1000 if position.qty else 0,
        "cross_leverage_limit": leverage if is_cross else "0",
        "pos_margin_mode": "cross" if is_cross else "isolated",
        "lever": leverage,
        "risk_limit_table": "",
        "pid": 0,
    }


def position_push(
    position: SimPosition,
    instrument: SimInstrument,
    account: SimAccount,
    *,
    decimal_sizes: bool,
    liq_price: Decimal | None,
) -> dict[str, Any]:
    """An item of ``futures.positions``: numbers. No mark, unrealised PnL or maintenance margin, as at the venue."""
    leverage, is_cross = float(position.leverage), position.is_cross
    tier = tier_of(instrument, abs(position.qty) * instrument.reference_price())
    margin = abs(position.cost) / position.leverage if is_cross else position.margin
    return {
        "contract": position.symbol,
        "cross_leverage_limit": leverage if is_cross else 0,
        "entry_price": float(round(position.entry_price, 12)),
        "history_pnl": float(position.realised_pnl),
        "history_point": 0,
        "last_close_pnl": 0,
        "leverage": 0 if is_cross else leverage,
        "leverage_max": tier.leverage_max,
        "liq_price": float(_price_text(liq_price, instrument, is_short=position.qty < 0)),
        "maintenance_rate": float(tier.maintenance_rate),
        "margin": float(round(margin, 8)),
        "mode": position.mode,
        "realised_pnl": float(position.realised_pnl - position.paid_fees - position.paid_funding),
        "realised_point": 0,
        "risk_limit": int(tier.cap),
        "size": size(contracts(instrument, position.qty), decimal_sizes),
        "time": position.updated_ms // 1000,
        "time_ms": position.updated_ms,
        "user": account.uid,
        "update_id": position.update_seq,
    }


def _ratio_text(balance: Decimal, margin: Decimal) -> str:
    """Margin balance over a margin, as the account shows its cross positions; "0" without any."""
    return exact_text(round(balance / margin, 8)) if margin else "0"


def account_row(account: SimAccount, margin: MarginAccount, settle: str) -> dict[str, Any]:
    """GET /futures/usdt/accounts: ``total`` is the realised balance."""
    return {
        "user": int(account.uid),
        "currency": settle,
        "total": exact_text(margin.total),
        "unrealised_pnl": exact_text(margin.unrealised_pnl),
        "position_margin": exact_text(round(margin.position_margin, 8)),
        "order_margin": exact_text(round(margin.order_margin, 8)),
        "available": exact_text(round(margin.available, 8)),
        "point": exact_text(account.wallets[POINTS].total) if POINTS in account.wallets else "0",
        "bonus": "0",
        "in_dual_mode": account.dual_side,
        "enable_credit": False,
        "position_mode": "dual" if account.dual_side else "single",
        "margin_mode": ACCOUNT_MODES.index(account.account_mode),
        "position_initial_margin": exact_text(round(margin.position_margin, 8)),
        "maintenance_margin": exact_text(round(margin.maintenance, 8)),
        "cross_available": exact_text(round(margin.available, 8)),
        "cross_order_margin": exact_text(round(margin.order_margin, 8)),
        "cross_initial_margin": exact_text(round(margin.cross_initial, 8)),
        "cross_maintenance_margin": exact_text(round(margin.cross_maintenance, 8)),
        "cross_unrealised_pnl": exact_text(margin.cross_unrealised),
        "cross_margin_balance": exact_text(round(margin.cross_balance, 8)),
        "cross_mmr": _ratio_text(margin.cross_balance, margin.cross_maintenance),
        "cross_imr": _ratio_text(margin.cross_balance, margin.cross_initial),
        "isolated_position_margin": exact_text(round(margin.isolated_margin, 8)),
        "history": {
            "dnw": "0",
            "pnl": "0",
            "fee": "0",
            "refr": "0",
            "fund": "0",
            "point_dnw": "0",
            "point_fee": "0",
            "point_refr": "0",
            "bonus_dnw": "0",
            "bonus_offset": "0",
        },
    }


_CHANGE_KINDS = {
    "deposit": "dnw",
    "withdraw": "dnw",
    "pnl": "pnl",
    "fee": "fee",
    "fund": "fund",
    "point-fee": "point_fee",
}


def balance_push(event: BalanceEvent, account: SimAccount) -> dict[str, Any]:
    """An item of ``futures.balances``: numbers; types pnl, fee, refr, fund, dnw."""
    return {
        "balance": float(event.free + event.locked),
        "change": float(event.change),
        "text": f"{event.symbol}:{event.order_id}" if event.order_id else event.symbol,
        "time": event.ts_ms // 1000,
        "time_ms": event.ts_ms,
        "type": _CHANGE_KINDS.get(event.reason, "dnw"),
        "user": account.uid,
        "currency": event.asset.lower(),
    }


def public_trade_row(instrument: SimInstrument, trade: MarketTrade, decimal_sizes: bool) -> dict[str, Any]:
    """GET /futures/usdt/trades: the size's sign is the taker's side; times in float seconds."""
    return {
        "id": trade.trade_id,
        "create_time": trade.ts_ms / 1000,
        "create_time_ms": trade.ts_ms / 1000,
        "contract": trade.symbol,
        "size": units_size(instrument, trade.qty * int(trade.side), decimal_sizes),
        "price": instrument.price_text(trade.price),
    }


def ticker_row(
    instrument: SimInstrument, bid: str, ask: str, trades: Sequence[MarketTrade], decimal_sizes: bool
) -> dict[str, Any]:
    """GET /futures/usdt/tickers and ``futures.tickers``: over the trades that are kept."""
    day, mark = day_figures(instrument, trades), exact_text(instrument.reference_price())
    return {
        "contract": instrument.symbol,
        "last": day.last,
        "low_24h": day.low,
        "high_24h": day.high,
        "change_percentage": exact_text(round(day.ratio * 100, 2)),
        "total_size": size(Decimal(0), decimal_sizes),
        "volume_24h": size(contracts(instrument, day.base), decimal_sizes),
        "volume_24h_base": exact_text(day.base),
        "volume_24h_quote": exact_text(day.quote),
        "volume_24h_settle": exact_text(day.quote),
        "mark_price": mark,
        "index_price": mark,
        "funding_rate": exact_text(instrument.funding_rate),
        "funding_rate_indicative": exact_text(instrument.funding_rate),
        "quanto_base_rate": "",
        "lowest_ask": ask,
        "highest_bid": bid,
    }
