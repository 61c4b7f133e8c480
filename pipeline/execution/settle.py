"""Computes the result of an operation that has ended: exact P&L per asset, value in the numeraire, edges, stage stamps.

Pure functions; nothing is settled here with anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal

from pipeline.execution.accounts import EXACT, Accounts
from pipeline.execution.bounds.unmatched import operation_start
from pipeline.execution.external_fills import EXTERNAL
from pipeline.execution.external_shares import group_of
from pipeline.execution.ledger import Ledger, Operation, Order
from pipeline.execution.records import FillRecord, HedgeRecord, OperationResultRecord, Outcome, Purpose
from pipeline.model.enums import InstrumentKind, OpportunityType, OrderSide, OrderState
from pipeline.model.structs import ZERO

VALUE_STEP = Decimal("1e-12")  # numeraire values are estimates of a price: kept to this step


def entry_orders(operation: Operation, ledger: Ledger) -> list[Order]:
    """The orders of the planned legs: entries and exits, repairs left out."""
    orders = (ledger.orders[client_id] for client_id in operation.orders)
    return [order for order in orders if order.intent.purpose in (Purpose.ENTRY, Purpose.CLOSE, Purpose.FLATTEN)]


def matched_qty(operation: Operation, ledger: Ledger) -> Decimal:
    """Smallest filled quantity over the planned legs: what was executed on every leg."""
    filled = [ZERO] * len(operation.record.legs)
    for order in entry_orders(operation, ledger):
        filled[order.intent.leg] += order.filled
    return min(filled, default=ZERO)


def why_empty(operation: Operation, ledger: Ledger) -> str:
    """Why an operation has no fill: how its orders ended, where that was not a plain cancellation."""
    reasons = [
        f"{order.state.name.lower()} {order.reason}".strip()
        for client_id in operation.orders
        if (order := ledger.orders[client_id]).state is not OrderState.CANCELLED
    ]
    return ("nothing filled: " + "; ".join(reasons))[:200] if reasons else "nothing filled"


def pnl_per_asset(
    fills: list[FillRecord],
) -> tuple[dict[str, Decimal], dict[str, Decimal], dict[str, tuple[Decimal, Decimal]]]:
    """(change per asset, fees per asset, open futures (quantity, cost) per base) of these fills alone."""
    accounts = Accounts()
    futures_base: dict[tuple[str, str], str] = {}
    for fill in fills:
        accounts.apply_fill(fill)
        if fill.kind is InstrumentKind.PERPETUAL:
            futures_base[fill.venue, fill.symbol] = fill.base
    fees = accounts.fees_per_asset()
    contracts: dict[str, tuple[Decimal, Decimal]] = {}
    for key, position in accounts.futures.items():
        qty, cost = contracts.get(futures_base[key], (ZERO, ZERO))
        contracts[futures_base[key]] = (EXACT.add(qty, position.qty), EXACT.add(cost, position.cost))
    return {a: v for a, v in accounts.per_asset().items() if v}, fees, contracts


def own_rates(operation: Operation, start: str) -> dict[str, Decimal]:
    """Value of each asset in the start asset by the operation's own average prices, planned prices where no fill is."""
    totals: dict[str, tuple[Decimal, Decimal]] = {}
    for fill in operation.fills:
        if fill.quote == start and fill.kind is InstrumentKind.SPOT:
            qty, value = totals.get(fill.base, (ZERO, ZERO))
            totals[fill.base] = (qty + fill.qty, value + fill.qty * fill.price)
    rates = {asset: value / qty for asset, (qty, value) in totals.items() if qty}
    rates[start] = Decimal(1)
    for leg in operation.record.legs:
        if leg.quote == start:
            rates.setdefault(leg.base, leg.best_price)
        elif leg.base == start and leg.best_price:
            rates.setdefault(leg.quote, 1 / leg.best_price)
    return rates


def value(amounts: dict[str, Decimal], rates: dict[str, Decimal]) -> Decimal:
    """Sum of ``amounts`` valued at ``rates``; an asset without a rate counts 0."""
    return sum((amount * rates.get(asset, ZERO) for asset, amount in amounts.items()), ZERO)


