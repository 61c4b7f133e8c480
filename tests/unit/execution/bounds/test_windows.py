"""Windows that bound exposure: a lost request, a suspended symbol, a changed step; judged by the venues' ledger."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipeline.execution.events import Command, CommandKind, Now
from pipeline.execution.external_records import ExternalFlowRecord
from pipeline.execution.ledger import Ledger, Order
from pipeline.execution.records import OrderIntentRecord, Purpose
from pipeline.model.config import DetectionConfig, ExecutionConfig, RiskLimits
from pipeline.model.enums import OrderState, Refusal
from pipeline.model.venue_clock import MEASURE_EVERY_S
from pipeline.trade_state import executor_reasons
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import CONTRACT, FUTURES, LISTINGS, MID, hedge, records

D = Decimal
SPOT, MEXC = "gateio_spot", "mexc_spot"
QTY = D("0.03")
DUST = D("0.0005")
ENTRY_MS, GRACE_MS = 1000, 10_000  # as configured by default


def open_world(seed: int = 1, max_naked_usd_s: Decimal | None = None, **execution: Any) -> VirtualWorld:
    """BTC on three venues at one price, production windows; ready."""
    limits = {"min_profit_margin_bps": D(3), "max_slippage_bps": D(50), "max_naked_usd_s": max_naked_usd_s}
    settings = {
        "detection": DetectionConfig(cooldown_ms=5),
        "risk_limits": RiskLimits(**limits),
        "execution": ExecutionConfig(**execution),
    }
    world = VirtualWorld("demo", seed, settings=settings)
    world.open({listing: Quote(MID, qty=D("0.5")) for listing in LISTINGS})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.run(1000)
    return world


def enter(world: VirtualWorld, buy: str = SPOT, sell: str = FUTURES, qty: Decimal = QTY) -> int:
    """An entry is on its way: bought on ``buy``, sold on ``sell``. Mono ns of its intents."""
    symbol = {MEXC: "BTCUSDT"}.get(sell, CONTRACT)
    world.market.move(sell, symbol, MID * D("1.006"))
    world.run(50)
    offered = world.opportunity(buy, sell, "BTC/USDT", qty=qty)
    assert offered is not None
    at_ns = world.clock.mono_ns()
    world.feed(offered)
    assert world.core.ledger.open_operations, world.refusals
    return at_ns


def path_of_delta(world: VirtualWorld, since_ns: int) -> list[tuple[int, Decimal]]:
    """(mono ns, net base coins of all fills since) by the venues' ledger, spot and futures together."""
    net, found = D(0), []
    for row in world.ledger.of_kind("fill"):
        if row["mono_ns"] >= since_ns:
            net += row["qty"] * (1 if row["side"] == "buy" else -1)
            found.append((row["mono_ns"], net))
    return found


def naked_ms(world: VirtualWorld, since_ns: int, dust: Decimal = DUST) -> float:
    """For how long the fills since then left more than ``dust`` alone; until now where they still do."""
    path, total_ns = path_of_delta(world, since_ns), 0
    for (at_ns, net), (next_ns, _) in zip(path, [*path[1:], (world.clock.mono_ns(), D(0))], strict=True):
        total_ns += next_ns - at_ns if abs(net) > dust else 0
    return total_ns / 1e6


def intents(world: VirtualWorld, *purposes: Purpose) -> list[OrderIntentRecord]:
    return [record for record in records(world, OrderIntentRecord) if record.purpose in purposes]


def worst(world: VirtualWorld, since_ns: int) -> Decimal:
    return max(abs(net) for _, net in path_of_delta(world, since_ns))


def assert_flat(world: VirtualWorld, since_ns: int) -> None:
    ledger = world.core.ledger
    assert not ledger.open_operations and not ledger.unsettled
    assert abs(path_of_delta(world, since_ns)[-1][1]) <= DUST
    replayed = Ledger()
    for entry in world.entries:
        replayed.apply(entry.record, entry.mono_ns, entry.wall_ns)
    assert replayed.digest() == ledger.digest()
    assert {c: o.window_ms for c, o in replayed.orders.items()} == {c: o.window_ms for c, o in ledger.orders.items()}


# --- windows ---


