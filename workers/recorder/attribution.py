"""The P&L of operations in the SQLite ledger, taken apart into the terms of ``pipeline/economics/attribution.py``.

Each term reads a record of its own: ``edge`` the detector's opportunity (what the legs cost at its books), ``latency``
the best prices that the executor read before it sent, ``slippage`` the fills of the planned legs, ``broken`` those of
repairs and of others on the account, ``fees`` those of all fills, ``marks`` the basis that a hedge carries from its
entry to its exit. Their sum is compared with the P&L that the executor wrote when the operation ended: a ``residual``
is a record that is missing or foreign.

All prices are taken less the mark of the leg's coin (what the result was valued at), so that a leg that buys the fee's
coin along with the rest, or a leg of a cycle, counts in each term by what it gains and not by what it moves.

Prices at send: the best price of the executor's book, and the depth beyond it as the detector walked it. Where no
opportunity is known (by hand, forced, or its row is gone) the best price at send stands for both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import msgspec

from pipeline.economics.attribution import Attribution, LegFill, RepairFill, attribute
from pipeline.execution.external_fills import EXTERNAL
from pipeline.execution.records import FillRecord, LegPlan
from pipeline.model.structs import ZERO
from workers.recorder.sqlite_ledger import read_fill

RESIDUAL_STEP = Decimal("1e-9")  # of the numeraire: results are kept to 1e-12, averages to 28 digits
PLANNED = ("entry", "close", "flatten")  # purposes of orders of the planned legs
NOTHING = Attribution(*([ZERO] * len(Attribution._fields)))


class LegPnl(NamedTuple):
    """What one leg of an operation added. ``leg`` -1: executions where no leg was planned. Prices in the leg's quote
    coin; ``filled_price`` 0 where nothing filled. ``side`` +1 bought, -1 sold."""

    leg: int
    venue: str
    symbol: str
    side: int
    planned: Decimal
    filled: Decimal
    expected_price: Decimal
    sent_price: Decimal
    filled_price: Decimal
    parts: Attribution


class OperationPnl(NamedTuple):
    """One operation, in the numeraire. ``residual``: the P&L of its result less the sum of ``parts``. ``carried``: the
    part of ``marks`` that lies between its venues and belongs to no leg. ``detected``: its opportunity was found."""

    operation_id: str
    wall_ns: int
    parts: Attribution
    residual: Decimal
    legs: tuple[LegPnl, ...] = ()
    carried: Decimal = ZERO
    detected: bool = True


class KeptParts(Protocol):
    """Operations that were taken apart before (``report_cache.py``)."""

    def get(self, operation_id: str, signature: str) -> OperationPnl | None:
        """What :meth:`put` was given with this signature."""

    def put(self, signature: str, one: OperationPnl) -> None:
        """Keep one operation."""


def added(rows: Iterable[Attribution]) -> Attribution:
    """The sum, term by term."""
    total = NOTHING
    for row in rows:
        total = Attribution(*(one + other for one, other in zip(total, row, strict=True)))
    return total


def attributed(
    db: sqlite3.Connection, rows: Sequence[sqlite3.Row], kept: KeptParts | None = None
) -> tuple[list[OperationPnl], list[str]]:
    """(operations with their parts, ids of those that cannot be taken apart) of ended ``rows`` of ``operations``.

    The result of an operation of an earlier build has no marks. What ``kept`` has is not computed anew, unless
    an execution, the result or the opportunity came later.
    """
    ended = [row for row in rows if row["pnl_numeraire"] is not None]
    others = _executions_of_others(db)
    counts: dict[str, int] = {
        row[0]: row[1] for row in db.execute("SELECT operation_id, COUNT(*) FROM fills GROUP BY operation_id")
    }
    found = []
    for row in ended:
        if not row["marks_json"]:
            continue
        name = row["operation_id"]
        extra = others.get(name, [])
        signature = f"{counts.get(name, 0)}/{len(extra)}/{row['ended_mono_ns']}/{row['pnl_numeraire']}/{row['carried']}"
        one = None if kept is None else kept.get(name, signature)
        if one is None or (not one.detected and _opportunity(db, row) is not None):
            one = _operation(db, row, extra)
            if kept is not None:
                kept.put(signature, one)
        found.append(one)
    return found, [row["operation_id"] for row in ended if not row["marks_json"]]


def _operation(db: sqlite3.Connection, row: sqlite3.Row, extra: Sequence[FillRecord]) -> OperationPnl:
    marks: dict[str, Decimal] = msgspec.json.decode(row["marks_json"], type=dict[str, Decimal])
    plans = [msgspec.convert(leg, LegPlan, strict=False) for leg in _as_arrays(row["legs_json"])]
    name = (row["operation_id"],)
    orders = {
        order["client_id"]: order["leg"] if order["purpose"] in PLANNED else -1
        for order in db.execute("SELECT client_id, leg, purpose FROM orders WHERE operation_id = ?", name)
    }
    own = [read_fill(fill) for fill in db.execute("SELECT * FROM fills WHERE operation_id = ?", name)]
    totals = [(ZERO, ZERO) for _ in plans]  # filled quantity, value in quote
    repairs: dict[tuple[str, str], list[RepairFill]] = {}
    fees: dict[tuple[str, str], Decimal] = {}
    for fill in (*own, *extra):
        at = (fill.venue, fill.symbol)
        paid = sum((amount * marks.get(asset, ZERO) for asset, amount in fill.fees), ZERO)
        fees[at] = fees.get(at, ZERO) + paid
        number = orders.get(fill.client_id, -1) if fill.client_id else _leg_of(plans, fill)
        if number >= 0 and plans[number].side is fill.side:
            qty, value = totals[number]
            totals[number] = (qty + fill.qty, value + fill.qty * fill.price)
        else:
            price = fill.price * marks.get(fill.quote, ZERO) - marks.get(fill.base, ZERO)
            repairs.setdefault(at, []).append(RepairFill(fill.base, int(fill.side), fill.qty, price))
    detected = _detected(db, row, plans)
    legs = _legs(plans, totals, detected, marks, repairs, fees)
    carried = Decimal(row["carried"] or 0)
    parts = added(leg.parts for leg in legs)
    parts = parts._replace(marks=parts.marks + carried)
    residual = (Decimal(row["pnl_numeraire"]) - parts.total).quantize(RESIDUAL_STEP)
    whole = all(found is not None for found in detected)
    return OperationPnl(row["operation_id"], row["wall_ns"], parts, residual + ZERO, tuple(legs), carried, whole)


def _legs(
    plans: Sequence[LegPlan],
    totals: Sequence[tuple[Decimal, Decimal]],
    detected: Sequence[tuple[Decimal, Decimal] | None],
    marks: Mapping[str, Decimal],
    repairs: dict[tuple[str, str], list[RepairFill]],
    fees: dict[tuple[str, str], Decimal],
) -> list[LegPnl]:
    """Each planned leg with the repairs and fees of its instrument; then what was executed where none was planned."""
    share = min((qty / plan.qty for plan, (qty, _) in zip(plans, totals, strict=True) if plan.qty), default=ZERO)
    worth = dict.fromkeys({plan.base for plan in plans} | {x.asset for rows in repairs.values() for x in rows}, ZERO)
    legs = []
    for number, (plan, (qty, value), walk) in enumerate(zip(plans, totals, detected, strict=True)):
        rate, mark = marks.get(plan.quote, ZERO), marks.get(plan.base, ZERO)
        sent = plan.best_price if walk is None else walk[0] + plan.best_price - walk[1]
        price = value / qty if qty else plan.best_price
        first = plan.best_price if walk is None else walk[0]
        relative = [value * rate - mark for value in (first, sent, price)]
        at = (plan.venue, plan.symbol)
        parts = attribute(
            [LegFill(plan.base, int(plan.side), plan.qty, qty, *relative)],
            repairs.pop(at, []),
            fees.pop(at, ZERO),
            ZERO,
            worth,
            [plan.qty * share],
        )
        filled_price = price if qty else ZERO
        legs.append(LegPnl(number, *at, int(plan.side), plan.qty, qty, first, sent, filled_price, parts))
    for at in sorted({*repairs, *fees}):
        broken = -sum((fill.d * fill.qty * fill.price for fill in repairs.get(at, ())), ZERO)
        parts = NOTHING._replace(broken=broken, fees=-fees.get(at, ZERO))
        legs.append(LegPnl(-1, *at, 0, ZERO, ZERO, ZERO, ZERO, ZERO, parts))
    return legs


def _as_arrays(legs_json: str) -> list[list[Any]]:
    """Legs as ``LegPlan`` takes them: the fields' values in their order."""
    return [list(leg.values()) for leg in msgspec.json.decode(legs_json)]


