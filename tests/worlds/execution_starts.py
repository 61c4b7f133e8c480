"""Execution worlds in the states that tests begin from: ready, with half an operation filled, held for an operator,
with each breaker tripped; and the operator, who asks their core what the commands ask the executor's control socket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from pipeline.equity_watch import EquityWatch
from pipeline.exchanges.base import OutcomeKind, PlaceOutcome
from pipeline.model.enums import OrderState
from pipeline.model.errors import VenueRejected
from pipeline.model.structs import Fill, OrderRequest, OrderUpdate
from pipeline.risk.breakers import LOSS_LIMIT, scope
from pipeline.trade_state import Effect, Reason, TradeState, executor_reasons, state_of
from pipeline.virtual.world import VirtualWorld
from tests.worlds.execution_world import Faults, World, make_config
from workers.control_socket import Say
from workers.executor.control import ExecutorControl
from workers.executor.views import CoreViews


def broken_run(turns: int = 12) -> World:
    """Entries with broken legs, and their exits, at rest at the end."""
    world = World(3, Faults(partial=0.4, no_fill=0.3, reject=0.1))
    world.run(100)
    for turn in range(turns):
        buy, sell = [("mexc_spot", "gateio_spot"), ("gateio_spot", "gateio_futures")][turn % 2]
        world.feed(world.offer(buy, sell))
        world.run(400)
    world.calm(5000)
    return world


def ready_world(seed: int = 1, faults: Faults | None = None, **config: Any) -> World:
    """A world whose core is ready; ``faults`` begin now, ``config`` as :func:`make_config` takes it."""
    world = World(seed, config=make_config(**config))
    world.run(100)
    assert world.core.ready
    if faults is not None:
        world.faults = faults
    return world


def half_filled(world: World) -> None:
    """One leg of an operation filled at its venue; the other's price is gone before it arrives."""
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.venues["gateio_spot"].bid = Decimal("90")
    for _ in range(20):
        if world.venues["mexc_spot"].fills:
            return
        world.run(0.5)


def held_world() -> World:
    """One leg filled, every repair refused until the ladder is at its end."""
    world = ready_world(2)
    half_filled(world)
    world.faults = Faults(reject=1.0)
    world.run(30_000)
    return world


def trade(world: World, rounds: int, rng: random.Random) -> None:
    """Opportunities between random venues at random pauses; the process may die in any."""
    for _ in range(rounds):
        buy, sell = rng.sample(list(world.venues), 2)
        qty = Decimal(rng.randint(10, 150)) / 100
        world.feed_safely(world.offer(buy, sell, qty))
        world.run(rng.choice([3, 30, 300, 900]))


class WorldPerformer:
    """What the control socket needs of the performer, on virtual time."""

    def __init__(self, world: World | VirtualWorld) -> None:
        self._world = world

    def feed(self, event: Any) -> None:
        self._world.feed(event)

    def now(self) -> Any:
        return self._world.now()


async def nothing() -> None:
    """Nobody reads what is published here."""