def outlay(operation: Operation, rates: dict[str, Decimal]) -> Decimal:
    """Largest filled value of one planned leg, in the start asset."""
    per_leg: dict[tuple[str, str], Decimal] = {}
    for fill in operation.fills:
        amount = fill.qty * fill.price * rates.get(fill.quote, ZERO)
        place = (fill.venue, fill.symbol)
        per_leg[place] = per_leg.get(place, ZERO) + amount
    return max(per_leg.values(), default=ZERO)


def stamps(operation: Operation, ledger: Ledger) -> dict[str, int]:
    """Monotonic times of the operation's stages; absent where a stage did not happen."""
    record = operation.record
    orders = entry_orders(operation, ledger)
    found = {
        "trigger_recv": record.trigger_recv_mono_ns,
        "detect": record.detect_mono_ns,
        "dequeued": record.dequeued_mono_ns,
        "gate": record.gate_mono_ns,
    }
    for name, times, pick in (
        ("send", [o.sent_mono_ns for o in orders], min),
        ("last_send", [o.sent_mono_ns for o in orders], max),
        ("first_ack", [o.ack_mono_ns for o in orders], min),
        ("last_ack", [o.ack_mono_ns for o in orders], max),
        ("first_fill", [o.first_fill_mono_ns for o in orders], min),
        ("last_fill", [o.last_fill_mono_ns for o in orders], max),
    ):
        known = [time for time in times if time]
        if known:
            found[name] = pick(known)
    return {name: time for name, time in found.items() if time}


def result_of(
    operation: Operation,
    ledger: Ledger,
    *,
    outcome: Outcome,
    reason: str,
    numeraire: str,
    numeraire_rate: Decimal,
    ended_mono_ns: int,
    dust: dict[str, Decimal],
    fee_rates: Mapping[str, Decimal],
    kept: Mapping[str, Decimal],
    carried: Decimal = ZERO,
) -> OperationResultRecord:
    """The result record. ``numeraire_rate``: value of the start asset in the numeraire. ``fee_rates``: values, in the
    start asset, of assets that only fees were paid in; ``kept``: of coins that it keeps as dust on a market that it did
    not trade on. ``carried``: entry basis of
    a hedge, in the start asset: taken off when this operation opened it, added when this operation closed it."""
    record = operation.record
    start = operation_start(operation, numeraire)
    pnl, fees, contracts = pnl_per_asset(operation.fills)
    rates = {**fee_rates, **own_rates(operation, start), **kept}
    exposure = dict(pnl)
    for base, (qty, cost) in contracts.items():  # an open contract counts as base coin bought at its cost
        exposure[base] = exposure.get(base, ZERO) + qty
        exposure[start] = exposure.get(start, ZERO) - cost
    moved = {asset for fill in operation.fills for asset in (fill.base, fill.quote)} | set(exposure) | set(fees)
    moved |= {asset for leg in record.legs for asset in (leg.base, leg.quote)}
    marks = {asset: rates[asset] * numeraire_rate for asset in sorted(moved) if asset in rates}
    gained = value(exposure, rates) + carried
    spent = outlay(operation, rates)
    matched = matched_qty(operation, ledger)
    hedge = record.type is OpportunityType.SPOT_FUTURES_HEDGE and not record.closes and bool(futures_moved(operation))
    return OperationResultRecord(
        operation_id=operation.operation_id,
        opportunity_id=record.opportunity_id,
        outcome=outcome,
        pnl=pnl,
        pnl_numeraire=(gained * numeraire_rate).quantize(VALUE_STEP, ROUND_HALF_EVEN),
        numeraire=numeraire,
        fees=fees,
        edge_detect_bps=record.edge_detect_bps,
        edge_send_bps=record.edge_send_bps,
        edge_fill_bps=float(gained / spent * 10_000) if spent else 0.0,
        filled_qty=matched,
        dust=dust,
        hedge_open=hedge,
        reason=reason,
        started_mono_ns=operation.started_mono_ns,
        ended_mono_ns=ended_mono_ns,
        stamps=stamps(operation, ledger),
        marks=marks,
        carried=carried * numeraire_rate,
    )


