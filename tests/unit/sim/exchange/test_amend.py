"""Amending orders, reduce-only orders that rest, dual mode, what an account looked like before, candles."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.model.enums import OrderSide, TimeInForce
from pipeline.sim.exchange.candles import MONTH_S, WEEK_S, CandleSeries, window_end_s, window_start_s
from pipeline.sim.exchange.events import OrderEvent
from pipeline.sim.exchange.history import STALE_NS
from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.sim.exchange.orders import OrderStatus, RejectReason, SimAmendRequest, SimOrder, SimReject
from tests.worlds.sim_support import Bench

D = Decimal
SYMBOL = "BTC_USDT"


def rest(bench: Bench, side: str = "buy", qty: str = "0.1", price: str = "9990", **fields: object) -> SimOrder:
    request = bench.request(side, qty, price, **{"tif": TimeInForce.GTC, **fields})
    return bench.venue.place(bench.account, request)


def test_less_at_the_same_price_keeps_the_place_and_frees_the_difference() -> None:
    bench = Bench()
    order = rest(bench)
    resting = bench.venue._resting[order.order_id]
    amended = bench.venue.amend(
        bench.account, SimAmendRequest(SYMBOL, order_id=order.order_id, qty=D("0.04"), amend_text="t-less")
    )
    assert bench.venue._resting[order.order_id] is resting and resting.left == 400
    assert (amended.qty, amended.left_qty, amended.amend_text) == (D("0.04"), D("0.04"), "t-less")
    assert bench.account.wallet("USDT").locked == D("0.04") * 9990 * D("1.001")
    bench.settle()
    updates = [event for event in bench.events if isinstance(event, OrderEvent)]
    assert [event.event for event in updates] == ["put", "update"] and updates[-1].order.qty == D("0.04")


def test_another_price_goes_to_the_end_and_matches_what_it_crosses() -> None:
    bench = Bench()
    order = rest(bench)
    amended = bench.venue.amend(
        bench.account, SimAmendRequest(SYMBOL, order_id=order.order_id, price=D("10000.5"), qty=D("0.6"))
    )
    assert (amended.filled_qty, amended.left_qty, amended.status) == (D("0.5"), D("0.1"), OrderStatus.PARTIALLY_FILLED)
    assert bench.account.wallet("USDT").locked == D("0.1") * D("10000.5") * D("1.001")
    again = bench.venue.amend(bench.account, SimAmendRequest(SYMBOL, order_id=order.order_id, qty=D("0.5")))
    assert (again.status, again.finish_as) == (OrderStatus.CANCELED, "cancelled"), "what is filled already ends it"
    assert bench.account.wallet("USDT").locked == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price": D("9990.3")}, RejectReason.BAD_PRICE_TICK),
        ({"qty": D("0.1005")}, RejectReason.BAD_QTY_STEP),
        ({"qty": D("2")}, RejectReason.INSUFFICIENT_BALANCE),
        ({"price": D("10000.5")}, RejectReason.POST_ONLY_WOULD_TAKE),
        ({"price": D("1")}, RejectReason.NOTIONAL_TOO_SMALL),
        ({"price": D("-1")}, RejectReason.BAD_PARAMETER),
    ],
)
def test_a_refused_amendment_changes_nothing(change: dict[str, Decimal], reason: RejectReason) -> None:
    bench = Bench()
    order = rest(bench, tif=TimeInForce.POST_ONLY)
    locked = bench.account.wallet("USDT").locked
    with pytest.raises(SimReject) as caught:
        bench.venue.amend(bench.account, SimAmendRequest(SYMBOL, order_id=order.order_id, **change))  # type: ignore[arg-type]
    assert caught.value.reason is reason
    assert bench.venue.order(bench.account, SYMBOL, order_id=order.order_id) == order
    assert bench.account.wallet("USDT").locked == locked
    assert bench.book.visible(0, 19_980) == 1000


def test_order_margin_shrinks_with_what_is_open_however_many_fills_it_takes() -> None:
    bench = Bench(futures=True)
    order = rest(bench, qty="0.9", price="9990")
    needed = bench.venue.margin_account(bench.account).order_margin
    assert needed == D("0.9") * 9990 / 10
    resting = bench.venue._resting[order.order_id]
    for filled in (3000, 3000):
        bench.book._fill_own(resting, filled)
        bench.venue.settle_own([(resting, filled)], SYMBOL)
    assert bench.venue.margin_account(bench.account).order_margin == needed / 3
    bench.venue.cancel(bench.account, SYMBOL, order_id=order.order_id)
    assert bench.venue.margin_account(bench.account).order_margin == 0


def test_reduce_only_orders_never_exceed_what_is_held() -> None:
    bench = Bench(futures=True)
    bench.venue.place(bench.account, bench.request("buy", "0.3"))
    first = rest(bench, "sell", "0.3", "10010", reduce_only=True)
    second = rest(bench, "sell", "0.2", "10020", reduce_only=True)
    ended = bench.venue.order(bench.account, SYMBOL, order_id=first.order_id)
    assert ended is not None and (ended.status, ended.finish_as) == (OrderStatus.CANCELED, "reduce_out")
    bench.venue.place(bench.account, bench.request("sell", "0.2"))
    assert bench.venue.open_orders(bench.account) == []
    gone = bench.venue.order(bench.account, SYMBOL, order_id=second.order_id)
    assert gone is not None and gone.finish_as == "reduce_out"


def test_dual_mode_keeps_a_long_and_a_short_position_apart() -> None:
    bench = Bench(futures=True)
    bench.account.dual_side = True
    bench.venue.place(bench.account, bench.request("buy", "0.3"))
    bench.venue.place(bench.account, bench.request("sell", "0.2"))
    assert [row.qty for row in bench.venue.shown_positions(bench.account, SYMBOL)] == [D("0.3"), D("-0.2")]
    with pytest.raises(SimReject):
        bench.account.positions["BTC_USDT:dual_short"].qty = D(0)
        bench.venue.place(bench.account, bench.request("buy", "0.1", reduce_only=True))
    bench.venue.place(bench.account, bench.request("sell", "0.5", reduce_only=True))
    assert [row.qty for row in bench.venue.shown_positions(bench.account, SYMBOL)] == [D(0), D(0)]
    (close,) = bench.account.closes
    assert (close.is_long, close.max_qty, close.total_qty) == (True, D("0.3"), D("0.3"))


def test_stale_answers_show_the_account_as_it_was() -> None:
    bench = Bench()
    before = bench.venue.wallets(bench.account)["USDT"].free
    bench.clock.advance(NS_PER_S)
    order = rest(bench)
    bench.clock.advance(NS_PER_S)
    bench.venue.place(bench.account, bench.request("buy", "0.1", "10000.5"))
    token = STALE_NS.set(NS_PER_S * 3 // 2)
    try:
        assert bench.venue.wallets(bench.account)["USDT"].free == before
        assert bench.venue.open_orders(bench.account) == []
        assert bench.venue.trades(bench.account) == []
        assert bench.venue.order(bench.account, SYMBOL, order_id=order.order_id) is None
    finally:
        STALE_NS.reset(token)
    assert [row.order_id for row in bench.venue.open_orders(bench.account)] == [order.order_id]
    assert len(bench.venue.trades(bench.account)) == 1
    assert bench.venue.wallets(bench.account)["USDT"].free < before


def test_stale_positions_and_margin_are_those_of_then() -> None:
    bench = Bench(futures=True)
    bench.clock.advance(NS_PER_S)
    bench.venue.place(bench.account, bench.request("buy", "0.3"))
    token = STALE_NS.set(NS_PER_S // 2)
    try:
        assert [row.qty for row in bench.venue.shown_positions(bench.account, SYMBOL)] == [D(0)]
        assert bench.venue.shown_margin(bench.account).position_margin == 0
        assert bench.venue.shown_margin(bench.account).total == D(10_000)
    finally:
        STALE_NS.reset(token)
    assert bench.venue.shown_margin(bench.account) == bench.venue.margin_account(bench.account)


def test_two_users_trade_with_each_other_under_one_trade_id() -> None:
    bench = Bench()
    other = bench.venue.add_account("88", [], {"BTC": D(1)})
    order = rest(bench, price="10000", qty="0.2")
    bench.book.set_level(0, 20_000, 0)
    sold = bench.venue.place(other, bench.request("sell", "0.1", "9999"))
    assert (sold.filled_qty, sold.average_price) == (D("0.1"), D("10000"))
    (bought,), (taken,) = bench.venue.trades(bench.account), bench.venue.trades(other)
    assert (bought.trade_id, bought.is_maker, bought.side) == (taken.trade_id, True, OrderSide.BUY)
    left = bench.venue.order(bench.account, SYMBOL, order_id=order.order_id)
    assert left is not None and left.left_qty == D("0.1")


# --- candles ---


def test_candles_hold_the_trades_of_their_window_and_flat_ones_in_between() -> None:
    series = CandleSeries()
    for at_s, price, qty in ((605, "10", "1"), (618, "12", "2"), (659, "9", "1"), (801, "11", "4")):
        series.add(at_s * 1000, D(price), D(qty))
    minutes = series.between(60, 0, 899)
    assert [one.start_s for one in minutes] == [600, 660, 720, 780, 840]
    first, flat, last = minutes[0], minutes[1], minutes[3]
    assert (first.open, first.high, first.low, first.close) == (D(10), D(12), D(9), D(9))
    assert (first.base, first.quote) == (D(4), D(10) + D(24) + D(9))
    assert (flat.open, flat.close, flat.base) == (D(9), D(9), D(0))
    assert (last.open, last.base) == (D(11), D(4))
    assert series.between(60, 0, 899, most=2) == minutes[-2:]
    running = series.newest(60, 845)
    assert running is not None and (running.start_s, running.close, running.base) == (840, D(11), D(0))


def test_weeks_and_months_start_where_the_venues_say() -> None:
    wednesday_s = 1_700_000_000 // 86_400 * 86_400 + 86_400  # 2023-11-15
    assert window_start_s(wednesday_s, WEEK_S, monday=True) == wednesday_s - 2 * 86_400
    assert window_start_s(wednesday_s, WEEK_S) % WEEK_S == 0
    first_s = window_start_s(wednesday_s, MONTH_S)
    assert (wednesday_s - first_s, window_end_s(first_s, MONTH_S) - first_s) == (14 * 86_400, 30 * 86_400)
