"""Many hedges that must leave at once, on few coins and venues: each leg is closed once, and nothing is bought back."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from pipeline.execution.events import CommandKind
from pipeline.execution.ledger import Order
from pipeline.execution.orchestrator import RECOVERY_HOLD
from pipeline.execution.records import HedgeRecord
from pipeline.model.config import DetectionConfig, ExecutionConfig, MarginConfig, RiskLimits
from pipeline.model.enums import OrderSide
from pipeline.sim.scenarios.specs import load_scenario
from pipeline.takeover import Takeover
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld

D = Decimal
MID = D(64000)
SPOTS, CONTRACTS = ("mexc_spot", "gateio_spot", "binance_spot"), ("gateio_futures", "binance_futures")
DEEP = D("0.5")
HEDGE_QTY = D("0.004")
Way = Callable[[VirtualWorld], None]


def symbol(world: VirtualWorld, venue: str) -> str:
    return next(name for name in world.venues[venue].instruments if name in ("BTCUSDT", "BTC_USDT"))


def quote(world: VirtualWorld, venue: str, qty: Decimal = DEEP) -> None:
    """The contracts stand 60 bps above spot: entering pays, leaving by choice does not."""
    mid = MID * D("1.006") if venue in CONTRACTS else MID
    world.market.quote(venue, symbol(world, venue), Quote(mid, qty=qty))


class GuardIsNext(VirtualWorld):
    """A core that dies is followed by the guard's."""

    def kill(self) -> None:
        self.takes_over = True
        super().kill()


def hedged(
    spots: tuple[str, ...] = SPOTS,
    contracts: tuple[str, ...] = CONTRACTS,
    world_type: type[VirtualWorld] = VirtualWorld,
) -> VirtualWorld:
    """One hedge of BTC for each spot venue and contract."""
    settings = {
        "detection": DetectionConfig(cooldown_ms=5),
        "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50)),
        "execution": ExecutionConfig(entry_window_ms=500, unknown_grace_ms=1000, order_timeout_ms=400),
    }
    world = world_type(load_scenario("five_venues"), 1, settings=settings)
    world.open({(name, symbol(world, name)): Quote(MID, qty=D("0.5")) for name in world.venues})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    for venue in CONTRACTS:
        world.arm(kind="change_leverage", venue=venue, symbol=symbol(world, venue), amount=3, text="isolated")
    world.run(1000)
    for spot in spots:
        for contract in contracts:
            enter(world, spot, contract)
            known = len(world.core.ledger.hedges)
            assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=2000), known
            world.run(300)
    assert len(world.core.ledger.hedges) == len(spots) * len(contracts), world.refusals
    for venue in world.venues:
        quote(world, venue)
    world.run(100)
    return world


def enter(world: VirtualWorld, spot: str, contract: str, dies_after: int | None = None) -> None:
    for venue in world.venues:
        quote(world, venue)
    world.run(60)
    offered = world.opportunity(spot, contract, "BTC/USDT", qty=HEDGE_QTY)
    assert offered is not None
    world.feed(offered)
    world.crash_after = dies_after


def by_guard(world: VirtualWorld) -> None:
    """The executor dies, and a takeover closes everything."""
    world.take_over()
    takeover = Takeover(world.core, None)

    def turn() -> bool:
        for command in takeover.commands(world.clock.mono_ns(), "test"):
            world.feed(command)
        return takeover.done

    assert world.run_until(turn, limit_ms=60_000), takeover.why_left()


def by_command(world: VirtualWorld) -> None:
    world.command(CommandKind.FLATTEN)
    assert world.run_until(lambda: not world.core.ledger.hedges and world.core.idle, limit_ms=60_000)


def by_rule(world: VirtualWorld) -> None:
    for hedge in list(world.core.ledger.hedges.values()):
        world.core.hedges.exits.hard_exit(hedge, "deadline")
    assert world.run_until(lambda: not world.core.ledger.hedges and world.core.idle, limit_ms=60_000)


def watch_margin(world: VirtualWorld, *, trigger: int, target: int, out: int) -> None:
    """Percent of distance to liquidation from now on; it is 33 at most."""
    margin = MarginConfig(trigger_pct=D(trigger), target_pct=D(target), out_pct=D(out))
    detection = world.config.detection
    hedge = msgspec.structs.replace(detection.hedge, margin=margin)
    detection = msgspec.structs.replace(detection, hedge=hedge)
    world.core.reconfigure(msgspec.structs.replace(world.config, detection=detection))


