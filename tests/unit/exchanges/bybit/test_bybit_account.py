"""Bybit clients against the simulated venue: modes, leverage, margin, funding, forced closes, money, the key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from pipeline.economics.margin import disagree, liquidation_price
from pipeline.exchanges.bybit import linear_client
from pipeline.exchanges.bybit.linear_client import BybitLinearClient
from pipeline.model.enums import OrderSide, OrderState, TimeInForce
from pipeline.model.errors import AccountSettingsWrong, OrderNotFound
from pipeline.model.structs import Fill, KeyRights, OrderUpdate, Position
from pipeline.model.venue_events import FundingNotice, PlaceOutcome
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.scenarios.specs import load_scenario
from tests.worlds.trading_venue import TradingVenue, trading_venue
from tests.worlds.waiting import until_async as until

LINEAR, SPOT = "bybitperp_futures", "bybit_spot"
BTC = "BTCUSDT"
THREE = Decimal(3)


class Box(TradingVenue):
    """A traded venue with its simulated other side."""

    client: BybitLinearClient

    @property
    def venue(self) -> SimVenue:
        return self.box.server.venues[self.name]

    @property
    def account(self) -> SimAccount:
        return next(iter(self.venue.accounts.values()))

    async def bought(self, client_id: str = "b1") -> Position:
        """A long position of about 20 USDT at leverage 3."""
        await self.client.apply_account_settings(self.config.symbols, THREE)
        self.trading.place(self.buy(client_id))
        await self.events.one(OrderUpdate, client_id=client_id, state=OrderState.FILLED)
        (position,) = await self.client.positions()
        return position


def on(body: Callable[[Box], Awaitable[None]], name: str = LINEAR) -> None:
    async def run() -> None:
        async with trading_venue(name, load_scenario("seven_venues").only([name])) as it:
            it.__class__ = Box
            assert isinstance(it, Box)
            await body(it)

    asyncio.run(run())


def test_contracts_and_tiers_are_the_venues() -> None:
    async def body(it: Box) -> None:
        specs = {spec.symbol: spec for spec in await it.client.instruments(it.config.symbols)}
        row = it.venue.instruments[BTC]
        assert (specs[BTC].tick, specs[BTC].lot, specs[BTC].min_notional) == (row.tick, row.lot, 5)
        assert specs["SOLUSDT"].funding_interval_s == 14_400 and specs[BTC].funding_interval_s == 28_800
        assert specs[BTC].taker_fee_ppm == row.taker_fee_ppm and specs[BTC].identity is not None
        assert specs[BTC].identity.networks == row.identity.networks and it.client.networks()["BTC"]
        read = await it.client.risk_tiers(BTC)
        assert [(t.rate, t.deduction) for t in read] == [(t.maintenance_rate, t.deduction) for t in row.tiers]
        assert read[0].cap == row.tiers[0].cap and read[-1].cap == Decimal("Infinity") and read[0].keeps_fee

    on(body)


def test_modes_and_leverage_are_set_and_again_when_somebody_changes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_client, "SETTINGS_EVERY_NS", -1)
    monkeypatch.setattr(linear_client, "CONTRACT_EVERY_NS", -1)

    async def body(it: Box) -> None:
        symbols = it.config.symbols
        it.account.dual_side, it.account.account_mode, it.account.default_cross = True, "portfolio", True
        for _ in range(2):
            for _ in symbols:  # one more of them is looked at each time
                await it.client.apply_account_settings(symbols, THREE)
            stand = {(p.leverage, p.is_cross) for p in (it.venue.position(it.account, s) for s in symbols)}
            assert stand == {(THREE, False)}
            assert not it.account.dual_side and it.account.account_mode == "classic" and not it.account.default_cross
            it.venue.set_leverage(it.account, symbols[0], Decimal(20))

    on(body)


def test_nothing_is_asked_or_set_while_the_last_readings_agree() -> None:
    async def body(it: Box) -> None:
        await it.client.apply_account_settings(it.config.symbols, THREE)
        it.client._read_mono_ns += 3600 * 10**9
        before = len(it.box.server.ledger.of_kind("request"))
        await it.client.apply_account_settings(it.config.symbols, THREE)
        assert len(it.box.server.ledger.of_kind("request")) == before

    on(body)


def test_what_cannot_be_set_refuses_the_venue_with_the_fixing_call() -> None:
    async def body(it: Box) -> None:
        with pytest.raises(AccountSettingsWrong, match=r"leverage 1000.*detection\.hedge\.leverage"):
            await it.client.apply_account_settings(it.config.symbols, Decimal(1000))
        it.trading.place(it.rest("r1"))
        await it.events.one(PlaceOutcome, client_id="r1")
        it.account.default_cross = True
        it.client._info_mono_ns = 0
        with pytest.raises(AccountSettingsWrong, match=r"REGULAR_MARGIN, wanted ISOLATED_MARGIN.*set-margin-mode"):
            await it.client.apply_account_settings(it.config.symbols, THREE)
        it.account.default_cross, it.account.dual_side = False, True
        it.client._leverages.clear()
        with pytest.raises(AccountSettingsWrong, match=r"wanted one-way.*switch-mode"):
            await it.client.apply_account_settings(it.config.symbols, THREE)

    on(body)


@pytest.mark.parametrize("side", [OrderSide.BUY, OrderSide.SELL])
def test_our_liquidation_price_and_the_venues_are_one(side: OrderSide) -> None:
    async def body(it: Box) -> None:
        await it.client.apply_account_settings(it.config.symbols, THREE)
        away = "1.02" if side is OrderSide.BUY else "0.98"
        it.trading.place(it.order("p1", side, away, TimeInForce.IOC, qty=Decimal("0.02")))
        await it.events.one(OrderUpdate, client_id="p1", state=OrderState.FILLED)
        (held,) = await it.client.positions()
        tiers = await it.client.risk_tiers(BTC)
        fee = Decimal(it.spec.taker_fee_ppm) / 1_000_000
        own = liquidation_price(int(side), abs(held.qty), held.entry_price, held.margin, tiers, fee)
        assert own is not None and held.liquidation_price and not disagree(own, held.liquidation_price)

    on(body)


def test_margin_is_added_and_balances_are_what_is_left() -> None:
    async def body(it: Box) -> None:
        held = await it.bought()
        (before,) = [row for row in await it.client.balances() if row.asset == "USDT"]
        await it.client.add_margin(BTC, Decimal(7))
        (more,) = await it.client.positions()
        (after,) = [row for row in await it.client.balances() if row.asset == "USDT"]
        assert more.margin - held.margin == 7 == before.free - after.free
        assert after.free + after.locked == before.free + before.locked == it.account.wallet("USDT").total

    on(body)


def test_funding_is_pushed_without_its_amount_and_listed_with_it() -> None:
    async def body(it: Box) -> None:
        await it.bought()
        it.venue.apply_funding(BTC)
        notice = await it.events.one(FundingNotice)
        assert notice.symbol == BTC
        (paid,) = await it.client.funding(it.began_ms)
        booked = [entry.change for entry in it.account.book if entry.reason == "fund"]
        assert [paid.amount] == booked and paid.amount < 0 and (paid.symbol, paid.asset) == (BTC, "USDT")
        assert {fill.client_id for fill in await it.client.fills(BTC, it.began_ms)} == {"b1"}, "funding is no fill"

    on(body)


@pytest.mark.parametrize(("fault", "cause"), [("liquidate", "liquidation"), ("adl", "adl")])
def test_what_the_venue_closes_is_listed_with_its_cause(fault: str, cause: str) -> None:
    async def body(it: Box) -> None:
        held = await it.bought()
        it.box.fault(kind=fault, venue=LINEAR, symbol=BTC)
        await until(lambda: any(fill.client_id == "" for fill in it.events.of(Fill)), "the venue's own fill")
        (closed,) = await it.client.forced_closes(it.began_ms)
        assert (closed.symbol, closed.cause) == (BTC, cause) and closed.price > 0
        own = [fill for fill in await it.client.fills(BTC, it.began_ms) if fill.order_id == closed.order_id]
        assert sum(fill.qty for fill in own) == held.qty and {fill.side for fill in own} == {OrderSide.SELL}
        ended = [row for row in await it.client.finished_orders(BTC, it.began_ms) if row.order_id == closed.order_id]
        assert ended[0].reason.startswith(f"{cause}:") and ended[0].client_id == ""
        assert await it.client.positions() == []

    on(body)


@pytest.mark.parametrize("name", [LINEAR, SPOT])
def test_money_that_no_order_moved_is_listed_and_orders_are_not(name: str) -> None:
    async def body(it: Box) -> None:
        first = {row.event_id for row in await it.client.money_moves(it.began_ms)}  # what the account began with
        it.trading.place(it.buy("m1"))
        await it.events.one(OrderUpdate, client_id="m1", state=OrderState.FILLED)
        it.box.fault(kind="deposit", venue=name, asset="USDT", amount="251")
        it.box.fault(kind="withdraw", venue=name, asset="USDT", amount="41")
        moves = [row for row in await it.client.money_moves(it.began_ms) if row.event_id not in first]
        assert [(row.amount, row.reason) for row in moves] == [(251, "transfer_in"), (-41, "transfer_out")]
        assert len({row.event_id for row in moves}) == 2 and {row.listed_in for row in moves} == {"transaction_log"}

    on(body, name)


@pytest.mark.parametrize("name", [LINEAR, SPOT])
def test_cancels_over_rest_answer_with_the_order(name: str) -> None:
    async def body(it: Box) -> None:
        for client_id in ("c1", "c2", "c3"):
            it.trading.place(it.rest(client_id))
            await it.events.one(PlaceOutcome, client_id=client_id)
        one = await it.client.cancel(it.spec.symbol, "c1")
        assert (one.client_id, one.state) == ("c1", OrderState.CANCELLED)
        rest = await it.client.cancel_all(it.spec.symbol)
        assert {(row.client_id, row.state) for row in rest} == {(c, OrderState.CANCELLED) for c in ("c2", "c3")}
        assert await it.client.open_orders(it.spec.symbol) == [] == await it.client.cancel_all(it.spec.symbol)
        with pytest.raises(OrderNotFound):
            await it.client.cancel(it.spec.symbol, "c1")

    on(body, name)


def test_a_post_only_order_that_would_take_is_taken_and_ends_unfilled() -> None:
    async def body(it: Box) -> None:
        it.trading.place(it.order("p1", OrderSide.BUY, "1.02", TimeInForce.POST_ONLY))
        end = await it.events.one(OrderUpdate, client_id="p1", state=OrderState.CANCELLED)
        assert end.filled_qty == 0 and "EC_PostOnlyWillTakeLiquidity" in end.reason

    on(body, SPOT)


def test_a_key_tells_its_rights() -> None:
    async def body(it: Box) -> None:
        assert await it.client.key_rights() == KeyRights(trade=True, withdraw=False, ip_bound=True)

    on(body)
