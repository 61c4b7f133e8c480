"""Worlds in which something besides our orders happens to the account, and the simulator's ledger as the judge."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pipeline.execution.events import CommandKind
from pipeline.execution.ledger import Ledger
from pipeline.execution.orchestrator import RECOVERY_HOLD
from pipeline.execution.records import Purpose
from pipeline.model.config import DetectionConfig, ExecutionConfig, RiskLimits
from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.orders import SimOrderRequest
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from workers.demo.run_checker import venue_changes

D = Decimal
FUTURES, CONTRACT = "gateio_futures", "BTC_USDT"
MID = D(64000)
HEDGE_QTY = D("0.03")
TRADE_QTY = D("0.01")  # of one spot-spot trade
SHORT_WINDOWS = ExecutionConfig(entry_window_ms=500, unknown_grace_ms=1000, order_timeout_ms=400)
LISTINGS = (("mexc_spot", "BTCUSDT"), ("gateio_spot", "BTC_USDT"), (FUTURES, CONTRACT))


def external_world(
    seed: int = 1,
    quotes: Mapping[tuple[str, str], Quote] | None = None,
    scenario: str = "demo",
    execution: ExecutionConfig = SHORT_WINDOWS,
    **limits: Any,
) -> VirtualWorld:
    """BTC on three venues, one price everywhere, and the listings of ``quotes``; ready."""
    settings = {
        "detection": DetectionConfig(cooldown_ms=5),
        "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50), **limits),
        "execution": execution,
    }
    world = VirtualWorld(scenario, seed, settings=settings)
    world.open({**{listing: Quote(MID, qty=D("0.5")) for listing in LISTINGS}, **(quotes or {})})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.run(1000)
    return world


def hedge(world: VirtualWorld, qty: Decimal = HEDGE_QTY) -> None:
    """One open hedge: spot bought on Gate.io, futures sold; the futures price stays where it was, so that no exit
    earns anything."""
    known = len(world.core.ledger.hedges)
    world.market.move("gateio_spot", CONTRACT, MID)
    world.market.move(FUTURES, CONTRACT, MID * D("1.006"))
    world.run(50)
    offered = world.opportunity("gateio_spot", FUTURES, "BTC/USDT", qty=qty)
    assert offered is not None
    world.feed(offered)
    assert world.run_until(lambda: len(world.core.ledger.hedges) > known, limit_ms=2000), world.refusals
    world.run(300)
    assert not world.core.ledger.open_operations


def account_of(world: VirtualWorld, venue: str) -> Any:
    return next(iter(world.venues[venue].accounts.values()))


def place(world: VirtualWorld, venue: str, symbol: str, signed: Decimal, client_id: str = "") -> None:
    """A market order of somebody else on the account: base coins, + = buy."""
    world.venues[venue].place(
        account_of(world, venue),
        SimOrderRequest(
            symbol=symbol,
            side=OrderSide.BUY if signed > 0 else OrderSide.SELL,
            kind=OrderKind.MARKET,
            tif=TimeInForce.IOC,
            qty=abs(signed),
            client_id=client_id,
        ),
    )


def moved_unlisted(world: VirtualWorld, kind: str, venue: str, asset: str, amount: float) -> None:
    """Money moves, and neither the stream nor any list of the venue says so."""
    world.arm(kind="drop_event", venue=venue, target="private", count=0)
    world.arm(kind=kind, venue=venue, asset=asset, amount=amount)
    gone = account_of(world, venue).book.pop()
    assert (gone.asset, abs(gone.change)) == (asset, D(str(amount)))


def uids(world: VirtualWorld) -> frozenset[str]:
    return frozenset(account.uid for venue in world.venues.values() for account in venue.accounts.values())


def venue_delta(world: VirtualWorld, asset: str) -> Decimal:
    """Net exposure by the venues' ledger: balance changes without deposits and withdrawals, and futures positions."""
    spot = venue_changes(world.ledger.rows, uids(world)).get(asset, D(0))
    return spot + sum((world.position(venue, CONTRACT) for venue in world.venues if venue == FUTURES), D(0))


def naked_ms(world: VirtualWorld, since_ns: int) -> float:
    """From ``since_ns`` (mono) until the last fill after it, by the stamps of the venues' ledger."""
    fills = [row["mono_ns"] for row in world.ledger.of_kind("fill") if row["mono_ns"] > since_ns]
    return (max(fills) - since_ns) / 1e6 if fills else 0.0


