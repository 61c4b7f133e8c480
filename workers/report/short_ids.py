"""Ids of operations, asked by their beginning."""

from __future__ import annotations

import sqlite3

from pipeline.model.errors import BadInput

LISTED_MAX = 10


def whole_id(db: sqlite3.Connection, wanted: str) -> str | None:
    """The one operation whose id is ``wanted`` or begins with it; None where none does. Raises BadInput, which lists
    them, where several do."""
    if db.execute("SELECT 1 FROM operations WHERE operation_id = ?", (wanted,)).fetchone():
        return wanted
    if not wanted:
        return None
    rows = db.execute(
        "SELECT operation_id, pair, COALESCE(outcome, state) AS outcome FROM operations"
        " WHERE operation_id >= ? AND operation_id < ? ORDER BY wall_ns DESC",
        (wanted, wanted + "\U0010ffff"),
    ).fetchall()
    if len(rows) > 1:
        listed = ", ".join(f"{name} ({pair} {outcome})" for name, pair, outcome in rows[:LISTED_MAX])
        more = f" and {len(rows) - LISTED_MAX} older" if len(rows) > LISTED_MAX else ""
        raise BadInput(f"found {len(rows)} operations that begin with {wanted!r}, wanted one: {listed}{more}")
    return str(rows[0][0]) if rows else None
