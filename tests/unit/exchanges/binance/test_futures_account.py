"""Binance USDⓈ-M client and session against the simulated venue: modes, margin, what the venue does by itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from decimal import Decimal
from types import SimpleNamespace

import pytest

from pipeline.economics.margin import disagree, liquidation_price
from pipeline.exchanges.binance import futures_client, futures_session
from pipeline.exchanges.binance.futures_client import BinanceFuturesClient
from pipeline.exchanges.binance.futures_session import BinanceFuturesTrading
from pipeline.model.clock import mono_ns
from pipeline.model.enums import OrderSide, OrderState, TimeInForce
from pipeline.model.errors import AccountSettingsWrong, AuthRefused, OrderNotFound, VenueRejected
from pipeline.model.structs import Balance, Credentials, Fill, OrderUpdate, Position
from pipeline.model.venue_events import FundingNotice, MoneyNotice, PlaceOutcome, SessionState
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance.exchange import BinanceDialect
from tests.worlds.trading_venue import TradingVenue, trading_venue
from tests.worlds.waiting import WAIT_S
from tests.worlds.waiting import until_async as until

VENUE = "binance_futures"
BTC = "BTCUSDT"
THREE = Decimal(3)


class Box(TradingVenue):
    """A traded USDⓈ-M venue with its simulated other side."""

    client: BinanceFuturesClient
    trading: BinanceFuturesTrading

    @property
    def venue(self) -> SimVenue:
        return self.box.server.venues[VENUE]

    @property
    def account(self) -> SimAccount:
        return next(iter(self.venue.accounts.values()))

    @property
    def dialect(self) -> BinanceDialect:
        found = self.box.server.dialects["binance"]
        assert isinstance(found, BinanceDialect)
        return found

    async def bought(self, client_id: str = "b1") -> Position:
        """A long position of about 20 USDT at leverage 3."""
        await self.client.apply_account_settings(self.config.symbols, THREE)
        self.trading.place(self.buy(client_id))
        await self.events.one(OrderUpdate, client_id=client_id, state=OrderState.FILLED)
        (position,) = await self.client.positions()
        return position


def on(body: Callable[[Box], Awaitable[None]]) -> None:
    async def run() -> None:
        async with trading_venue(VENUE, "five_venues") as it:
            it.__class__ = Box
            assert isinstance(it, Box)
            await body(it)

    asyncio.run(run())


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are read before every answer."""
    monkeypatch.setattr(futures_client, "SETTINGS_EVERY_NS", -1)


# --- instruments and tiers ---


def test_contracts_have_their_own_funding_interval_and_their_mark_price() -> None:
    async def body(it: Box) -> None:
        specs = {spec.symbol: spec for spec in await it.client.instruments(it.config.symbols)}
        assert {s: spec.funding_interval_s for s, spec in specs.items()} == {
            s: 14_400 if s == "SOLUSDT" else 28_800 for s in specs
        }
        row = it.venue.instruments[BTC]
        assert specs[BTC].funding_rate_ppb == row.funding_rate * 10**9
        assert specs[BTC].funding_next_wall_s == row.funding_next_s
        assert specs[BTC].taker_fee_ppm == row.taker_fee_ppm and specs[BTC].min_notional == 5
        assert abs(specs[BTC].reference_price / it.venue.mark_price(BTC) - 1) < Decimal("0.01")

    on(body)


def test_risk_tiers_are_the_brackets_of_the_venue() -> None:
    async def body(it: Box) -> None:
        read = await it.client.risk_tiers(BTC)
        served = it.venue.instruments[BTC].tiers
        assert [(t.rate, t.deduction) for t in read] == [(t.maintenance_rate, t.deduction) for t in served]
        assert read[0].cap == served[0].cap and read[-1].cap == Decimal("Infinity")
        assert not any(tier.keeps_fee for tier in read)

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
        own = liquidation_price(
            int(side), abs(held.qty), held.entry_price, held.margin, tiers, Decimal(it.spec.taker_fee_ppm) / 1_000_000
        )
        assert own is not None and held.liquidation_price and not disagree(own, held.liquidation_price)
        assert abs(own / held.liquidation_price - 1) < Decimal("1e-8")

    on(body)


# --- modes ---


def test_modes_and_leverage_are_set_once_and_again_when_somebody_changes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch)

    async def body(it: Box) -> None:
        symbols = it.config.symbols
        it.account.dual_side, it.account.account_mode = True, "multi_currency"
        for _ in range(2):
            await it.client.apply_account_settings(symbols, THREE)
            await it.client.balances()
            await it.client.positions()
            stand = {(p.leverage, p.is_cross) for p in (it.venue.position(it.account, s) for s in symbols)}
            assert stand == {(THREE, False)}
            assert not it.account.dual_side and it.account.account_mode == "classic"
            it.venue.set_leverage(it.account, symbols[0], Decimal(20), is_cross=True)

    on(body)


