"""What the world did to the account besides our orders: the ledger's part of it, and whose leg it took.

A forced or foreign execution moves accounts and positions like a fill of ours. What it closed is taken from the
operations that held it, oldest first: their fills get the execution as if it were their own, so that the other leg is
left as an unmatched quantity. What no operation held stays with others: ``unowned`` futures, ``foreign_spot`` coins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from pipeline.execution.accounts import EXACT
from pipeline.execution.external_records import (
    ExternalFillRecord,
    ExternalFlowRecord,
    ExternalPositionRecord,
    HeldFillRecord,
    TakenShare,
)
from pipeline.execution.records import AdoptedRecord, ExternalRecord, FillRecord
from pipeline.model.enums import InstrumentKind, OrderSide, OrderState
from pipeline.model.structs import ZERO

if TYPE_CHECKING:
    from pipeline.execution.ledger import Ledger, Operation

EXTERNAL = "external"  # source of a fill that an operation was given because others had taken a part of its leg
Place = tuple[str, str]  # venue and symbol, or venue and asset
Trade = tuple[str, str, str]  # venue, symbol, trade id


def _add(sums: dict[Place, Decimal], key: Place, amount: Decimal) -> None:
    total = EXACT.add(sums.get(key, ZERO), amount)
    if total:
        sums[key] = total
    else:
        sums.pop(key, None)


@dataclass(slots=True)
class ExternalState:
    """The part of the ledger that external records write; changed by :meth:`Ledger.apply` only.

    ``unowned``: (venue, contract) -> position that no operation holds, signed base coins. ``foreign_spot``: (venue,
    asset) -> what executions of others changed. ``held``: fills that wait for REST. ``orders``: (venue, order id) of
    orders that are not ours. ``unpriced``: (venue, asset) whose money for a closed position has not been seen yet.
    ``unexplained_usd``: money lost without any explanation since the breaker was last re-armed.
    """

    unowned: dict[Place, Decimal] = field(default_factory=dict)
    foreign_spot: dict[Place, Decimal] = field(default_factory=dict)
    base_of: dict[Place, str] = field(default_factory=dict)
    held: dict[Trade, HeldFillRecord] = field(default_factory=dict)
    orders: set[Place] = field(default_factory=set)
    unpriced: set[Place] = field(default_factory=set)
    unexplained_usd: Decimal = ZERO

    def foreign(self) -> dict[str, Decimal]:
        """Asset -> what others hold on our accounts, spot and futures together; without zeros."""
        totals: dict[str, Decimal] = {}
        for (_, asset), amount in self.foreign_spot.items():
            totals[asset] = EXACT.add(totals.get(asset, ZERO), amount)
        for key, amount in self.unowned.items():
            base = self.base_of[key]
            totals[base] = EXACT.add(totals.get(base, ZERO), amount)
        return {asset: amount for asset, amount in totals.items() if amount}

    def content(self) -> list[object]:
        """Everything, for the ledger's digest."""
        return [
            sorted((k, str(v)) for k, v in self.unowned.items()),
            sorted((k, str(v)) for k, v in self.foreign_spot.items()),
            sorted(self.held.items()),
            sorted(self.orders),
            sorted(self.unpriced),
            str(self.unexplained_usd),
        ]

    # --- the fold ---

    def note(self, record: ExternalRecord) -> None:
        if record.order_id:
            self.orders.add((record.venue, record.order_id))

    def fill(self, record: ExternalFillRecord, ledger: Ledger) -> None:
        ledger.fills_seen.add((record.venue, record.symbol, record.trade_id))
        self.orders.add((record.venue, record.order_id))
        if not record.booked:
            return
        ledger.accounts.apply_fill(record)
        for what in (record.base, record.quote, record.symbol):
            ledger.moved_mono_ns[record.venue, what] = ledger.mono_ns
        for share in record.taken:
            _give(ledger, share.operation_id, _as_fill(record, share))
        key, sign = (record.venue, record.symbol), int(record.side)
        self.base_of[key] = record.base
        if record.kind is InstrumentKind.PERPETUAL:
            taken = sum((share.qty for share in record.taken), ZERO)
            _add(self.unowned, key, sign * EXACT.subtract(record.qty, taken))
            return
        _add(self.foreign_spot, (record.venue, record.base), sign * record.qty)
        _add(self.foreign_spot, (record.venue, record.quote), -sign * EXACT.multiply(record.qty, record.price))
        _add(self.foreign_spot, (record.venue, record.fee_asset), -record.fee)

    def flow(self, record: ExternalFlowRecord, ledger: Ledger) -> None:
        key = (record.venue, record.asset)
        ledger.accounts.apply_external(record.venue, record.asset, record.amount, trading=record.trading)
        if record.trading:
            self.unpriced.discard(key)
        if record.cause == "unexplained" and record.amount < 0:
            self.unexplained_usd = EXACT.subtract(self.unexplained_usd, record.value_usd)
        for share in record.taken:
            self._take_spot(record, share, ledger)

    def _take_spot(self, record: ExternalFlowRecord, share: TakenShare, ledger: Ledger) -> None:
        leg = next(
            fill
            for fill in ledger.operations[share.operation_id].fills
            if (fill.venue, fill.symbol) == (record.venue, record.symbol)
        )
        gone = FillRecord(
            venue=record.venue,
            symbol=record.symbol,
            trade_id="",
            order_id="",
            client_id="",
            operation_id=share.operation_id,
            instrument_id=leg.instrument_id,
            kind=InstrumentKind.SPOT,
            base=leg.base,
            quote=leg.quote,
            side=OrderSide.SELL,
            qty=share.qty,
            price=record.price,
            fee=ZERO,
            fee_asset=leg.quote,
            is_maker=False,
            venue_wall_ms=0,
            recv_mono_ns=record.recv_mono_ns,
            source=EXTERNAL,
        )
        _give(ledger, share.operation_id, gone)
        _add(self.foreign_spot, (record.venue, leg.base), share.qty)

    def position(self, record: ExternalPositionRecord, ledger: Ledger) -> None:
        key = (record.venue, record.symbol)
        ledger.accounts.set_position(record.venue, record.symbol, record.qty, record.price)
        ledger.position_offsets[key] = ZERO
        ledger.moved_mono_ns[key] = ledger.mono_ns
        change = EXACT.subtract(record.qty, record.qty_before)
        side = OrderSide.BUY if change > 0 else OrderSide.SELL
        for share in record.taken:
            leg = next(f for f in group_fills(ledger, share.operation_id) if (f.venue, f.symbol) == key)
            gone = FillRecord(
                venue=record.venue,
                symbol=record.symbol,
                trade_id="",
                order_id="",
                client_id="",
                operation_id=share.operation_id,
                instrument_id=leg.instrument_id,
                kind=InstrumentKind.PERPETUAL,
                base=record.base,
                quote=record.quote,
                side=side,
                qty=share.qty,
                price=record.price,
                fee=ZERO,
                fee_asset=record.quote,
                is_maker=False,
                venue_wall_ms=0,
                recv_mono_ns=record.recv_mono_ns,
                source=EXTERNAL,
            )
            _give(ledger, share.operation_id, gone)
        self.base_of[key] = record.base
        taken = sum((share.qty for share in record.taken), ZERO)
        _add(self.unowned, key, EXACT.subtract(change, taken * int(side)))
        if record.cause != "adopted":
            self.unpriced.add((record.venue, record.quote))

    def hold(self, record: HeldFillRecord) -> None:
        key = (record.venue, record.symbol, record.trade_id)
        if record.state == "held":
            self.held[key] = record
        else:
            self.held.pop(key, None)

    def adopt(self, record: AdoptedRecord, ledger: Ledger) -> None:
        for fill in record.fills:
            _give(ledger, record.operation_id, fill)
            signed = fill.qty * int(fill.side)
            if fill.kind is InstrumentKind.PERPETUAL:
                _add(self.unowned, (fill.venue, fill.symbol), -signed)
            else:
                _add(self.foreign_spot, (fill.venue, fill.base), -signed)