def force(world: VirtualWorld, kind: str, qty: Decimal) -> int:
    """The venue closes ``qty`` of the short; returns when (mono ns)."""
    at_ns = world.clock.mono_ns()
    world.arm(kind=kind, venue=FUTURES, symbol=CONTRACT, amount=float(qty))
    return at_ns


def force_unlisted(world: VirtualWorld, kind: str, qty: Decimal) -> int:
    """As :func:`force`, but the stream does not tell of it and the venue lists no execution."""
    venue = world.venues[FUTURES]
    world.arm(kind="drop_event", venue=FUTURES, target="private", count=0)
    known = len(venue._trades[account_of(world, FUTURES).uid])
    at_ns = force(world, kind, qty)
    del venue._trades[account_of(world, FUTURES).uid][known:]
    return at_ns


def judge(world: VirtualWorld) -> None:
    """The ledger is the venue's truth, to the last digit: balances, positions, money, exposure; and a replay of the
    journal is the live state."""
    ledger = world.core.ledger
    for venue in world.venues:
        for asset in account_of(world, venue).wallets:
            expected = ledger.expected_balance(venue, asset)
            if expected is not None:
                assert expected == world.wallet(venue, asset), (venue, asset)
    for venue, symbol in ledger.position_offsets:
        assert ledger.expected_position(venue, symbol) == world.position(venue, symbol)
        assert ledger.accounts.futures_qty(venue, symbol) == world.position(venue, symbol)
    engine = {asset: amount for asset, amount in ledger.accounts.per_asset().items() if amount}
    assert engine == venue_changes(world.ledger.rows, uids(world))
    delta = {asset: amount for asset, amount in world.core.positions.delta().items() if amount and asset != "USDT"}
    assert delta == world.core.positions.targets()
    assert delta.get("BTC", D(0)) == venue_delta(world, "BTC")
    replayed = Ledger()
    for entry in world.entries:
        replayed.apply(entry.record, entry.mono_ns, entry.wall_ns)
    assert replayed.digest() == ledger.digest()


def records(world: VirtualWorld, kind: type) -> list[Any]:
    return [entry.record for entry in world.entries if isinstance(entry.record, kind)]


def spot_trade(world: VirtualWorld) -> None:
    """MEXC becomes 50 bps cheaper; bought there and sold at Gate.io."""
    world.market.move("mexc_spot", "BTCUSDT", D("63680"))
    world.run(50)
    offered = world.opportunity("mexc_spot", "gateio_spot", "BTC/USDT", qty=TRADE_QTY)
    assert offered is not None
    world.feed(offered)


def repairs(world: VirtualWorld) -> list[Any]:
    """Every order that repairs an operation."""
    return [o for o in world.core.ledger.orders.values() if o.intent.purpose is Purpose.REPAIR]


def held_world() -> tuple[VirtualWorld, str]:
    """Bought on MEXC, and nobody takes the sale: the ladder of repairs is at its end. The operation's id."""
    world = external_world()
    for venue, after in (("gateio_spot", 0), ("mexc_spot", 1)):
        world.arm(kind="reject", venue=venue, target="place", after=after, count=0, reason="too_many_orders")
    spot_trade(world)
    assert world.run_until(lambda: RECOVERY_HOLD in world.core.ledger.breakers, limit_ms=60_000)
    (operation_id,) = world.core.ledger.open_operations
    assert venue_delta(world, "BTC") == TRADE_QTY
    world.faults.clear()
    for venue in ("mexc_spot", "gateio_spot"):
        world.command(CommandKind.REARM, f"venue.{venue}", "it takes orders again")
    return world, operation_id


def sale_in_doubt(world: VirtualWorld, operation_id: str) -> str:
    """The next repair's request is lost, and both coins move as it would have moved them; a complete sweep has looked
    for it. Its client id."""
    assert world.run_until(lambda: bool(world.core.ledger.unsettled), limit_ms=5000)
    (order,) = world.core.ledger.unsettled.values()
    assert order.intent.operation_id == operation_id and order.intent.side.name == "SELL"
    venue, qty = order.intent.venue, order.intent.qty
    moved_unlisted(world, "withdraw", venue, "BTC", float(qty))
    moved_unlisted(world, "deposit", venue, "USDT", float(order.intent.price * qty))
    world.run(20_000)
    return order.client_id
