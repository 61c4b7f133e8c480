"""Clients and trading sessions against the simulated exchanges, which are written independently of them.

Fault rows 47-52, 54, 60, 66, 77: what is lost on the way is unknown, never rejected and never sent again.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.exchanges.factory import make_public_stream, make_trading, make_venue
from pipeline.model.clock import wall_ms
from pipeline.model.config import VenueConfig
from pipeline.model.enums import OrderSide, OrderState, TimeInForce
from pipeline.model.errors import (
    AuthRefused,
    ConfigInvalid,
    OrderNotFound,
    OutcomeUnknown,
    RateLimited,
    VenueRejected,
    VenueUnavailable,
)
from pipeline.model.fixedpoint import quantize_down
from pipeline.model.structs import Balance, Credentials, Fill, OrderRequest, OrderUpdate, Position
from pipeline.model.venue_events import CancelOutcome, OutcomeKind, PlaceOutcome, SessionState
from tests.worlds.exchange_world import SESSIONS, STAMPED, TRADED, Events, market_of, world
from tests.worlds.trading_venue import TradingVenue, trading_venue
from tests.worlds.waiting import WAIT_S
from tests.worlds.waiting import until_async as until

SIGNED_ORDERS = ("mexc_spot", *STAMPED)  # whose orders themselves carry a timestamp


def on(name: str, scenario: Callable[[TradingVenue], Awaitable[None]]) -> None:
    async def body() -> None:
        async with trading_venue(name, market_of(name)) as it:
            await scenario(it)

    asyncio.run(body())


@pytest.mark.parametrize("name", SESSIONS)
def test_a_symbol_beyond_ascii_is_refused_before_anything_is_sent(name: str) -> None:
    async def scenario(it: TradingVenue) -> None:
        request = msgspec.structs.replace(it.buy("a1"), symbol="币安人生USDT")
        with pytest.raises(VenueUnavailable, match="nothing was sent"):
            it.trading.place(request)
        assert not it.trading.good_symbol("币安人生USDT") and it.trading.good_symbol("1INCH_USDT")

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_an_ioc_order_ends_filled_and_every_source_tells_the_same(name: str) -> None:
    async def scenario(it: TradingVenue) -> None:
        assert it.trading.connected
        sent_ns = it.trading.place(it.buy("a1"))
        outcome = await it.events.one(PlaceOutcome, client_id="a1")
        assert outcome.kind is OutcomeKind.ACKED and outcome.recv_mono_ns > sent_ns
        end = await it.events.one(OrderUpdate, client_id="a1", state=OrderState.FILLED)
        await until(lambda: sum(f.qty for f in it.events.of(Fill, client_id="a1")) == end.filled_qty, "all fills")
        pushed = {f.trade_id: f for f in it.events.of(Fill, client_id="a1")}
        asked = {f.trade_id: f for f in await it.client.fills(it.spec.symbol, it.began_ms)}
        assert set(pushed) == set(asked) and len(pushed) > 0
        for trade_id, fill in asked.items():
            live = pushed[trade_id]
            assert (fill.qty, fill.price, fill.fee, fill.fee_asset, fill.side, fill.order_id, fill.is_maker) == (
                live.qty, live.price, live.fee, live.fee_asset, live.side, live.order_id, live.is_maker,
            )  # fmt: skip
        (finished,) = await it.client.finished_orders(it.spec.symbol, it.began_ms)
        assert (finished.client_id, finished.state, finished.filled_qty, finished.average_price) == (
            "a1", OrderState.FILLED, end.filled_qty, end.average_price,
        )  # fmt: skip
        found = await it.client.query_order(it.spec.symbol, "a1", finished.order_id)
        assert found is not None and found.state is OrderState.FILLED

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_a_resting_order_is_seen_queried_by_both_ids_and_cancelled(name: str) -> None:
    async def scenario(it: TradingVenue) -> None:
        it.trading.place(it.rest("r1"))
        update = (await it.events.one(PlaceOutcome, client_id="r1")).update
        await it.events.one(OrderUpdate, client_id="r1", state=OrderState.OPEN)
        symbol = it.spec.symbol
        assert [o.client_id for o in await it.client.open_orders(symbol)] == ["r1"]
        for ids in (("r1", ""), ("", update.order_id)):
            found = await it.client.query_order(symbol, *ids)
            assert found is not None and found.state is OrderState.OPEN and found.client_id == "r1"
        assert await it.client.query_order(symbol, "never") is None
        it.trading.cancel(symbol, "r1", update.order_id)
        assert (await it.events.one(CancelOutcome, client_id="r1")).kind is OutcomeKind.ACKED
        end = await it.events.one(OrderUpdate, client_id="r1", state=OrderState.CANCELLED, source="ws")
        assert end.filled_qty == 0
        with pytest.raises(OrderNotFound):
            await it.client.cancel(symbol, "r1")

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_refusals_are_definitive_and_name_their_kind(name: str) -> None:
    async def scenario(it: TradingVenue) -> None:
        huge = quantize_down(it.spec.reference_price and Decimal(10) ** 9 / it.spec.reference_price, it.spec.lot)
        it.trading.place(it.order("x1", OrderSide.BUY, "1.0", TimeInForce.IOC, qty=huge))
        outcome = await it.events.one(PlaceOutcome, client_id="x1")
        assert outcome.kind is OutcomeKind.REJECTED and isinstance(outcome.error, VenueRejected)
        it.trading.cancel(it.spec.symbol, "never")
        refused = await it.events.one(CancelOutcome, client_id="never")
        assert refused.kind is OutcomeKind.REJECTED and isinstance(refused.error, OrderNotFound)

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.parametrize("kind", ["drop_response", "http_error_after"])
def test_executed_without_a_good_answer_is_unknown_and_found_by_asking(name: str, kind: str) -> None:
    async def scenario(it: TradingVenue) -> None:
        it.box.fault(kind=kind, venue=name, target="place")
        it.trading.place(it.buy("u1"))
        outcome = await it.events.one(PlaceOutcome, client_id="u1")
        assert outcome.kind is OutcomeKind.UNKNOWN and isinstance(outcome.error, OutcomeUnknown)
        found = [o for o in await it.client.finished_orders(it.spec.symbol, it.began_ms) if o.client_id == "u1"]
        assert [o.state for o in found] == [OrderState.FILLED]
        assert {f.client_id for f in await it.client.fills(it.spec.symbol, it.began_ms)} == {"u1"}
        assert len(it.events.of(PlaceOutcome)) == 1

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.parametrize("kind", ["drop_request", "http_error"])
def test_not_executed_and_no_good_answer_is_unknown_too_and_nothing_is_sent_again(name: str, kind: str) -> None:
    async def scenario(it: TradingVenue) -> None:
        it.box.fault(kind=kind, venue=name, target="place")
        it.trading.place(it.buy("u2"))
        assert (await it.events.one(PlaceOutcome, client_id="u2")).kind is OutcomeKind.UNKNOWN
        await until(lambda: it.trading.connected, "the session again")
        assert await it.client.query_order(it.spec.symbol, "u2") is None
        assert await it.client.finished_orders(it.spec.symbol, it.began_ms) == []
        it.trading.place(it.buy("u3"))
        assert (await it.events.one(PlaceOutcome, client_id="u3")).kind is OutcomeKind.ACKED

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_after_a_429_nothing_is_sent_until_its_time_is_over(name: str) -> None:
    async def scenario(it: TradingVenue) -> None:
        it.box.fault(kind="rate_limit", venue=name, target="place", retry_after_s=3600.0)
        it.trading.place(it.buy("l1"))
        outcome = await it.events.one(PlaceOutcome, client_id="l1")
        wanted = OutcomeKind.UNKNOWN if it.trading.throttled_is_unknown else OutcomeKind.REJECTED
        assert outcome.kind is wanted and isinstance(outcome.error, RateLimited)
        with pytest.raises(VenueUnavailable, match="nothing was sent"):
            it.trading.place(it.buy("l2"))
        assert it.events.of(PlaceOutcome, client_id="l2") == []

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_a_cut_session_is_down_then_up_again_and_orders_in_between_are_refused(name: str) -> None:
    async def scenario(it: TradingVenue) -> None:
        it.box.fault(kind="disconnect", venue=name, target="private")
        await it.events.one(SessionState, state="down")
        assert not it.trading.connected
        await until(lambda: it.trading.connected, "the session again")
        assert [state.state for state in it.events.of(SessionState)][-1] == "up"
        it.trading.place(it.buy("b1"))
        await it.events.one(OrderUpdate, client_id="b1", state=OrderState.FILLED, source="ws")

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_a_skewed_clock_is_a_definitive_refusal_and_is_corrected(name: str) -> None:
    async def scenario(it: TradingVenue) -> None:
        step_ms = -4000 if name in SIGNED_ORDERS else -90_000
        it.box.fault(kind="clock_skew", delay_ms=step_ms)  # one clock per exchange: spot answers for futures
        balances = await it.client.balances()  # REST corrects itself and asks once more
        assert balances
        outcome = None
        if name in SIGNED_ORDERS:
            it.trading.place(it.order("t1", OrderSide.BUY, "1.02", TimeInForce.IOC, expiry_wall_ms=0))
            outcome = await it.events.one(PlaceOutcome, client_id="t1")
            assert outcome.kind is OutcomeKind.REJECTED
            async with asyncio.timeout(WAIT_S):  # the session asks for the venue's time meanwhile
                for attempt in itertools.count(2):
                    it.trading.place(it.order(f"t{attempt}", OrderSide.BUY, "1.02", TimeInForce.IOC, expiry_wall_ms=0))
                    if (await it.events.one(PlaceOutcome, client_id=f"t{attempt}")).kind is OutcomeKind.ACKED:
                        break
                    await asyncio.sleep(0.01)

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_nothing_is_sent_for_an_expired_order_or_words_that_could_break_a_template(name: str) -> None:
    async def scenario(it: TradingVenue) -> None:
        good = it.buy("e1")
        for bad in (
            {"expiry_wall_ms": wall_ms() - 1},
            {"client_id": "x" * 29},
            {"client_id": 'a"b'},
            {"client_id": "a&b=c"},
            {"client_id": ""},
            {"symbol": 'BTC","x":"'},
        ):
            fields = {f: getattr(good, f) for f in good.__struct_fields__} | bad
            with pytest.raises(VenueUnavailable):
                it.trading.place(OrderRequest(**fields))
        it.trading.place(it.buy("e2"))  # over the same socket: what was sent before it would be answered before it
        await it.events.one(PlaceOutcome, client_id="e2")
        assert {outcome.client_id for outcome in it.events.of(PlaceOutcome)} == {"e2"}
        assert [order.client_id for order in await it.client.finished_orders(it.spec.symbol, it.began_ms)] == ["e2"]

    on(name, scenario)


@pytest.mark.parametrize("name", ["gateio_futures", "binance_futures", "bybitperp_futures"])
def test_futures_positions_and_balances_follow_the_fill(name: str) -> None:
    async def scenario(it: TradingVenue) -> None:
        it.trading.place(it.buy("p1"))
        position = await it.events.one(Position, symbol=it.spec.symbol)
        wallet = await it.events.one(Balance, asset="USDT")  # the wallet push asks REST for what is available
        asked = [r for r in it.box.server.ledger.of_kind("request") if r["operation"] == "balances"]
        assert wallet.source != "rest" or wallet.recv_mono_ns <= asked[-1]["mono_ns"], "as old as the question"
        assert position.qty == it.buy("x").qty
        assert [(p.symbol, p.qty) for p in await it.client.positions()] == [(it.spec.symbol, position.qty)]
        it.trading.place(it.order("p2", OrderSide.SELL, "0.98", TimeInForce.IOC, reduce_only=True))
        await it.events.one(Position, symbol=it.spec.symbol, qty=Decimal("0.0000"))
        assert await it.client.positions() == []

    on(name, scenario)


def test_spot_balance_pushes_agree_with_rest_at_the_end() -> None:
    async def scenario(it: TradingVenue) -> None:
        it.trading.place(it.buy("p1"))
        await it.events.one(OrderUpdate, client_id="p1", state=OrderState.FILLED, source="ws")
        asked = {b.asset: (b.free, b.locked) for b in await it.client.balances()}

        def agree() -> bool:
            pushed = {b.asset: (b.free, b.locked) for b in it.events.of(Balance)}
            return bool(pushed) and all(asked[asset] == amounts for asset, amounts in pushed.items())

        await until(agree, "pushes that end with what REST says")
        assert {b.asset for b in it.events.of(Balance)} <= asked.keys()

    on("gateio_spot", scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_a_wrong_key_is_refused_at_once_with_words_and_without_the_secret(name: str) -> None:
    async def body() -> None:
        async with world(market_of(name)) as box:
            wrong = Credentials(api_key="wrongkey", api_secret="canarysecret", uid="1")
            client = make_venue(box.venue(name), wrong)
            with pytest.raises(AuthRefused) as caught:
                await client.balances()
            trading = make_trading(box.venue(name), wrong, Events())
            with pytest.raises(AuthRefused) as caught_too:
                await trading.connect()
            assert "canarysecret" not in str(caught.value) + str(caught_too.value)
            await trading.close()
            await client.close()

    asyncio.run(body())


@pytest.mark.parametrize("name", SESSIONS)
def test_a_dead_venue_is_unavailable_not_an_exception_of_a_library(name: str) -> None:
    async def body() -> None:
        async with world(market_of(name)) as box:
            config, key = box.venue(name), box.credentials(name)
        client = make_venue(config, key)
        with pytest.raises(VenueUnavailable):
            await client.instruments(config.symbols)
        trading = make_trading(config, key, Events())
        with pytest.raises(VenueUnavailable):
            await trading.connect()
        await trading.close()
        await client.close()

    asyncio.run(body())


def test_signed_questions_without_a_key_are_refused_before_anything_is_sent() -> None:
    async def body() -> None:
        async with world() as box:
            client = make_venue(box.venue("mexc_spot"))
            with pytest.raises(AuthRefused, match="needs credentials"):
                await client.balances()
            specs = await client.instruments(box.venue("mexc_spot").symbols)
            assert len(specs) == len(box.venue("mexc_spot").symbols) and all(s.identity is None for s in specs)
            await client.close()

    asyncio.run(body())


def test_an_unlisted_symbol_costs_the_others_nothing() -> None:
    async def body() -> None:
        async with world() as box:
            for name in TRADED:
                client = make_venue(box.venue(name), box.credentials(name))
                known = box.venue(name).symbols[0]
                specs = await client.instruments([known, "NOSUCH_USDT"])
                assert [spec.symbol for spec in specs] == [known]
                await client.close()

    asyncio.run(body())


def test_unknown_dialects_and_missing_parts_are_configuration_errors() -> None:
    def config(dialect: str) -> VenueConfig:
        return VenueConfig(
            name="x_spot", exchange="x", market="spot", dialect=dialect, venue_id=0, feed_id=0, rest="http://127.0.0.1:1",
            ws="ws://127.0.0.1:1", ws_private="", ws_api="", symbols=(),
        )  # fmt: skip

    for dialect in ("nosuch", "../mexc", ""):
        with pytest.raises(ConfigInvalid, match="dialect"):
            make_public_stream(config(dialect))
    with pytest.raises(ConfigInvalid, match="found 'parsing', wanted one of"):  # a folder without a manifest
        make_trading(config("parsing"), Credentials(api_key="k", api_secret="s"), Events())


@pytest.mark.parametrize("taken", [None, 7, 10_000])
@pytest.mark.parametrize("name", SESSIONS)
def test_an_order_made_of_a_template_is_the_order_that_is_prepared(name: str, taken: int | None) -> None:
    """Filled, signed and launched, it ends like any other; what the venue reads is the same but for the moment.
    ``taken``: bytes that the plain socket takes at once; None: the session sends them."""

    async def scenario(it: TradingVenue) -> None:
        spec, wanted = it.spec, it.buy("s1x1")
        payload, wire = it.filled_template()
        if taken is None:
            it.trading.launch(spec.symbol, "s1x1", payload)
        else:
            found = it.trading.direct_line()
            assert found is not None
            line, fd = found
            sent = os.write(fd, wire[:taken])
            it.trading.launched(line, spec.symbol, "s1x1", memoryview(wire), sent)
        outcome = await it.events.one(PlaceOutcome, client_id="s1x1")
        assert outcome.kind is OutcomeKind.ACKED
        end = await it.events.one(OrderUpdate, client_id="s1x1", state=OrderState.FILLED)
        assert end.filled_qty == wanted.qty
        await it.trading.close()
        with pytest.raises(VenueUnavailable):
            it.trading.direct_line()
        with pytest.raises(VenueUnavailable):
            it.trading.launch(spec.symbol, "s1x2", payload)

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_not_found_in_answer_to_a_new_order_proves_nothing(name: str) -> None:
    """No venue documents it there; it speaks of an order that the venue knew, or knows."""

    async def scenario(it: TradingVenue) -> None:
        session: Any = it.trading
        for number, is_place in enumerate((True, False)):
            gone = OrderNotFound(f"{name}: ORDER_FINISHED", venue=name)
            session.begin("k", is_place=is_place, symbol=it.spec.symbol, client_id=f"x{number}")
            session.end("k", error=gone, recv_mono_ns=1)
        placed = await it.events.one(PlaceOutcome, client_id="x0")
        assert placed.kind is OutcomeKind.UNKNOWN and isinstance(placed.error, OrderNotFound)
        cancelled = await it.events.one(CancelOutcome, client_id="x1")
        assert cancelled.kind is OutcomeKind.REJECTED

    on(name, scenario)
