"""The account page as the poller writes it: exact, complete statements, rows found again after a restart; and what a
fault of one question may cost it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.exchanges.gateio import account_mode
from pipeline.exchanges.rest_client import RestVenueClient
from pipeline.execution.events import AccountSnapshot
from pipeline.execution.market import Instruments
from pipeline.execution.shared_reads import AccountReader
from pipeline.model.config import DeductionConfig, FeeConfig, VenueConfig
from pipeline.model.config_load import config_from_mapping
from pipeline.model.enums import AccountState, InstrumentKind
from pipeline.model.instruments import VenueRef, build_rows
from pipeline.model.structs import Balance, Position
from pipeline.rehearsal.instruments import spec
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.fees import FeeDeduction
from pipeline.trade_state import Effect, Reason
from shm.layout_pages import (
    ACCOUNT_BALANCE,
    ACCOUNT_POSITION,
    ACCOUNT_VENUE,
    ASSET_WORDS,
    CATALOGUE_ROW,
    CATALOGUE_TEXT_WORDS,
)
from shm.liveness import Liveness
from shm.logring import LogRing
from shm.metrics import Metrics
from shm.pages import AccountPage, CataloguePage
from shm.words import pack_text, unpack_text
from tests.worlds.exchange_world import world
from tests.worlds.waiting import until_async as until
from workers.base import WorkerContext
from workers.poller import AccountWriter, VenuePoller
from workers.tradable import account_reasons

CONFIG = config_from_mapping({"engine_name": "t-x", "mode": "sim"})
VENUE = VenueConfig(
    name="x_futures", exchange="x", market="futures", dialect="gateio", venue_id=3, feed_id=0, rest="", ws="",
    ws_private="", ws_api="", symbols=("S",),
)  # fmt: skip


@pytest.fixture
def pages(instance: str) -> Iterator[tuple[AccountPage, CataloguePage, AccountWriter]]:
    account, catalogue = AccountPage.create(instance), CataloguePage.create(instance)
    row = np.zeros(CATALOGUE_ROW.WORDS, dtype=np.int64)
    row[CATALOGUE_ROW.venue] = 3
    row[CATALOGUE_ROW.symbol : CATALOGUE_ROW.symbol + CATALOGUE_TEXT_WORDS] = pack_text("S", CATALOGUE_TEXT_WORDS)
    catalogue.append(row)
    yield account, catalogue, AccountWriter(account, CataloguePage.attach(instance), [VENUE])
    account.close()
    catalogue.close()


def balance(asset: str, free: str, locked: str = "0") -> Balance:
    return Balance(
        venue="x_futures", asset=asset, free=Decimal(free), locked=Decimal(locked), recv_mono_ns=1, source="rest"
    )


def read(account: AccountPage) -> dict[str, tuple[Decimal, Decimal, int]]:
    found = {}
    for index in range(account.balance_count):
        row = account.balance(index)
        assert row is not None and int(row[ACCOUNT_BALANCE.venue]) == 3
        exp = int(row[ACCOUNT_BALANCE.exp])
        found[unpack_text(row[ACCOUNT_BALANCE.asset : ACCOUNT_BALANCE.asset + ASSET_WORDS])] = (
            Decimal(int(row[ACCOUNT_BALANCE.free_fp])).scaleb(-exp),
            Decimal(int(row[ACCOUNT_BALANCE.locked_fp])).scaleb(-exp),
            int(row[ACCOUNT_BALANCE.confirmed_mono_ns]),
        )
    return found


def test_an_asset_that_a_complete_statement_leaves_out_is_zero(
    pages: tuple[AccountPage, CataloguePage, AccountWriter],
) -> None:
    account, _, writer = pages
    writer.write_balances("x_futures", [balance("USDT", "10.25", "0.5"), balance("BTC", "1e-8")], 100)
    assert read(account) == {
        "USDT": (Decimal("10.25"), Decimal("0.5"), 100),
        "BTC": (Decimal("1e-8"), Decimal(0), 100),
    }
    writer.write_balances("x_futures", [balance("USDT", "9")], 200)
    assert read(account) == {"USDT": (Decimal(9), Decimal(0), 200), "BTC": (Decimal(0), Decimal(0), 200)}


def test_a_new_poller_finds_its_rows_again(
    pages: tuple[AccountPage, CataloguePage, AccountWriter], instance: str
) -> None:
    account, _, writer = pages
    writer.write_balances("x_futures", [balance("USDT", "1"), balance("BTC", "2")], 1)
    again = AccountWriter(account, CataloguePage.attach(instance), [VENUE])
    again.write_balances("x_futures", [balance("BTC", "3"), balance("USDT", "4")], 2)
    assert account.balance_count == 2
    assert read(account)["BTC"][0] == 3


def test_positions_close_when_the_venue_lists_them_no_more(
    pages: tuple[AccountPage, CataloguePage, AccountWriter],
) -> None:
    account, _, writer = pages
    position = Position(
        venue="x_futures", symbol="S", qty=Decimal("-0.5"), entry_price=Decimal("64000.5"), mark_price=Decimal(0),
        recv_mono_ns=1,
    )  # fmt: skip
    unknown = Position(
        venue="x_futures", symbol="OTHER", qty=Decimal(1), entry_price=Decimal(1), mark_price=Decimal(0), recv_mono_ns=1
    )
    writer.write_positions("x_futures", [position, unknown], 10)
    row = account.position(0)
    assert row is not None and account.position_count == 1
    assert Decimal(int(row[ACCOUNT_POSITION.qty_fp])).scaleb(-int(row[ACCOUNT_POSITION.qty_exp])) == Decimal("-0.5")
    writer.write_positions("x_futures", [], 20)
    row = account.position(0)
    assert row is not None
    assert (int(row[ACCOUNT_POSITION.qty_fp]), int(row[ACCOUNT_POSITION.confirmed_mono_ns])) == (0, 20)


def test_a_position_is_read_back_as_the_venue_reported_it(
    pages: tuple[AccountPage, CataloguePage, AccountWriter], instance: str
) -> None:
    _, _, writer = pages
    contract = spec("x_futures", symbol="S", kind=InstrumentKind.PERPETUAL)
    (row,) = build_rows([contract], [VenueRef(name="x_futures", venue_id=3, feed_id=0)])
    reader = AccountReader(AccountPage.attach(instance), [VENUE], Instruments([row]))
    reported = Position(
        venue="x_futures", symbol="S", qty=Decimal("-0.5"), entry_price=Decimal("64000.5"), mark_price=Decimal("65000"),
        recv_mono_ns=15, margin=Decimal("10666.75"), unrealised_pnl=Decimal("-499.75"),
        liquidation_price=Decimal("84845.5"), maintenance_rate=Decimal("0.005"), maintenance_margin=Decimal("162.5"),
    )  # fmt: skip
    silent = msgspec.structs.replace(reported, liquidation_price=None, maintenance_margin=None, recv_mono_ns=16)
    never = msgspec.structs.replace(reported, liquidation_price=Decimal(0), recv_mono_ns=17)
    for position in (reported, silent, never):
        at = position.recv_mono_ns
        writer.write_positions("x_futures", [position], at)
        writer.write_venue("x_futures", begin_ns=at, end_ns=at, state=1, failures=0)
        snapshot = reader.poll()
        assert snapshot is not None and snapshot.positions == (position,)


def test_a_position_whose_row_cannot_be_read_is_told_as_that_and_not_as_none(
    pages: tuple[AccountPage, CataloguePage, AccountWriter], instance: str
) -> None:
    account, _, writer = pages
    contract = spec("x_futures", symbol="S", kind=InstrumentKind.PERPETUAL)
    (row,) = build_rows([contract], [VenueRef(name="x_futures", venue_id=3, feed_id=0)])
    reader = AccountReader(AccountPage.attach(instance), [VENUE], Instruments([row]))
    held = Position(
        venue="x_futures", symbol="S", qty=Decimal("-0.5"), entry_price=Decimal("64000.5"), mark_price=Decimal("65000"),
        recv_mono_ns=20,
    )  # fmt: skip

    def polled(at: int, positions: list[Position], unreadable: list[str]) -> AccountSnapshot:
        writer.write_positions("x_futures", positions, at, unreadable)
        writer.write_venue("x_futures", begin_ns=at, end_ns=at, state=1, failures=0)
        snapshot = reader.poll()
        assert snapshot is not None and snapshot.positions_recv_mono_ns == {"x_futures": at}
        return snapshot

    first = polled(10, [], ["S", "OTHER"])  # never read before
    assert (first.positions, first.unreadable) == ((), (("x_futures", "S"),))
    snapshot = polled(20, [held], [])
    assert (snapshot.positions[0].qty, snapshot.unreadable) == (held.qty, ())
    snapshot = polled(30, [], ["S"])
    assert (snapshot.positions, snapshot.unreadable) == ((), (("x_futures", "S"),))
    kept = account.position(0)
    assert kept is not None and account.position_count == 1
    assert (int(kept[ACCOUNT_POSITION.qty_fp]), int(kept[ACCOUNT_POSITION.confirmed_mono_ns])) == (-5, 20)
    snapshot = polled(40, [], [])
    assert (snapshot.positions[0].qty, snapshot.unreadable) == (0, ())


def context(instance: str, state_dir: Path) -> WorkerContext:
    ctx = WorkerContext(
        config=CONFIG, instance=instance, process="poller", exchange="", state_dir=state_dir, restarts=0
    )
    ctx.liveness = Liveness.create(instance, "poller")
    ctx.log = LogRing.create(instance, "poller")
    ctx.metrics = Metrics.create(instance, "poller")
    return ctx


@pytest.mark.parametrize(("name", "target", "coin"), [("gateio_spot", "fees", "GT"), ("mexc_spot", "other", "MX")])
def test_a_gateways_page_to_the_fee_question_costs_no_account_page(
    name: str, target: str, coin: str, instance: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Balances go on being written, the venue is OK, and the coin that was told last stays."""
    monkeypatch.setattr("workers.poller.FEE_SWITCH_EVERY_S", 0.2)  # within the weight that a venue grants

    async def body() -> None:
        async with world("demo") as box:
            sim, venue = box.server.venues[name], box.venue(name)
            account = next(iter(sim.accounts.values()))
            sim.settlement.external(account, coin, Decimal(5), "deposit")
            account.fee_deduction = FeeDeduction(coin=coin, rate=Decimal("0.9"))
            page, catalogue = AccountPage.create(instance), CataloguePage.create(instance)
            writer = AccountWriter(page, CataloguePage.attach(instance), [venue])
            client = make_venue(venue, box.credentials(name))
            assert isinstance(client, RestVenueClient)
            poller = VenuePoller(context(instance, state_dir), venue, client, writer)
            sweeping = asyncio.create_task(poller.run())

            def swept_ns() -> int:
                row = page.venue(venue.venue_id)
                return (
                    0
                    if row is None or row[ACCOUNT_VENUE.state] != AccountState.OK
                    else int(row[ACCOUNT_VENUE.sweep_begin_mono_ns])
                )

            await until(lambda: page.fee_coin(venue.venue_id) == coin, "the coin of fees")
            box.fault(kind="gateway_page", venue=name, target=target, count=10**6)
            reported = client.gateway.count
            await until(lambda: client.gateway.count > reported, "a page to the fee question")
            seen_ns = swept_ns()
            await until(lambda: swept_ns() > seen_ns, "a sweep after the page")
            assert poller.failures == 0 and page.balance_count > 0
            assert page.fee_coin(venue.venue_id) == coin
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            await client.close()
            page.close()
            catalogue.close()

    asyncio.run(body())