def test_an_entry_has_a_second_and_a_repair_half_of_it() -> None:
    world = open_world()
    world.arm(kind="reject", venue=FUTURES, target="place", count=1)
    began_ns = enter(world)
    world.run(3000)
    assert_flat(world, began_ns)
    ledger = world.core.ledger
    windows = {o.intent.purpose: o.window_ms for o in ledger.orders.values()}
    assert windows == {Purpose.ENTRY: 1000, Purpose.REPAIR: 500}


@pytest.mark.parametrize(("late_ms", "arrives"), [(900, True), (1100, False)])
def test_a_venue_takes_no_entry_after_its_window(late_ms: int, arrives: bool) -> None:
    world = open_world()
    world.arm(kind="delay_request", venue=FUTURES, target="place", count=1, delay_ms=late_ms)
    began_ns = enter(world)
    world.run(6000)
    entered = [row for row in world.ledger.of_kind("fill") if row["venue"] == FUTURES and row["mono_ns"] >= began_ns]
    entry = next(i for i in intents(world, Purpose.ENTRY) if i.venue == FUTURES)
    assert (world.core.ledger.orders[entry.client_id].state is OrderState.FILLED) == arrives
    assert any(row["client_id"] == entry.client_id for row in entered) == arrives
    assert_flat(world, began_ns)


@pytest.mark.parametrize("skew_ms", [0, 900, -900])
@pytest.mark.parametrize("deposits", [False, True], ids=["", "deposits"])
@pytest.mark.parametrize("lost_at", [FUTURES, MEXC])
def test_an_unknown_entry_is_proved_within_its_bound(lost_at: str, deposits: bool, skew_ms: float) -> None:
    """Its expiry, the grace, the skew of the clocks and two seconds: also while coins come from elsewhere,
    again and again."""
    world = open_world()
    assert world.core.config.execution.unknown_grace_ms == GRACE_MS
    world.arm(kind="clock_skew", venue=lost_at, delay_ms=skew_ms)
    world.run(6000)  # the poller has measured it
    world.arm(kind="drop_request", venue=lost_at, target="place", count=1)
    began_ns = enter(world, SPOT, lost_at)
    while world.core.ledger.unsettled and (world.clock.mono_ns() - began_ns) / 1e6 < 20_000:
        if deposits:
            _deposits(world)
        world.run(700)
    took_ms = (world.clock.mono_ns() - began_ns) / 1e6
    assert bool(records(world, ExternalFlowRecord)) == deposits
    assert ENTRY_MS + GRACE_MS <= took_ms <= ENTRY_MS + GRACE_MS + abs(skew_ms) + 2000
    world.run(3000)
    assert_flat(world, began_ns)
    assert not world.core.ledger.breakers


def _deposits(world: VirtualWorld) -> None:
    for venue, assets in {SPOT: ("BTC", "USDT"), MEXC: ("BTC", "USDT"), FUTURES: ("USDT",)}.items():
        for asset in assets:
            world.arm(kind="deposit", venue=venue, asset=asset, amount=D("0.7"))


# --- while an outcome is unknown ---


def hedged(world: VirtualWorld) -> None:
    """One open hedge: spot bought, the contract sold; books as deep as before."""
    enter(world)
    assert world.run_until(lambda: bool(world.core.ledger.hedges), limit_ms=2000)
    world.run(500)


@pytest.mark.parametrize("kind", ["drop_request", "drop_response"])
def test_an_order_that_only_reduces_goes_beside_one_of_unknown_outcome(kind: str) -> None:
    """The exit's futures order and the first repair are lost (or their answers): the second reduce-only order ends it,
    whether they have executed or not."""
    world = open_world()
    hedged(world)
    world.arm(kind=kind, venue=FUTURES, target="place", count=1)
    world.arm(kind=kind, venue=SPOT, target="place", count=1, after=1)
    world.market.move(FUTURES, CONTRACT, MID * D("0.994"))
    world.run(30)
    began_ns = world.clock.mono_ns()
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(20_000)
    assert_flat(world, 0)
    assert naked_ms(world, 0) < 1000
    assert world.position(FUTURES, CONTRACT) == 0 and not world.core.ledger.breakers
    assert worst(world, began_ns) <= QTY


def test_another_spot_venue_repairs_where_the_first_repair_is_unknown() -> None:
    world = open_world()
    world.arm(kind="halt_symbol", venue=FUTURES, symbol=CONTRACT)
    world.arm(kind="drop_request", venue=SPOT, target="place", count=1, after=1)
    began_ns = enter(world)
    world.run(20_000)
    assert_flat(world, began_ns)
    assert worst(world, began_ns) <= QTY * D("1.01")
    assert naked_ms(world, began_ns) < 1000
    assert [i.venue for i in intents(world, Purpose.REPAIR)][:2] == [SPOT, MEXC]