def test_a_key_that_is_refused_names_portfolio_margin_as_the_other_reason() -> None:
    async def body(it: Box) -> None:
        """The venue answers a portfolio margin account as it answers a key that it does not know."""
        client = BinanceFuturesClient(it.config, Credentials(api_key="unknown", api_secret="x" * 32))
        try:
            with pytest.raises(AuthRefused, match="portfolio margin mode, wanted classic; fix: leave portfolio margin"):
                await client.apply_account_settings(it.config.symbols, THREE)
        finally:
            await client.close()

    on(body)


def test_nothing_is_asked_or_set_while_the_last_readings_agree() -> None:
    async def body(it: Box) -> None:
        await it.client.apply_account_settings(it.config.symbols, THREE)
        before = len(it.box.server.ledger.of_kind("request"))
        await it.client.apply_account_settings(it.config.symbols, THREE)
        assert len(it.box.server.ledger.of_kind("request")) == before

    on(body)


def test_hedge_mode_that_cannot_be_left_refuses_the_venue_with_the_fixing_call(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch)

    async def body(it: Box) -> None:
        it.trading.place(it.rest("r1"))
        await it.events.one(PlaceOutcome, client_id="r1")
        it.account.dual_side = True
        for ask in (it.client.balances(), it.client.apply_account_settings(it.config.symbols, THREE)):
            with pytest.raises(AccountSettingsWrong, match=r"fix: POST /fapi/v1/positionSide/dual"):
                await ask

    on(body)


def test_leverage_that_the_venue_does_not_take_is_refused_with_the_fixing_call() -> None:
    async def body(it: Box) -> None:
        for leverage in (Decimal(1000), Decimal("2.5")):
            with pytest.raises(AccountSettingsWrong, match=r"leverage=.*detection\.hedge\.leverage"):
                await it.client.apply_account_settings(it.config.symbols, leverage)

    on(body)


def test_a_push_that_settings_have_changed_makes_them_read_again() -> None:
    async def body(it: Box) -> None:
        await it.trading.client.apply_account_settings(it.config.symbols, THREE)
        await it.client._signed("POST", "/fapi/v1/leverage", f"symbol={BTC}&leverage=20")

        async def reported() -> bool:
            await it.trading.client.positions()
            return it.trading.client._settings[BTC].leverage == 20

        async with asyncio.timeout(WAIT_S):
            for _ in itertools.count():
                if await reported():
                    break
                await asyncio.sleep(0.01)
        assert it.trading.client._settings[BTC].leverage == 20, "read again, not remembered"

    on(body)


def test_margin_is_added_to_an_open_position_only() -> None:
    async def body(it: Box) -> None:
        await it.client.apply_account_settings(it.config.symbols, THREE)
        with pytest.raises(VenueRejected):
            await it.client.add_margin(BTC, Decimal(5))
        before = await it.bought()
        await it.client.add_margin(BTC, Decimal("5.5"))
        (after,) = await it.client.positions()
        assert after.margin - before.margin == Decimal("5.5")
        assert after.liquidation_price is not None and before.liquidation_price is not None
        assert after.liquidation_price < before.liquidation_price

    on(body)


def test_fees_in_bnb_are_told_switched_and_charged_so() -> None:
    async def body(it: Box) -> None:
        switch = await it.client.fee_switch()
        assert switch is not None and switch.coin == ""
        await it.client._signed("POST", "/fapi/v1/feeBurn", "feeBurn=true")
        switch = await it.client.fee_switch()
        assert switch is not None and switch.coin == "BNB"
        it.box.fault(kind="deposit", venue=VENUE, asset="BNB", amount=10)
        await it.bought()
        pushed = it.events.of(Fill, client_id="b1")
        assert {fill.fee_asset for fill in pushed} == {"BNB"} and all(fill.fee > 0 for fill in pushed)
        asked = await it.client.fills(BTC, it.began_ms)
        assert [(f.trade_id, f.fee, f.fee_asset) for f in asked] == [(f.trade_id, f.fee, f.fee_asset) for f in pushed]

    on(body)


# --- what the venue does by itself ---


