"""Margin of futures positions: modes, tiers, liquidation, forced closes, and how Gate.io shows them."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from pipeline.economics import margin as engine
from pipeline.model.enums import OrderSide, TimeInForce
from pipeline.sim.exchange.accounts import ForcedClose
from pipeline.sim.exchange.events import CloseEvent, ForcedEvent, OrderEvent
from pipeline.sim.exchange.fault_actions import apply_action
from pipeline.sim.exchange.faults import BadFault, FaultRule
from pipeline.sim.exchange.futures.margin import bankruptcy_price, liquidation_price, required_margin
from pipeline.sim.exchange.futures.timers import MARGIN_CHECK_NS, arm_timers
from pipeline.sim.exchange.instruments import RiskTier, SimInstrument
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.exchange.orders import RejectReason, SimReject
from pipeline.sim.wire.gateio import closed_rows
from pipeline.sim.wire.gateio import futures_rows as rows
from pipeline.sim.wire.gateio.private_pushes import futures_items
from tests.worlds.sim_support import Bench

D = Decimal
SYMBOL = "BTC_USDT"
BRACKETS = (
    RiskTier(cap=D(50_000), initial_rate=D("0.01"), maintenance_rate=D("0.004"), leverage_max=100, deduction=D(0)),
    RiskTier(cap=D(600_000), initial_rate=D("0.02"), maintenance_rate=D("0.005"), leverage_max=50, deduction=D(50)),
    RiskTier(cap=D(3_000_000), initial_rate=D("0.05"), maintenance_rate=D("0.0065"), leverage_max=20, deduction=D(950)),
)


def futures(leverage: int = 10, *, is_cross: bool = False) -> Bench:
    bench = Bench(futures=True)
    bench.venue.set_leverage(bench.account, SYMBOL, D(leverage), is_cross=is_cross)
    return bench


def quote(bench: Bench, bid: int, units: int = 1_000_000) -> None:
    """The whole book: one bid, one ask a tick above."""
    for side in (BID, ASK):
        for price, _ in bench.book.top(side, 500):
            bench.book.set_level(side, price, 0)
    bench.book.set_level(BID, bid, units)
    bench.book.set_level(ASK, bid + 1, units)


def trade(bench: Bench, side: str, qty: str) -> None:
    bench.venue.place(bench.account, bench.request(side, qty))


# --- formula ---


def row_of(tiers: tuple[RiskTier, ...], taker_ppm: int) -> SimInstrument:
    row = Bench(futures=True).row
    row.risk_tiers, row.taker_fee_ppm = tiers, taker_ppm
    return row


@pytest.mark.parametrize(
    ("sign", "margin", "taker_ppm", "price"),
    [
        (-1, 20_000, 750, "79542.63"),
        (1, 20_000, 750, "40231.33"),
        (-1, 6_000, 500, "65638.99"),
        (-1, 3_000, 500, "62655.40"),
    ],
)
def test_liquidation_price_of_worked_cases(sign: int, margin: int, taker_ppm: int, price: str) -> None:
    """One coin entered at 60,000, maintenance 0.5 %; figures from the venue's help pages' formula."""
    found = liquidation_price(row_of((), taker_ppm), D(sign), D(60_000 * sign), D(margin))
    assert found is not None and round(found, 2) == D(price)


def test_balance_meets_the_requirement_at_the_liquidation_price_and_nothing_is_left_at_the_bankruptcy_price() -> None:
    rng = random.Random(5)
    row = row_of(BRACKETS, 500)
    for _ in range(500):
        qty = D(rng.randint(1, 40_000)).scaleb(-3) * rng.choice((1, -1))
        entry = D(rng.randint(20_000, 90_000))
        behind = abs(qty) * entry / rng.randint(3, 60)
        price = liquidation_price(row, qty, qty * entry, behind)
        assert price is not None
        balance = behind + qty * price - qty * entry
        assert abs(balance - required_margin(row, qty, price)) < D("1e-15") * abs(qty) * price
        gone = bankruptcy_price(row, qty, qty * entry, behind)
        left = behind + qty * gone - qty * entry - abs(qty) * gone * row.taker_fee_ppm / 1_000_000
        assert abs(left) < D("1e-15") * abs(qty) * gone
        assert (price - gone) * qty >= 0, "liquidated before it is bankrupt"


def test_the_simulator_and_the_engine_read_the_venue_alike() -> None:
    rng = random.Random(6)
    row = row_of(BRACKETS, 500)
    tiers = [engine.Tier(one.cap, one.maintenance_rate, one.deduction) for one in BRACKETS]
    tiers[-1] = engine.Tier(D("Infinity"), BRACKETS[-1].maintenance_rate, BRACKETS[-1].deduction)
    for _ in range(300):
        sign, qty = rng.choice((1, -1)), D(rng.randint(1, 40_000)).scaleb(-3)
        entry = D(rng.randint(20_000, 90_000))
        behind = qty * entry / rng.randint(2, 60)
        own = liquidation_price(row, qty * sign, qty * entry * sign, behind)
        theirs = engine.liquidation_price(sign, qty, entry, behind, tiers, D("0.0005"))
        assert own is not None and theirs is not None
        assert abs(own - theirs) < D("1e-12") * own


def test_a_step_between_tiers_liquidates_where_it_is_met_first() -> None:
    """Without deductions the requirement jumps at a cap: a long meets the step from above, a short from below."""
    low = RiskTier(cap=D(10_000), initial_rate=D("0.02"), maintenance_rate=D("0.01"), leverage_max=50)
    high = RiskTier(cap=D(100_000), initial_rate=D("0.2"), maintenance_rate=D("0.1"), leverage_max=5)
    row = row_of((low, high), 0)
    assert liquidation_price(row, D(1), D(10_500), D(1_000)) == D(9_500) / D("0.9")
    assert liquidation_price(row, D(-1), D(-9_500), D(900)) == D(10_000)


def test_a_long_that_is_wholly_backed_is_never_liquidated() -> None:
    assert liquidation_price(row_of((), 500), D(1), D(60_000), D(60_000)) is None
    assert liquidation_price(row_of((), 500), D(0), D(0), D(0)) is None


# --- modes and money ---


def test_isolated_margin_is_that_of_the_fills_and_leaves_with_what_is_closed() -> None:
    bench = futures(20)
    trade(bench, "buy", "0.4")
    position = bench.venue.position(bench.account, SYMBOL)
    assert position.margin == D("0.4") * D("10000.5") / 20
    shown = bench.venue.margin_account(bench.account)
    assert shown.position_margin == position.margin and shown.available == shown.total - position.margin
    before = bench.venue.liquidation_price(bench.account, position)
    trade(bench, "sell", "0.1")
    assert position.margin == D("0.3") * D("10000.5") / 20
    after = bench.venue.liquidation_price(bench.account, position)
    assert before is not None and after is not None
    assert abs(before - after) < D("1e-9"), "a cut alone does not move the liquidation price"
    trade(bench, "sell", "0.3")
    assert position.margin == 0


def test_margin_by_hand_moves_the_liquidation_price_and_never_below_the_initial_one() -> None:
    bench = futures(20)
    trade(bench, "sell", "0.4")
    position = bench.venue.position(bench.account, SYMBOL)
    before = bench.venue.liquidation_price(bench.account, position)
    settlement = bench.venue.settlement
    settlement.add_margin(bench.account, position, D(500), bench.venue.margin_account(bench.account).available)
    after = bench.venue.liquidation_price(bench.account, position)
    assert before is not None and after is not None and after > before
    settlement.add_margin(bench.account, position, D(-500), D(0))
    with pytest.raises(SimReject):
        settlement.add_margin(bench.account, position, D(-1), D(0))


def test_leverage_of_an_open_position_needs_its_margin() -> None:
    bench = futures(20)
    trade(bench, "buy", "0.5")
    trade(bench, "buy", "1")
    position = bench.venue.position(bench.account, SYMBOL)
    with pytest.raises(SimReject) as caught:
        bench.venue.set_leverage(bench.account, SYMBOL, D(1))
    assert caught.value.reason is RejectReason.INSUFFICIENT_MARGIN and position.leverage == 20
    bench.venue.set_leverage(bench.account, SYMBOL, D(2))
    assert position.margin == position.cost / 2
    quote(bench, 19_000)
    with pytest.raises(SimReject) as caught:
        bench.venue.set_leverage(bench.account, SYMBOL, D(25))
    assert caught.value.reason is RejectReason.WOULD_LIQUIDATE
    bench.venue.set_leverage(bench.account, SYMBOL, D(5), is_cross=True)
    assert position.is_cross and bench.venue.margin_account(bench.account).isolated_margin == 0


# --- liquidation ---


def test_an_isolated_position_is_liquidated_at_its_price_and_loses_its_margin_only() -> None:
    bench = futures(20)
    trade(bench, "buy", "0.4")
    position = bench.venue.position(bench.account, SYMBOL)
    resting = bench.venue.place(bench.account, bench.request("buy", "0.1", "9000", tif=TimeInForce.GTC))
    price = bench.venue.liquidation_price(bench.account, position)
    assert price is not None
    before = bench.account.wallet("USDT").total
    at = int(price / bench.row.tick)
    quote(bench, at + 1)
    bench.venue.check_margins()
    assert position.qty == D("0.4"), "the mark is above"
    margin = position.margin
    quote(bench, at - 1)
    bench.venue.check_margins()
    assert position.qty == 0
    lost = before - bench.account.wallet("USDT").total
    assert D("0.9") * margin - D(30) < lost <= margin
    ended = bench.venue.order(bench.account, SYMBOL, order_id=resting.order_id)
    assert ended is not None and ended.finish_as == "liquidated"
    (close,) = bench.account.forced
    order = bench.venue.order(bench.account, SYMBOL, order_id=close.order_id)
    assert order is not None and order.finish_as == "liquidated" and order.text == f"liq-{order.order_id}"
    (row,) = bench.ledger.of_kind("forced")
    assert (row["forced"], row["qty"], row["position_before"], row["position_after"]) == (
        "liquidation", D("0.4"), D("0.4"), D(0),
    )  # fmt: skip
    assert row["fee"] == close.fee > 0 and row["liq_price"] == price


def test_what_the_book_does_not_take_before_bankruptcy_is_taken_over_there() -> None:
    bench = futures(20)
    trade(bench, "sell", "0.5")
    position = bench.venue.position(bench.account, SYMBOL)
    gone = bankruptcy_price(bench.row, position.qty, position.cost, position.margin)
    margin, before = position.margin, bench.account.wallet("USDT").total
    quote(bench, int(gone / bench.row.tick) - 20, units=bench.scale // 10)
    bench.venue.check_margins()
    assert position.qty == 0
    fills = bench.venue.trades(bench.account)[-2:]
    assert [fill.qty for fill in fills] == [D("0.1"), D("0.4")]
    assert fills[1].price <= gone < fills[1].price + bench.row.tick
    assert before - bench.account.wallet("USDT").total <= margin
    quote(bench, 30_000)
    bench.venue.check_margins()
    assert len(bench.account.forced) == 1


def test_a_mark_beyond_bankruptcy_costs_no_more_than_the_margin() -> None:
    bench = futures(20)
    trade(bench, "sell", "0.5")
    margin, before = bench.venue.position(bench.account, SYMBOL).margin, bench.account.wallet("USDT").total
    quote(bench, 32_000)
    bench.venue.check_margins()
    assert bench.venue.position(bench.account, SYMBOL).qty == 0
    assert margin - D(1) < before - bench.account.wallet("USDT").total <= margin


def test_a_cross_position_falls_with_the_whole_wallet() -> None:
    bench = futures(20, is_cross=True)
    for index in range(4, 44):
        bench.book.set_level(ASK, 20_001 + index, bench.scale)
    trade(bench, "buy", "8")
    position = bench.venue.position(bench.account, SYMBOL)
    price = bench.venue.liquidation_price(bench.account, position)
    assert price is not None and price < D(8_900), "the wallet of 10,000 stands behind 8 coins"
    quote(bench, int(price / bench.row.tick) + 1, units=bench.scale * 1000)
    bench.venue.check_margins()
    assert position.qty == 8
    quote(bench, int(price / bench.row.tick) - 1, units=bench.scale * 1000)
    bench.venue.check_margins()
    assert position.qty == 0 and 0 <= bench.account.wallet("USDT").total < D(500)
    assert bench.account.forced[0].leverage == 0


def test_a_large_position_goes_down_one_tier_first() -> None:
    bench = futures(10)
    bench.row.risk_tiers = (
        RiskTier(cap=D(5_000), initial_rate=D("0.01"), maintenance_rate=D("0.005"), leverage_max=100),
        RiskTier(cap=D(500_000), initial_rate=D("0.1"), maintenance_rate=D("0.05"), leverage_max=10),
    )
    trade(bench, "buy", "1")
    position = bench.venue.position(bench.account, SYMBOL)
    price = bench.venue.liquidation_price(bench.account, position)
    assert price is not None
    quote(bench, int(price / bench.row.tick) - 1)
    bench.venue.check_margins()
    assert 0 < position.qty * bench.venue.mark_price(SYMBOL) <= D(5_000)
    assert len(bench.account.forced) == 1 and bench.account.forced[0].left_qty == position.qty
    (shown,) = [
        rows.position_row(position, bench.row, bench.account, decimal_sizes=True, pending_orders=0, liq_price=price)
    ]
    assert (shown["risk_limit"], shown["maintenance_rate"]) == ("5000", "0.005")


def test_margins_are_looked_at_on_time_and_right_after_an_own_fill() -> None:
    bench = futures(100)
    bench.row.funding_interval_s = 0
    arm_timers(bench.venue)
    trade(bench, "buy", "0.4")
    bench.clock.advance(NS_PER_MS)
    position = bench.venue.position(bench.account, SYMBOL)
    assert position.qty == D("0.4")
    quote(bench, 19_700)
    bench.clock.advance(MARGIN_CHECK_NS)
    assert position.qty == 0
    bench = futures(100)
    quote(bench, 20_000, units=bench.scale * 3)
    bench.book.set_level(ASK, 20_500, bench.scale)
    bench.book.set_level(ASK, 20_001, 1)
    trade(bench, "buy", "0.5")
    assert bench.venue.position(bench.account, SYMBOL).qty == D("0.5")
    bench.clock.advance(0)
    assert bench.venue.position(bench.account, SYMBOL).qty == 0, "bought far above the mark"


def test_dual_positions_are_liquidated_one_by_one() -> None:
    bench = futures()
    bench.account.dual_side = True
    bench.venue.set_leverage(bench.account, SYMBOL, D(20))
    trade(bench, "buy", "0.3")
    trade(bench, "sell", "0.2")
    quote(bench, 18_900)
    bench.venue.check_margins()
    assert bench.venue.position(bench.account, SYMBOL, "dual_long").qty == 0
    assert bench.venue.position(bench.account, SYMBOL, "dual_short").qty == D("-0.2")


# --- by hand ---


def act(bench: Bench, **fields: object) -> int:
    return apply_action({bench.venue.name: bench.venue}, FaultRule.parse(fields))


def test_a_part_is_deleveraged_off_the_book_at_the_given_price() -> None:
    bench = futures()
    trade(bench, "sell", "0.4")
    book_before = bench.venue.depth(SYMBOL, 100)
    resting = bench.venue.place(bench.account, bench.request("sell", "0.1", "10100", tif=TimeInForce.GTC))
    assert act(bench, kind="adl", symbol=SYMBOL, amount="0.15", text="9000") == 1
    position = bench.venue.position(bench.account, SYMBOL)
    assert position.qty == D("-0.25")
    fill = bench.venue.trades(bench.account)[-1]
    assert (fill.price, fill.qty, fill.fee, fill.text) == (D(9000), D("0.15"), D(0), "auto_deleveraging")
    ended = bench.venue.order(bench.account, SYMBOL, order_id=resting.order_id)
    assert ended is not None and ended.finish_as == "auto_deleveraged"
    assert bench.venue.depth(SYMBOL, 100)[1:] == book_before[1:], "the book is as before"
    act(bench, kind="adl", symbol=SYMBOL)
    assert position.qty == 0 and [one.kind for one in bench.account.forced] == ["adl", "adl"]
    for bad in ({"amount": "-1"}, {"amount": "0.00001"}, {"text": "cheap"}):
        trade(bench, "sell", "0.1")
        with pytest.raises(BadFault):
            act(bench, kind="adl", symbol=SYMBOL, **bad)


def test_a_part_is_liquidated_at_the_market() -> None:
    bench = futures()
    trade(bench, "buy", "0.4")
    act(bench, kind="liquidate", symbol=SYMBOL, amount="0.1")
    assert bench.venue.position(bench.account, SYMBOL).qty == D("0.3")
    assert bench.venue.trades(bench.account)[-1].price == D(10_000)
    (close,) = bench.account.forced
    assert (close.kind, close.position_qty, close.closed_qty, close.left_qty) == (
        "liquidation", D("0.4"), D("0.1"), D("0.3"),
    )  # fmt: skip


# --- as Gate.io shows it ---


def pushes(bench: Bench) -> dict[str, list[dict[str, object]]]:
    bench.settle()
    found: dict[str, list[dict[str, object]]] = {}
    for event in bench.events:
        for channel, _, item in futures_items(event, bench.account, bench.venue, decimal_sizes=False):
            found.setdefault(channel, []).append(item)
    return found


def test_forced_closes_are_pushed_as_documented() -> None:
    bench = futures(20)
    trade(bench, "buy", "0.4")
    quote(bench, 18_000)
    bench.venue.check_margins()
    quote(bench, 20_000)
    trade(bench, "sell", "0.3")
    act(bench, kind="adl", symbol=SYMBOL, amount="0.1", text="9500")
    sent = pushes(bench)
    (liquidated,) = sent["futures.liquidates"]
    assert set(liquidated) == {
        "contract", "size", "left", "entry_price", "mark_price", "liq_price", "order_price", "fill_price", "margin",
        "leverage", "order_id", "time", "time_ms", "user",
    }  # fmt: skip
    assert (liquidated["size"], liquidated["left"], liquidated["leverage"], liquidated["user"]) == (4000, 0, 20.0, "77")
    (deleveraged,) = sent["futures.auto_deleverages"]
    assert "order_id" not in deleveraged
    assert (deleveraged["trade_size"], deleveraged["position_size"], deleveraged["fill_price"]) == (1000, -2000, 9500.0)
    (closed,) = sent["futures.position_closes"]
    assert closed["side"] == "long" and str(closed["text"]).startswith("liq-")
    order = next(item for item in sent["futures.orders"] if str(item["text"]).startswith("liq-"))
    assert (order["is_liq"], order["finish_as"], order["status"]) == (True, "liquidated", "finished")
    fill = next(item for item in sent["futures.usertrades"] if item["order_id"] == str(order["id"]))
    assert fill["text"] == order["text"]
    close = bench.account.forced[1]
    shown = closed_rows.deleverage_row(close, bench.row, bench.account, False)
    assert (shown["order_id"], shown["trade_size"], shown["position_size"]) == (close.order_id, 1000, -2000)
    assert any(isinstance(event, ForcedEvent) for event in bench.events)
    assert any(isinstance(event, CloseEvent) for event in bench.events)
    assert any(isinstance(event, OrderEvent) for event in bench.events)


def test_position_rows_show_mode_margin_and_liquidation_price() -> None:
    bench = futures(20)
    trade(bench, "sell", "0.4")
    position = bench.venue.position(bench.account, SYMBOL)
    price = bench.venue.liquidation_price(bench.account, position)
    assert price is not None
    row = rows.position_row(position, bench.row, bench.account, decimal_sizes=False, pending_orders=0, liq_price=price)
    mark = bench.venue.mark_price(SYMBOL)
    assert (row["leverage"], row["pos_margin_mode"], row["lever"], row["cross_leverage_limit"]) == (
        "20", "isolated", "20", "0",
    )  # fmt: skip
    assert D(row["margin"]) == position.margin and D(row["initial_margin"]) == D("0.4") * mark / 20
    assert D(row["maintenance_margin"]) == D("0.4") * mark * D("0.005") and D(row["mark_price"]) == mark
    assert abs(D(row["liq_price"]) - price) <= bench.row.tick
    push = rows.position_push(position, bench.row, bench.account, decimal_sizes=False, liq_price=None)
    assert push["liq_price"] == 99_999_999.0 and push["margin"] == float(position.margin)
    account = rows.account_row(bench.account, bench.venue.margin_account(bench.account), "USDT")
    assert D(account["isolated_position_margin"]) == position.margin and account["cross_mmr"] == "0"


def test_a_settlement_fills_at_one_price_without_a_fee() -> None:
    bench = futures()
    trade(bench, "buy", "0.4")
    bench.venue.force_close(bench.account, SYMBOL, "settlement", price=D(10_500))
    close: ForcedClose = bench.account.forced[0]
    assert (close.kind, close.fill_price, close.fee) == ("settlement", D(10_500), D(0))
    order = bench.venue.order(bench.account, SYMBOL, order_id=close.order_id)
    assert order is not None and order.text == "clear" and order.side is OrderSide.SELL