def _give(ledger: Ledger, operation_id: str, fill: FillRecord) -> None:
    """An operation gets an execution that was not its own; one that had ended is open again."""
    operation = ledger.operations[operation_id]
    operation.fills.append(fill)
    operation.forced = operation.forced or fill.source == EXTERNAL
    if operation.result is not None:
        operation.late = True
    ledger.open_operations[operation_id] = operation


def _as_fill(record: ExternalFillRecord, share: TakenShare) -> FillRecord:
    return FillRecord(
        venue=record.venue,
        symbol=record.symbol,
        trade_id=record.trade_id,
        order_id=record.order_id,
        client_id="",
        operation_id=share.operation_id,
        instrument_id=record.instrument_id,
        kind=record.kind,
        base=record.base,
        quote=record.quote,
        side=record.side,
        qty=share.qty,
        price=record.price,
        fee=share.fee,
        fee_asset=record.fee_asset,
        is_maker=False,
        venue_wall_ms=record.venue_wall_ms,
        recv_mono_ns=record.recv_mono_ns,
        source=EXTERNAL,
    )


# --- whose leg it is ---


def group_of(ledger: Ledger, operation: Operation) -> list[Operation]:
    """The operation that opened a hedge and those that leave it; any other operation alone."""
    opening = ledger.operations[operation.record.closes] if operation.record.closes else operation
    return [opening, *ledger.closings.get(opening.operation_id, ())]