def test_a_repair_that_executes_after_another_venue_has_made_up_for_it_is_undone() -> None:
    """The other outcome of the order that was unknown: one leg of the other sign, never two."""
    world = open_world(order_timeout_ms=200)
    world.arm(kind="halt_symbol", venue=FUTURES, symbol=CONTRACT)
    world.arm(kind="delay_request", venue=SPOT, target="place", count=1, after=1, delay_ms=400)
    began_ns = enter(world)
    world.run(20_000)
    assert_flat(world, began_ns)
    assert [i.venue for i in intents(world, Purpose.REPAIR)][:2] == [SPOT, MEXC]
    assert len(path_of_delta(world, began_ns)) >= 4 and worst(world, began_ns) <= QTY * D("1.01")
    assert naked_ms(world, began_ns) < 1000


def test_nothing_is_sent_that_could_leave_two_legs_of_one_side() -> None:
    """The contract's sale and the spot leg's undoing are both unknown: a third sale could be one too many."""
    world = open_world()
    world.arm(kind="drop_request", venue=FUTURES, target="place", count=1)
    world.arm(kind="drop_request", venue=SPOT, target="place", count=1, after=1)
    began_ns = enter(world)
    world.run(5000)
    assert len(intents(world, Purpose.REPAIR)) == 1 and len(path_of_delta(world, began_ns)) == 1
    world.run(15_000)
    assert_flat(world, began_ns)
    assert worst(world, began_ns) <= QTY * D("1.01")


def test_a_suspended_symbol_is_repaired_elsewhere() -> None:
    """Both Gate.io markets stop the coin right after the spot leg has filled; MEXC has stock."""
    world = open_world()
    world.arm(kind="halt_symbol", venue=FUTURES, symbol=CONTRACT)
    world.venues[SPOT].on_own_fill.append(lambda *_: world.arm(kind="halt_symbol", venue=SPOT, symbol=CONTRACT))
    began_ns = enter(world)
    world.run(3000)
    assert_flat(world, began_ns)
    assert naked_ms(world, began_ns) < 1000
    repairs = intents(world, Purpose.REPAIR)
    assert repairs[-1].venue == MEXC and len(repairs) <= 3
    refused = [i for i in repairs if world.core.ledger.orders[i.client_id].state is OrderState.REJECTED]
    assert len(refused) <= 1  # one refusal asks for the row, and nothing more is sent there
    assert not world.core.ledger.breakers


# --- changed steps ---


def test_a_changed_lot_is_read_at_once_and_the_repair_obeys_it() -> None:
    world = open_world()
    world.arm(kind="reject", venue=FUTURES, target="place", count=1, reason="price_band")
    world.stalled |= {MEXC}
    world.venues[SPOT].on_own_fill.append(
        lambda *_: None if world.venues[SPOT].instruments[CONTRACT].lot >= D("0.01") else _coarser(world)
    )
    began_ns = enter(world, qty=D("0.0234"))
    world.arm(kind="halt_symbol", venue=FUTURES, symbol=CONTRACT)
    world.run(4000)
    repairs = intents(world, Purpose.REPAIR)
    refused = [i for i in repairs if world.core.ledger.orders[i.client_id].state is OrderState.REJECTED]
    assert len(refused) <= 2, [(i.venue, i.qty) for i in repairs]
    assert not world.core.ledger.breakers
    assert naked_ms(world, began_ns, D("0.01")) < 1000


def _coarser(world: VirtualWorld) -> None:
    lot = world.venues[SPOT].instruments[CONTRACT].lot
    world.arm(kind="change_lot", venue=SPOT, symbol=CONTRACT, amount=int(D("0.01") / lot))


def test_no_entry_goes_by_a_row_that_is_not_the_venues() -> None:
    """After the first refusal the symbol takes no entry until the catalogue has what the venue has."""
    world = open_world()
    world.arm(kind="change_lot", venue=SPOT, symbol=CONTRACT, amount=1000)
    enter(world, qty=D("0.0234"))
    world.run(2000)
    refused = len(intents(world, Purpose.ENTRY))
    for _ in range(3):
        offered = world.opportunity(SPOT, FUTURES, "BTC/USDT", qty=QTY)
        assert offered is not None
        world.feed(offered)
        world.run(200)
    assert len(intents(world, Purpose.ENTRY)) == refused
    assert world.core.recovery.rows.doubtful(world.instruments[0].spec) or any(
        world.core.recovery.rows.doubtful(row.spec) for row in world.instruments
    )


