"""``arb canary``: what real orders met, per instrument, beside what the engine counts on: fees, least sizes, answers.

It reads the ledger; what is expected comes from the catalogue of the running instance, and is unknown without one.
What could not be compared is a doubt like any other: a comparison that did not take place says nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.model.enums import OrderState
from pipeline.model.units import PPM_PER_BPS
from workers.report.stages import at_share, share_name

BPS = Decimal(10_000)
ENDED = tuple(state.name.lower() for state in OrderState if state.is_terminal)
#: A fee that is dearer than expected by more than this is no rounding.
FEE_ROOM_BPS = Decimal("0.1")
#: Orders that no venue took, by state, and what that means.
NOT_TAKEN = {
    OrderState.EXPIRED.name.lower(): "no venue took them in time",
    OrderState.NOT_SENT.name.lower(): "they never left",
}
REASONS_SHOWN = 3
SHARES = (0.5, 0.99, 1.0)
Key = tuple[str, str]  # venue, symbol


class _Seen(msgspec.Struct):
    """What was met on one instrument."""

    orders: int = 0
    refused: dict[str, int] = {}  # reason -> orders
    unknown: int = 0
    not_taken: dict[str, list[str]] = {}  # state -> operations of the orders
    answers_ms: list[float] = []
    fills: int = 0
    least_fill: Decimal | None = None  # in quote coin
    notional: Decimal = Decimal(0)  # of the fills whose fee is known in quote coin
    fee: Decimal = Decimal(0)
    other_fees: dict[str, Decimal] = {}  # in coins that are neither leg of the pair


def canary_fields(db: sqlite3.Connection, listed: Iterable[Mapping[str, Any]], since_wall_ns: int) -> dict[str, Any]:
    """``rows``, one an instrument that orders went to, each with its ``doubts``; ``doubts`` counts them all;
    ``compared``: rows all of whose fees stand beside an expectation; ``as_expected``: every row, without a doubt."""
    known = {(row["venue"], row["symbol"]): row for row in listed}
    rows = [_row(key, seen, known.get(key)) for key, seen in sorted(_seen(db, since_wall_ns).items())]
    doubts, compared = sum(len(row["doubts"]) for row in rows), sum(row["compared"] for row in rows)
    return {
        "rows": rows,
        "doubts": doubts,
        "compared": compared,
        "as_expected": not doubts and 0 < compared == len(rows),
        "expected_known": bool(known),
    }


def _seen(db: sqlite3.Connection, since_wall_ns: int) -> dict[Key, _Seen]:
    found: dict[Key, _Seen] = {}
    orders = db.execute(
        "SELECT venue, symbol, operation_id, state, reason, send_mono_ns, last_mono_ns FROM orders "
        "WHERE intent_wall_ns >= ? ORDER BY intent_wall_ns",
        (since_wall_ns,),
    )
    for order in orders:
        seen = found.setdefault((order["venue"], order["symbol"]), _Seen())
        seen.orders += 1
        if order["state"] == OrderState.REJECTED.name.lower():
            seen.refused[order["reason"] or "no reason"] = seen.refused.get(order["reason"] or "no reason", 0) + 1
        elif order["state"] == OrderState.UNKNOWN.name.lower():
            seen.unknown += 1
        elif order["state"] in NOT_TAKEN:
            seen.not_taken.setdefault(order["state"], []).append(order["operation_id"])
        if order["state"] in ENDED and order["send_mono_ns"] and order["last_mono_ns"]:
            seen.answers_ms.append(round((order["last_mono_ns"] - order["send_mono_ns"]) / 1e6, 3))
    for fill in db.execute("SELECT * FROM fills WHERE wall_ns >= ?", (since_wall_ns,)):
        _add_fill(found.setdefault((fill["venue"], fill["symbol"]), _Seen()), fill)
    return found


def _add_fill(seen: _Seen, fill: sqlite3.Row) -> None:
    price, notional = Decimal(fill["price"]), Decimal(fill["qty"]) * Decimal(fill["price"])
    seen.fills += 1
    seen.least_fill = notional if seen.least_fill is None else min(seen.least_fill, notional)
    worth = {fill["quote"]: Decimal(1), fill["base"]: price}
    if fill["fee_asset"] in worth:
        seen.notional += notional
        seen.fee += Decimal(fill["fee"]) * worth[fill["fee_asset"]]
    else:
        asset = fill["fee_asset"]
        seen.other_fees[asset] = seen.other_fees.get(asset, Decimal(0)) + Decimal(fill["fee"])


def _row(key: Key, seen: _Seen, listed: Mapping[str, Any] | None) -> dict[str, Any]:
    fee_bps = round(seen.fee / seen.notional * BPS, 4) if seen.notional else None
    expected_bps = None if listed is None else Decimal(listed["taker_fee_ppm"]) / PPM_PER_BPS
    answers = sorted(seen.answers_ms)
    missing = _missing(seen, listed)
    return {
        "venue": key[0],
        "symbol": key[1],
        "orders": seen.orders,
        "refused": seen.refused,
        "unknown": seen.unknown,
        "not_taken": {state: len(names) for state, names in seen.not_taken.items()},
        "fills": seen.fills,
        "least_fill": seen.least_fill,
        "min_notional": None if listed is None else Decimal(listed["min_notional"]),
        "fee_bps": fee_bps,
        "fee_expected_bps": expected_bps,
        "other_fees": seen.other_fees,
        "answer_ms": {share_name(share): at_share(answers, share) for share in SHARES} if answers else {},
        "compared": not missing,
        "doubts": [*_doubts(seen, fee_bps, expected_bps), *(f"not compared: {text}" for text in missing)],
    }


def _missing(seen: _Seen, listed: Mapping[str, Any] | None) -> list[str]:
    """What keeps the fees from being compared."""
    found = []
    if not seen.fills:
        found.append("there is no fill yet")
    if seen.other_fees:
        paid = ", ".join(f"{amount:f} {asset}" for asset, amount in sorted(seen.other_fees.items()))
        found.append(f"fees of {paid}, which is no coin of the pair: compare them at the venue")
    if listed is None:
        found.append("its fees are not known: the running instance lists them (`arb symbols list`), ask while it runs")
    return found


def _doubts(seen: _Seen, fee_bps: Decimal | None, expected_bps: Decimal | None) -> list[str]:
    """What should be understood before limits are widened."""
    found = []
    for reason, count in sorted(seen.refused.items(), key=lambda item: -item[1])[:REASONS_SHOWN]:
        found.append(f"{count} orders refused: {reason}")
    if seen.unknown:
        found.append(f"{seen.unknown} orders UNKNOWN: `arb recoveries`")
    for state, names in sorted(seen.not_taken.items()):
        found.append(f"{len(names)} orders {state.upper()}: {NOT_TAKEN[state]}; `arb why {names[-1]}`")
    if fee_bps is not None and expected_bps is not None and fee_bps > expected_bps + FEE_ROOM_BPS:
        found.append(f"fees of {fee_bps:f} bps, expected {expected_bps:f}: set fees.VENUE.taker_ppm, or ask the venue")
    return found


def canary_text(fields: Mapping[str, Any]) -> str:
    """A line an instrument, its doubts below it, and what comes next."""
    lines = []
    for row in fields["rows"]:
        fee = "no fees yet" if row["fee_bps"] is None else f"fees {row['fee_bps']:f} bps"
        expected = "unknown" if row["fee_expected_bps"] is None else f"{row['fee_expected_bps']:f}"
        least = "-" if row["least_fill"] is None else f"{row['least_fill']:.2f}"
        answer = row["answer_ms"]
        took = f"answers {', '.join(f'{name} {value:g}' for name, value in answer.items())} ms"
        took = took if answer else "no answer"
        lines.append(
            f"{row['venue']:<18}{row['symbol']:<16}{row['orders']:>5} orders {row['fills']:>5} fills, least {least} "
            f"(venue's minimum {'unknown' if row['min_notional'] is None else row['min_notional']}); {fee} (expected "
            f"{expected}); {took}"
        )
        lines += [f"  DOUBT {text}" for text in row["doubts"]]
    if not fields["rows"]:
        return "no order was sent yet, nothing was compared: wait, or see why in `arb status` (refused)"
    if not fields["expected_known"]:
        lines.append("the instance does not run: what is expected is not known")
    lines.append(
        "as expected: widen one limit at a time, then `arb config reload`"
        if fields["as_expected"]
        else f"{fields['doubts']} doubts, {fields['compared']} of {len(fields['rows'])} instruments compared: "
        "understand each before you widen a limit"
    )
    return "\n".join(lines)
