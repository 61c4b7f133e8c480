"""What moves an account between the reading of its first balances and the moment when they are taken into the ledger:
positions and forced closes are asked for in between, and again where a venue does not answer."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipeline.execution.events import MoneyAnswer, SweepAnswer
from pipeline.execution.external_records import ExternalFlowRecord
from pipeline.execution.records import FundingRecord
from pipeline.model.structs import Funding, MoneyMove
from pipeline.model.venue_events import FundingNotice, MoneyNotice
from tests.worlds.execution_world import World

D = Decimal
VENUE = "gateio_futures"
HELD_MS = 2900  # so long the first sweep's answer is under way


class SlowFirstSweep(World):
    """The answer to the futures venue's first sweep comes late; ``asked_ms``: wall time of its reading."""

    asked_ms = 0

    def feed(self, event: Any) -> None:
        if isinstance(event, SweepAnswer) and event.venue == VENUE and not self.asked_ms:
            self.asked_ms = event.began_wall_ms
            self._later(HELD_MS, lambda: self.feed(event))
        else:
            super().feed(event)


def read_world() -> SlowFirstSweep:
    """The balances are read, and not taken yet."""
    world = SlowFirstSweep(1)
    while not world.asked_ms:
        world.run(1)
    world.run(10)
    assert VENUE not in world.core.ledger.based_wall_ms
    return world


def moved(world: World, amount: Decimal, reason: str, heard_ns: int) -> None:
    """Money moves, the stream says so."""
    world.venues[VENUE].balances["USDT"] += amount
    world.feed(MoneyNotice(venue=VENUE, asset="USDT", amount=amount, reason=reason, recv_mono_ns=heard_ns))


def flows(world: World) -> list[tuple[Decimal, str, str]]:
    found = [entry.record for entry in world.entries if isinstance(entry.record, ExternalFlowRecord)]
    return [(record.amount, record.cause, record.witness) for record in found]


@pytest.mark.parametrize(("amount", "reason"), [(D(700), "deposit"), (D(-700), "withdraw")])
def test_money_that_the_reading_of_first_balances_lacks_is_what_its_notice_says(amount: Decimal, reason: str) -> None:
    world = read_world()
    moved(world, amount, reason, world.now_ns)
    world.run(HELD_MS + 5000)
    assert flows(world) == [(amount, "deposit" if amount > 0 else "withdrawal", "push")]
    assert world.core.ledger.based_wall_ms[VENUE] == world.asked_ms
    assert not world.core.recovery.account.doubts


def test_money_that_the_venue_lists_as_of_before_they_were_taken_is_found_in_its_list() -> None:
    world = read_world()
    world.venues[VENUE].balances["USDT"] += 700
    row = MoneyMove(
        venue=VENUE,
        asset="USDT",
        amount=D(700),
        reason="transfer",
        listed_in="account_book",
        event_id="17",
        venue_wall_ms=world.now().wall_ms,
    )
    world.run(HELD_MS + 500)
    world.feed(MoneyAnswer(VENUE, (row,)))
    world.run(5000)
    assert flows(world) == [(D(700), "transfer", "account_book 17")]


def test_a_notice_from_before_the_reading_is_in_the_first_balances() -> None:
    world = SlowFirstSweep(1)
    moved(world, D(700), "deposit", world.now_ns)
    while not world.asked_ms:
        world.run(1)
    world.run(HELD_MS + 5000)
    assert not flows(world) and not world.core.recovery.account.doubts


@pytest.mark.parametrize("later", [True, False])
def test_funding_is_ours_where_the_stream_told_of_it_after_the_reading(later: bool) -> None:
    """The venue lists it by the whole second, which is before the reading."""
    world = read_world() if later else SlowFirstSweep(1)
    heard_ns = world.now_ns
    paid_ms = world.now().wall_ms // 1000 * 1000
    row = Funding(venue=VENUE, symbol="BTCUSDT", event_id="1", asset="USDT", amount=D("-1.25"), venue_wall_ms=paid_ms)
    world.venues[VENUE].balances["USDT"] += row.amount
    world.venues[VENUE].funding.append(row)
    world.feed(FundingNotice(venue=VENUE, symbol="BTCUSDT", venue_wall_ms=paid_ms, recv_mono_ns=heard_ns))
    while not world.asked_ms:
        world.run(1)
    assert world.asked_ms > paid_ms
    world.run(HELD_MS + 5000)
    booked = [entry.record.amount for entry in world.entries if isinstance(entry.record, FundingRecord)]
    assert booked == ([row.amount] if later else []) and not flows(world)
    assert not world.core.funding.pending
    assert world.core.ledger.expected_balance(VENUE, "USDT") == world.venues[VENUE].balances["USDT"]