def group_fills(ledger: Ledger, operation_id: str) -> Iterable[FillRecord]:
    """All fills of an operation's group."""
    return (fill for member in group_of(ledger, ledger.operations[operation_id]) for fill in member.fills)


def group_net(ledger: Ledger, operation: Operation, venue: str, symbol: str) -> Decimal:
    """Signed base coins that an operation's group holds on one instrument, by its fills."""
    return sum(
        (
            fill.qty * int(fill.side)
            for member in group_of(ledger, operation)
            for fill in member.fills
            if fill.symbol == symbol and fill.venue == venue
        ),
        ZERO,
    )


def own_side_only(ledger: Ledger, operation: Operation) -> bool:
    """Whether an operation may only reduce what its group still holds, each leg on its own instrument.

    So from when on a leg is known, or must be feared, to have been ended by others: a part of it was taken, or a
    venue refused to reduce it. Buying back what the other leg has sold would open a position that nothing hedges.
    """
    return any(
        member.forced
        or any(
            (order := ledger.orders[client_id]).state is OrderState.REJECTED and order.intent.reduce_only
            for client_id in member.orders
        )
        for member in group_of(ledger, operation)
    )


def futures_taken(ledger: Ledger, venue: str, symbol: str, signed: Decimal) -> list[tuple[Operation, Decimal]]:
    """Which operations lose how much (base coins) of their leg to an external change of a futures position.

    What nobody owns goes first, then the oldest holders of the other sign. A hedge that is being left loses it from
    the operation that leaves it: that one's own order finds nothing any more.
    """
    left = abs(signed)
    unowned = ledger.external.unowned.get((venue, symbol), ZERO)
    if unowned * signed < 0:
        left = max(ZERO, left - abs(unowned))
    found: list[tuple[Operation, Decimal]] = []
    for opening in _holders(ledger):
        net = group_net(ledger, opening, venue, symbol)
        if net * signed < 0 and left > 0:
            taken = min(abs(net), left)
            left -= taken
            closing = [o for o in group_of(ledger, opening)[1:] if o.operation_id in ledger.open_operations]
            found.append((closing[0] if closing else opening, taken))
    return found


def spot_taken(ledger: Ledger, venue: str, base: str, total: Decimal) -> list[tuple[Operation, str, Decimal]]:
    """(operation, symbol, base coins) by which the coins that hedges bought on a venue exceed ``total``, what is there;
    the newest hedge loses first."""
    held = [
        hedge
        for hedge in ledger.hedges.values()
        if (hedge.spot_venue, hedge.base) == (venue, base)
        and hedge.spot_side is OrderSide.BUY
        and hedge.operation_id not in ledger.open_operations
    ]
    short = sum((hedge.qty for hedge in held), ZERO) - total
    found: list[tuple[Operation, str, Decimal]] = []
    for hedge in reversed(held):
        if short > 0:
            taken = min(hedge.qty, short)
            short -= taken
            found.append((ledger.operations[hedge.operation_id], hedge.spot_symbol, taken))
    return found


def _holders(ledger: Ledger) -> list[Operation]:
    """Operations that opened something which may still be held, oldest first."""
    names = dict.fromkeys(ledger.hedges)
    names.update(dict.fromkeys(o.record.closes or o.operation_id for o in ledger.open_operations.values()))
    return sorted((ledger.operations[name] for name in names), key=lambda o: o.started_mono_ns)
