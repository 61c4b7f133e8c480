"""``arb status --refused``: what the executor's gate refused, by pair and reason, out of the SQLite ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline.model.enums import Refusal
from pipeline.model.errors import BadInput
from workers.recorder.sqlite_ledger import open_reader
from workers.tradable import utc

ALL = "all"


def read_refused(path: Path, wanted: str) -> list[dict[str, Any]]:
    """Rows (pair, reason, count; last time, detail, opportunity) of refusals of the pair ``wanted``, or of ``ALL``; the
    most frequent first. The journal keeps a few refusals a second at most, so counts are lower bounds.

    Raises BadInput without a ledger.
    """
    if not path.exists():
        raise BadInput(f"found no ledger at {path}, wanted the recorder's; see `arb status`")
    found: dict[tuple[str, int], dict[str, Any]] = {}
    with open_reader(path) as db:
        rows = db.execute("SELECT wall_ns, body_json FROM events WHERE kind = 'refusal' ORDER BY seq").fetchall()
    for wall_ns, body in rows:
        record = msgspec.json.decode(body)
        if wanted not in (ALL, record["pair"]):
            continue
        row = found.setdefault((record["pair"], record["refusal"]), {"count": 0})
        row |= {"count": row["count"] + 1, "last": utc(wall_ns), "detail": record["detail"]}
        row["opportunity"] = record["opportunity_id"]
    listed = [{"pair": pair, "reason": Refusal(number).name.lower(), **row} for (pair, number), row in found.items()]
    return sorted(listed, key=lambda row: (-row["count"], row["pair"], row["reason"]))


def refused_text(rows: Sequence[dict[str, Any]], wanted: str) -> str:
    """The rows under each other."""
    if not rows:
        return f"refused by the executor: none of {wanted} is recorded (`arb status` counts what the detector refused)"
    lines = [
        "refused by the executor, as recorded (a few a second at most; `arb status` counts all, by reason;",
        "`arb why NUMBER` shows the books and the verdict of the opportunity in brackets):",
    ]
    lines += [
        f"  {row['pair']:<14}{row['reason']:<24}{row['count']:>7}  last {row['last']} ({row['opportunity']})  "
        f"{row['detail']}".rstrip()
        for row in rows
    ]
    return "\n".join(lines)
