"""Futures wallets against the ledger: what stands in entry prices is counted out where it explains a difference."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.execution.events import Command, CommandKind
from pipeline.execution.external_records import ExternalFlowRecord
from pipeline.model.structs import ZERO, Balance, InstrumentSpec, Position
from pipeline.recovery.account import READINGS
from pipeline.recovery.wallets import WALLET_TOLERANCE
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import (
    CONTRACT,
    FUTURES,
    HEDGE_QTY,
    MID,
    account_of,
    external_world,
    hedge,
    judge,
    moved_unlisted,
    records,
)

D = Decimal


@dataclass(slots=True)
class Readings:
    """A world with an open hedge whose venue's answers are made up: each is one reading."""

    world: VirtualWorld
    entry_off: Decimal = ZERO  # how far the venue's entry price is from the ledger's

    def read(self, asset: str, off: Decimal, *, unreadable: bool = False) -> str:
        """Reads a wallet that is ``off`` the ledger as often as a booking needs; why nothing is entered there."""
        core = self.world.core
        own = core.ledger.accounts.futures[FUTURES, CONTRACT]
        expected = core.ledger.expected_balance(FUTURES, asset)
        assert expected is not None
        for _ in range(READINGS):
            self.world.run(1)
            now_ns = self.world.now().mono_ns
            wallet = Balance(
                venue=FUTURES, asset=asset, free=expected + off, locked=D(0), recv_mono_ns=now_ns, source="rest"
            )
            price = own.entry_price + self.entry_off
            held = Position(
                venue=FUTURES, symbol=CONTRACT, qty=own.qty, entry_price=price, mark_price=MID, recv_mono_ns=now_ns
            )
            key = (FUTURES, CONTRACT)
            core.recovery.account.on_account(
                [wallet], [] if unreadable else [held], {FUTURES: now_ns}, [key] if unreadable else []
            )
        return core.recovery.account.doubtful(self.spec(asset))

    def spec(self, asset: str = "USDT") -> InstrumentSpec:
        """A contract that is settled in ``asset``, and of which nothing else is known."""
        row = self.world.core.context.instruments.find(FUTURES, CONTRACT)
        assert row is not None
        return msgspec.structs.replace(row.spec, quote=asset, symbol="any")


@pytest.fixture
def readings() -> Readings:
    world = external_world()
    hedge(world)
    return Readings(world)


def test_what_a_venue_realised_in_another_order_is_no_difference(readings: Readings) -> None:
    readings.entry_off = D(1000)
    assert readings.read("USDT", -HEDGE_QTY * 1000) == ""
    assert "account and ledger differ" in readings.read("USDT", D(-100))


def test_an_entry_price_of_another_cause_makes_no_difference_of_a_wallet_that_agrees(readings: Readings) -> None:
    readings.entry_off = D(1000)
    assert readings.read("USDT", D("0.000001")) == ""


def test_contracts_of_another_quote_explain_nothing_of_a_wallet(readings: Readings) -> None:
    readings.entry_off = D(1000)
    readings.world.core.ledger.baseline[FUTURES, "USDC"] = (D(500), D(0))
    assert readings.read("USDC", D("0.000001")) == ""
    assert "account and ledger differ" in readings.read("USDC", -HEDGE_QTY * 1000)


def test_what_cannot_be_read_of_a_position_is_taken_from_its_last_row(readings: Readings) -> None:
    readings.entry_off = D(1000)
    off = -HEDGE_QTY * 1000
    assert readings.read("USDT", off) == ""
    assert readings.read("USDT", off, unreadable=True) == ""
    assert readings.read("USDT", off) == ""


def test_money_that_goes_while_a_position_cannot_be_read_stops_entries_unbooked(readings: Readings) -> None:
    readings.entry_off = D(1000)
    off = -HEDGE_QTY * 1000
    assert readings.read("USDT", off) == ""
    for _ in range(3):
        assert "account and ledger differ" in readings.read("USDT", off - 200, unreadable=True)
        readings.world.run(1000)
    assert amounts(readings.world) == []
    world = readings.world
    assert world.run_until(lambda: not world.core.recovery.account.doubtful(readings.spec()), limit_ms=20_000)