# --- clocks ---


SKEWS = [(900, False), (-900, False), (1200, True), (-1500, True), (3_600_000, True)]


def _entries_at_mexc(world: VirtualWorld) -> list[Order]:
    """What becomes of three opportunities there, each at better prices, half a second apart."""
    before = len(records(world, OrderIntentRecord))
    for _ in range(3):
        for listing, factor in (((MEXC, "BTCUSDT"), D("0.996")), ((SPOT, CONTRACT), D("1.001"))):
            world.market.move(*listing, world.market.quotes[listing].mid * factor)
        world.run(50)
        offered = world.opportunity(MEXC, SPOT, "BTC/USDT", qty=QTY)
        assert offered is not None
        world.feed(offered)
        world.run(500)
    made = [world.core.ledger.orders[i.client_id] for i in records(world, OrderIntentRecord)[before:]]
    return [order for order in made if order.intent.venue == MEXC and order.intent.purpose is Purpose.ENTRY]


@pytest.mark.parametrize(("skew_ms", "refused"), SKEWS)
def test_a_venues_moved_clock_costs_one_order_at_most(skew_ms: float, refused: bool) -> None:
    """One that leaves before the poller's next reading, and only where the jump is beyond the venue's own bound. That
    reading is what signatures go by; beyond our bound entries there stop, with a reason."""
    world = open_world()
    world.arm(kind="clock_skew", venue=MEXC, delay_ms=skew_ms)
    sent = _entries_at_mexc(world)
    assert [o.state is OrderState.REJECTED for o in sent] == ([True] if refused else [False] * 3)
    world.run(MEASURE_EVERY_S * 1000)
    world.refusals.clear()
    sent = _entries_at_mexc(world)
    assert not [o for o in sent if o.state is OrderState.REJECTED]
    assert (Refusal.CLOCK_SKEW in world.refusals) == refused and bool(sent) != refused
    clock = [reason.venues for reason in executor_reasons(world.core) if "clock" in reason.what]
    assert clock == ([(MEXC,)] if refused else [])
    assert not world.core.ledger.breakers


class WallJumped:
    """A clock that shows another wall time."""

    def __init__(self, clock: Any, step_ns: int) -> None:
        self._clock, self._step_ns = clock, step_ns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def wall_ns(self) -> int:
        return int(self._clock.wall_ns()) + self._step_ns


