"""Attacks on what a restart, a clock, a stub quote or a phantom price may cost: each of these once lost money."""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec
import pytest

from pipeline.core import ExecutionCore
from pipeline.exchanges.base import SessionState
from pipeline.exchanges.transport import rest
from pipeline.execution.events import CatalogueChanged, Command, CommandKind, Now, SweepVenue
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import OperationResultRecord, Outcome, Purpose
from pipeline.fast_entry.memory import LIMITS, ROW
from pipeline.model.enums import OrderState, Refusal
from pipeline.model.units import NS_PER_DAY
from tests.worlds.execution_starts import half_filled, ready_world
from tests.worlds.execution_world import MS, Faults, World
from tests.worlds.fast_entry_world import FastEntryWorld


def test_after_a_restart_a_book_from_before_our_own_fill_is_not_traded_on() -> None:
    world = ready_world(1)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(100)
    gate = world.core.risk.gate
    before = {row.instrument_id: gate.last_fill(row.spec.venue, row.spec.symbol)[0] for row in world.rows}
    assert sum(1 for ns in before.values() if ns) == 2
    world.kill()
    gate = world.core.risk.gate
    assert {row.instrument_id: gate.last_fill(row.spec.venue, row.spec.symbol)[0] for row in world.rows} == before


def test_a_restart_does_not_open_a_new_second_of_orders() -> None:
    world = ready_world(1)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(20)
    world.kill()
    assert world.core.risk.gate.sends.last_second(world.now_ns) == 2
    assert world.core.risk.gate.sends.last_second(world.now_ns, "mexc_spot") == 1


def lost(world: World, wall_ns: int, amount: str) -> None:
    """A result that lost ``amount``, at a wall time."""
    record = next(e.record for e in world.entries if isinstance(e.record, OperationResultRecord))
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    fields["pnl_numeraire"] = Decimal(amount)
    world.core.ledger.apply(OperationResultRecord(**fields), world.now_ns, wall_ns)


def test_a_wall_clock_that_steps_does_not_forget_the_days_loss() -> None:
    world = ready_world(1)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(100)
    ledger = world.core.ledger
    today = world.now().wall_ns
    lost(world, today, "-6000")
    loss = ledger.day_pnl
    lost(world, today - NS_PER_DAY, "-6000")  # the clock went back a day, and a result is booked again
    assert ledger.day == today // NS_PER_DAY
    assert ledger.day_pnl == loss
    world.feed(world.offer("gateio_spot", "mexc_spot"))
    assert world.refusals[-1] is Refusal.DAILY_LOSS


@pytest.mark.parametrize("hours", [1, -1])
def test_a_wall_clock_that_jumps_proves_nothing_and_stops_nothing(hours: int) -> None:
    """Our wall clock alone jumps while an order is UNKNOWN: its time is measured on the monotonic one."""
    world = ready_world(3)
    world.faults = Faults(drop_request=1.0)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(300)
    unknown = list(world.core.ledger.unsettled)
    step_ns, honest = hours * 3_600_000 * MS, world.now
    world.now = lambda: Now(honest().mono_ns, honest().wall_ns + step_ns)  # type: ignore[method-assign]
    world.faults = Faults()
    world.run(900)  # of 1.5 s: the orders' window and the grace
    assert unknown and list(world.core.ledger.unsettled) == unknown, "nothing is proved early"
    world.run(2000)
    assert {world.core.ledger.orders[name].state for name in unknown} == {OrderState.EXPIRED}
    before = len(world.core.ledger.orders)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(1000)
    assert len(world.core.ledger.orders) > before and not world.core.ledger.unsettled, "it trades on"


def test_the_venues_clock_does_not_follow_steps_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, mono = [1_700_000_000_000], [5_000 * 1_000_000]
    monkeypatch.setattr(rest, "wall_ms", lambda: wall[0])
    monkeypatch.setattr(rest, "mono_ns", lambda: mono[0])
    clock = rest.ServerClock()
    assert clock.now_ms() == wall[0]
    clock.learn(1_700_000_000_500, 0)
    wall[0] += 3_600_000
    mono[0] += 1_000_000_000
    assert clock.now_ms() == 1_700_000_001_500
    assert clock.to_venue_ms(wall[0] + 5000) == 1_700_000_006_500, "five seconds from now stay five seconds from now"


