"""Fault rules: when they hit, what streams and requests then look like."""

from __future__ import annotations

import itertools
import random
from decimal import Decimal

import pytest

from pipeline.sim.exchange.events import BookDelta, TradeEvent
from pipeline.sim.exchange.fault_actions import apply_action
from pipeline.sim.exchange.faults import NO_FAULTS, BadFault, FaultPlan, FaultRule
from pipeline.sim.exchange.latency import NS_PER_MS, ManualClock
from pipeline.sim.exchange.order_book import ASK
from pipeline.sim.exchange.orders import RejectReason, SimReject
from tests.worlds.sim_support import Bench


def plan() -> tuple[FaultPlan, ManualClock]:
    clock = ManualClock()
    return FaultPlan(clock, random.Random(1)), clock


def test_rule_lets_some_pass_then_hits_its_count_and_retires() -> None:
    faults, _ = plan()
    faults.add(FaultRule.parse({"kind": "http_error", "target": "place", "after": 2, "count": 2, "status": 502}))
    statuses = [faults.request("mexc_spot", "place").status for _ in range(6)]
    assert statuses == [0, 0, 502, 502, 0, 0]
    assert faults.rules == [] and faults.retired[0].hits == 2


def test_rule_matches_venue_operation_and_symbol() -> None:
    faults, _ = plan()
    faults.add(FaultRule.parse({"kind": "drop_response", "venue": "gateio_spot", "target": "place", "symbol": "A"}))
    assert faults.request("mexc_spot", "place", "A") == NO_FAULTS
    assert faults.request("gateio_spot", "cancel", "A") == NO_FAULTS
    assert faults.request("gateio_spot", "place", "B") == NO_FAULTS
    assert faults.request("gateio_spot", "place", "A").drop_response


def test_rule_with_a_duration_expires() -> None:
    faults, clock = plan()
    faults.add(FaultRule.parse({"kind": "rate_limit", "count": 0, "duration_ms": 100, "retry_after_s": 3}))
    hit = faults.request("mexc_spot", "balances")
    assert hit.status == 429 and hit.retry_after_s == 3
    clock.advance(101 * NS_PER_MS)
    assert faults.request("mexc_spot", "balances") == NO_FAULTS and not faults.rules


@pytest.mark.parametrize(
    "raw", [{}, {"kind": "explode"}, {"kind": "stall", "venu": "x"}, {"kind": "deposit", "amount": "a"}]
)
def test_meaningless_rules_are_refused(raw: dict[str, str]) -> None:
    with pytest.raises(BadFault):
        FaultRule.parse(raw)


def feed(bench: Bench, count: int = 6) -> list[BookDelta]:
    seen: list[BookDelta] = []
    bench.venue.on_market(lambda event: seen.append(event) if isinstance(event, BookDelta) else None)
    bench.venue.open_book_stream("BTC_USDT", 10)
    for index in range(count):
        bench.book.set_level(ASK, 20_001, 100 + index)
        bench.clock.advance(20 * NS_PER_MS)
    return seen


def test_dropped_delta_leaves_a_gap_in_the_ids() -> None:
    bench = Bench()
    bench.faults.add(FaultRule.parse({"kind": "drop_delta", "target": "depth", "after": 2}))
    seen = feed(bench)
    gaps = [b.first_id - a.last_id for a, b in itertools.pairwise(seen)]
    assert len(seen) == 5 and sorted(gaps) == [1, 1, 1, 2]


def test_duplicated_and_reordered_deltas() -> None:
    bench = Bench()
    bench.faults.add(FaultRule.parse({"kind": "duplicate_delta", "target": "depth", "after": 1}))
    ids = [delta.last_id for delta in feed(bench)]
    assert len(ids) == 7 and ids[1] == ids[2]
    bench = Bench()
    bench.faults.add(FaultRule.parse({"kind": "reorder_delta", "target": "depth", "after": 1}))
    ids = [delta.last_id for delta in feed(bench)]
    assert len(ids) == 6 and ids[1] == ids[2] + 1


def test_stalled_stream_is_silent_until_its_time_is_over() -> None:
    bench = Bench()
    bench.faults.add(FaultRule.parse({"kind": "stall", "target": "public", "duration_ms": 50}))
    seen = feed(bench, 6)
    assert 2 <= len(seen) <= 4


