"""``arb why ID``: all of one operation, in the order in which it happened, out of the SQLite ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import plain
from workers.control_plane.instances import ledger_path
from workers.executor_file import amount
from workers.recorder.sqlite_ledger import open_reader
from workers.report.refused_trail import read_refused_trail, refused_trail_text
from workers.report.short_ids import whole_id
from workers.report.stages import stage_times


def _row(row: Any) -> dict[str, Any]:
    """A row as plain values; ``*_json`` columns become objects without the suffix."""
    fields: dict[str, Any] = {}
    for key in tuple(row.keys()):
        value = row[key]
        if key.endswith("_json"):
            fields[key.removesuffix("_json")] = None if value is None else msgspec.json.decode(value)
        else:
            fields[key] = value
    return fields


def read_trail(instance: str, wanted: str) -> dict[str, Any]:
    """Everything about the operation ``wanted`` (its id or the beginning of it, or its opportunity's number); of an
    opportunity that was refused its books and the verdict. Raises BadInput where none is meant, or several."""
    path = ledger_path(instance)
    if not path.exists():
        raise BadInput(f"found no ledger at {path}, wanted the recorder's; see `arb status --instance {instance}`")
    with open_reader(path) as db:
        found = db.execute("SELECT * FROM operations WHERE operation_id = ?", (whole_id(db, wanted),)).fetchone()
        if found is None and wanted.isdigit():
            found = db.execute(
                "SELECT * FROM operations WHERE opportunity_id = ? ORDER BY wall_ns DESC", (int(wanted),)
            ).fetchone()
        refused = read_refused_trail(db, int(wanted)) if found is None and wanted.isdigit() else None
        if refused is not None:
            return refused
        if found is None:
            newest = db.execute("SELECT operation_id FROM operations ORDER BY wall_ns DESC LIMIT 5").fetchall()
            names = ", ".join(row[0] for row in newest) or "none yet"
            raise BadInput(
                f"found no operation {wanted!r} in {path}, wanted one of its ids, newest: {names}; of what was "
                "refused the number of the opportunity (`arb status --refused all`)"
            )
        operation = _row(found)
        key = (operation["operation_id"],)
        states = db.execute("SELECT * FROM operation_states WHERE operation_id = ? ORDER BY seq", key).fetchall()
        orders = db.execute(
            "SELECT * FROM orders WHERE operation_id = ? ORDER BY intent_mono_ns, client_id", key
        ).fetchall()
        fills = db.execute("SELECT * FROM fills WHERE operation_id = ? ORDER BY recv_mono_ns, trade_id", key).fetchall()
        opportunity = db.execute(
            "SELECT * FROM opportunities WHERE id = ? AND detect_mono_ns = ?",
            (operation["opportunity_id"], operation["detect_mono_ns"]),
        ).fetchone()
        trip = round_trip(db, operation)
    return {
        "operation": operation,
        "round_trip": trip,
        "opportunity": None if opportunity is None else _row(opportunity),
        "states": [_row(row) for row in states],
        "orders": [_row(row) for row in orders],
        "fills": [_row(row) for row in fills],
        "stages_us": stage_times(operation),
    }


def round_trip(db: sqlite3.Connection, operation: dict[str, Any]) -> dict[str, Any] | None:
    """The hedge that an operation opened or closed: ``began``, ``closed_by``, whether it is still open, and what the
    round trip has brought in the numeraire so far: ``pnl`` of its operations, ``funding`` that it was paid, ``profit``
    of both; None where it was no hedge's."""
    began = str(operation["closes"] or operation["operation_id"])
    rows = db.execute(
        "SELECT * FROM operations WHERE operation_id = ? OR closes = ? ORDER BY wall_ns", (began, began)
    ).fetchall()
    closers = [row["operation_id"] for row in rows if row["closes"]]
    left, funding = _left_and_funding(db, began)
    if not closers and not left:
        return None
    pnl = sum((Decimal(row["pnl_numeraire"]) for row in rows if row["pnl_numeraire"] is not None), Decimal(0))
    profit = {"pnl": pnl, "funding": funding, "profit": pnl + funding}
    return {"began": began, "closed_by": closers, "open": bool(left), **profit, "numeraire": operation["numeraire"]}


def _left_and_funding(db: sqlite3.Connection, began: str) -> tuple[Decimal, Decimal]:
    """Base coins of a hedge that are open, and what funding has brought it. A venue books by contract: a payment is
    shared by the hedges that were open there at its time, each by its signed quantity."""
    events: list[tuple[int, str, dict[str, Any]]] = []
    seen: set[tuple[str, str]] = set()
    for kind, body, wall_ns in db.execute(
        "SELECT kind, body_json, wall_ns FROM events WHERE kind IN ('hedge', 'funding') ORDER BY seq"
    ):
        row = msgspec.json.decode(body)
        if kind == "hedge":
            events.append((wall_ns, kind, row))
        elif (row["venue"], row["event_id"]) not in seen:  # listed twice, paid once
            seen.add((row["venue"], row["event_id"]))
            events.append((row["venue_wall_ms"] * 1_000_000, kind, row))
    held: dict[tuple[str, str], dict[str, Decimal]] = {}  # contract -> hedge -> base coins, signed as its spot leg
    left = funding = Decimal(0)
    for _, kind, row in sorted(events, key=lambda event: event[0]):
        if kind == "hedge":
            qty, contract = Decimal(row["qty"]), (row["futures_venue"], row["futures_symbol"])
            held.setdefault(contract, {})[row["operation_id"]] = qty * int(row["spot_side"])
            left = qty if row["operation_id"] == began else left
            continue
        shares = held.get((row["venue"], row["symbol"]), {})
        whole = sum(shares.values(), Decimal(0))
        if whole and shares.get(began):
            funding += Decimal(row.get("value_numeraire", 0)) * shares[began] / whole
    return left, funding


def round_trip_line(trip: dict[str, Any]) -> str:
    """What became of the hedge."""
    by = ", ".join(trip["closed_by"])
    money = f"{amount(trip['profit'])} {trip['numeraire'] or ''}".rstrip()
    money += f", {amount(trip['funding'])} of it funding" if trip["funding"] else ""
    if trip["open"]:
        parts = f", partly closed by {by}" if by else ""
        why = "an entry pays fees, the exit earns the basis"
        return f"  hedge {trip['began']} still open{parts}; so far {money} ({why})"
    sign = "+" if trip["profit"] > 0 else ""
    return f"  hedge {trip['began']} closed by {by}; round trip {sign}{money}"


def _money_line(operation: Mapping[str, Any]) -> str:
    """P&L in the numeraire, then what moved of each asset."""
    if operation["pnl_numeraire"] is None:
        return "  P&L not known yet"
    moved, fees, dust = (
        ", ".join(f"{plain(Decimal(qty))} {asset}" for asset, qty in (operation[name] or {}).items())
        for name in ("pnl", "fees", "dust")
    )
    parts = (("changes", moved), ("fees", fees), ("dust", dust))
    text = "".join(f"; {name} {what}" for name, what in parts if what)
    return f"  P&L {operation['pnl_numeraire']} {operation['numeraire']}{text}"


def _bps(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def trail_text(trail: dict[str, Any]) -> str:
    """The trail as text, one fact a line."""
    operation = trail["operation"]
    if operation is None:
        return refused_trail_text(trail)
    start = operation["trigger_recv_mono_ns"] or operation["started_mono_ns"] or 0

    def at(mono_ns: int | None) -> str:
        return f"{(mono_ns - start) / 1e6:>10.3f} ms" if mono_ns else " " * 13

    lines = [
        f"operation {operation['operation_id']}  {operation['type']}  {operation['pair']}  "
        f"opportunity {operation['opportunity_id']}  {operation['outcome'] or operation['state']}",
        f"  edge bps: detected {_bps(operation['edge_detect_bps'])}, at send {_bps(operation['edge_send_bps'])}, "
        f"realised {_bps(operation['edge_fill_bps'])}",
        _money_line(operation),
    ]
    if trail["round_trip"] is not None:
        lines.append(round_trip_line(trail["round_trip"]))
    if operation["reason"]:
        lines.append(f"  reason: {operation['reason']}")
    for leg in operation["legs"] or []:
        lines.append(
            f"  leg {leg['venue']} {leg['symbol']}: {'buy' if leg['side'] > 0 else 'sell'} {leg['qty']} "
            f"to {leg['limit_price']}, book {leg['update_id']} best {leg['best_price']}"
        )
    events = [
        (row["mono_ns"], f"state {row['from_state']} -> {row['to_state']}  {row['reason']}") for row in trail["states"]
    ]
    for order in trail["orders"]:
        terms = (
            f"{order['purpose']} {order['side']} {order['qty']} @ {order['price']} {order['venue']} {order['symbol']}"
        )
        events.append((order["intent_mono_ns"], f"intent {order['client_id']}: {terms}"))
        if order["send_mono_ns"]:
            events.append((order["send_mono_ns"], f"sent {order['client_id']}"))
        if order["last_mono_ns"]:
            state = f"{order['state']} filled {order['filled']} {order['reason'] or ''}"
            events.append((order["last_mono_ns"], f"order {order['client_id']}: {state}"))
    for fill in trail["fills"]:
        terms = f"{fill['side']} {fill['qty']} @ {fill['price']} fee {fill['fee']} {fill['fee_asset']}"
        terms += "".join(f" + {fee} {asset}" for asset, fee in fill.get("extra_fees", ()))
        events.append((fill["recv_mono_ns"], f"fill {fill['trade_id']} {fill['venue']}: {terms} ({fill['source']})"))
    lines.extend(f"  {at(mono_ns)}  {text}" for mono_ns, text in sorted(events, key=lambda event: event[0] or 0))
    if trail["stages_us"]:
        lines.append("  us: " + ", ".join(f"{name} {value}" for name, value in trail["stages_us"].items()))
    return "\n".join(lines)
