"""For how long fills left an operation's coins without a partner, by the stamps of the venues' ledger."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from pipeline.execution.journal import JournalEntry
from pipeline.execution.records import DustRecord, OrderIntentRecord

D = Decimal
SHARE = D("0.02")  # of an operation's largest amount: fees in coins and steps that differ between venues
MONEY = frozenset({"USDT", "USDC", "USD"})
Change = tuple[int, Mapping[str, Decimal]]  # mono ns, change per asset


def naked_times(changes: Iterable[Change], spare: Mapping[str, Decimal], until_ns: int) -> Iterator[tuple[int, int]]:
    """(from, to) in which the sum of ``changes`` (in order) was more than ``spare`` in any asset; to ``until_ns`` where
    it still is. An asset that ``spare`` lacks has none to spare."""
    net: dict[str, Decimal] = {}
    rows = list(changes)
    for (at_ns, change), following in zip(rows, [*rows[1:], (until_ns, {})], strict=True):
        for asset, amount in change.items():
            net[asset] = net.get(asset, D(0)) + amount
        if any(abs(amount) > spare.get(asset, D(0)) for asset, amount in net.items()):
            yield at_ns, following[0]


def naked_ms(changes: Iterable[Change], spare: Mapping[str, Decimal], until_ns: int) -> float:
    """Milliseconds of all :func:`naked_times`."""
    return sum(to_ns - from_ns for from_ns, to_ns in naked_times(changes, spare, until_ns)) / 1e6


def change_of(fill: Mapping[str, Any], base: str, quote: str) -> dict[str, Decimal]:
    """What one fill of the ledger changes, without fees; money does not count."""
    qty = D(str(fill["qty"])) * (1 if fill["side"] == "buy" else -1)
    found = {base: qty}
    if quote not in MONEY:
        found[quote] = -qty * D(str(fill["price"]))
    return found


def naked_spans(
    ledger: Iterable[Mapping[str, Any]], entries: Iterable[JournalEntry], until_ns: int
) -> dict[str, float]:
    """Operation with a fill -> ms for which it was naked.

    ``ledger``: the venues' rows with the engine's order ids; ``entries``: both journals, which only say what belongs to
    which operation, and what was left as dust. A hedge that another operation closes is whole in both.
    """
    return {name: naked_ms(rows, spare, until_ns) for name, (rows, spare) in changes_of(ledger, entries).items()}


def naked_ends(ledger: Iterable[Mapping[str, Any]], entries: Iterable[JournalEntry], until_ns: int) -> dict[str, int]:
    """The same, but when it was naked last (monotonic ns); 0 where it never was."""
    return {
        name: max((to_ns for _, to_ns in naked_times(rows, spare, until_ns)), default=0)
        for name, (rows, spare) in changes_of(ledger, entries).items()
    }


def changes_of(
    ledger: Iterable[Mapping[str, Any]], entries: Iterable[JournalEntry]
) -> dict[str, tuple[list[Change], dict[str, Decimal]]]:
    """Operation with a fill -> (its changes in order, what it may leave over)."""
    coins: dict[str, tuple[str, str]] = {}  # by order: a repair may go where no operation has a leg
    operation_of: dict[str, str] = {}
    dust: dict[str, dict[str, Decimal]] = {}
    for entry in entries:
        record = entry.record
        if isinstance(record, OrderIntentRecord):
            operation_of[record.client_id] = record.operation_id
            coins[record.client_id] = (record.base, record.quote)
        elif isinstance(record, DustRecord) and record.operation_id:
            known = dust.setdefault(record.operation_id, {})
            known[record.asset] = known.get(record.asset, D(0)) + abs(record.delta)
    changes: dict[str, list[Change]] = {}
    for row in ledger:
        client_id = str(row.get("client_id"))
        operation = operation_of.get(client_id) if row["kind"] == "fill" else None
        if operation is not None:
            change = change_of(row, *coins[client_id])
            changes.setdefault(operation, []).append((int(row["mono_ns"]), change))
    return {
        name: (sorted(rows, key=lambda row: row[0]), _spare(rows, dust.get(name, {}))) for name, rows in changes.items()
    }


def _spare(rows: list[Change], dust: Mapping[str, Decimal]) -> dict[str, Decimal]:
    traded: dict[str, list[Decimal]] = {}
    for _, change in rows:
        for asset, amount in change.items():
            traded.setdefault(asset, []).append(amount)
    bought_sold = {
        asset: max(sum(a for a in found if a > 0), -sum(a for a in found if a < 0)) for asset, found in traded.items()
    }
    return {asset: amount * SHARE + dust.get(asset, D(0)) for asset, amount in bought_sold.items()}


def quantile(values: list[float], share: float) -> float:
    """The smallest value that ``share`` of them do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)] if ordered else 0.0


def spans_text(values: list[float], what: str = "naked") -> str:
    """One line for a terminal."""
    found = ", ".join(f"p{share:g} {quantile(values, share / 100):.0f}" for share in (50, 99))
    return f"{what} ms of {len(values)}: {found}, max {max(values, default=0.0):.0f}"