def test_an_order_of_a_host_that_died_is_not_proved_empty_before_its_time() -> None:
    """Monotonic clocks of two boots have nothing in common: an old stamp may look long past."""
    world = ready_world(3)
    world.faults = Faults(drop_request=1.0)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.life += 1  # the host dies, and its successor has been up for longer than the stamp says
    world.now_ns += 60_000 * MS
    world.faults = Faults()
    world.host_boot = "second"
    world.kill()
    world.run(1000)
    assert {o.state for o in world.core.ledger.orders.values()} == {OrderState.UNKNOWN}
    world.run(8000)
    assert {o.state for o in world.core.ledger.orders.values()} == {OrderState.EXPIRED}


def test_stamps_of_another_boot_of_the_host_are_in_the_past() -> None:
    world = ready_world(3)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(50)
    ledger = Ledger()
    for entry in world.entries:
        ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
    assert ledger.moved_mono_ns
    assert min(ledger.touched.values()) > 0
    boot = next(e.record for e in world.entries if type(e.record).__name__ == "BootRecord")
    fields = {name: getattr(boot, name) for name in boot.__struct_fields__}
    ledger.apply(type(boot)(**{**fields, "host_boot": "second"}), 1, world.now().wall_ns)
    assert not ledger.moved_mono_ns
    assert set(ledger.touched.values()) == {0}


def test_a_journal_restored_from_an_old_copy_gives_no_id_twice() -> None:
    world = ready_world(5)
    old = list(world.entries)
    world.kill()
    world.run(600)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(200)
    world.entries = old
    world.epoch_step = 12_345  # drawn by the caller, different each run
    world.kill()
    world.run(4000)
    assert "unknown_past" in world.core.ledger.breakers, "orders at the venues that the copy does not know"
    world.feed(Command(CommandKind.ADOPT, reason="restored from a copy"))
    for name in list(world.core.ledger.breakers):
        world.feed(Command(CommandKind.REARM, name))
    world.run(600)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(200)
    placed = [client_id for venue in world.venues.values() for client_id in venue.requests]
    assert len(placed) == 4
    assert len(set(placed)) == 4


def test_a_stub_quote_is_not_what_a_leg_is_unwound_at() -> None:
    """The only venue that can take the unwind shows a bid at a tenth of the price: that is no market."""
    world = ready_world(2)
    half_filled(world)
    world.up["gateio_spot"] = False
    world.feed(SessionState(venue="gateio_spot", state="down", recv_mono_ns=world.now_ns))
    world.venues["mexc_spot"].bid = Decimal("10")
    world.run(3000)
    sold = [f for v in world.venues.values() for f in v.fills if int(f.side) < 0]
    assert not sold
    world.venues["mexc_spot"].bid = Decimal("99.90")
    world.run(3000)
    sold = [f for v in world.venues.values() for f in v.fills if int(f.side) < 0]
    assert {fill.price for fill in sold} == {Decimal("99.90")}
    assert world.core.ledger.outcomes[Outcome.RECOVERED] == 1


def test_a_market_that_fell_everywhere_is_left_at_its_price() -> None:
    world = ready_world(2)
    half_filled(world)
    for name in ("mexc_spot", "gateio_spot"):
        world.venues[name].bid, world.venues[name].ask = Decimal("70"), Decimal("70.05")
    world.run(3000)
    sold = [f for v in world.venues.values() for f in v.fills if int(f.side) < 0]
    assert sold
    assert all(fill.price == Decimal("70") for fill in sold)


def test_the_price_of_a_plan_grows_too_old_to_unwind_at() -> None:
    """No living book: soon after the entry its own prices bound the unwind; an hour later they say nothing."""
    world = ready_world(2)
    half_filled(world)
    world.life += 1  # dead
    world.run(3_600_000)
    world.blind = True
    world.kill()
    world.run(5000)
    repairs = [o for o in world.core.ledger.orders.values() if o.intent.purpose is Purpose.REPAIR]
    assert not repairs
    world.blind = False
    world.calm(3000)
    repairs = [o for o in world.core.ledger.orders.values() if o.intent.purpose is Purpose.REPAIR]
    assert repairs