def test_private_events_can_be_lost_or_come_twice() -> None:
    bench = Bench()
    bench.faults.add(FaultRule.parse({"kind": "duplicate_event", "target": "private", "count": 0}))
    bench.venue.place(bench.account, bench.request("buy", "0.1", "10000.5"))
    bench.settle()
    trades = [event for event in bench.events if isinstance(event, TradeEvent)]
    assert len(trades) == 2 and trades[0] is trades[1]
    bench = Bench()
    bench.faults.add(FaultRule.parse({"kind": "drop_event", "target": "private", "count": 0}))
    bench.venue.place(bench.account, bench.request("buy", "0.1", "10000.5"))
    bench.settle()
    assert bench.events == [] and bench.ledger.counts["fill"] == 1


def test_actions_change_the_venue() -> None:
    bench = Bench()
    venues = {bench.venue.name: bench.venue}
    apply_action(venues, FaultRule.parse({"kind": "withdraw", "asset": "USDT", "amount": "100"}))
    assert bench.free("USDT") == 9900
    assert bench.ledger.by_reason()[bench.venue.name]["withdraw"]["USDT"] == -100
    apply_action(venues, FaultRule.parse({"kind": "close_wallet", "asset": "BTC"}))
    assert not bench.row.identity.deposit_enabled
    before = bench.venue.now_ms()
    apply_action(venues, FaultRule.parse({"kind": "clock_skew", "delay_ms": 1200}))
    assert bench.venue.now_ms() == before + 1200
    apply_action(venues, FaultRule.parse({"kind": "halt_symbol", "symbol": "BTC_USDT"}))
    assert bench.row.status.name == "HALTED"


def test_crossed_delta_carries_a_bid_above_the_best_ask() -> None:
    bench = Bench()
    bench.faults.add(FaultRule.parse({"kind": "crossed_delta", "target": "depth", "after": 1}))
    seen = feed(bench, 3)
    crossed = [bool(row.bids and row.best_ask and row.bids[0][0] > row.best_ask[0]) for row in seen]
    assert crossed == [False, True, False]
    assert [after.prev_id for after in seen[1:]] == [before.last_id for before in seen[:-1]]


def test_account_events_can_change_places_and_overstate_a_fill() -> None:
    bench = Bench()
    bench.faults.add(FaultRule.parse({"kind": "reorder_event", "target": "private", "after": 1}))
    bench.venue.place(bench.account, bench.request("buy", "0.1", "9990"))
    bench.settle()
    kinds = [getattr(event, "event", "balance") for event in bench.events]
    assert kinds == ["balance", "balance", "put", "finish"], "the put came after the balance that followed it"
    bench = Bench()
    bench.faults.add(FaultRule.parse({"kind": "overfill", "target": "private"}))
    bench.venue.place(bench.account, bench.request("buy", "0.1", "10000.5"))
    bench.settle()
    (trade,) = [event.trade for event in bench.events if isinstance(event, TradeEvent)]
    (row,) = bench.ledger.of_kind("fill")
    assert trade.qty == 2 * row["qty"], "the ledger keeps the truth"
    bench = Bench()
    bench.faults.add(FaultRule.parse({"kind": "unnamed_fee", "target": "private"}))
    bench.venue.place(bench.account, bench.request("buy", "0.1", "10000.5"))
    bench.settle()
    (trade,) = [event.trade for event in bench.events if isinstance(event, TradeEvent)]
    (row,) = bench.ledger.of_kind("fill")
    assert (trade.fee_asset, trade.fee) == ("", 0) and row["fee"] > 0 and row["fee_asset"]


def test_tick_and_lot_can_grow_and_somebody_else_can_trade() -> None:
    bench = Bench()
    venues = {bench.venue.name: bench.venue}
    apply_action(venues, FaultRule.parse({"kind": "change_tick", "amount": "2"}))
    with pytest.raises(SimReject) as caught:
        bench.venue.place(bench.account, bench.request("buy", "0.1", "10000.5"))
    assert caught.value.reason is RejectReason.BAD_PRICE_TICK
    order = bench.venue.place(bench.account, bench.request("buy", "0.1", "10001"))
    assert order.average_price == Decimal("10000.5"), "the book keeps its own prices"
    apply_action(venues, FaultRule.parse({"kind": "change_lot", "amount": "10"}))
    with pytest.raises(SimReject) as caught:
        bench.venue.place(bench.account, bench.request("buy", "0.105", "10001"))
    assert caught.value.reason is RejectReason.BAD_QTY_STEP
    before = bench.free("BTC")
    apply_action(venues, FaultRule.parse({"kind": "manual_order", "amount": "-0.2"}))
    assert bench.free("BTC") == before - Decimal("0.2")
    with pytest.raises(BadFault):
        apply_action(venues, FaultRule.parse({"kind": "change_tick", "amount": "1.5"}))
