"""Gate.io USDT futures rows of closed positions: closes, liquidations, deleveragings. Sizes are signed contracts.

Source: Gate.io APIv4 "Futures": position_close, liquidates, auto_deleverages; WebSocket v4 channels of those names.
"""

from __future__ import annotations

from typing import Any

from pipeline.sim.exchange.accounts import ForcedClose, PositionClose, SimAccount
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.wire.gateio.futures_rows import contracts, size
from pipeline.sim.wire.numbers import exact_text


def close_row(close: PositionClose, instrument: SimInstrument, decimal_sizes: bool) -> dict[str, Any]:
    """GET /futures/usdt/position_close: gains positive; entry and exit by the side that each was."""
    entry, leave = exact_text(round(close.entry_price, 12)), exact_text(round(close.exit_price, 12))
    return {
        "time": close.closed_ms / 1000,
        "contract": close.symbol,
        "side": "long" if close.is_long else "short",
        "pnl": exact_text(close.realised_pnl - close.paid_fees - close.paid_funding),
        "pnl_pnl": exact_text(close.realised_pnl),
        "pnl_fund": exact_text(-close.paid_funding),
        "pnl_fee": exact_text(-close.paid_fees),
        "text": close.text,
        "max_size": str(size(contracts(instrument, close.max_qty), decimal_sizes)),
        "accum_size": str(size(contracts(instrument, close.total_qty), decimal_sizes)),
        "first_open_time": close.opened_ms // 1000,
        "long_price": entry if close.is_long else leave,
        "short_price": leave if close.is_long else entry,
    }


def close_push(close: PositionClose, account: SimAccount) -> dict[str, Any]:
    """An item of ``futures.position_closes``."""
    return {
        "contract": close.symbol,
        "pnl": float(close.realised_pnl - close.paid_fees - close.paid_funding),
        "side": "long" if close.is_long else "short",
        "text": close.text,
        "time": close.closed_ms // 1000,
        "time_ms": close.closed_ms,
        "user": account.uid,
    }


def liquidation_row(close: ForcedClose, instrument: SimInstrument, decimal_sizes: bool) -> dict[str, Any]:
    """GET /futures/usdt/liquidates; ``size`` is the position before, ``left`` what the order did not fill."""
    return {
        "time": close.ts_ms // 1000,
        "contract": close.symbol,
        "size": size(contracts(instrument, close.position_qty), decimal_sizes),
        "leverage": exact_text(close.leverage),
        "margin": exact_text(round(close.margin, 8)),
        "entry_price": exact_text(round(close.entry_price, 12)),
        "liq_price": exact_text(round(close.liq_price / instrument.tick) * instrument.tick),
        "mark_price": exact_text(close.mark_price),
        "order_id": close.order_id,
        "order_price": exact_text(close.order_price or close.fill_price),
        "fill_price": exact_text(round(close.fill_price, 12)),
        "left": size(contracts(instrument, close.left_qty), decimal_sizes),
    }


_LIQUIDATION_NUMBERS = ("leverage", "margin", "entry_price", "liq_price", "mark_price", "order_price", "fill_price")


def liquidation_push(
    close: ForcedClose, instrument: SimInstrument, account: SimAccount, decimal_sizes: bool
) -> dict[str, Any]:
    """An item of ``futures.liquidates``: numbers."""
    row = liquidation_row(close, instrument, decimal_sizes)
    for name in _LIQUIDATION_NUMBERS:
        row[name] = float(row[name])
    return row | {"time_ms": close.ts_ms, "user": account.uid}


def deleverage_row(
    close: ForcedClose, instrument: SimInstrument, account: SimAccount, decimal_sizes: bool
) -> dict[str, Any]:
    """GET /futures/usdt/auto_deleverages: ``position_size`` is what is left."""
    sign = -1 if close.position_qty > 0 else 1
    return {
        "time": close.ts_ms // 1000,
        "user": int(account.uid),
        "order_id": close.order_id,
        "contract": close.symbol,
        "leverage": exact_text(close.leverage),
        "cross_leverage_limit": "0",
        "entry_price": exact_text(round(close.entry_price, 12)),
        "fill_price": exact_text(round(close.fill_price, 12)),
        "trade_size": size(contracts(instrument, close.closed_qty) * sign, decimal_sizes),
        "position_size": size(contracts(instrument, close.left_qty), decimal_sizes),
    }


def deleverage_push(
    close: ForcedClose, instrument: SimInstrument, account: SimAccount, decimal_sizes: bool
) -> dict[str, Any]:
    """An item of ``futures.auto_deleverages``: numbers, and no order id."""
    row = deleverage_row(close, instrument, account, decimal_sizes)
    return {
        "contract": close.symbol,
        "trade_size": row["trade_size"],
        "position_size": row["position_size"],
        "entry_price": float(row["entry_price"]),
        "fill_price": float(row["fill_price"]),
        "time": close.ts_ms // 1000,
        "time_ms": close.ts_ms,
        "user": account.uid,
    }
