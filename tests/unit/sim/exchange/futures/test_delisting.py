"""Announced delistings: their times in the rows, reduce-only, settlement."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipeline.model.enums import TimeInForce, TradingStatus
from pipeline.sim.exchange.fault_actions import apply_action
from pipeline.sim.exchange.faults import FaultRule
from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S
from pipeline.sim.exchange.orders import RejectReason, SimReject
from pipeline.sim.wire.gateio import futures_rows, spot_rows
from pipeline.sim.wire.gateio.formats import refusal
from pipeline.sim.wire.mexc import formats as mexc
from tests.worlds.sim_support import Bench

D = Decimal
SYMBOL = "BTC_USDT"


def announce(bench: Bench) -> None:
    """Reduce-only in 10 s, the end 20 s after."""
    rule = {"kind": "announce_delisting", "symbol": SYMBOL, "delay_ms": 10_000, "duration_ms": 20_000}
    apply_action({bench.venue.name: bench.venue}, FaultRule.parse(rule))


def contract(bench: Bench) -> dict[str, Any]:
    return futures_rows.contract_row(bench.row, decimal_sizes=False, orderbook_id=1, last="1", trade_id=1)


def test_a_contract_is_announced_then_only_reduces_then_is_settled_at_the_mark() -> None:
    bench = Bench(futures=True)
    venue, account = bench.venue, bench.account
    venue.place(account, bench.request("sell", "0.4"))
    resting = venue.place(account, bench.request("buy", "0.1", "9000", tif=TimeInForce.GTC))
    now_s = venue.wall_ns() // NS_PER_S
    announce(bench)
    row = contract(bench)
    assert (row["status"], row["in_delisting"], row["delisting_time"], row["delisted_time"]) == (
        "trading", False, now_s + 10, now_s + 30,
    )  # fmt: skip
    bench.clock.advance(10 * NS_PER_S + NS_PER_MS)
    row = contract(bench)
    assert (row["status"], row["in_delisting"]) == ("delisting", True)
    ended = venue.order(account, SYMBOL, order_id=resting.order_id)
    assert ended is not None and ended.finish_as == "cancelled"
    with pytest.raises(SimReject) as caught:
        venue.place(account, bench.request("sell", "0.1"))
    assert refusal(caught.value, bench.row, futures=True).label == "CONTRACT_IN_DELISTING"
    assert venue.place(account, bench.request("buy", "0.1", reduce_only=True)).filled_qty == D("0.1")
    mark = venue.mark_price(SYMBOL)
    bench.clock.advance(20 * NS_PER_S)
    assert venue.position(account, SYMBOL).qty == 0
    (close,) = account.forced
    assert (close.kind, close.position_qty) == ("settlement", D("-0.3")) and abs(close.fill_price - mark) <= D("0.5")
    order = venue.order(account, SYMBOL, order_id=close.order_id)
    assert order is not None and (order.text, order.finish_as) == ("clear", "filled")
    row = contract(bench)
    assert (row["status"], row["in_delisting"]) == ("delisted", False)
    with pytest.raises(SimReject) as caught:
        venue.place(account, bench.request("buy", "0.1", reduce_only=True))
    assert caught.value.reason is RejectReason.SYMBOL_HALTED


def test_a_spot_pair_trades_until_its_end() -> None:
    bench = Bench()
    announce(bench)
    end_s = bench.venue.wall_ns() // NS_PER_S + 30
    assert spot_rows.pair_row(bench.row)["delisting_time"] == end_s
    bench.clock.advance(15 * NS_PER_S)
    assert bench.venue.place(bench.account, bench.request("buy", "0.1")).filled_qty == D("0.1")
    bench.venue.place(bench.account, bench.request("buy", "0.1", "9000", tif=TimeInForce.GTC))
    bench.clock.advance(15 * NS_PER_S)
    assert bench.row.status is TradingStatus.HALTED and not bench.venue.open_orders(bench.account)
    assert spot_rows.pair_row(bench.row)["trade_status"] == "untradable"
    assert mexc.symbol_row(bench.row)["status"] == "3"