def _leg_of(plans: Sequence[LegPlan], fill: FillRecord) -> int:
    """The leg that an adopted fill was; -1 for what others took."""
    if fill.source == EXTERNAL:
        return -1
    same = (n for n, plan in enumerate(plans) if (plan.venue, plan.symbol) == (fill.venue, fill.symbol))
    return next(same, -1)


def _opportunity(db: sqlite3.Connection, row: sqlite3.Row) -> Any:
    """The row of the operation's opportunity; None where it is not known."""
    return db.execute(
        "SELECT legs_json FROM opportunities WHERE id = ? AND detect_mono_ns = ?",
        (row["opportunity_id"], row["detect_mono_ns"]),
    ).fetchone()


def _detected(
    db: sqlite3.Connection, row: sqlite3.Row, plans: Sequence[LegPlan]
) -> list[tuple[Decimal, Decimal] | None]:
    """Per leg (walk price, best price) at detection; None where it is not known."""
    found = _opportunity(db, row)
    legs = {} if found is None else {(x["venue"], x["symbol"]): x for x in msgspec.json.decode(found["legs_json"])}
    prices: list[tuple[Decimal, Decimal] | None] = []
    for plan in plans:
        leg = legs.get((plan.venue, plan.symbol))
        qty = Decimal(0 if leg is None else leg["qty"])
        if leg is None or not leg.get("notional") or not qty:
            prices.append(None)
        else:
            prices.append((Decimal(leg["notional"]) / qty, Decimal(leg["best_price"])))
    return prices


