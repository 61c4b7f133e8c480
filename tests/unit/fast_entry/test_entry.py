"""The fast path of an entry says yes only where the exact one does, with the same plan, records and orders."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.execution.events import CatalogueChanged, Command, CommandKind, Entered
from pipeline.execution.journal import read_journal
from pipeline.execution.ledger import Ledger
from pipeline.execution.plan import Plan, Rejected
from pipeline.execution.records import OperationRecord, OrderIntentRecord
from pipeline.fast_entry.limits_table import LimitsTable
from pipeline.model.enums import (
    FeeAssetRule,
    OpportunityType,
    Refusal,
    TradingStatus,
)
from pipeline.model.venue_events import SessionState
from pipeline.rehearsal.entry_world import LEASE_TOKEN, EntryWorld, Level, engine_config, with_crc
from pipeline.rehearsal.instruments import spec
from shm.layout import FLAG_GAP, HEADER, LEG, OPPORTUNITY
from shm.layout_pages import HALT
from tests.worlds.execution_world import Faults, World, make_config
from tests.worlds.fast_entry_world import FastEntryWorld, a_world, exact, levels, opened, ordinary, written

ROOM = 1e-5  # bps, and relative: nearer than this to a bound the fast path may leave it to the exact one
MANY = settings(max_examples=250, deadline=None)


def same_plan(entered: Entered, plan: Plan, world: EntryWorld) -> None:
    """Every number that the exact path would have written."""
    operation = entered.operation
    assert operation.notional_usd == plan.notional_usd
    assert operation.type is plan.type and operation.pair == plan.pair
    assert operation.edge_send_bps == pytest.approx(plan.edge_send_bps, abs=1e-7)
    assert operation.legs == tuple(leg.leg_plan() for leg in plan.legs)
    for intent, leg in zip(entered.intents, plan.legs, strict=True):
        assert (intent.reserve_asset, intent.reserve_amount) == (leg.reserve_asset, leg.reserve_amount)
        assert (intent.qty, intent.price, intent.side) == (leg.qty, leg.limit, leg.side)
        assert intent.multiplier == leg.row.spec.multiplier and not intent.reduce_only
        assert intent.expiry_wall_ms == world.now().wall_ms + world.config.execution.entry_window_ms


def near_a_bound(world: EntryWorld, plan: Plan) -> bool:
    """Whether a comparison of the exact path was as good as equal."""
    limits, balances, now_ns = world.config.risk_limits, world.core.balances, world.now_ns
    pairs = [(plan.notional_usd, limits.max_position_size_usd), (plan.notional_usd, limits.max_total_exposure_usd)]
    for leg in plan.legs:
        pairs.append((leg.qty * min(leg.limit, leg.best), leg.row.spec.min_notional))
        pairs.append((leg.qty * leg.limit, leg.row.spec.min_notional))
        pairs.append((leg.reserve_amount, balances.usable(leg.row.spec.venue, leg.reserve_asset)))
    assert all(balances.proved(venue, asset, now_ns) for venue, asset, _ in plan.needs())
    near = any(abs(float(a) - float(b)) <= ROOM * max(float(b), 1e-9) for a, b in pairs)
    sizes = [float(leg.qty * leg.limit) for leg in plan.legs]
    alike = abs(sizes[0] - sizes[1]) <= 1e-8 * max(sizes)
    return near or alike or abs(plan.edge_send_bps - float(world.config.execute_edge_bps)) < ROOM


STEPS = some.sampled_from(["0.01", "0.01", "0.02", "0.025", "0.1"])
LOTS = some.sampled_from(["0.0001", "0.001", "0.0003", "0.01", "0.1"])
AMOUNTS = some.decimals(Decimal("0.3"), Decimal(12), places=4)
ONCE_IN_A_WHILE = some.integers(0, 11).map(lambda number: number == 0)


@some.composite
def books(draw: Any, middle: Decimal) -> tuple[list[Level], list[Level]]:
    spread = draw(some.decimals(Decimal("0.01"), Decimal("0.4"), places=2))
    bid = middle - spread
    ask = middle + spread
    steps = [draw(some.decimals(Decimal("0.01"), Decimal("0.3"), places=2)) for _ in range(6)]
    count = [0 if draw(ONCE_IN_A_WHILE) else draw(some.integers(1, 3)) for _ in range(2)]
    bids = [(bid - sum(steps[:k], Decimal(0)), draw(AMOUNTS)) for k in range(count[0])]
    asks = [(ask + sum(steps[3 : 3 + k], Decimal(0)), draw(AMOUNTS)) for k in range(count[1])]
    return bids, asks


@some.composite
def venue_spec(draw: Any, venue: str) -> Any:
    lot = draw(LOTS)
    return spec(
        venue,
        tick=Decimal(draw(STEPS)),
        lot=Decimal(lot),
        min_qty=Decimal(draw(some.sampled_from(["0", lot, "0.05"]))),
        max_qty=Decimal(draw(some.sampled_from(["0", "0", "3"]))),
        min_notional=Decimal(draw(some.sampled_from(["0", "5", "50"]))),
        taker_fee_ppm=draw(some.sampled_from([0, 100, 333, 1000])),
        fee_rule=draw(some.sampled_from(list(FeeAssetRule))),
        multiplier=Decimal(draw(some.sampled_from(["1", "0.0001"]))),
        funding_rate_ppb=draw(some.sampled_from([0, 100_000, -50_000])),
        funding_interval_s=draw(some.sampled_from([0, 28_800])),
        status=TradingStatus.BUY_ONLY if draw(ONCE_IN_A_WHILE) else TradingStatus.TRADING,
    )


@pytest.mark.slow
@MANY
@given(data=some.data())
def test_a_yes_is_the_exact_yes_and_a_no_is_no_common_case(data: Any) -> None:
    draw = data.draw
    config = engine_config(
        limits={
            "max_position_size_usd": Decimal(draw(some.sampled_from([10000, 10000, 300]))),
            "max_total_exposure_usd": Decimal(draw(some.sampled_from([50000, 50000, 200]))),
            "max_slippage_bps": Decimal(draw(some.sampled_from(["200", "50", "7.5"]))),
        }
    )
    specs = [draw(venue_spec(venue.name)) for venue in config.venues]
    with a_world(config=config, specs=specs) as world:
        assert world.core.ready
        world.fund_all(Decimal(draw(some.sampled_from(["1000000", "1000000", "500", "3"]))))
        first, second = draw(some.permutations([0, 1, 2]))[:2]
        side = draw(some.sampled_from([1, -1]))
        for number in range(3):
            dear = side if number == second else -side
            middle = 100 + dear * Decimal(draw(some.integers(-20, 150))) / 100
            bids, asks = draw(books(middle))
            world.publish(number, bids, asks, flags=FLAG_GAP if draw(ONCE_IN_A_WHILE) else 0)
        kinds = {world.rows[i].spec.kind for i in (first, second)}
        hedge = len(kinds) == 2
        limits = [100 + draw(some.decimals(Decimal(-1), Decimal(5), places=2)) for _ in range(2)]
        limits[1] = 200 - limits[1]
        quantities = [draw(AMOUNTS)] * 2 if draw(some.booleans()) else [draw(AMOUNTS), draw(AMOUNTS)]
        legs = [
            (first, side, quantities[0], limits[0 if side > 0 else 1]),
            (second, -side, quantities[1], limits[1 if side > 0 else 0]),
        ]
        kind = OpportunityType.SPOT_FUTURES_HEDGE if hedge else OpportunityType.SPOT_SPOT
        record = world.record(legs, kind)
        yes = world.fast_entry.offer(record, world.halt, world.now())
        entered = written(world) if yes else None
        judged = exact(world, record)
        if entered is not None:
            assert isinstance(judged, Plan), f"the exact path says {judged}"
            same_plan(entered, judged, world)
        elif isinstance(judged, Plan):
            assert near_a_bound(world, judged), f"no {world.fast_entry.last_no} to {judged}"


def test_the_ordinary_opportunity_goes_the_fast_path_and_its_journal_is_whole() -> None:
    with a_world() as world:
        opened(world)
        record = ordinary(world)
        assert world.fast_entry.offer(record, world.halt, world.now())
        entered = written(world)
        judged = exact(world, record)
        assert isinstance(judged, Plan)
        same_plan(entered, judged, world)
        world.feed(entered)
        assert world.core.ledger.open_operations
        ledger = Ledger()
        kinds = []
        for entry in read_journal(world.journal.directory):  # chain and checksums of every record are compared here
            kinds.append(type(entry.record))
            ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
        assert kinds.count(OperationRecord) == 1 and kinds.count(OrderIntentRecord) == 2
        ledger.baseline.clear()  # as the world does with its core's
        assert ledger.digest() == world.core.ledger.digest()


def refuse_by(world: EntryWorld, reason: str) -> Any:
    """The ordinary opportunity with one thing wrong; its record."""
    record = ordinary(world)
    second = OPPORTUNITY.legs + LEG.WORDS
    if reason == "latch":
        world.halt[HALT.latch] = 1
    elif reason == "lease over":
        world.halt[HALT.lease_expiry_mono_ns] = world.now_ns
    elif reason == "lease of another":
        world.halt[HALT.lease_token] = 99
    elif reason == "venue blocked":
        world.halt[HALT.venue_blocked + 1] = 1
    elif reason == "instrument blocked":
        world.halt[HALT.instrument_blocked + 0] = 1
    elif reason == "checksum":
        record[OPPORTUNITY.profit_quote] ^= 1
    elif reason == "session down":
        world.feed(SessionState(venue="gateio_spot", state="down", recv_mono_ns=world.now_ns, reason="test"))
    elif reason == "breaker":
        world.core.risk.force_emergency_shutdown("test")
        world.core.update_limits_table()
    elif reason == "stopping":
        world.feed(Command(CommandKind.STOP))
    elif reason == "user":
        world.core.risk.gate.user_check = lambda _plan: "no"
        world.core.update_limits_table()
    elif reason == "budget":
        world.core.risk.gate.order_budget = lambda venue, _count: venue != "mexc_spot"
    elif reason == "own fill":
        world.core.risk.gate.note_fill("mexc_spot", "BTCUSDT", world.now_ns, 0)
        world.core.update_limits_table()
    elif reason == "book of a dead feed":
        world.words[HEADER.epoch] = 2
    elif reason == "old book":
        world.now_ns += 101_000_000
        record = ordinary(world)
    elif reason == "another row epoch":
        world.now_ns += 90_000_000
        world.publish(0, levels("98.99", "-0.01", "5"), levels("99.10", "0.05", "3"), recv_mono_ns=world.now_ns)
        record = ordinary(world)
        record[second + LEG.row_epoch] += 1
    elif reason == "unconfirmed balance":
        world.now_ns += 1_500_000_000
        opened_books(world)
        record = ordinary(world)
    elif reason == "detected too long ago":
        record[OPPORTUNITY.detect_mono_ns] -= 101_000_000
    elif reason == "detected in the future":
        record[OPPORTUNITY.detect_mono_ns] += 1
    elif reason == "no number":
        record[OPPORTUNITY.edge_bps : OPPORTUNITY.edge_bps + 1].view(np.float64)[0] = float("nan")
    elif reason == "unknown instrument":
        record[second + LEG.instrument] = 3
    elif reason == "negative instrument":
        record[second + LEG.instrument] = -1
    elif reason == "one instrument twice":
        record[second + LEG.instrument] = 0
    elif reason == "two buys":
        record[second + LEG.side] = 1
    elif reason == "side":
        record[OPPORTUNITY.legs + LEG.side], record[second + LEG.side] = 2, -2
    elif reason == "huge quantity":
        record[OPPORTUNITY.legs + LEG.qty_fp] = 2**62
    elif reason == "no quantity":
        record[OPPORTUNITY.legs + LEG.qty_fp] = 0
    elif reason == "price":
        record[OPPORTUNITY.legs + LEG.limit_price_fp] = -1
    elif reason == "legs":
        record[OPPORTUNITY.leg_count] = 3
    elif reason == "type":
        record[OPPORTUNITY.type] = 9
    return record if reason == "checksum" else with_crc(record)


def opened_books(world: EntryWorld) -> None:
    world.publish(0, levels("98.99", "-0.01", "5"), levels("99.10", "0.05", "3"))
    world.publish(1, levels("100.00", "-0.05", "4"), levels("100.10", "0.05", "5"))


REASONS = {
    "latch": Refusal.HALT_LATCH,
    "lease over": Refusal.LEASE,
    "lease of another": Refusal.LEASE,
    "venue blocked": Refusal.VENUE_BLOCKED,
    "instrument blocked": Refusal.INSTRUMENT_BLOCKED,
    "checksum": Refusal.MALFORMED,
    "session down": Refusal.SESSION_DOWN,
    "breaker": Refusal.BREAKER,
    "stopping": Refusal.NOT_READY,
    "user": Refusal.BREAKER,
    "budget": Refusal.ORDER_RATE,
    "own fill": Refusal.NOT_AFTER_OWN_FILL,
    "book of a dead feed": Refusal.STALE_AT_EXECUTOR,
    "old book": Refusal.STALE_AT_EXECUTOR,
    "another row epoch": Refusal.HALTED,
    "unconfirmed balance": Refusal.BALANCE_UNPROVED,
    "detected too long ago": Refusal.STALE_AT_EXECUTOR,
    "detected in the future": Refusal.STALE_AT_EXECUTOR,
    **dict.fromkeys(
        (
            "no number",
            "unknown instrument",
            "negative instrument",
            "one instrument twice",
            "two buys",
            "side",
            "huge quantity",
            "no quantity",
            "price",
            "legs",
            "type",
        ),
        Refusal.MALFORMED,
    ),
}


@pytest.mark.parametrize("reason", REASONS)
def test_whatever_stands_in_the_way_is_named_by_the_exact_path(reason: str) -> None:
    with a_world() as world:
        opened(world)
        record = refuse_by(world, reason)
        assert not world.fast_entry.offer(record, world.halt, world.now())
        judged = exact(world, record)
        assert isinstance(judged, Rejected) and judged.refusal is REASONS[reason], judged


# --- the limits table ---


def fresh(limits_table: LimitsTable, world: EntryWorld | World) -> tuple[list[int], list[float]]:
    """A limits table that is made now."""
    core = world.core
    other = LimitsTable(
        core.context, core.risk.gate, core.balances, core.rates, lease_token=LEASE_TOKEN, feeds=list(world.offsets)
    )
    other.orderable = limits_table.orderable
    other.rows_changed()
    return other.ints.tolist(), other.floats.tolist()


@pytest.mark.parametrize("seed", range(24))
def test_storms_on_the_fast_path_end_flat_and_the_limits_table_is_always_the_ledgers(seed: int) -> None:
    rng = random.Random(seed)
    world = FastEntryWorld(seed)
    world.run(100)
    assert world.core.ready
    if seed % 3:
        world.faults = Faults.storm(rng)
    for _ in range(12):
        buy, sell = rng.sample(list(world.venues), 2)
        qty = Decimal(rng.randint(10, 150)) / 100
        if seed % 4 == 1 and rng.random() < 0.5:
            world.crash_after = rng.randint(0, 14)
        world.feed_safely(world.offer(buy, sell, qty))
        world.run(rng.choice([3, 30, 300, 900]))
        limits_table = world.fast_entry.limits_table
        world.core.update_limits_table()
        said = (limits_table.ints.tolist(), limits_table.floats.tolist())
        assert said == fresh(limits_table, world)
    world.calm()
    world.judge()
    if not seed % 3:
        operations = world.core.ledger.operations.values()
        netted = sum(1 for o in operations if o.record.closes and o.record.opportunity_id)  # the core's, by rule
        assert world.taken + netted >= 5, "without faults nearly every opportunity goes the fast path"


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_hedges_of_one_coin_stack_up_to_the_position_limit_and_no_further(seed: int, fast: bool) -> None:
    """Both ways of hedging share the contract's venue. The world checks every send against its own sum."""
    limit = Decimal(350)
    config = make_config(limits={"max_position_size_usd": limit})
    world = FastEntryWorld(seed, config=config) if fast else World(seed, config=config)
    world.run(100)
    if seed % 2:
        world.faults = Faults(drop_response=0.2, drop_stream=0.2, partial=0.2, late=0.2)
    for number in range(10):
        spot = ("mexc_spot", "gateio_spot")[number % 2]
        world.feed(world.offer(spot, "gateio_futures", Decimal("0.6")))
        world.run(600)
        for venue in world.venues:
            assert world.position_usd(venue) <= limit
    if not seed % 2:
        assert Refusal.POSITION_LIMIT in world.refusals
        assert world.position_usd("gateio_futures") > limit - 70, "the next hedge would have been too much"
        assert not isinstance(world, FastEntryWorld) or world.taken >= 5
    world.calm()
    world.judge()