def wall_jumps(world: VirtualWorld, hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our wall clock alone jumps, for the core and for what turns its times into the venues'."""
    now, step_ns = world.now, hours * 3_600_000_000_000
    monkeypatch.setattr(world, "now", lambda: Now(now().mono_ns, now().wall_ns + step_ns))
    for link in world.links.values():
        monkeypatch.setattr(link, "_clock", WallJumped(link._clock, step_ns))


@pytest.mark.parametrize("hours", [1, -1])
def test_our_wall_clock_that_jumps_stops_entries_and_no_exit_until_it_is_right_again(hours: int) -> None:
    """Orders are stamped by the venue's clock and could go on; the day's end would be another one."""
    world = open_world()
    hedge(world)
    with pytest.MonkeyPatch.context() as monkeypatch:
        wall_jumps(world, hours, monkeypatch)
        world.run(MEASURE_EVERY_S * 1000)
        assert not _entries_at_mexc(world) and Refusal.CLOCK_SKEW in world.refusals
        world.feed(Command(CommandKind.CLOSE_HEDGES, "", "test"))
        assert world.run_until(lambda: not world.core.ledger.hedges, limit_ms=2000)
    world.run(MEASURE_EVERY_S * 1000)
    assert _entries_at_mexc(world) and not world.core.ledger.breakers


def test_a_refused_time_stops_entries_until_the_clock_is_measured_again() -> None:
    """A jump right before the order costs that one; the next reading of the poller lets entries go on."""
    world = open_world()
    world.arm(kind="clock_skew", venue=MEXC, delay_ms=-1200)
    world.arm(kind="drop_request", venue=MEXC, target="balances", count=5)  # the poller's next five readings there
    refused = 0
    for _ in range(6):
        world.market.move(MEXC, "BTCUSDT", MID * D("0.994"))
        world.run(50)
        offered = world.opportunity(MEXC, SPOT, "BTC/USDT", qty=QTY)
        assert offered is not None
        world.feed(offered)
        world.run(100)
        refused += world.core.risk.gate.clocks.refusal(MEXC) != ""
    orders = [world.core.ledger.orders[i.client_id] for i in records(world, OrderIntentRecord) if i.venue == MEXC]
    assert len([o for o in orders if o.state is OrderState.REJECTED and o.intent.purpose is Purpose.ENTRY]) == 1
    assert refused >= 4 and not world.core.ledger.breakers


# --- what is not sent is not intended again and again ---


def test_nothing_is_intended_while_the_guard_has_fenced_the_executor() -> None:
    world = open_world()
    hedged(world)
    world.arm(kind="reject", venue=FUTURES, target="place", count=1, reason="price_band")
    enter(world, MEXC, FUTURES)
    world.fenced = True
    known = len(records(world, OrderIntentRecord))
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(10_000)
    assert len(records(world, OrderIntentRecord)) == known
    world.fenced = False
    world.run(4000)
    assert_flat(world, 0)


def test_repairs_that_never_leave_this_host_are_intended_ever_more_slowly() -> None:
    """The socket is gone and nobody has said so yet: nothing leaves for a minute."""
    world = open_world()
    world.arm(kind="reject", venue=FUTURES, target="place", count=1, reason="price_band")
    began_ns = enter(world)
    for link in world.links.values():
        link.connected = False
    world.run(60_000)
    unsent = [o for o in world.core.ledger.orders.values() if o.state is OrderState.NOT_SENT]
    assert 5 <= len(unsent) <= 45  # two a second would be 120
    for link in world.links.values():
        link.connected = True
    world.run(6000)
    assert_flat(world, began_ns)


# --- naked notional x time ---


def lone_leg(world: VirtualWorld) -> int:
    """A spot leg stands alone: both Gate.io markets are suspended, and MEXC takes nothing either."""
    world.arm(kind="halt_symbol", venue=FUTURES, symbol=CONTRACT)
    world.arm(kind="halt_symbol", venue=MEXC, symbol="BTCUSDT")
    world.venues[SPOT].on_own_fill.append(lambda *_: world.arm(kind="halt_symbol", venue=SPOT, symbol=CONTRACT))
    return enter(world)


@pytest.mark.parametrize(("limit", "tripped"), [(D(2000), True), (D(4000), False)])
def test_worth_times_time_trips_its_breaker(limit: Decimal, tripped: bool) -> None:
    """0.03 BTC are 1,920 USD: after 1.5 s they are 2,880 USD x s."""
    world = open_world(max_naked_usd_s=limit)
    began_ns = lone_leg(world)
    world.run(1500)
    assert naked_ms(world, began_ns) > 1400
    assert ("naked_exposure" in world.core.ledger.breakers) == tripped
    assert world.core.risk.naked.usd_s == pytest.approx(D(1920) * D("1.5"), rel=D("0.02"))


@pytest.mark.parametrize(("for_s", "tripped"), [(14, False), (17, True)])
def test_where_no_limit_is_set_the_largest_entry_alone_for_fifteen_seconds_is(for_s: int, tripped: bool) -> None:
    """1,920 of at most 2,000 USD: an unknown order's proof takes less, and the leg that nobody repairs more."""
    world = open_world()
    lone_leg(world)
    world.run(for_s * 1000)
    assert ("naked_exposure" in world.core.ledger.breakers) == tripped


def test_a_restart_forgets_nothing_of_it_and_a_repair_ends_it() -> None:
    world = open_world(max_naked_usd_s=D(4000))
    lone_leg(world)
    world.run(1500)
    world.kill()
    world.run(1000)
    assert "naked_exposure" in world.core.ledger.breakers
    world.arm(kind="resume_symbol", venue=SPOT, symbol=CONTRACT)
    world.venues[SPOT].on_own_fill.pop()
    world.run(40_000)
    assert not world.core.ledger.open_operations and world.core.risk.naked.usd_s == 0
    world.command(CommandKind.REARM, "naked_exposure")
    world.run(100)
    assert "naked_exposure" not in world.core.ledger.breakers