def by_margin(world: VirtualWorld) -> None:
    """The margin watch finds every contract too near to its liquidation."""
    watch_margin(world, trigger=80, target=90, out=70)
    assert world.run_until(lambda: not world.core.ledger.hedges and world.core.idle, limit_ms=60_000)
    assert world.core.margin.closes


def by_two_lives(world: VirtualWorld) -> None:
    """The executor that was told so dies with orders on their way; the next one repairs what it finds."""
    world.command(CommandKind.FLATTEN)
    world.run(3)
    assert len(world.core.ledger.open_operations) > 1
    world.kill()
    assert world.run_until(lambda: world.core.ready and world.core.idle, limit_ms=10_000)
    by_command(world)


def bought_back(world: VirtualWorld, hedges: dict[str, HedgeRecord], known: set[str]) -> list[tuple[str, str, Decimal]]:
    """Orders since then that opened again what a hedge had opened and its closing had closed."""

    def opens(order: Order, hedge: HedgeRecord) -> bool:
        entered = hedge.spot_side if order.intent.venue in SPOTS else OrderSide(-int(hedge.spot_side))
        return order.intent.side is entered

    ledger = world.core.ledger
    closing = {name: o.record.closes for name, o in ledger.operations.items() if o.record.closes}
    return [
        (order.intent.venue, order.intent.purpose.name, order.filled)
        for name, order in ledger.orders.items()
        if name not in known
        and order.intent.operation_id in closing
        and opens(order, hedges[closing[order.intent.operation_id]])
    ]


def slow(world: VirtualWorld) -> None:
    for venue in SPOTS:
        world.arm(kind="delay_request", venue=venue, target="place", count=0, delay_ms=150)


def a_lost_request(world: VirtualWorld) -> None:
    for venue in SPOTS:
        world.arm(kind="drop_request", venue=venue, target="place", count=1)


def an_order_a_second(world: VirtualWorld) -> None:
    for venue in SPOTS:
        world.venues[venue].orders_per_s = 1


def thin(world: VirtualWorld) -> None:
    """A third of a hedge at a time, filled up four times a second."""
    for number in range(240):
        for venue in SPOTS:
            world.clock.call_later(number * 250_000_000, lambda venue=venue: quote(world, venue, D("0.0015")))


def refused(world: VirtualWorld) -> None:
    for venue in SPOTS:
        world.arm(kind="reject", venue=venue, target="place", count=2, reason="price_band")


def contracts_drop(world: VirtualWorld) -> None:
    """Their sessions go when the orders are on their way, and come back after some seconds."""
    for venue in CONTRACTS:
        world.arm(kind="drop_request", venue=venue, target="place", count=1)
        world.clock.call_later(3_000_000, lambda venue=venue: world.links[venue].disconnect("gone"))
        world.clock.call_later(5_000_000_000, lambda venue=venue: world.links[venue].connect())


def contracts_refused(world: VirtualWorld) -> None:
    for venue in CONTRACTS:
        world.arm(kind="reject", venue=venue, target="place", count=2, reason="symbol_halted")


def nothing(world: VirtualWorld) -> None:
    pass


FUTURES_FAULTS = (contracts_drop, contracts_refused)


def closed(way: Way, fault: Way) -> dict[str, object]:
    """What a world of two hedges has, as far as it is not as it should be, when they were closed."""
    world = hedged()
    hedges, known = dict(world.core.ledger.hedges), set(world.core.ledger.orders)
    fault(world)
    way(world)
    ledger = world.core.ledger
    delta = {asset: qty for asset, qty in world.core.positions.delta().items() if qty and asset != "USDT"}
    positions = {venue: world.position(venue, symbol(world, venue)) for venue in CONTRACTS}
    found: dict[str, object] = {
        "bought back": bought_back(world, hedges, known),
        "hedges": dict(ledger.hedges),
        "positions": {venue: qty for venue, qty in positions.items() if qty},
        "more than dust": delta if delta != {asset: qty for asset, qty in ledger.dust.items() if qty} else {},
        "held": [name for name in ledger.breakers if name == RECOVERY_HOLD],
    }
    return {what: rows for what, rows in found.items() if rows}


@pytest.mark.parametrize("fault", [nothing, slow, a_lost_request, an_order_a_second, thin, refused, *FUTURES_FAULTS])
@pytest.mark.parametrize("way", [by_guard, by_command, by_rule, by_margin])
def test_nothing_is_bought_back_whatever_the_venues_do(way: Way, fault: Way) -> None:
    assert closed(way, fault) == {}


def test_the_next_life_of_the_executor_does_not_buy_back_what_was_commanded() -> None:
    assert closed(by_two_lives, slow) == {}