@contextlib.asynccontextmanager
async def holding_gt(instance: str) -> AsyncIterator[tuple[SimAccount, Callable[[WorkerContext], VenuePoller]]]:
    """An account of Gate.io spot with GT, and who makes a poller of it."""
    async with world("demo") as box:
        venue = box.venue("gateio_spot")
        account = next(iter(box.server.venues["gateio_spot"].accounts.values()))
        box.server.venues["gateio_spot"].settlement.external(account, "GT", Decimal(5), "deposit")
        page, catalogue = AccountPage.create(instance), CataloguePage.create(instance)
        writer = AccountWriter(page, CataloguePage.attach(instance), [venue])
        client = make_venue(venue, box.credentials("gateio_spot"))
        try:
            yield account, lambda ctx: VenuePoller(ctx, venue, client, writer)
        finally:
            await client.close()
            page.close()
            catalogue.close()


WANTS_GT = {"gateio_spot": FeeConfig(deduction=DeductionConfig(coin="GT"))}


def test_the_configured_coin_of_fees_is_switched_on_once_and_none_is_switched_off(
    instance: str, state_dir: Path
) -> None:
    async def body() -> None:
        ctx = context(instance, state_dir)
        async with holding_gt(instance) as (account, poller_of):
            plain = poller_of(ctx)
            await plain._read_fee_switch()
            assert (plain._fee_coin, account.fee_deduction) == ("", None), "nobody has configured one"
            ctx.config = msgspec.structs.replace(CONFIG, fees=WANTS_GT)
            poller = poller_of(ctx)
            await poller._read_fee_switch()
            assert account.fee_deduction is not None and account.fee_deduction.enabled
            assert poller._fee_coin == "GT"
            account.fee_deduction.enabled = False
            await poller._read_fee_switch()
            assert (poller._fee_coin, account.fee_deduction.enabled) == ("", False), "what an operator says last counts"
            ctx.config = CONFIG
            account.fee_deduction.enabled = True
            other = poller_of(ctx)
            await other._read_fee_switch()
            assert (other._fee_coin, account.fee_deduction.enabled) == ("GT", True), "none is switched off"
            ctx.config = msgspec.structs.replace(CONFIG, fees=WANTS_GT)
            third = poller_of(ctx)
            await third._read_fee_switch()
            account.fee_deduction.enabled = False
            await third._read_fee_switch()
            assert not account.fee_deduction.enabled, "on at the start, and switched off by an operator since"

    asyncio.run(body())


