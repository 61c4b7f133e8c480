"""Settled operations leave memory: nothing of them is forgotten, and nothing that is open goes."""

from __future__ import annotations

import random

import msgspec
import pytest

from pipeline.execution.ledger import Ledger
from pipeline.execution.records import FillRecord, RetiredRecord
from pipeline.execution.results.counts import counts_of
from pipeline.execution.settled import retirement
from pipeline.execution.settled.identities import CHUNK, SettledIds, identity
from pipeline.recovery.suspect_instruments import SUSPECT_NS
from tests.worlds.execution_starts import ready_world, trade
from tests.worlds.execution_world import Faults, World

S_NS = 1_000_000_000


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations leave three seconds after their last evidence."""
    monkeypatch.setattr(retirement, "RETIRE_AFTER_NS", 3 * S_NS)
    monkeypatch.setattr(retirement, "LOOK_EVERY_NS", S_NS // 10)


def replayed(world: World) -> Ledger:
    ledger = Ledger()
    for entry in world.entries:
        ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
    return ledger


def retired(world: World) -> list[str]:
    found = [e.record for e in world.entries if isinstance(e.record, RetiredRecord)]
    return [name for record in found for name in record.operation_ids]


def test_an_operation_leaves_with_its_orders_and_stays_counted(soon: None) -> None:
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(1000)
    ledger = world.core.ledger
    (name,) = ledger.operations
    before = (counts_of(ledger), ledger.accounts.per_asset(), ledger.total_pnl)
    fills = len(ledger.fills_seen)
    assert fills
    world.run(6000)
    assert retired(world) == [name]
    assert not ledger.operations and not ledger.orders and not ledger.by_order_id and not ledger.fills_seen
    assert (counts_of(ledger), ledger.accounts.per_asset(), ledger.total_pnl) == before
    assert replayed(world).digest() == ledger.digest()


def test_what_a_venue_repeats_of_a_retired_operation_changes_nothing(soon: None) -> None:
    """The model's sweeps list every order and fill that ever was."""
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(7000)
    assert retired(world)
    digest, records = world.core.ledger.digest(), len(world.entries)
    for venue in world.venues.values():
        for fill in venue.fills:
            world.feed(fill)
        for order in venue.orders.values():
            world.feed(world._ended(order))
    assert (world.core.ledger.digest(), len(world.entries)) == (digest, records)
    world.kill()
    world.run(2000)
    world.judge()
    assert not world.core.ledger.breakers


def test_a_new_fill_of_a_retired_order_stops_new_risk_and_moves_the_ledger(soon: None) -> None:
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(7000)
    assert retired(world)
    venue = world.venues["mexc_spot"]
    late = msgspec.structs.replace(venue.fills[0], trade_id="late-1", recv_mono_ns=world.now_ns)
    venue.fills.append(late)
    venue.balances["BTC"] += late.qty * int(late.side)
    venue.balances["USDT"] -= late.qty * late.price * int(late.side)
    venue.balances[late.fee_asset] -= late.fee
    world.feed(late)
    world.run(20_000)
    ledger = world.core.ledger
    assert ledger.breakers and ledger.fill_known("mexc_spot", late.symbol, "late-1")
    assert ledger.external.foreign()["BTC"] == late.qty * int(late.side) == world.core.positions.delta()["BTC"]
    for asset in ("BTC", "USDT"):
        moved = venue.balances[asset] - world.initial["mexc_spot", asset]
        assert ledger.accounts.moved("mexc_spot", asset) == moved


def test_an_order_that_an_earlier_run_sent_stays_as_long_after_its_last_evidence(soon: None) -> None:
    world = ready_world()
    world.faults = Faults(drop_stream=1.0, drop_response=1.0)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(50)
    world.kill()
    world.faults = Faults(rest_error=1.0)  # the venues are away: nothing is settled
    world.run(6000)
    assert world.core.ledger.unsettled and not retired(world)
    world.faults = Faults()
    while world.core.ledger.unsettled:
        world.run(20)
    settled_ns = world.now_ns
    while not retired(world):
        world.run(20)
    assert world.now_ns - settled_ns >= 2.5 * S_NS
    world.run(1000)
    world.judge()


def test_an_executor_that_is_restarted_again_and_again_forgets_all_the_same(soon: None) -> None:
    """Each run is shorter than what an operation stays for: on one boot of the host its age goes on."""
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(1000)
    (name,) = world.core.ledger.operations
    for _ in range(4):
        world.kill()
        world.run(1500)
    assert retired(world) == [name]
    world.judge()


def test_orders_stay_longer_than_anything_asks_for_them() -> None:
    assert retirement.RETIRE_AFTER_NS > SUSPECT_NS


def test_an_open_hedge_keeps_its_operation(soon: None) -> None:
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_futures"))
    world.run(8000)
    ledger = world.core.ledger
    assert ledger.hedges and set(ledger.hedges) <= set(ledger.operations)
    assert not set(retired(world)) & set(ledger.hedges)


@pytest.mark.parametrize("seed", range(25))
def test_storms_and_kills_with_operations_leaving_lose_and_double_nothing(seed: int, soon: None) -> None:
    rng = random.Random(seed)
    world = ready_world(seed, Faults.storm(rng) if seed % 2 else None)
    for _ in range(8):
        if seed % 3:
            world.crash_after = rng.randint(0, 25)
        trade(world, 2, rng)
        world.run(1500)
    world.calm()
    world.run(8000)
    world.judge()
    assert retired(world) and len(set(retired(world))) == len(retired(world))
    fills = [e.record for e in world.entries if isinstance(e.record, FillRecord)]
    assert len({(f.venue, f.symbol, f.trade_id) for f in fills}) == len(fills)
    assert replayed(world).digest() == world.core.ledger.digest()


def test_identities_over_several_chunks_are_a_set() -> None:
    ids, rng = SettledIds(), random.Random(1)
    known = [identity(str(number)) for number in range(2 * CHUNK + 777)]
    for one in known:
        ids.add(one)
    assert len(ids) == len(known) and len(ids.full) == 2
    assert all(one in ids for one in rng.sample(known, 3000))
    assert not any(identity(f"other {number}") in ids for number in range(3000))


@pytest.mark.parametrize("seed", range(3))
def test_identities_that_share_a_half_are_told_apart(seed: int) -> None:
    rng = random.Random(seed)
    halves = [rng.randbytes(8) for _ in range(300)]
    known = {rng.choice(halves) + rng.choice(halves) for _ in range(40_000)}
    while len(known) < CHUNK:
        known.add(rng.randbytes(16))
    ids = SettledIds()
    for one in known:
        ids.add(one)
    assert len(ids.full) == 1 and len(ids) == CHUNK
    for first in halves:
        for second in halves[::10]:
            assert (first + second in ids) == (first + second in known)
