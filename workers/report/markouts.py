"""Markouts of the ledger: how far the mid had moved in each fill's direction some seconds after it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.model.units import BPS

ALL = "all"
_JOINED = (
    "SELECT f.venue, f.side, f.qty, f.price, m.horizon_s, m.mid FROM fills f JOIN markouts m ON m.venue = f.venue "
    "AND m.symbol = f.symbol AND m.trade_id = f.trade_id WHERE f.wall_ns >= ? AND f.operation_id != ''"
)


def markout_rows(db: sqlite3.Connection, start_wall_ns: int) -> list[dict[str, Any]]:
    """One row per venue and horizon, and for all venues together: ``fills`` of the span, how many were ``measured``,
    and ``bps``: the mid's move in the fill's direction against the fill's price, weighted by notional (above 0: the
    price went on our way). Nothing where nothing was measured."""
    count = "SELECT venue, COUNT(*) FROM fills WHERE wall_ns >= ? AND operation_id != '' GROUP BY venue"
    fills: dict[str, int] = {row[0]: row[1] for row in db.execute(count, (start_wall_ns,))}
    fills[ALL] = sum(fills.values())
    sums: dict[tuple[str, int], list[Any]] = {}
    for row in db.execute(_JOINED, (start_wall_ns,)):
        qty, price, mid = (Decimal(row[name]) for name in ("qty", "price", "mid"))
        gained = (mid - price) * qty if row["side"] == "buy" else (price - mid) * qty
        for venue in (row["venue"], ALL):
            total = sums.setdefault((venue, row["horizon_s"]), [0, Decimal(0), Decimal(0)])
            total[0] += 1
            total[1] += gained
            total[2] += price * qty
    return [
        {
            "venue": venue,
            "horizon_s": horizon_s,
            "fills": fills[venue],
            "measured": measured,
            "bps": round(float(gained / notional * BPS), 3) if notional else None,
        }
        for (venue, horizon_s), (measured, gained, notional) in sorted(
            sums.items(), key=lambda item: (item[0][0] != ALL, item[0])
        )
    ]


def markout_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of all venues in a line."""
    parts = [
        f"{row['bps']:+.2f} bps after {row['horizon_s']} s ({row['measured']} of {row['fills']} fills)"
        for row in rows
        if row["venue"] == ALL and row["bps"] is not None
    ]
    return ", ".join(parts) or "nothing measured"