def test_a_venue_that_is_away_for_a_minute_is_waited_for_without_an_operator() -> None:
    """Its contract is closed, and its coins can be sold nowhere: no venue but its own has any."""
    world = hedged(spots=("gateio_spot",), contracts=("gateio_futures",))
    hedges, known = dict(world.core.ledger.hedges), set(world.core.ledger.orders)
    for venue in ("mexc_spot", "binance_spot"):
        world.links[venue].disconnect("gone")
    world.arm(kind="drop_request", venue="gateio_spot", target="place", count=1)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(20)
    world.links["gateio_spot"].disconnect("gone")
    world.run(60_000)
    assert world.position("gateio_futures", "BTC_USDT") == 0 and world.core.ledger.open_operations
    assert RECOVERY_HOLD not in world.core.ledger.breakers
    world.links["gateio_spot"].connect()
    assert world.run_until(lambda: not world.core.ledger.hedges and world.core.idle, limit_ms=20_000)
    assert bought_back(world, hedges, known) == []


def test_coins_of_a_margin_cut_whose_venue_is_away_are_sold_at_another() -> None:
    """Its plan names the contract first; that is closed, and nothing may open it again."""
    world = hedged(spots=("gateio_spot",), contracts=("gateio_futures",))
    hedges, known = dict(world.core.ledger.hedges), set(world.core.ledger.orders)
    world.arm(kind="reject", venue="gateio_spot", target="place", count=0, reason="symbol_halted")
    by_margin(world)
    sold = {o.intent.venue for name, o in world.core.ledger.orders.items() if name not in known and o.filled}
    assert len(sold) == 2 and "gateio_futures" in sold and "gateio_spot" not in sold
    assert bought_back(world, hedges, known) == []


@pytest.mark.parametrize("slow_ms", [0, 350])
def test_a_margin_cut_whose_contract_is_refused_is_not_cut_off_the_next_hedge_too(slow_ms: int) -> None:
    """Its coins are sold, the contract's part comes with its repairs; account rows come meanwhile."""
    world = hedged(contracts=("gateio_futures",))
    position = world.position("gateio_futures", "BTC_USDT")
    world.arm(kind="drop_request", venue="gateio_futures", target="leverage", count=0)  # no margin is added
    world.arm(kind="reject", venue="gateio_futures", target="place", count=0, reason="symbol_halted")
    for venue in SPOTS if slow_ms else ():
        world.arm(kind="delay_request", venue=venue, target="place", count=0, delay_ms=slow_ms)
    watch_margin(world, trigger=36, target=38, out=1)
    watch = world.core.margin
    assert world.run_until(lambda: watch.cuts > 0, limit_ms=60_000)
    world.run(4000)
    assert world.position("gateio_futures", "BTC_USDT") == position and world.core.ledger.open_operations
    assert watch.cuts == 1, "it is on its way"


@pytest.mark.parametrize("action", range(4, 9))  # from 9 on the executor itself has sent the repair
def test_a_hedge_that_is_half_entered_in_a_takeover_is_undone_and_not_opened(action: int) -> None:
    """Its contract was refused, and stands far better than its coins cost: to open it would pay, and to close it again
    would cost both fees."""
    world = hedged(spots=("gateio_spot",), contracts=("gateio_futures",), world_type=GuardIsNext)
    world.arm(kind="reject", venue="binance_futures", target="place", count=1, reason="price_band")
    enter(world, "mexc_spot", "binance_futures", dies_after=action)
    known = set(world.core.ledger.orders)
    assert world.run_until(lambda: world.takes_over, limit_ms=200)
    by_guard(world)
    new = [order.intent for name, order in world.core.ledger.orders.items() if name not in known]
    contracts = {(intent.venue, intent.side) for intent in new if intent.venue in CONTRACTS}
    assert contracts - {("binance_futures", OrderSide.SELL)} == {("gateio_futures", OrderSide.BUY)}
    guards = [intent for intent in new if intent.client_id.startswith("g")]
    assert not [intent for intent in guards if intent.venue == "binance_futures" and not intent.reduce_only]
    assert world.position("binance_futures", "BTCUSDT") == 0


def test_flatten_closes_the_hedge_that_an_entry_under_way_opens() -> None:
    world = hedged(spots=("gateio_spot",), contracts=("gateio_futures",))
    world.arm(kind="delay_request", venue="mexc_spot", target="place", count=1, delay_ms=100)
    enter(world, "mexc_spot", "binance_futures")
    world.run(5)
    assert len(world.core.ledger.hedges) == 1 and world.core.ledger.open_operations
    by_command(world)
    world.run(1000)
    assert not world.core.ledger.hedges and world.position("binance_futures", "BTCUSDT") == 0