def futures_moved(operation: Operation) -> Decimal:
    """Signed base quantity by which the operation's fills moved its futures position."""
    return sum((f.qty * int(f.side) for f in operation.fills if f.kind is InstrumentKind.PERPETUAL), ZERO)


def hedge_left(ledger: Ledger, opening: Operation) -> Decimal:
    """Base coins that are still hedged of what an operation opened.

    Summed over all fills of it and of its closings each time, so that an operation that late evidence reopened is not
    counted twice. Signed: a closing that was unwound and sold a remainder along with it has made the position larger.
    """
    way = -int(hedge_terms(opening)[0])
    moved = sum((futures_moved(o) for o in group_of(ledger, opening)), ZERO)
    return max(ZERO, moved * way)


def hedge_terms(operation: Operation) -> tuple[OrderSide, Decimal, Decimal]:
    """(spot side, entry price of spot, of futures) of the hedge that an operation opened.

    By the position that its own fills made, not by the plan: what a broken entry leaves may be of the opposite
    direction. Where they made none, an operator has completed it by hand: others take only of what is there. Without a
    fill on a side the plan's price stands.
    """
    futures_fills = [f for f in operation.fills if f.kind is InstrumentKind.PERPETUAL]
    own = sum((f.qty * int(f.side) for f in futures_fills if f.source != EXTERNAL), ZERO)
    by_hand = next((f.qty * int(f.side) for f in futures_fills if f.source == EXTERNAL), ZERO)
    spot_side = OrderSide.BUY if (own or by_hand) < 0 else OrderSide.SELL
    futures_side = OrderSide.SELL if spot_side is OrderSide.BUY else OrderSide.BUY
    planned = {leg.kind: leg.best_price for leg in operation.record.legs}
    spot = average_fill(operation.fills, InstrumentKind.SPOT, spot_side) or planned[InstrumentKind.SPOT]
    futures = average_fill(operation.fills, InstrumentKind.PERPETUAL, futures_side)
    return spot_side, spot, futures or planned[InstrumentKind.PERPETUAL]


def hedge_record(operation: Operation, qty: Decimal, reason: str) -> HedgeRecord:
    """The record of the hedge that ``operation`` opened, of which ``qty`` base coins are still open."""
    legs = operation.record.legs
    spot = next(leg for leg in legs if leg.kind is InstrumentKind.SPOT)
    futures = next(leg for leg in legs if leg.kind is InstrumentKind.PERPETUAL)
    spot_side, entry_spot, entry_futures = hedge_terms(operation)
    return HedgeRecord(
        operation_id=operation.operation_id,
        base=spot.base,
        spot_instrument=spot.instrument_id,
        futures_instrument=futures.instrument_id,
        spot_venue=spot.venue,
        spot_symbol=spot.symbol,
        futures_venue=futures.venue,
        futures_symbol=futures.symbol,
        spot_side=spot_side,
        qty=qty,
        entry_spot_price=entry_spot,
        entry_futures_price=entry_futures,
        reason=reason,
    )


def entry_basis(operation: Operation) -> Decimal:
    """Basis at which a hedge was entered, quote per base: futures less spot; its sign follows the spot side."""
    side, spot, futures = hedge_terms(operation)
    return (futures - spot) * int(side)


def carried_basis(ledger: Ledger, operation: Operation) -> Decimal:
    """Entry basis, in quote, of what an operation has moved of a hedge's contract; it is earned at the exit only: taken
    off where the operation opened the hedge, added where it closed it, also while either waits for an operator."""
    record = operation.record
    if record.type is not OpportunityType.SPOT_FUTURES_HEDGE:
        return ZERO
    opening = ledger.operations[record.closes] if record.closes else operation
    return entry_basis(opening) * int(hedge_terms(opening)[0]) * futures_moved(operation)


def average_fill(fills: list[FillRecord], kind: InstrumentKind, side: OrderSide) -> Decimal:
    """Average price of the fills of one kind and side; 0 without any."""
    chosen = [fill for fill in fills if fill.kind is kind and fill.side is side]
    qty = sum((fill.qty for fill in chosen), ZERO)
    return sum((fill.qty * fill.price for fill in chosen), ZERO) / qty if qty else ZERO