def test_money_that_a_list_explains_is_booked_while_a_position_cannot_be_read() -> None:
    world = external_world()
    hedge(world)
    account = world.core.recovery.account
    poll, known = account.on_account, world.core.ledger.expected_balance(FUTURES, "USDT")
    assert known is not None

    def lacking(balances: Any, positions: Any, confirmed: Any, _: Any = ()) -> None:
        poll(balances, [row for row in positions if row.symbol != CONTRACT], confirmed, [(FUTURES, CONTRACT)])

    account.on_account = lacking  # type: ignore[method-assign]
    world.arm(kind="deposit", venue=FUTURES, asset="USDT", amount=500)
    world.run(10_000)
    assert amounts(world) == [D(500)] and world.core.ledger.expected_balance(FUTURES, "USDT") == known + 500


# --- another order of the same executions ---


def seen_in_another_order(world: VirtualWorld, amount: Decimal, *, realised: bool = True) -> None:
    """The venue has realised ``amount`` of the hedge's contract already, and leaves it open at another entry price; or
    its entry price differs without that."""
    account, settlement = account_of(world, FUTURES), world.venues[FUTURES].settlement
    position = next(row for row in account.positions.values() if row.symbol == CONTRACT)
    position.cost += amount
    if realised:
        user = f"user:{account.uid}"
        settlement._apply(account, "pnl", "", [(user, "USDT", amount), ("market", "USDT", -amount)])
        settlement._balance(account, "USDT", amount, ZERO, "pnl", CONTRACT, 0)


def amounts(world: VirtualWorld) -> list[Decimal]:
    return [row.amount for row in records(world, ExternalFlowRecord)]


@pytest.mark.parametrize("money", [500, -500])
@pytest.mark.parametrize("other", ["-29.9", "29.9"])
def test_money_that_comes_or_goes_beside_another_order_is_booked_alone(money: int, other: str) -> None:
    world = external_world()
    hedge(world)
    seen_in_another_order(world, D(other))
    world.run(5000)
    assert amounts(world) == []
    world.arm(kind="deposit" if money > 0 else "withdraw", venue=FUTURES, asset="USDT", amount=abs(money))
    world.run(15_000)
    assert amounts(world) == [D(money)]
    tripped = world.core.ledger.breakers.get(f"venue.{FUTURES}", "")
    assert tripped == ("" if money > 0 else f"transfer: USDT {money}"), "a withdrawal trips it, and nothing else does"
    world.feed(Command(CommandKind.CLOSE_HEDGES, reason="test"))
    assert world.run_until(lambda: not world.core.ledger.hedges, limit_ms=10_000)
    world.run(15_000)
    assert amounts(world) == [D(money)]
    judge(world)


@pytest.mark.parametrize("realised", [True, False])
def test_money_that_no_list_shows_is_told_by_the_view_that_agreed_last(realised: bool) -> None:
    world = external_world()
    hedge(world)
    seen_in_another_order(world, D("-29.9"), realised=realised)
    world.run(5000)
    moved_unlisted(world, "deposit", FUTURES, "USDT", 500)
    world.run(60_000)
    (booked,) = amounts(world)
    assert abs(booked - 500) <= WALLET_TOLERANCE


def test_a_run_that_begins_beside_moved_money_finds_the_view_by_its_row() -> None:
    """Nothing has agreed in this run yet: what the venue lists says which of the two it is."""
    for realised in (True, False):
        world = external_world()
        hedge(world)
        seen_in_another_order(world, D("-29.9"), realised=realised)
        world.run(5000)
        world.arm(kind="deposit", venue=FUTURES, asset="USDT", amount=500)
        world.kill()
        world.run(15_000)
        assert amounts(world) == [D(500)]
