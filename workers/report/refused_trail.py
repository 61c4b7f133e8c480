"""``arb why NUMBER`` of an opportunity that became no operation: the books as they were, and the gate's verdict."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.model.enums import Refusal
from pipeline.model.fixedpoint import plain
from workers.tradable import utc


def read_refused_trail(db: sqlite3.Connection, number: int) -> dict[str, Any] | None:
    """``opportunity`` as the detector found it (None where its row is gone), ``refusals`` of the executor's gate; None
    where the ledger has neither. A number comes again when the detector starts anew: the newest is meant."""
    row = db.execute(
        "SELECT * FROM opportunities WHERE id = ? ORDER BY detect_mono_ns DESC LIMIT 1", (number,)
    ).fetchone()
    events = db.execute(
        "SELECT wall_ns, mono_ns, body_json FROM events WHERE kind = 'refusal'"
        " AND json_extract(body_json, '$.opportunity_id') = ? ORDER BY seq",
        (number,),
    ).fetchall()
    if row is None and not events:
        return None
    opportunity = None if row is None else _opportunity(row)
    since_ns = 0 if row is None else row["detect_mono_ns"]
    refusals = [_verdict(event, since_ns) for event in events if event["mono_ns"] >= since_ns]
    return {"operation": None, "opportunity": opportunity, "refusals": refusals}


def _opportunity(row: sqlite3.Row) -> dict[str, Any]:
    fields = {key: row[key] for key in row.keys() if key != "legs_json"}  # noqa: SIM118 - a row is no mapping
    legs = msgspec.json.decode(row["legs_json"])
    return {**fields, "at": utc(row["wall_ns"]), "legs": [_leg(leg, row["detect_mono_ns"]) for leg in legs]}


def _leg(leg: dict[str, Any], detected_ns: int) -> dict[str, Any]:
    """A leg of the opportunity; ``walked``: mean price of its quantity, ``proved_ms``: age of the proof of its book."""
    qty = Decimal(leg["qty"])
    walked = None if not qty else (Decimal(leg["notional"]) / qty).quantize(Decimal("1e-12")).normalize()
    ages = {
        name: round((detected_ns - leg[stamp]) / 1e6, 3) if leg[stamp] else None
        for name, stamp in (("proved_ms", "proof_mono_ns"), ("received_ms", "recv_mono_ns"))
    }
    return {**leg, "walked": walked, **ages}


def _verdict(event: sqlite3.Row, detected_ns: int) -> dict[str, Any]:
    body = msgspec.json.decode(event["body_json"])
    after_us = round((event["mono_ns"] - detected_ns) / 1000, 1) if detected_ns else None
    reason = Refusal(body["refusal"]).name.lower()
    return {"at": utc(event["wall_ns"]), "after_us": after_us, "reason": reason, "detail": body["detail"]}


def refused_trail_text(trail: dict[str, Any]) -> str:
    """The trail as text, one fact a line."""
    lines = []
    found = trail["opportunity"]
    if found is None:
        lines.append("the opportunity's own row is gone (the ledger keeps the newest recording.opportunities_max)")
    else:
        lines.append(f"opportunity {found['id']}  {found['type']}  {found['pair']}  found {found['at']}")
        lines.append(
            f"  edge {found['edge_bps']:.2f} bps after fees, {found['entry_edge_bps']:.2f} as an entry; "
            f"profit {found['profit_quote']:.4f} in the quote coin"
        )
        for leg in found["legs"]:
            walked = "-" if leg["walked"] is None else plain(leg["walked"])
            lines.append(
                f"  book {leg['venue']} {leg['symbol']} at {leg['update_id']}: {leg['side']} {leg['qty']}, best "
                f"{leg['best_price']}, {walked} for all of it, limit {leg['limit_price']}; proved "
                f"{leg['proved_ms']} ms, received {leg['received_ms']} ms before"
            )
    for row in trail["refusals"]:
        after = "" if row["after_us"] is None else f" {row['after_us']} us after it was found"
        lines.append(f"  refused{after}: {row['reason']}  {row['detail']}".rstrip())
    if not trail["refusals"]:
        lines.append(
            "  it became no operation, and the journal has no verdict: a few refusals a second are written, all are "
            "counted (`arb status`)"
        )
    return "\n".join(lines)