@pytest.mark.parametrize("crash_after", range(14))
def test_a_death_at_any_action_of_a_fast_entry_is_recovered(crash_after: int) -> None:
    """Between two records, before and between the orders' bytes, before the core hears of it."""
    world = FastEntryWorld(3)
    world.run(100)
    world.crash_after = crash_after
    world.feed_safely(world.offer("mexc_spot", "gateio_spot"))
    assert world.taken == 1
    world.calm()
    world.judge()


def test_an_entry_that_python_refuses_leaves_nothing_reserved() -> None:
    with a_world() as world:
        opened(world)
        limits_table = world.fast_entry.limits_table
        before = (limits_table.ints.tolist(), limits_table.floats.tolist())
        world.core.risk.gate.order_budget = lambda _venue, _count: False
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())
        assert (limits_table.ints.tolist(), limits_table.floats.tolist()) == before


def test_what_the_verdict_approved_is_reserved_before_anything_else() -> None:
    """The same opportunity again, and one on the same instruments: no, before the core has heard of the first."""
    with a_world() as world:
        opened(world)
        record = ordinary(world)
        assert world.fast_entry.offer(record, world.halt, world.now())
        assert not world.fast_entry.offer(record, world.halt, world.now())
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())


def test_a_changed_row_of_the_catalogue_is_obeyed() -> None:
    with a_world() as world:
        opened(world)
        row = world.rows[0]
        halted = msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, status=TradingStatus.HALTED))
        world.feed(CatalogueChanged((halted,)))
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())
        finer = msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, tick=Decimal("0.001")))
        world.feed(CatalogueChanged((finer,)))
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())
        judged = exact(world, ordinary(world))
        assert isinstance(judged, Rejected | Plan)


def test_other_limits_are_obeyed_from_the_next_opportunity_on() -> None:
    with a_world() as world:
        opened(world)
        limits = msgspec.structs.replace(world.config.risk_limits, max_position_size_usd=Decimal(40))
        world.core.reconfigure(msgspec.structs.replace(world.config, risk_limits=limits))
        record = ordinary(world)
        assert not world.fast_entry.offer(record, world.halt, world.now())
        judged = exact(world, record)
        assert isinstance(judged, Rejected) and judged.refusal is Refusal.POSITION_LIMIT
        world.core.reconfigure(world.config)
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())