def test_a_direction_whose_legs_keep_breaking_is_tried_ever_less_often() -> None:
    """A phantom: one venue shows a price that never fills. Each try costs an unwind."""
    world = ready_world(4)
    world.venues["gateio_spot"].phantom = True
    for _ in range(600):
        world.feed(world.offer("mexc_spot", "gateio_spot"))
        world.run(50)
    tries = len(world.core.ledger.operations)
    assert 5 <= tries <= 14, f"{tries} tries in 30 s"
    world.venues["gateio_spot"].phantom = False
    world.run(60_000)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(200)
    assert world.core.ledger.outcomes[Outcome.COMPLETED] == 1
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(200)
    assert world.core.ledger.outcomes[Outcome.COMPLETED] == 2, "one that works is not held back"


def test_a_session_that_flaps_does_not_lose_an_order() -> None:
    world = ready_world(6)
    world.faults = Faults(drop_stream=1.0, drop_response=1.0)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    for _ in range(5):
        for up in ("down", "up"):
            world.feed(SessionState(venue="mexc_spot", state=up, recv_mono_ns=world.now_ns))  # type: ignore[arg-type]
            world.run(3)
    world.calm(8000)
    assert world.core.ledger.orders and not world.core.ledger.unsettled
    world.judge()


def test_a_hedge_whose_position_was_taken_away_is_not_left_again_and_again() -> None:
    """Liquidated behind our back: every exit would sell the spot leg, break, and buy it back."""
    world = ready_world(7)
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(300)
    assert world.core.ledger.hedges
    futures = world.venues["gateio_futures"]
    futures.position, futures.cost = Decimal(0), Decimal(0)
    futures.phantom = True  # reduce-only finds nothing to reduce
    futures.bid, futures.ask = Decimal("90"), Decimal("90.05")  # leaving would pay
    before = len(world.core.ledger.operations)
    world.run(20_000)
    assert "venue.gateio_futures" in world.core.ledger.breakers
    assert len(world.core.ledger.operations) - before <= 4


def test_an_exit_that_keeps_breaking_is_tried_ever_less_often() -> None:
    world = ready_world(7)
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(300)
    futures = world.venues["gateio_futures"]
    futures.phantom = True
    futures.bid, futures.ask = Decimal("90"), Decimal("90.05")
    before = len(world.core.ledger.operations)
    world.run(30_000)
    tries = len(world.core.ledger.operations) - before
    assert 2 <= tries <= 16, tries


def test_repairs_of_unknown_outcome_are_never_more_than_the_exposure_that_is_counted() -> None:
    world = ready_world(8)
    half_filled(world)
    gateio = world.venues["gateio_spot"]
    gateio.bid = Decimal("99.90")
    world.faults = Faults(drop_request=1.0)
    world.run(3000)
    ledger = world.core.ledger
    (operation,) = ledger.open_operations.values()
    unknown = [o for o in ledger.unsettled.values() if o.intent.purpose is Purpose.REPAIR]
    assert len(unknown) == 2, "both venues were tried, neither answers"
    proved = operation.exposure()["BTC"]
    doubtful = sum((o.intent.qty - o.filled for o in unknown), Decimal(0))
    worst = max(abs(proved), abs(proved - doubtful)) * Decimal("99.90")
    assert proved > 0
    assert world.core.risk.get_current_risk_metrics().total_exposure_usd >= worst


def test_a_venue_that_hangs_is_disabled_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    real = World._sweep

    def hangs(self: World, action: SweepVenue) -> None:
        if action.venue != "mexc_spot":
            real(self, action)

    monkeypatch.setattr(World, "_sweep", hangs)
    world = World(9)
    world.run(2500)
    assert not world.core.ready
    world.run(1000)
    assert world.core.ready
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    assert world.refusals[-1] is Refusal.SESSION_DOWN
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(200)
    assert world.core.ledger.hedges
    monkeypatch.setattr(World, "_sweep", real)
    world.run(40_000)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(200)
    assert world.core.ledger.outcomes[Outcome.COMPLETED] >= 2


def renumbered(world: World) -> None:
    """A catalogue that begins anew counts its instruments from the start: a venue that answers late is last in it."""
    rows = [*world.rows[1:], world.rows[0]]
    world.rows = [msgspec.structs.replace(row, instrument_id=number) for number, row in enumerate(rows)]


