"""A simulated venue: order kinds, checks, money, positions, events, latency."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest

from pipeline.model.enums import FeeAssetRule, TimeInForce, TradingStatus
from pipeline.sim.exchange.events import (
    BalanceEvent,
    BookDelta,
    MarketTrade,
    OrderEvent,
    PositionEvent,
    Ticker,
    TradeEvent,
)
from pipeline.sim.exchange.faults import FaultRule
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.exchange.orders import OrderStatus, RejectReason, SimReject
from tests.worlds.sim_support import Bench, run_on

D = Decimal


def refused(bench: Bench, *args: object, **fields: object) -> RejectReason:
    with pytest.raises(SimReject) as caught:
        bench.venue.place(bench.account, bench.request(*args, **fields))  # type: ignore[arg-type]
    return caught.value.reason


def test_ioc_buy_fills_across_levels_and_pays_its_fee_in_quote() -> None:
    bench = Bench(rule=FeeAssetRule.QUOTE)
    order = bench.venue.place(bench.account, bench.request("buy", "0.7", "10001.0", client_id="a"))
    assert order.status is OrderStatus.FILLED and order.finish_as == "filled"
    assert order.filled_qty == D("0.7")
    assert order.filled_quote == D("0.5") * D("10000.5") + D("0.2") * D("10001.0")
    assert order.fees == {"USDT": order.filled_quote * D("0.001")}
    assert bench.free("USDT") == D(10_000) - order.filled_quote * D("1.001")
    assert bench.free("BTC") == D("1.7")
    assert bench.account.wallet("USDT").locked == 0


def test_gate_spot_buy_pays_its_fee_in_the_coin_received() -> None:
    bench = Bench(rule=FeeAssetRule.RECEIVED)
    order = bench.venue.place(bench.account, bench.request("buy", "0.5", "10000.5"))
    assert order.fees == {"BTC": D("0.0005")}
    assert bench.free("BTC") == D("1.4995")
    assert bench.free("USDT") == D(10_000) - D("5000.25")
    sell = bench.venue.place(bench.account, bench.request("sell", "0.1", "10000"))
    assert sell.fees == {"USDT": D("1")}


def test_ioc_remainder_is_cancelled_and_its_lock_released() -> None:
    bench = Bench()
    order = bench.venue.place(bench.account, bench.request("buy", "0.8", "10000.5"))
    assert order.filled_qty == D("0.5") and order.status is OrderStatus.CANCELED and order.finish_as == "ioc"
    wallet = bench.account.wallet("USDT")
    assert wallet.locked == 0 and wallet.free == D(10_000) - D("5000.25") * D("1.001")


def test_ioc_below_the_best_ask_fills_nothing_and_changes_nothing() -> None:
    bench = Bench()
    order = bench.venue.place(bench.account, bench.request("buy", "0.1", "9999"))
    assert order.filled_qty == 0 and order.finish_as == "ioc"
    assert bench.free("USDT") == D(10_000) and bench.ledger.counts.get("fill", 0) == 0


def test_fill_or_kill_is_refused_or_killed_by_the_venues_way() -> None:
    assert refused(Bench(), "buy", "0.9", "10000.5", tif=TimeInForce.FOK) is RejectReason.FOK_NOT_FILLED
    bench = Bench(rejects=False)
    order = bench.venue.place(bench.account, bench.request("buy", "0.9", "10000.5", tif=TimeInForce.FOK))
    assert order.filled_qty == 0 and order.finish_as == "fok" and order.status is OrderStatus.CANCELED
    whole = bench.venue.place(bench.account, bench.request("buy", "0.5", "10000.5", tif=TimeInForce.FOK))
    assert whole.status is OrderStatus.FILLED


def test_post_only_that_would_take_is_refused_or_cancelled() -> None:
    assert refused(Bench(), "buy", "0.1", "10000.5", tif=TimeInForce.POST_ONLY) is RejectReason.POST_ONLY_WOULD_TAKE
    bench = Bench(rejects=False)
    order = bench.venue.place(bench.account, bench.request("buy", "0.1", "10000.5", tif=TimeInForce.POST_ONLY))
    assert order.finish_as == "poc" and order.filled_qty == 0


def test_market_buy_by_quote_amount_spends_no_more_than_that() -> None:
    bench = Bench()
    order = bench.venue.place(bench.account, bench.request("buy", None, quote_qty=D("6000")))
    assert order.status is OrderStatus.FILLED
    assert D("5990") < order.filled_quote <= D("6000")
    assert order.qty == order.filled_qty


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("buy", "0.1005", "10000.5"), RejectReason.BAD_QTY_STEP),
        (("buy", "0.10055", "10000.5"), RejectReason.BAD_QTY_STEP),
        (("buy", "0.1", "10000.3"), RejectReason.BAD_PRICE_TICK),
        (("buy", "0", "10000.5"), RejectReason.BAD_PARAMETER),
        (("buy", "2", "10000.5"), RejectReason.INSUFFICIENT_BALANCE),
        (("sell", "1.001", "10000"), RejectReason.INSUFFICIENT_BALANCE),
        (("buy", "0.1", "20000"), RejectReason.PRICE_BAND),
        (("buy", "0.1", "-1"), RejectReason.BAD_PARAMETER),
    ],
)
def test_orders_off_the_rules_are_refused(args: tuple[str, str, str], reason: RejectReason) -> None:
    bench = Bench()
    assert refused(bench, *args) is reason
    assert bench.free("USDT") == D(10_000) and bench.ledger.counts["reject"] == 1


def test_small_orders_are_refused() -> None:
    bench = Bench()
    bench.row.min_qty = D("0.01")
    assert refused(bench, "buy", "0.009", "10000.5") is RejectReason.QTY_TOO_SMALL
    bench.row.min_qty, bench.row.min_notional = D("0.001"), D("20")
    assert refused(bench, "buy", "0.001", "10000.5") is RejectReason.NOTIONAL_TOO_SMALL


def test_halted_and_one_sided_symbols_refuse() -> None:
    bench = Bench()
    bench.row.status = TradingStatus.HALTED
    assert refused(bench, "buy", "0.1", "10000.5") is RejectReason.SYMBOL_HALTED
    bench.row.status = TradingStatus.SELL_ONLY
    assert refused(bench, "buy", "0.1", "10000.5") is RejectReason.SIDE_BARRED
    assert bench.venue.place(bench.account, bench.request("sell", "0.1", "10000")).filled_qty == D("0.1")


def test_client_id_is_refused_while_its_order_is_open_and_free_again_after() -> None:
    bench = Bench()
    gtc = {"tif": TimeInForce.GTC, "client_id": "x1"}
    first = bench.venue.place(bench.account, bench.request("buy", "0.1", "9990", **gtc))
    assert first.is_open
    assert refused(bench, "buy", "0.1", "9990", **gtc) is RejectReason.DUPLICATE_CLIENT_ID
    bench.venue.cancel(bench.account, "BTC_USDT", client_id="x1")
    assert bench.venue.place(bench.account, bench.request("buy", "0.1", "9990", **gtc)).order_id != first.order_id


def test_request_that_arrives_after_its_expiry_is_refused() -> None:
    bench = Bench()
    late = bench.venue.now_ms() - 1
    assert refused(bench, "buy", "0.1", "10000.5", expiry_wall_ms=late) is RejectReason.EXPIRED


def test_resting_order_is_filled_by_the_market_as_maker() -> None:
    bench = Bench(rule=FeeAssetRule.RECEIVED)
    order = bench.venue.place(bench.account, bench.request("sell", "0.2", "10000.5", tif=TimeInForce.GTC))
    assert order.is_open and bench.account.wallet("BTC").locked == D("0.2")
    _, fills = bench.book.trade(BID, bench.scale * 6 // 10)
    bench.venue.settle_own(fills, "BTC_USDT")
    found = bench.venue.order(bench.account, "BTC_USDT", order_id=order.order_id)
    assert found is not None and found.filled_qty == D("0.1"), "0.5 stood before it"
    assert found.status is OrderStatus.PARTIALLY_FILLED
    _, fills = bench.book.cross(BID, 20_001, bench.scale)
    bench.venue.settle_own(fills, "BTC_USDT")
    found = bench.venue.order(bench.account, "BTC_USDT", order_id=order.order_id)
    assert found is not None and found.status is OrderStatus.FILLED
    assert found.fees == {"USDT": D("0.2") * D("10000.5") * D("0.0002")}
    assert bench.account.wallet("BTC").locked == 0


def test_cancel_returns_the_lock_and_unknown_or_finished_orders_are_told_apart() -> None:
    bench = Bench()
    order = bench.venue.place(bench.account, bench.request("buy", "0.2", "9990", tif=TimeInForce.GTC))
    assert bench.venue.depth("BTC_USDT", 50)[1][-1][0] == 19_980, "an own resting order is visible"
    done = bench.venue.cancel(bench.account, "BTC_USDT", order_id=order.order_id)
    assert done.finish_as == "cancelled" and bench.free("USDT") == D(10_000)
    with pytest.raises(SimReject) as caught:
        bench.venue.cancel(bench.account, "BTC_USDT", order_id=order.order_id)
    assert caught.value.reason is RejectReason.ORDER_FINISHED
    with pytest.raises(SimReject) as caught:
        bench.venue.cancel(bench.account, "BTC_USDT", order_id=12345)
    assert caught.value.reason is RejectReason.ORDER_NOT_FOUND


def test_private_events_come_in_order_after_their_latency() -> None:
    bench = Bench()
    bench.venue.place(bench.account, bench.request("buy", "0.2", "10000.5", client_id="c"))
    assert bench.events == [], "nothing arrives before the private-stream latency"
    bench.settle()
    kinds = [(type(event).__name__, getattr(event, "event", "")) for event in bench.events]
    assert kinds[0][0] == "BalanceEvent" and ("OrderEvent", "put") in kinds and kinds[-1] == ("OrderEvent", "finish")
    trades = [event for event in bench.events if isinstance(event, TradeEvent)]
    assert [trade.trade.qty for trade in trades] == [D("0.2")]
    last = [event for event in bench.events if isinstance(event, BalanceEvent) and event.asset == "USDT"][-1]
    assert last.free == bench.free("USDT")


def test_submit_takes_order_and_acknowledgement_latency() -> None:
    bench = Bench()
    start_ns = bench.clock.mono_ns()
    order = run_on(bench.clock, bench.venue.submit(bench.account, bench.request("buy", "0.1", "10000.5")))
    taken_ms = (bench.clock.mono_ns() - start_ns) / NS_PER_MS
    assert order.status is OrderStatus.FILLED
    assert 0.3 < taken_ms < 5.0
    (placed,) = [row for row in bench.ledger.of_kind("fill")]
    assert start_ns < placed["mono_ns"] < bench.clock.mono_ns(), "matched between request and acknowledgement"


def test_injected_rejection_reaches_the_caller_as_such() -> None:
    bench = Bench()
    bench.faults.add(FaultRule.parse({"kind": "reject", "reason": "insufficient_balance"}))
    assert refused(bench, "buy", "0.1", "10000.5") is RejectReason.INSUFFICIENT_BALANCE
    assert bench.venue.place(bench.account, bench.request("buy", "0.1", "10000.5")).filled_qty == D("0.1")


def test_every_entry_balances_and_the_ledger_explains_every_wallet() -> None:
    bench = Bench(rule=FeeAssetRule.RECEIVED)
    for side, qty, price in (("buy", "0.3", "10001"), ("sell", "0.9", "9999"), ("buy", "0.055", "10002")):
        bench.venue.place(bench.account, bench.request(side, qty, price))
    for row in bench.ledger.of_kind("entry"):
        sums: dict[str, Decimal] = {}
        for _, asset, amount in row["postings"]:
            sums[asset] = sums.get(asset, D(0)) + amount
        assert not any(sums.values()), row
    for asset in ("BTC", "USDT"):
        assert bench.ledger.total(bench.venue.name, "user:77", asset) == bench.account.wallet(asset).total
    change = bench.ledger.changes()[bench.venue.name]
    assert change["BTC"] == bench.account.wallet("BTC").total - 1


# --- futures ---


def test_futures_round_trip_realises_the_exact_difference_less_fees() -> None:
    bench = Bench(futures=True)
    bench.venue.place(bench.account, bench.request("buy", "0.4", "10000.5"))
    position = bench.venue.position(bench.account, "BTC_USDT")
    assert position.qty == D("0.4") and position.entry_price == D("10000.5")
    bench.venue.place(bench.account, bench.request("sell", "0.1", "10000"))
    assert position.realised_pnl == D("-0.05") and position.qty == D("0.3")
    bench.venue.place(bench.account, bench.request("sell", "0.4", "10000"))
    assert position.qty == D("-0.1") and position.cost == D("-1000")
    assert position.realised_pnl == D("-0.2")
    fees = (D("0.4") * D("10000.5") + D("0.5") * D("10000")) * D("0.0005")
    assert bench.account.wallet("USDT").total == D(10_000) - D("0.2") - fees


def test_reduce_only_shrinks_to_the_position_and_refuses_without_one() -> None:
    bench = Bench(futures=True)
    assert refused(bench, "sell", "0.1", "10000", reduce_only=True) is RejectReason.REDUCE_ONLY
    bench.venue.place(bench.account, bench.request("buy", "0.2", "10000.5"))
    assert refused(bench, "buy", "0.1", "10001", reduce_only=True) is RejectReason.REDUCE_ONLY
    order = bench.venue.place(bench.account, bench.request("sell", "0.5", "10000", reduce_only=True))
    assert order.qty == D("0.2") and bench.venue.position(bench.account, "BTC_USDT").qty == 0


def test_margin_limits_new_risk_but_never_the_way_out() -> None:
    bench = Bench(futures=True)
    bench.venue.set_leverage(bench.account, "BTC_USDT", D(1))
    assert refused(bench, "buy", "1.2", "10001") is RejectReason.INSUFFICIENT_MARGIN
    bench.venue.place(bench.account, bench.request("buy", "0.9", "10001"))
    assert refused(bench, "buy", "0.3", "10001") is RejectReason.INSUFFICIENT_MARGIN
    out = bench.venue.place(bench.account, bench.request("sell", "0.9", "9999"))
    assert out.status is OrderStatus.FILLED


def test_cross_margin_values_the_position_at_the_mark() -> None:
    bench = Bench(futures=True)
    bench.venue.set_leverage(bench.account, "BTC_USDT", D(10), is_cross=True)
    bench.venue.place(bench.account, bench.request("buy", "0.4", "10000.5"))
    margin = bench.venue.margin_account(bench.account)
    mark = bench.venue.mark_price("BTC_USDT")
    assert margin.unrealised_pnl == D("0.4") * (mark - D("10000.5"))
    assert margin.position_margin == D("0.4") * mark / 10
    assert margin.available == margin.equity - margin.position_margin


def test_funding_is_paid_by_longs_and_received_by_shorts() -> None:
    bench = Bench(futures=True)
    bench.venue.place(bench.account, bench.request("sell", "0.4", "10000"))
    before = bench.free("USDT")
    bench.venue.apply_funding("BTC_USDT")
    paid = D("0.4") * bench.venue.mark_price("BTC_USDT") * D("0.0001")
    assert bench.free("USDT") == before + paid
    assert bench.ledger.by_reason()["gateio_futures"]["fund"]["USDT"] == paid


def test_account_below_maintenance_is_liquidated() -> None:
    bench = Bench(futures=True)
    bench.venue.set_leverage(bench.account, "BTC_USDT", D(50))
    for price in range(20_005, 20_060):
        bench.book.set_level(ASK, price, bench.scale * 2)
    bench.venue.place(bench.account, bench.request("buy", "40", "10030"))
    for price, _ in bench.book.top(ASK, 200):
        bench.book.set_level(ASK, price, 0)
    for price, _ in bench.book.top(BID, 200):
        bench.book.set_level(BID, price, 0)
    bench.book.set_level(BID, 19_560, bench.scale * 100)
    bench.book.set_level(ASK, 19_561, bench.scale * 100)
    bench.venue.check_margins()
    assert bench.venue.position(bench.account, "BTC_USDT").qty == 0
    assert bench.venue.finished_orders(bench.account)[-1].finish_as == "liquidated"
    bench.settle()
    assert any(isinstance(event, PositionEvent) for event in bench.events)
    assert any(isinstance(event, OrderEvent) for event in bench.events)


# --- feed ---


def test_deltas_chain_and_rebuild_the_book() -> None:
    bench = Bench()
    seen: list[BookDelta] = []
    bench.venue.on_market(lambda event: seen.append(event) if isinstance(event, BookDelta) else None)
    bench.venue.open_book_stream("BTC_USDT", 20)
    start_id, bids, asks = bench.venue.depth("BTC_USDT", 100)
    local = {BID: dict(bids), ASK: dict(asks)}
    for index in range(12):
        bench.book.set_level(ASK, 20_001 + index % 5, 100 + index)
        bench.book.set_level(BID, 19_990 + index % 7, index)
        bench.clock.advance(9 * NS_PER_MS)
    bench.settle()
    assert seen[0].first_id == start_id + 1
    for previous, following in itertools.pairwise(seen):
        assert following.prev_id == previous.last_id and following.first_id == previous.last_id + 1
    for delta in seen:
        for side, levels in ((BID, delta.bids), (ASK, delta.asks)):
            for price, units in levels:
                local[side][price] = units
    final_id, bids, asks = bench.venue.depth("BTC_USDT", 100)
    assert seen[-1].last_id == final_id
    assert {price: units for price, units in local[BID].items() if units} == dict(bids)
    assert {price: units for price, units in local[ASK].items() if units} == dict(asks)


def test_tickers_are_conflated_and_trades_are_not() -> None:
    bench = Bench()
    seen: list[object] = []
    bench.venue.on_market(seen.append)
    for index in range(5):
        bench.book.set_level(ASK, 20_001, 100 + index)
        bench.clock.advance(NS_PER_MS)
        bench.venue.publish_trade("BTC_USDT", 20_001, 1, bench.request("buy", "1").side)
    bench.settle()
    tickers = [event for event in seen if isinstance(event, Ticker)]
    assert len(tickers) == 2 and tickers[-1].ask == (20_001, 104)
    assert len([event for event in seen if isinstance(event, MarketTrade)]) == 5
