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
PAIRS_MAX = 10  # names of pairs in one sentence


def read_refused(path: Path, wanted: str) -> list[dict[str, Any]]:
    """Rows (pair, reason, count; last time, detail, opportunity) of refusals, the most frequent first.

    ``wanted``: a pair (``BTC/USDT``, or as a venue spells it), or ``ALL``. The journal keeps a few refusals a second at
    most, so counts are lower bounds.

    Raises BadInput without a ledger.
    """
    if not path.exists():
        raise BadInput(f"found no ledger at {path}, wanted the recorder's; see `arb status`")
    found: dict[tuple[str, int], dict[str, Any]] = {}
    with open_reader(path) as db:
        rows = db.execute("SELECT wall_ns, body_json FROM events WHERE kind = 'refusal' ORDER BY seq").fetchall()
    for wall_ns, body in rows:
        record = msgspec.json.decode(body)
        if wanted != ALL and _letters(wanted) != _letters(record["pair"]):
            continue
        row = found.setdefault((record["pair"], record["refusal"]), {"count": 0})
        row |= {"count": row["count"] + 1, "last": utc(wall_ns), "detail": record["detail"]}
        row["opportunity"] = record["opportunity_id"]
    listed = [{"pair": pair, "reason": Refusal(number).name.lower(), **row} for (pair, number), row in found.items()]
    return sorted(listed, key=lambda row: (-row["count"], row["pair"], row["reason"]))


def _letters(pair: str) -> str:
    """A pair without what venues put between its coins."""
    return pair.upper().translate(dict.fromkeys(map(ord, "/_-")))


def refused_text(rows: Sequence[dict[str, Any]], wanted: str, recorded: Sequence[str] = ()) -> str:
    """The rows under each other; where there are none, of which pairs there are (``recorded``)."""
    if not rows:
        listed = ", ".join([*recorded[:PAIRS_MAX], *(["..."] if len(recorded) > PAIRS_MAX else [])])
        others = f"; recorded are {listed}" if listed else ""
        return (
            f"refused by the executor: none of {wanted} is recorded{others}; `arb status` counts what the detector "
            "refused, `arb inspect book VENUE SYMBOL` says what keeps a book from being traded now"
        )
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