def test_a_broken_leg_is_repaired_on_its_own_instrument_after_a_restart_with_other_numbers() -> None:
    world = ready_world(2)
    half_filled(world)
    gate = world.core.risk.gate
    before = {row.spec.venue: gate.last_fill(row.spec.venue, row.spec.symbol) for row in world.rows}
    renumbered(world)
    world.kill()
    gate = world.core.risk.gate
    assert {row.spec.venue: gate.last_fill(row.spec.venue, row.spec.symbol) for row in world.rows} == before
    world.calm()
    world.judge()
    assert not world.venues["gateio_futures"].orders


def test_an_unknown_order_blocks_its_own_instrument_after_a_restart_with_other_numbers() -> None:
    world = FastEntryWorld(1)
    world.run(100)
    world.faults = Faults(drop_response=1.0, drop_stream=1.0, no_fill=1.0, rest_error=1.0)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(50)
    renumbered(world)
    world.kill()
    unknown = {order.intent.venue for order in world.core.ledger.unsettled.values()}
    assert unknown == {"mexc_spot", "gateio_spot"}
    limits_table = world.fast_entry.limits_table
    first = int(limits_table.ints[LIMITS.rows_off])
    busy = {
        row.spec.venue: int(limits_table.ints[first + ROW.WORDS * row.instrument_id + ROW.busy]) for row in world.rows
    }
    assert busy == {"mexc_spot": 1, "gateio_spot": 1, "gateio_futures": 0}


@pytest.mark.parametrize("symbol", ["BTCUSDT", "GONEUSDT"])
def test_what_the_journal_names_need_not_be_in_the_catalogue(symbol: str) -> None:
    """A symbol that was taken from the configuration, or a venue that answers late: the limits table has no row of
    it."""
    world = FastEntryWorld(1)
    world.run(100)
    world.core.risk.gate.note_fill("elsewhere_spot", symbol, world.now_ns, 0)
    world.core.update_limits_table()
    assert not world.core.risk.gate.fills_noted
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    assert world.taken == 1


def test_a_hedge_is_left_on_its_own_instruments_after_a_restart_with_other_numbers() -> None:
    world = ready_world(3)
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(300)
    assert len(world.core.ledger.hedges) == 1
    renumbered(world)
    world.kill()
    world.run(300)
    assert world.core.ready and not world.venues["mexc_spot"].orders
    world.feed(Command(CommandKind.CLOSE_HEDGES))
    world.calm()
    assert not world.core.ledger.hedges and not world.venues["gateio_futures"].position
    assert not world.venues["mexc_spot"].orders
    world.judge()


def test_what_no_catalogue_row_can_judge_is_unmatched_and_no_dust() -> None:
    """A restart while both venues of a broken operation are unreachable: rows come later, and so does the repair."""
    world = ready_world(2)
    half_filled(world)
    whole = world.rows
    world.rows = [msgspec.structs.replace(whole[2], instrument_id=0)]
    world.kill()
    world.run(1500)
    assert len(world.core.ledger.open_operations) == 1 and not world.core.ledger.dust
    world.rows = [*world.rows, *(msgspec.structs.replace(whole[k], instrument_id=k + 1) for k in (0, 1))]
    world.feed(CatalogueChanged(tuple(world.rows[1:])))
    world.calm()
    world.judge()


class Renumbering(FastEntryWorld):
    """Each life finds its instruments under other numbers."""

    def _born(self) -> ExecutionCore:
        if self.life:
            renumbered(self)
        return super()._born()


@pytest.mark.parametrize("seed", range(8))
def test_storms_and_deaths_end_flat_though_every_life_numbers_its_instruments_anew(seed: int) -> None:
    rng = random.Random(seed)
    world = Renumbering(seed)
    world.run(100)
    world.faults = Faults.storm(rng)
    for _ in range(12):
        buy, sell = rng.sample(list(world.venues), 2)
        if rng.random() < 0.4:
            world.crash_after = rng.randint(0, 14)
        world.feed_safely(world.offer(buy, sell, Decimal(rng.randint(10, 150)) / 100))
        world.run(rng.choice([3, 30, 300, 900]))
    world.calm()
    world.judge()
    assert world.life
