"""The last look judges books by the gate's own rule, and what it forbids the guard has forbidden."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from pipeline.execution.plan import Plan, Rejected
from pipeline.model.enums import Refusal
from pipeline.rehearsal.entry_world import EntryWorld
from pipeline.risk.last_look import LastLook
from tests.worlds.fast_entry_world import a_world, exact
from tests.worlds.performer_world import WorldHalt

MS = 1_000_000
FOREVER_NS = 2**62


class Leg(NamedTuple):
    venue: str
    symbol: str
    instrument_id: int
    proof_mono_ns: int


def looking(world: EntryWorld) -> LastLook:
    return LastLook(world.core.context, WorldHalt(world), {row.spec.venue: row.venue_id for row in world.rows})


def legs(world: EntryWorld, proofs: tuple[int, int]) -> list[Leg]:
    pairs = zip(world.rows[:2], proofs, strict=True)
    return [Leg(row.spec.venue, row.spec.symbol, row.instrument_id, proof) for row, proof in pairs]


@pytest.fixture(scope="module")
def world() -> Iterator[EntryWorld]:
    with a_world() as made:
        yield made


@pytest.fixture(scope="module")
def look(world: EntryWorld) -> LastLook:
    """One for all configurations: a reload must reach it."""
    return looking(world)


NEAR = some.sampled_from([0, 1, 50, 99, 100, 101, 149, 150, 151, 300]).map(lambda ms: ms * MS)
AGES = some.builds(lambda age, by: max(0, age + by), NEAR, some.integers(-1, 1))


@given(ages=some.tuples(AGES, AGES), max_age_ms=some.sampled_from([1, 100, 1000]))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_books_that_the_gate_refuses_for_their_age_do_not_leave_and_no_others(
    world: EntryWorld, look: LastLook, ages: tuple[int, int], max_age_ms: int
) -> None:
    detection = msgspec.structs.replace(world.config.detection, max_age_to_trade_ms=max_age_ms)
    world.core.reconfigure(msgspec.structs.replace(world.config, detection=detection))
    world.now_ns += 1000 * MS
    world.fund_all()
    proofs = (world.now_ns - ages[0], world.now_ns - ages[1])
    world.publish(0, [(Decimal(99), Decimal(5))], [(Decimal("99.1"), Decimal(5))], recv_mono_ns=proofs[0])
    world.publish(1, [(Decimal(100), Decimal(5))], [(Decimal("100.1"), Decimal(5))], recv_mono_ns=proofs[1])
    record = world.record([(0, 1, Decimal("0.5"), Decimal("99.5")), (1, -1, Decimal("0.5"), Decimal("99.6"))])
    judged = exact(world, record)
    stop = look.entry(legs(world, proofs), world.now_ns, FOREVER_NS, first=True)
    assert isinstance(judged, Plan) is (stop is None)
    if stop is not None:
        assert isinstance(judged, Rejected)
        late = max(ages) > max_age_ms * MS
        assert judged.refusal is (Refusal.STALE_AT_EXECUTOR if late else Refusal.SKEW)
        assert stop[0] is Refusal.STALE_AT_SEND
    assert look.entry(legs(world, proofs), world.now_ns, FOREVER_NS, first=False) is None


def test_a_book_that_was_never_proved_does_not_leave(world: EntryWorld) -> None:
    stop = looking(world).entry(legs(world, (0, world.now_ns)), 50, FOREVER_NS, first=True)
    assert stop is not None and stop[0] is Refusal.STALE_AT_SEND


@pytest.mark.parametrize("first", [True, False])
def test_an_expired_order_does_not_leave(world: EntryWorld, first: bool) -> None:
    now = world.now_ns
    look, entry = looking(world), legs(world, (now, now))
    assert look.entry(entry, now, now + 1, first=first) is None
    stop = look.entry(entry, now, now, first=first)
    assert stop is not None and stop[0] is Refusal.STALE_AT_SEND
