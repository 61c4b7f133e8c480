"""Modes and leverage of a Gate.io futures account: two rows a contract never overwrite each other, and what is wrong is
set right where the venue allows it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.exchanges.gateio import account as gate
from pipeline.exchanges.gateio import account_mode, account_settings
from pipeline.exchanges.gateio.account_settings import ContractSettings
from pipeline.exchanges.gateio.rest_client import GateFuturesClient, GateSpotClient
from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.model.errors import AccountSettingsWrong, ProtocolViolation, RateLimited, VenueRejected
from pipeline.model.fixedpoint import quantize_down
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.orders import SimOrderRequest
from pipeline.sim.exchange.venue import SimVenue
from tests.worlds.exchange_world import World, world

CASES = Path(__file__).parents[3] / "cases"
MULTIPLIERS = {"BTC_USDT": Decimal("0.0001")}
VENUE, SPOT = "gateio_futures", "gateio_spot"
THREE = Decimal(3)


@pytest.mark.parametrize("name", ["D_gate_positions_dual.json", "D2_gate_positions_dual_one_leg.json"])
def test_two_rows_a_contract_are_refused_with_the_call_that_mends_it(name: str) -> None:
    payload = (CASES / name).read_bytes()
    for read in (
        lambda: gate.positions_of("v", gate.position_rows("v", payload), MULTIPLIERS, 1),
        lambda: parse_settings(payload),
    ):
        with pytest.raises(AccountSettingsWrong, match=r"dual_long, wanted single; fix: POST .*position_mode=single"):
            read()


def parse_settings(payload: bytes) -> dict[str, ContractSettings]:
    return account_settings.parse_settings("v", payload)


def test_a_push_of_two_rows_a_contract_is_refused_likewise() -> None:
    frame = gate.envelope.decode((CASES / "D3_gate_positions_push.json").read_bytes())
    with pytest.raises(ProtocolViolation, match="position_mode=single"):
        list(gate.parse_push("v", frame, MULTIPLIERS, 1))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"in_dual_mode": True}, "position_mode=single"),
        ({"position_mode": "dual_plus"}, "position_mode=single"),
        ({"margin_mode": 2}, "unified_mode"),
        ({}, ""),
        ({"position_mode": "single", "margin_mode": 0}, ""),
    ],
)
def test_an_account_is_read_in_single_classic_mode_only(changes: dict[str, Any], named: str) -> None:
    row = {"user": 1, "currency": "USDT", "total": "100", "available": "90", "position_margin": "10", **changes}
    if not named:
        assert gate.parse_futures_balance("v", json.dumps(row).encode(), 1).free == 90
        return
    with pytest.raises(AccountSettingsWrong, match=f"fix: .*{named}"):
        gate.parse_futures_balance("v", json.dumps(row).encode(), 1)


def test_a_position_row_carries_its_margin_and_no_price_that_cannot_be() -> None:
    row = {
        "contract": "BTC_USDT", "size": "-10000", "leverage": "3", "mode": "single", "entry_price": "60000",
        "mark_price": "61000", "margin": "20000", "unrealised_pnl": "-1000", "liq_price": "79542.6",
        "maintenance_rate": "0.005", "maintenance_margin": "305",
    }  # fmt: skip
    (position,) = gate.positions_of("v", gate.position_rows("v", json.dumps([row]).encode()), MULTIPLIERS, 1)
    assert (position.margin, position.unrealised_pnl, position.liquidation_price) == (20000, -1000, Decimal("79542.6"))
    assert (position.maintenance_rate, position.maintenance_margin) == (Decimal("0.005"), 305)
    (never,) = gate.positions_of(
        "v", gate.position_rows("v", json.dumps([row | {"liq_price": "99999999"}]).encode()), MULTIPLIERS, 1
    )
    assert never.liquidation_price == 0
    del row["liq_price"], row["maintenance_margin"]
    (silent,) = gate.positions_of("v", gate.position_rows("v", json.dumps([row]).encode()), MULTIPLIERS, 1)
    assert silent.liquidation_price is None and silent.maintenance_margin is None


def test_contracts_that_stand_otherwise_are_to_be_set() -> None:
    rows = [
        {"contract": "A_USDT", "leverage": "3"},
        {"contract": "B_USDT", "leverage": "10"},
        {"contract": "C_USDT", "leverage": "0", "cross_leverage_limit": "3", "lever": "3"},
        {"contract": "D_USDT", "leverage": "3", "lever": "3", "pos_margin_mode": "cross"},
    ]
    known = parse_settings(json.dumps(rows).encode())
    wanted = ["A_USDT", "B_USDT", "C_USDT", "D_USDT", "E_USDT"]
    assert account_settings.to_set(wanted, known, THREE) == wanted[1:]


@pytest.mark.parametrize("mode", ["multi_currency", "portfolio", "single_currency"])
def test_a_spot_account_in_a_unified_mode_is_refused_with_the_fixing_call(mode: str) -> None:
    async def run() -> None:
        async with world("demo") as box:
            account = next(iter(box.server.venues["gateio_spot"].accounts.values()))
            account.account_mode = mode
            client = make_venue(box.venue("gateio_spot"), box.credentials("gateio_spot"))
            try:
                with pytest.raises(
                    AccountSettingsWrong, match=rf"{mode}, wanted classic.*fix: PUT /unified/unified_mode"
                ):
                    await client.apply_account_settings(("BTC_USDT",), THREE)
                account.account_mode = "classic"
                await client.apply_account_settings(("BTC_USDT",), THREE)
                before = len(box.server.ledger.of_kind("request"))
                await client.apply_account_settings(("BTC_USDT",), THREE)
                assert len(box.server.ledger.of_kind("request")) == before, "it is asked once a minute"
            finally:
                await client.close()

    asyncio.run(run())


def test_the_mode_is_known_from_the_keys_own_details_where_the_key_may_not_ask_for_it() -> None:
    """As a key without the right "unified" has it; the details name no kind."""
    detail = '{"user_id":1,"ip_whitelist":[],"currency_pairs":[],"tier":0,"key":{"mode":%d},"copy_trading_role":0}'
    assert account_settings.parse_key_mode(VENUE, (detail % 1).encode()) == "classic"
    mode = account_settings.parse_key_mode(VENUE, (detail % 2).encode())
    with pytest.raises(AccountSettingsWrong, match=r"unified \(2\), wanted classic"):
        account_settings.check_account_mode(VENUE, mode)


# --- against the simulated exchange ---


def on_spot(body: Callable[[World, GateSpotClient, SimAccount], Awaitable[None]]) -> None:
    async def run() -> None:
        async with world("demo") as box:
            client = make_venue(box.venue(SPOT), box.credentials(SPOT))
            assert isinstance(client, GateSpotClient)
            try:
                await body(box, client, next(iter(box.server.venues[SPOT].accounts.values())))
            finally:
                await client.close()

    asyncio.run(run())


FAULTS = [{"kind": "http_error", "status": 503}, {"kind": "gateway_page", "status": 404}, {"kind": "drop_request"}]


@pytest.mark.parametrize("fault", FAULTS)
def test_where_one_path_does_not_tell_the_mode_the_other_does(
    fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_mode, "SOON_S", 240.0)
    monkeypatch.setattr(account_mode, "TIMEOUT_S", 240.0)

    async def body(box: World, client: GateSpotClient, account: SimAccount) -> None:
        box.fault(**fault, venue=SPOT, target="other", count=1)
        await client.apply_account_settings(("BTC_USDT",), THREE)
        assert client.settings_known and not client.settings_fault
        account.account_mode = "portfolio"
        box.fault(**fault, venue=SPOT, target="other", count=1)
        client._mode._due_mono_ns = 0
        with pytest.raises(AccountSettingsWrong, match="wanted classic"):
            await client.apply_account_settings(("BTC_USDT",), THREE)

    on_spot(body)


def test_a_question_about_the_mode_that_hangs_delays_no_balances(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(box: World, client: GateSpotClient, account: SimAccount) -> None:
        await client.apply_account_settings(("BTC_USDT",), THREE)
        assert client.settings_known
        monkeypatch.setattr(account_mode, "TIMEOUT_S", 100_000.0)
        monkeypatch.setattr(account_mode, "SOON_S", 0.0)
        box.fault(kind="delay_request", venue=SPOT, target="other", delay_ms=100_000_000, count=1)
        client._mode._due_mono_ns = 0
        for _ in range(3):
            await client.apply_account_settings(("BTC_USDT",), THREE)
            assert await client.balances() and client.settings_known and not client.settings_fault
        assert client._mode._asking is not None

    on_spot(body)


def test_an_answer_about_the_mode_that_comes_later_is_taken_with_later_balances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body(box: World, client: GateSpotClient, account: SimAccount) -> None:
        await client.apply_account_settings(("BTC_USDT",), THREE)
        monkeypatch.setattr(account_mode, "TIMEOUT_S", 240.0)
        monkeypatch.setattr(account_mode, "SOON_S", 0.0)
        account.account_mode = "portfolio"
        client._mode._due_mono_ns = 0
        await client.apply_account_settings(("BTC_USDT",), THREE)  # begins the question, and goes on
        assert client._mode._asking is not None
        await asyncio.wait((client._mode._asking,))
        with pytest.raises(AccountSettingsWrong, match="wanted classic"):
            await client.apply_account_settings(("BTC_USDT",), THREE)

    on_spot(body)


def test_a_mode_that_nobody_tells_costs_neither_balances_nor_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_mode, "EVERY_NS", 0)
    monkeypatch.setattr(account_mode, "AGAIN_NS", 0)
    monkeypatch.setattr(account_mode, "SOON_S", 240.0)

    async def body(box: World, client: GateSpotClient, account: SimAccount) -> None:
        async def ask(answers: bool) -> tuple[bool, bool]:
            if not answers:
                box.fault(kind="http_error", venue=SPOT, target="other", status=503, count=2)
            await client.apply_account_settings(("BTC_USDT",), THREE)
            assert await client.balances()
            return client.settings_known, bool(client.settings_fault)

        assert await ask(False) == (False, True), "never seen: unknown"
        assert await ask(True) == (True, False)
        assert await ask(False) == (True, True), "seen as classic in this life"
        assert await ask(True) == (True, False)
        account.account_mode = "portfolio"
        for answers in (True, False):
            with pytest.raises(AccountSettingsWrong, match="wanted classic"):
                await ask(answers)
        account.account_mode = "classic"
        assert await ask(True) == (True, False)

    on_spot(body)


def test_a_rate_limit_of_the_mode_question_is_obeyed() -> None:
    async def body(box: World, client: GateSpotClient, account: SimAccount) -> None:
        box.fault(kind="rate_limit", venue=SPOT, target="other", count=1)
        with pytest.raises(RateLimited):
            await client.apply_account_settings(("BTC_USDT",), THREE)

    on_spot(body)


def on_futures(body: Callable[[World, GateFuturesClient, SimVenue, SimAccount], Awaitable[None]]) -> None:
    async def run() -> None:
        async with world("demo") as box:
            venue = box.server.venues[VENUE]
            client = make_venue(box.venue(VENUE), box.credentials(VENUE))
            assert isinstance(client, GateFuturesClient)
            try:
                await body(box, client, venue, next(iter(venue.accounts.values())))
            finally:
                await client.close()

    asyncio.run(run())


def order(venue: SimVenue, side: OrderSide, away: str, tif: TimeInForce) -> SimOrderRequest:
    """0.01 coins at ``away`` times the mark price."""
    row = venue.instruments["BTC_USDT"]
    price = quantize_down(venue.mark_price(row.symbol) * Decimal(away), row.tick)
    return SimOrderRequest(
        symbol=row.symbol, side=side, kind=OrderKind.LIMIT, tif=tif, qty=Decimal("0.01"), price=price
    )


def test_risk_tiers_are_read_from_the_venue() -> None:
    async def body(box: World, client: GateFuturesClient, venue: SimVenue, account: SimAccount) -> None:
        served = venue.instruments["BTC_USDT"].tiers
        read = await client.risk_tiers("BTC_USDT")
        assert [(t.rate, t.deduction) for t in read] == [(t.maintenance_rate, t.deduction) for t in served]
        assert read and read[-1].cap == Decimal("Infinity")

    on_futures(body)


def test_leverage_is_set_once_and_again_when_somebody_changes_it() -> None:
    async def body(box: World, client: GateFuturesClient, venue: SimVenue, account: SimAccount) -> None:
        symbols = box.venue(VENUE).symbols
        for _ in range(2):
            await client.apply_account_settings(symbols, THREE)
            await client.balances()
            await client.positions()
            assert {venue.position(account, symbol).leverage for symbol in symbols} == {THREE}
            venue.set_leverage(account, symbols[0], Decimal(20), is_cross=True)
            await client.positions()
        await client.apply_account_settings(symbols, THREE)
        assert not venue.position(account, symbols[0]).is_cross

    on_futures(body)


def test_dual_mode_is_set_to_single_while_nothing_is_open_and_refused_while_something_is() -> None:
    async def body(box: World, client: GateFuturesClient, venue: SimVenue, account: SimAccount) -> None:
        account.dual_side = True
        await client.apply_account_settings(box.venue(VENUE).symbols, THREE)
        assert not account.dual_side
        await client.balances()
        venue.place(account, order(venue, OrderSide.BUY, "0.97", TimeInForce.GTC))
        account.dual_side = True
        with pytest.raises(AccountSettingsWrong, match="position_mode=single"):
            await client.balances()
        with pytest.raises(AccountSettingsWrong, match="fix: POST /futures/usdt/set_position_mode"):
            await client.apply_account_settings(box.venue(VENUE).symbols, THREE)

    on_futures(body)


def test_a_leverage_that_the_venue_does_not_take_is_refused_with_the_fixing_call() -> None:
    async def body(box: World, client: GateFuturesClient, venue: SimVenue, account: SimAccount) -> None:
        with pytest.raises(AccountSettingsWrong, match=r"leverage=1000.*detection\.hedge\.leverage"):
            await client.apply_account_settings(box.venue(VENUE).symbols, Decimal(1000))

    on_futures(body)


def test_margin_is_added_to_an_open_position_only() -> None:
    async def body(box: World, client: GateFuturesClient, venue: SimVenue, account: SimAccount) -> None:
        symbol = "BTC_USDT"
        await client.apply_account_settings(box.venue(VENUE).symbols, THREE)
        with pytest.raises(VenueRejected):
            await client.add_margin(symbol, Decimal(5))
        venue.place(account, order(venue, OrderSide.BUY, "1.02", TimeInForce.IOC))
        before = (await client.positions())[0]
        await client.add_margin(symbol, Decimal(5))
        after = (await client.positions())[0]
        assert after.margin - before.margin == 5
        assert before.liquidation_price is not None and after.liquidation_price is not None
        assert after.liquidation_price < before.liquidation_price

    on_futures(body)


def test_a_rate_limit_of_a_leverage_is_no_wrong_setting() -> None:
    async def body(box: World, client: GateFuturesClient, venue: SimVenue, account: SimAccount) -> None:
        symbols = box.venue(VENUE).symbols
        await client.apply_account_settings(symbols, THREE)
        venue.set_leverage(account, symbols[0], Decimal(20), is_cross=True)
        await client.positions()
        box.fault(kind="rate_limit", venue=VENUE, retry_after_s=1.0)
        with pytest.raises(RateLimited):
            await client.apply_account_settings(symbols, THREE)

    on_futures(body)