def test_a_coin_of_fees_is_looked_for_once_a_run_whoever_starts_the_poller_again(
    instance: str, state_dir: Path
) -> None:
    """Under one unit a process nobody counts its restarts; under the fork server one may die before its first
    answer."""

    async def body() -> None:
        ctx = context(instance, state_dir)
        ctx.config = msgspec.structs.replace(CONFIG, fees=WANTS_GT)
        async with holding_gt(instance) as (account, poller_of):

            async def is_on() -> bool:
                await poller_of(ctx)._read_fee_switch()
                return account.fee_deduction is not None and account.fee_deduction.enabled

            supervisor = Liveness.create(instance, "supervisor")
            ctx.restarts = 1
            assert await is_on(), "the one before has died without an answer"
            ctx.restarts = 0
            assert account.fee_deduction is not None
            account.fee_deduction.enabled = False
            assert not await is_on(), "what an operator says last counts in this run"
            kept = state_dir / "fee_coins.json"
            kept.write_bytes(kept.read_bytes().replace(str(os.getpid()).encode(), b"1"))
            assert await is_on(), "that was of an earlier run"
            kept.write_bytes(b"damaged")
            account.fee_deduction.enabled = False
            assert await is_on()
            supervisor.close()

    asyncio.run(body())


def test_an_account_whose_modes_nobody_tells_is_read_and_takes_no_entries(
    instance: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, and ends with the first answer."""
    monkeypatch.setattr(account_mode, "TIMEOUT_S", 240.0)
    monkeypatch.setattr(account_mode, "SOON_S", 240.0)

    async def body() -> None:
        async with world("demo") as box:
            name = "gateio_spot"
            venue = box.venue(name)
            page, catalogue = AccountPage.create(instance), CataloguePage.create(instance)
            client, ctx = make_venue(venue, box.credentials(name)), context(instance, state_dir)
            reader = AccountReader(AccountPage.attach(instance), [venue], Instruments([]))
            poller = VenuePoller(ctx, venue, client, AccountWriter(page, CataloguePage.attach(instance), [venue]))
            for answers in (False, True):
                box.server.faults.clear()
                if not answers:
                    box.fault(kind="http_error", venue=name, target="other", status=503, count=10**6)
                await poller._sweep()
                row, snapshot = page.venue(venue.venue_id), reader.poll()
                assert row is not None and snapshot is not None and snapshot.balances
                assert row[ACCOUNT_VENUE.state] == (AccountState.OK if answers else AccountState.UNSETTLED)
                assert snapshot.settings_known == {name: answers}
                client._mode._due_mono_ns = 0  # type: ignore[attr-defined]
            await client.close()
            page.close()
            catalogue.close()

    asyncio.run(body())


@pytest.mark.parametrize(
    ("name", "mode", "back", "call"),
    [
        ("gateio_futures", "dual", "single", "set_position_mode?position_mode=single"),
        ("gateio_spot", "portfolio", "classic", "PUT /unified/unified_mode"),
    ],
)
def test_an_account_in_a_wrong_mode_is_told_with_the_call_and_trades_again_once_mended(
    name: str, mode: str, back: str, call: str, instance: str, state_dir: Path
) -> None:
    async def body() -> None:
        async with world("demo") as box:
            venue = box.venue(name)
            page, catalogue = AccountPage.create(instance), CataloguePage.create(instance)
            client, ctx = make_venue(venue, box.credentials(name)), context(instance, state_dir)
            reader = AccountReader(AccountPage.attach(instance), [venue], Instruments([]))
            poller = VenuePoller(ctx, venue, client, AccountWriter(page, CataloguePage.attach(instance), [venue]))

            async def reasons() -> list[Reason]:
                if name == "gateio_spot":
                    client._mode._due_mono_ns = 0  # type: ignore[attr-defined]
                state: int = AccountState.FAILING
                while state == AccountState.FAILING:  # no answer in time: asked again, as the poller does
                    await poller._sweep()
                    row = page.venue(venue.venue_id)
                    assert row is not None
                    state = int(row[ACCOUNT_VENUE.state])
                return account_reasons({name: state, "other": 1, "third": 1}, {name: page.fault(venue.venue_id)})

            assert await reasons() == [] and reader.poll() is not None
            box.fault(kind="change_mode", venue=name, text=mode)
            (wrong,) = await reasons()
            assert wrong.effect is Effect.DEGRADES and wrong.venues == (name,)
            assert "settings are wrong" in wrong.what and f"wanted {back}" in wrong.what
            assert "key" not in wrong.what and call in wrong.solve
            assert wrong.solve.startswith("change that in the account's settings at the venue, with nothing open there")
            assert wrong.solve.endswith("it is looked at again every 2 s, and trades again by itself")
            snapshot = reader.poll()
            assert snapshot is not None and snapshot.settings_known == {name: False}, "no entry there"
            assert not snapshot.balances and not snapshot.positions_recv_mono_ns and reader.poll() is None
            box.fault(kind="change_mode", venue=name, text=back)
            assert await reasons() == []
            mended = reader.poll()
            assert mended is not None and mended.balances and mended.settings_known == {name: True}
            assert page.fault(venue.venue_id) == ""
            await client.close()
            page.close()
            catalogue.close()

    asyncio.run(body())


def test_a_wrong_mode_is_said_once_however_often_other_failures_come_between(
    instance: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with world("demo") as box:
            name = "gateio_spot"
            venue = box.venue(name)
            page, catalogue = AccountPage.create(instance), CataloguePage.create(instance)
            client, ctx = make_venue(venue, box.credentials(name)), context(instance, state_dir)
            said: list[str] = []
            monkeypatch.setattr(type(ctx), "degraded", lambda _, text: said.append(text))
            poller = VenuePoller(ctx, venue, client, AccountWriter(page, CataloguePage.attach(instance), [venue]))

            wrong, failing = AccountState.SETTINGS_WRONG, AccountState.FAILING
            for times in (1, 2):
                for state in (failing, wrong, failing, wrong, wrong, failing, wrong):
                    poller._failure(1, state, state.name, 0.0)
                assert [text.rpartition(" ")[2] for text in said] == [failing.name, wrong.name] * times
                while poller.failures:  # until it answers again
                    await poller._sweep()
            await client.close()
            page.close()
            catalogue.close()

    asyncio.run(body())


@pytest.mark.parametrize("silence", [False, True])
def test_a_question_for_the_time_without_an_answer_costs_no_account_page(
    silence: bool, instance: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Balances go on being written while it is out, and the last reading stays with its own time, also for the next
    poller and for who reads the page of a venue whose account does not answer."""
    monkeypatch.setattr("workers.poller.MEASURE_EVERY_S", 0.01)

    async def body() -> None:
        async with world("demo") as box:
            name = "mexc_spot"
            venue = box.venue(name)
            page, catalogue = AccountPage.create(instance), CataloguePage.create(instance)
            writer = AccountWriter(page, CataloguePage.attach(instance), [venue])
            client = make_venue(venue, box.credentials(name))
            ctx = context(instance, state_dir)
            poller = VenuePoller(ctx, venue, client, writer)
            sweeping = asyncio.create_task(poller.run())
            reader = AccountReader(AccountPage.attach(instance), [venue], Instruments([]))
            await until(lambda: bool(reader.clocks()), "a reading of the venue's clock")

            def asked() -> int:
                rows = box.server.ledger.rows
                return len([row for row in rows if row.get("operation") == "time" and row.get("fault")])

            def swept() -> int:
                row = page.venue(venue.venue_id)
                return int(row[ACCOUNT_VENUE.sweep_end_mono_ns]) if row is not None else 0

            rule = {"kind": "delay_request", "delay_ms": 600_000.0} if silence else {"kind": "gateway_page"}
            box.fault(**rule, target="time", count=0)
            await until(lambda: asked() > 0, "a question without an answer")
            newest = swept()
            await until(lambda: swept() > newest, "the page with the last answer")
            before = reader.clocks()[name]
            for _ in range(2):
                newest = swept()
                await until(lambda: swept() > newest, "a sweep meanwhile")  # noqa: B023
            offset_ns, read_ns = reader.clocks()[name]
            assert (offset_ns, read_ns) == before and 0 < read_ns < swept()
            assert poller.failures == 0
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            again = VenuePoller(ctx, venue, client, writer)
            again._failure(1, AccountState.REFUSED, "key refused", 0.0)
            assert reader.clocks()[name] == before
            await client.close()
            page.close()
            catalogue.close()

    asyncio.run(body())