def _executions_of_others(db: sqlite3.Connection) -> dict[str, list[FillRecord]]:
    """What others caused, by the operation that it belongs to."""
    found: dict[str, list[FillRecord]] = {}
    for row in db.execute(
        "SELECT kind, body_json FROM events"
        " WHERE kind IN ('external_fill', 'external_flow', 'external_position', 'adopted')"
    ):
        body = msgspec.json.decode(row["body_json"])
        given = _adopted(body) if row["kind"] == "adopted" else _taken(db, row["kind"], body)
        for operation_id, fill in given:
            found.setdefault(operation_id, []).append(fill)
    return found


def _adopted(body: Mapping[str, Any]) -> list[tuple[str, FillRecord]]:
    fills = [msgspec.convert(fill, FillRecord, strict=False) for fill in body["fills"]]
    return [(body["operation_id"], fill) for fill in fills]


def _taken(db: sqlite3.Connection, kind: str, body: Mapping[str, Any]) -> list[tuple[str, FillRecord]]:
    """What operations lost to a movement that was not theirs, as an execution each (``execution/external.py``)."""
    side = body.get("side", -1)
    if kind == "external_position":
        side = 1 if Decimal(body["qty"]) > Decimal(body["qty_before"]) else -1
    found = []
    for operation_id, qty, fee in body["taken"]:
        legs = db.execute("SELECT legs_json FROM operations WHERE operation_id = ?", (operation_id,)).fetchone()
        for leg in [] if legs is None else _as_arrays(legs["legs_json"]):
            plan = msgspec.convert(leg, LegPlan, strict=False)
            if (plan.venue, plan.symbol) == (body["venue"], body["symbol"]):
                found.append((operation_id, _taken_fill(plan, operation_id, side, qty, fee, body)))
    return found


def _taken_fill(plan: LegPlan, operation_id: str, side: int, qty: str, fee: str, body: Mapping[str, Any]) -> FillRecord:
    return FillRecord(
        venue=plan.venue,
        symbol=plan.symbol,
        trade_id="",
        order_id="",
        client_id="",
        operation_id=operation_id,
        instrument_id=plan.instrument_id,
        kind=plan.kind,
        base=plan.base,
        quote=plan.quote,
        side=type(plan.side)(side),
        qty=Decimal(qty),
        price=Decimal(body["price"]),
        fee=Decimal(fee),
        fee_asset=body.get("fee_asset", plan.quote),
        is_maker=False,
        venue_wall_ms=0,
        recv_mono_ns=0,
        source=EXTERNAL,
    )
