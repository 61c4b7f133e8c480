"""The newest rows of the SQLite ledger, for views that are drawn again and again: bounded reads, whatever it holds."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pipeline.model.enums import Refusal
from workers.recorder.sqlite_ledger import open_reader
from workers.tradable import utc

TRADES_MAX = 25
REFUSALS_MAX = 12
EVENTS_LOOKED_AT = 2000  # newest events among which refusals are looked for
EQUITY_NS = 24 * 3600 * 1_000_000_000


class Recent(NamedTuple):
    """``equity``: (wall s, value) of the last day, ascending. ``trades``, ``refusals``: rows, the newest first."""

    equity: list[tuple[float, float]]
    trades: list[dict[str, Any]]
    refusals: list[dict[str, Any]]


NOTHING_YET = Recent([], [], [])


def read_recent(path: Path, wall_ns: int) -> Recent:
    """What the ledger at ``path`` has of the time before ``wall_ns``; nothing where there is none of this build."""
    try:
        with open_reader(path) as db:
            return Recent(_equity(db, wall_ns), _trades(db), _refusals(db))
    except sqlite3.Error:  # not there yet, or of an earlier build whose recorder has not begun
        return NOTHING_YET


def _equity(db: sqlite3.Connection, wall_ns: int) -> list[tuple[float, float]]:
    rows = db.execute("SELECT wall_ns, equity FROM equity WHERE wall_ns > ? ORDER BY wall_ns", (wall_ns - EQUITY_NS,))
    return [(row["wall_ns"] / 1e9, float(row["equity"])) for row in rows]


def _trades(db: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = db.execute("SELECT * FROM operations ORDER BY wall_ns DESC LIMIT ?", (TRADES_MAX,))
    return [
        {
            "at": utc(row["wall_ns"]),
            "id": row["operation_id"],
            "pair": row["pair"],
            "type": row["type"],
            "outcome": row["outcome"] or row["state"],
            "pnl": None if row["pnl_numeraire"] is None else Decimal(row["pnl_numeraire"]),
            "asset": row["numeraire"],
            "expected_bps": row["edge_detect_bps"],
            "realised_bps": row["edge_fill_bps"],
        }
        for row in rows
    ]


def _refusals(db: sqlite3.Connection) -> list[dict[str, Any]]:
    (newest,) = db.execute("SELECT MAX(seq) FROM events").fetchone()
    rows = db.execute(
        "SELECT wall_ns, body_json FROM events WHERE seq > ? AND kind = 'refusal' ORDER BY seq DESC LIMIT ?",
        ((newest or 0) - EVENTS_LOOKED_AT, REFUSALS_MAX),
    )
    found = []
    for row in rows:
        body = msgspec.json.decode(row["body_json"])
        reason = Refusal(body["refusal"]).name.lower()
        about = {"at": utc(row["wall_ns"]), "opportunity": body["opportunity_id"]}
        found.append({**about, "pair": body["pair"], "reason": reason, "detail": body["detail"]})
    return found