@pytest.mark.parametrize(("kind", "cause"), [("liquidate", "liquidation"), ("adl", "adl")])
def test_a_forced_close_is_pushed_listed_and_explained(kind: str, cause: str) -> None:
    async def body(it: Box) -> None:
        position = await it.bought()
        it.trading.place(it.rest("r1"))
        await it.events.one(OrderUpdate, client_id="r1", state=OrderState.OPEN)
        it.box.fault(kind=kind, venue=VENUE, symbol=BTC)
        resting = await it.events.one(OrderUpdate, client_id="r1", state=OrderState.CANCELLED)
        assert "er 5" in resting.reason
        await it.events.one(Position, symbol=BTC, qty=Decimal(0))
        (close,) = await it.client.forced_closes(it.began_ms)
        assert close.cause == cause and close.price > 0
        pushed = [f for f in it.events.of(Fill) if f.order_id == close.order_id]
        assert sum(f.qty for f in pushed) == position.qty and {f.side for f in pushed} == {OrderSide.SELL}
        update = it.events.of(OrderUpdate, order_id=close.order_id)[-1]
        assert update.reason.startswith(f"{cause}: ")
        asked = [f for f in await it.client.fills(BTC, it.began_ms) if f.order_id == close.order_id]
        assert {(f.trade_id, f.qty, f.price, f.fee, f.client_id) for f in asked} == {
            (f.trade_id, f.qty, f.price, f.fee, f.client_id) for f in pushed
        }
        assert await it.client.positions() == []

    on(body)


def test_a_position_is_liquidated_at_the_price_that_its_row_names() -> None:
    async def body(it: Box) -> None:
        await it.client.apply_account_settings(it.config.symbols, Decimal(100))
        it.trading.place(it.buy("b1"))
        await it.events.one(OrderUpdate, client_id="b1", state=OrderState.FILLED)
        (held,) = await it.client.positions()
        assert held.liquidation_price
        market = it.box.server.market
        assert market is not None
        market.stop()
        mark = held.liquidation_price
        for wanted, alive in ((mark * Decimal("1.0002"), True), (mark * Decimal("0.9998"), False)):
            it.venue.mark_price = lambda symbol, wanted=wanted: wanted  # type: ignore[method-assign, misc]
            it.venue.check_margins()
            assert bool(it.venue.position(it.account, BTC).qty) is alive

    on(body)


def test_funding_is_noticed_and_listed_once_by_its_id() -> None:
    async def body(it: Box) -> None:
        await it.bought()
        it.box.fault(kind="funding", venue=VENUE, symbol=BTC)
        notice = await it.events.one(FundingNotice, symbol=BTC)
        (row,) = await it.client.funding(it.began_ms)
        booked = [one for one in it.account.book if one.reason == "fund"]
        assert [(row.symbol, row.asset, row.amount)] == [(BTC, "USDT", one.change) for one in booked]
        assert abs(row.venue_wall_ms - notice.venue_wall_ms) < 2000 and row.amount != 0
        moves = await it.client.money_moves(it.began_ms - 60_000)
        assert [move.reason for move in moves] == ["transfer"], "the first deposit; neither funding nor orders"

    on(body)


@pytest.mark.parametrize(("kind", "sign"), [("deposit", 1), ("withdraw", -1)])
def test_money_that_moved_without_an_order_is_noticed_and_listed(kind: str, sign: int) -> None:
    async def body(it: Box) -> None:
        it.box.fault(kind=kind, venue=VENUE, asset="USDT", amount=25)
        notice = await it.events.one(MoneyNotice, asset="USDT")
        assert notice.amount == 25 * sign
        balance = await it.events.one(Balance, asset="USDT")
        assert balance.free + balance.locked == it.account.wallet("USDT").total
        assert (await it.client.money_moves(it.began_ms))[-1].amount == 25 * sign

    on(body)


def test_income_of_many_pages_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(futures_client, "TRADES_MAX", 3)

    async def body(it: Box) -> None:
        for cents in range(1, 9):
            it.venue.settlement.external(it.account, "USDT", Decimal(cents), "deposit")
            await asyncio.sleep(0.002)  # rows of one millisecond would not fit a page of three
        found = await it.client.money_moves(it.began_ms - 60_000)
        assert [move.amount for move in found][-8:] == list(range(1, 9))
        assert len({move.witness for move in found}) == len(found)

    on(body)


# --- orders ---


