"""The tables of a report's files: rows of plain values, one list per table."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from workers.recorder.sqlite_ledger import EQUITY_FIELDS
from workers.report.charts import POINTS_MAX
from workers.report.markouts import markout_rows
from workers.report.parts import ReportParts, drawdown
from workers.report.stages import latency_rows
from workers.tradable import utc

#: Every table, in the order in which files show it, and what it is.
TABLES = {
    "day": "P&L by day (UTC)",
    "pair": "P&L by pair",
    "venue": "P&L by venue: what each leg gained against the mark of its coin",
    "operation": "P&L by operation",
    "leg": "Legs: expected against realised",
    "pnl": "P&L since the beginning of the span, and how far it fell below its height",
    "equity": "Equity of the accounts at one mark per asset, a reading a minute",
    "latency": "Latency of the stages, microseconds at shares of the operations",
    "markouts": "Markouts: bps that the mid went our way after a fill, weighted by notional",
    "fills": "Executions",
    "funding": "Funding payments",
}
ROWS_MAX = 500  # of one table in the page; CSV and Parquet have all
Table = list[dict[str, Any]]
_FILL_COLUMNS = (
    "venue, symbol, trade_id, order_id, client_id, operation_id, side, qty, price, fee, fee_asset, is_maker, source"
)
_FILL_DECIMALS = ("qty", "price", "fee")


def tables_of(parts: ReportParts, rows: Sequence[sqlite3.Row]) -> dict[str, Table]:
    """The tables that come of operations: ``rows`` of ``operations`` and their parts."""
    found = {by: parts.rows(by) for by in ("day", "pair", "venue", "operation", "leg")}
    curve = parts.curve()
    found["pnl"] = [
        {"at": utc(wall_ns), "pnl": value, "drawdown": fall}
        for (wall_ns, value), (_, fall) in zip(curve, drawdown(curve)[1], strict=True)
    ]
    found["latency"] = latency_rows({**dict(row), "stamps": _stamps(row)} for row in rows)
    return found


def _stamps(row: sqlite3.Row) -> dict[str, int]:
    return msgspec.json.decode(row["stamps_json"], type=dict[str, int]) if row["stamps_json"] else {}


def ledger_tables(db: sqlite3.Connection, start_wall_ns: int, *, of_page: bool = False) -> dict[str, Table]:
    """The tables that the ledger has as they are, since then. ``of_page``: of what a ledger of years has millions of,
    only the rows that a page shows: the newest ``ROWS_MAX`` executions, and the readings of equity that its chart
    draws."""
    equity = _drawn(db, start_wall_ns) if of_page else _readings(db, start_wall_ns)
    fills = db.execute(
        f"SELECT wall_ns, {_FILL_COLUMNS} FROM fills WHERE wall_ns >= ? ORDER BY wall_ns DESC, venue DESC, "
        "symbol DESC, trade_id DESC LIMIT ?",
        (start_wall_ns, ROWS_MAX if of_page else -1),
    ).fetchall()[::-1]
    funding = db.execute(
        "SELECT wall_ns, body_json FROM events WHERE kind = 'funding' AND wall_ns >= ? ORDER BY seq", (start_wall_ns,)
    )
    return {
        "equity": [{"at": utc(row["wall_ns"]), **_decimals(row, EQUITY_FIELDS, EQUITY_FIELDS[1:])} for row in equity],
        "fills": [
            {"at": utc(row["wall_ns"]), **_decimals(row, _FILL_COLUMNS.split(", "), _FILL_DECIMALS)} for row in fills
        ],
        "markouts": markout_rows(db, start_wall_ns),
        "funding": [{"at": utc(row["wall_ns"]), **_funding(row["body_json"])} for row in funding],
    }


def _readings(db: sqlite3.Connection, start_wall_ns: int) -> list[sqlite3.Row]:
    return db.execute("SELECT * FROM equity WHERE wall_ns >= ? ORDER BY wall_ns", (start_wall_ns,)).fetchall()


def _drawn(db: sqlite3.Connection, start_wall_ns: int) -> list[sqlite3.Row]:
    """At most ``POINTS_MAX`` readings: of each stretch of time the lowest and the highest, first and last of all."""
    about = "SELECT COUNT(*), MIN(wall_ns), MAX(wall_ns) FROM equity WHERE wall_ns >= ?"
    count, first, last = db.execute(about, (start_wall_ns,)).fetchone()
    if count <= POINTS_MAX:
        return _readings(db, start_wall_ns)
    width = (last - first) // (POINTS_MAX // 2 - 1) + 1
    found = db.execute("SELECT * FROM equity WHERE wall_ns IN (?, ?)", (first, last)).fetchall()
    for extreme in ("MIN", "MAX"):  # SQLite takes the other columns of the row that has it
        found += db.execute(
            f"SELECT *, {extreme}(CAST(equity AS REAL)) FROM equity WHERE wall_ns >= ? GROUP BY (wall_ns - ?) / ?",
            (start_wall_ns, first, width),
        ).fetchall()
    by_time = {row["wall_ns"]: row for row in found}
    return [by_time[wall_ns] for wall_ns in sorted(by_time)]


def _decimals(row: sqlite3.Row, columns: Sequence[str], decimals: Sequence[str]) -> dict[str, Any]:
    return {name: Decimal(row[name]) if name in decimals and row[name] is not None else row[name] for name in columns}


def _funding(body_json: str) -> Mapping[str, Any]:
    body = msgspec.json.decode(body_json)
    return {
        **{name: body[name] for name in ("venue", "symbol", "event_id", "asset")},
        "amount": Decimal(body["amount"]),
        "value_numeraire": Decimal(body.get("value_numeraire", 0)),
    }