class Operator:
    """Asks as the commands do."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        return self.ask_of(self.control(), op, **request)

    @staticmethod
    def ask_of(control: ExecutorControl, op: str, **request: Any) -> dict[str, Any]:
        """The reply of a control socket that stands already."""
        return asyncio.run(control.handle({"op": op, "uid": 0, **request}))

    def control(self, say: Say = print) -> ExecutorControl:
        """The executor's control socket over this world's core."""
        performer: Any = WorldPerformer(self.world)
        core = self.world.core
        return ExecutorControl(self.folder, core, performer, CoreViews(core, EquityWatch(core)), nothing, say)

    def all_reasons(self) -> list[Reason]:
        self.world.core.context.now = self.world.now()
        return executor_reasons(self.world.core)

    def reasons(self) -> list[str]:
        """Those that keep something from trading."""
        return [reason.what for reason in self.all_reasons() if reason.effect > Effect.NOTE]

    def state(self) -> TradeState:
        self.world.core.context.now = self.world.now()
        return state_of(executor_reasons(self.world.core))


# --- breakers, each tripped by what it is for ---

DEAR_PPM = 400  # a fee that nobody has configured
SILENT = Faults(drop_response=1.0, drop_stream=1.0)


def sent_order(world: World, venue: str = "mexc_spot") -> Any:
    """An order whose venue says nothing of it."""
    world.faults = SILENT
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    return next(o for o in world.core.ledger.orders.values() if o.intent.venue == venue)


def reported_fill(world: World, order: Any, **changes: Any) -> None:
    intent = order.intent
    values: dict[str, Any] = {
        "venue": intent.venue, "symbol": intent.symbol, "trade_id": "t-1", "order_id": "o-1",
        "client_id": order.client_id, "side": intent.side, "qty": intent.qty, "price": intent.price,
        "fee": intent.qty * intent.price * Decimal(100) / 1_000_000, "fee_asset": "USDT", "is_maker": False,
        "venue_wall_ms": world.now().wall_ms, "recv_mono_ns": world.now_ns, "source": "ws",
    }  # fmt: skip
    world.feed(Fill(**{**values, **changes}))


def overfill() -> World:
    world = ready_world()
    order = sent_order(world)
    world.feed(
        OrderUpdate(
            venue="mexc_spot", symbol=order.intent.symbol, client_id=order.client_id, order_id="o-1",
            state=OrderState.PARTIALLY_FILLED, filled_qty=order.intent.qty * 2, average_price=None,
            venue_wall_ms=world.now().wall_ms, recv_mono_ns=world.now_ns, source="ws",
        )
    )  # fmt: skip
    return world


def bad_fill() -> World:
    world = ready_world()
    order = sent_order(world)
    reported_fill(world, order, price=order.intent.price * 2)
    return world


def fee() -> World:
    world = ready_world()
    order = sent_order(world)
    reported_fill(world, order, fee=order.intent.qty * order.intent.price * DEAR_PPM / 1_000_000)
    return world


def malformed() -> World:
    world = ready_world()
    for _ in range(5):
        world.feed(world.offer("mexc_spot", "gateio_spot", crc_ok=False))
    return world


def duplicates() -> World:
    world = ready_world()
    offered = world.offer("mexc_spot", "gateio_spot")
    for _ in range(120):
        world.feed(offered)
    return world


def daily_loss() -> World:
    world = ready_world(limits={"max_daily_loss_usd": Decimal(10)})
    world.core.ledger.day = world.now().wall_ns // (86_400 * 10**9)
    world.core.ledger.day_pnl = Decimal(-11)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    return world


def total_loss() -> World:
    world = ready_world(limits={"max_total_loss_usd": Decimal(10)})
    world.core.ledger.total_pnl, world.core.ledger.peak_pnl = Decimal(5), Decimal(16)
    world.run(1500)
    return world


def naked() -> World:
    """One leg stands alone: nobody takes the other, nor what would undo it."""
    world = ready_world(2, limits={"max_naked_usd_s": Decimal(20)})
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.venues["gateio_spot"].bid = Decimal("90")
    for _ in range(20):
        if world.venues["mexc_spot"].fills:
            break
        world.run(0.5)
    world.faults = Faults(no_fill=1.0)
    for _ in range(60):
        if "naked_exposure" in world.core.ledger.breakers:
            break
        world.run(10)
    return world


def venue_faults() -> World:
    world = ready_world()
    order = sent_order(world)
    world.faults = Faults()
    for _ in range(5):
        world.feed(
            PlaceOutcome(
                venue="mexc_spot", symbol=order.intent.symbol, client_id=order.client_id, kind=OutcomeKind.REJECTED,
                update=None, error=VenueRejected("not permitted", venue="mexc_spot"), recv_mono_ns=world.now_ns,
            )
        )  # fmt: skip
    return world


def moved_position() -> World:
    world = ready_world(4)
    venue = world.venues["gateio_futures"]
    venue.position, venue.cost = Decimal(-1), Decimal(-100)
    world.run(1500)
    venue.position = venue.cost = Decimal(0)  # the operator has closed it by hand
    return world


def emergency() -> World:
    world = ready_world()
    world.core.context.now = world.now()
    world.core.risk.force_emergency_shutdown("the operator's program says so")
    world.run(50)
    return world


def unexplained_loss() -> World:
    world = ready_world(4)
    world.venues["mexc_spot"].balances["USDT"] -= 60
    world.run(1500)
    return world


def lost_journal() -> World:
    """Positions at a venue at the first start of a journal."""
    world = ready_world(4)
    venue = world.venues["gateio_futures"]
    venue.position, venue.cost = Decimal(1), Decimal(100)
    world.entries.clear()
    world.kill()
    world.run(500)
    return world


def second_engine() -> World:
    """A fill of an order with an id of an engine's form that no run of ours has given."""
    world = ready_world(4)
    order = sent_order(world)
    world.faults = Faults()
    venue, intent = world.venues["mexc_spot"], order.intent
    other = OrderRequest(
        client_id="a9z9x1", venue="mexc_spot", symbol=intent.symbol, side=intent.side, kind=intent.order_kind,
        tif=intent.tif, qty=Decimal("0.5"), price=intent.price,
    )  # fmt: skip
    world._arrive(other)
    assert venue.orders["a9z9x1"].filled
    world.run(4000)
    return world


def mended(world: World, name: str) -> None:
    """What the ``solve`` of a breaker asks for before its re-arm, where that asks for anything: a higher limit, taken
    in by a reload; the fee that was charged."""
    if name in LOSS_LIMIT:
        limits = msgspec.structs.replace(world.config.risk_limits, **{f"max_{name}_usd": Decimal(1000)})
        world.core.reconfigure(msgspec.structs.replace(world.config, risk_limits=limits))
    elif name.startswith("fee."):
        row = world.core.context.instruments.find(*scope(name))
        assert row is not None
        spec = msgspec.structs.replace(row.spec, taker_fee_ppm=DEAR_PPM)
        world.core.context.instruments.update([msgspec.structs.replace(row, spec=spec)])


#: (how it is tripped, the tripped breaker's name)
TRIPS: list[tuple[Callable[[], World], str]] = [
    (overfill, "overfill"),
    (bad_fill, "bad_fill"),
    (fee, "fee.mexc_spot.BTCUSDT"),
    (malformed, "malformed"),
    (duplicates, "duplicates"),
    (daily_loss, "daily_loss"),
    (total_loss, "total_loss"),
    (naked, "naked_exposure"),
    (venue_faults, "venue.mexc_spot"),
    (moved_position, "venue.gateio_futures"),
    (emergency, "emergency"),
    (held_world, "recovery_hold"),
    (unexplained_loss, "unexplained_loss"),
    (lost_journal, "unknown_past"),
    (second_engine, "second_engine"),
]
ADOPTED = ("unknown_past", "second_engine")