def test_dead_man_timers_are_set_of_contracts_that_were_sent_to_and_again_when_half_of_them_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of many contracts at once they run for longer: the weight of a minute is needed elsewhere."""

    async def body(it: Box) -> None:
        def armed() -> list[tuple[str, str]]:
            rows = [r for r in it.box.server.ledger.of_kind("request") if r["operation"] == "countdown"]
            found = [(row["symbol"], row["detail"]["timeout"]) for row in rows[len(before) :]]
            before.extend(found)
            return found

        before: list[tuple[str, str]] = []
        many, began_ns = sorted(it.venue.instruments), mono_ns()
        assert len(many) > futures_client.SHORT_TIMERS_MAX
        for at_s, symbols, expected in (
            (0.0, [BTC], [(BTC, "10000")]),
            (4.9, [BTC], []),
            (5.1, [BTC], [(BTC, "10000")]),
            (6.0, many, [(symbol, "60000") for symbol in many]),
            (55.0, many, []),
            (57.0, many, [(symbol, "60000") for symbol in many]),
            (58.0, [BTC], [(BTC, "10000")]),
            (59.0, [BTC], []),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(futures_client, "mono_ns", lambda at_s=at_s: began_ns + int(at_s * 1e9))
                await it.client.set_countdown(10, symbols)
            assert sorted(armed()) == expected, at_s
        await it.client.set_countdown(0, [BTC])
        assert armed() == [(BTC, "0")]

    on(body)


def test_a_dead_man_timer_that_runs_out_cancels_what_rests() -> None:
    async def body(it: Box) -> None:
        it.trading.place(it.rest("r1"))
        await it.events.one(OrderUpdate, client_id="r1", state=OrderState.OPEN)
        await it.client._signed("POST", "/fapi/v1/countdownCancelAll", f"symbol={BTC}&countdownTime=50", weight=10)
        await it.events.one(OrderUpdate, client_id="r1", state=OrderState.CANCELLED)
        assert await it.client.open_orders(BTC) == []

    on(body)


def test_all_orders_of_a_contract_are_cancelled_and_told() -> None:
    async def body(it: Box) -> None:
        for name in ("r1", "r2"):
            it.trading.place(it.rest(name))
            await it.events.one(OrderUpdate, client_id=name, state=OrderState.OPEN)
        ended = await it.client.cancel_all(BTC)
        assert {(o.client_id, o.state) for o in ended} == {(n, OrderState.CANCELLED) for n in ("r1", "r2")}
        assert await it.client.open_orders(BTC) == [] == await it.client.cancel_all(BTC)

    on(body)


@pytest.mark.parametrize(("tif", "away"), [(TimeInForce.POST_ONLY, "1.02"), (TimeInForce.FOK, "0.97")])
def test_orders_that_cannot_stand_are_refused(tif: TimeInForce, away: str) -> None:
    async def body(it: Box) -> None:
        it.trading.place(it.order("x1", OrderSide.BUY, away, tif))
        outcome = await it.events.one(PlaceOutcome, client_id="x1")
        assert isinstance(outcome.error, VenueRejected) and outcome.error.api_code in ("-5021", "-5022")

    on(body)


def test_reduce_only_without_a_position_is_refused() -> None:
    async def body(it: Box) -> None:
        it.trading.place(it.order("x1", OrderSide.SELL, "0.98", TimeInForce.IOC, reduce_only=True))
        outcome = await it.events.one(PlaceOutcome, client_id="x1")
        assert isinstance(outcome.error, VenueRejected) and outcome.error.api_code == "-2022"

    on(body)


# --- listen key ---


def test_a_key_is_renewed_and_one_that_is_gone_makes_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(futures_session, "KEY_RENEW_NS", -1)
    monkeypatch.setattr(futures_session._UserStream, "ping_interval_s", 0.05)

    async def body(it: Box) -> None:
        def renewals() -> int:
            rows = it.box.server.ledger.of_kind("request")
            return sum(row["operation"] == "listen_key" for row in rows)

        first = renewals()
        await until(lambda: renewals() > first + 1, "renewals")
        assert it.events.of(SessionState, state="down") == []
        futures = it.dialect.futures
        assert futures is not None
        futures._keys.close(it.account)
        await it.events.one(SessionState, state="down")
        await until(lambda: it.trading.connected, "the session again")

    on(body)


def test_a_key_that_expires_ends_the_connection_which_comes_back_with_a_new_one() -> None:
    async def body(it: Box) -> None:
        futures = it.dialect.futures
        assert futures is not None
        keys = dict(futures._keys._keys)
        assert len(keys) == 1
        futures._keys._keys = {key: (owner, 0) for key, (owner, _) in keys.items()}
        (send,) = futures._streams[id(it.account)]
        futures._watch(SimpleNamespace(closed=False), next(iter(keys)), send)  # type: ignore[arg-type]
        await it.events.one(SessionState, state="down")
        await until(lambda: it.trading.connected, "the session again")
        assert set(futures._keys._keys) - set(keys)
        with pytest.raises(OrderNotFound):
            futures._keys.close(it.account)
            await it.client.renew_listen_key()

    on(body)
