"""The judge of a run: the venues' own ledger against the engine's journal. Imports no engine code on purpose.

Both sides come as plain values: ``ledger`` = the rows that the simulated exchanges kept (their control URL),
``journal`` = the engine's records as mappings with their type's name. Decimals are text on both sides. Each function
returns violations ``{"invariant", "text"}``; an unreadable ledger is a failed run, never a passed one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]
Violation = dict[str, str]
ZERO = Decimal(0)
LISTED_MAX = 20  # violations of one invariant that are spelled out


def _violations(invariant: str, texts: Iterable[str]) -> list[Violation]:
    found = list(texts)
    shown = [{"invariant": invariant, "text": text} for text in found[:LISTED_MAX]]
    if len(found) > LISTED_MAX:
        shown.append({"invariant": invariant, "text": f"and {len(found) - LISTED_MAX} more"})
    return shown


def add(sums: dict[str, Decimal], asset: str, amount: Decimal) -> None:
    """``sums[asset] += amount``, keeping no zeros."""
    total = sums.get(asset, ZERO) + amount
    if total:
        sums[asset] = total
    else:
        sums.pop(asset, None)


def venue_changes(ledger: Sequence[Row], uids: frozenset[str]) -> dict[str, Decimal]:
    """Asset -> realised change of the engine's balances over all venues, deposits and withdrawals apart."""
    changes: dict[str, Decimal] = {}
    users = {f"user:{uid}" for uid in uids}
    for row in ledger:
        if row["kind"] == "entry" and row["reason"] not in ("deposit", "withdraw"):
            for account, asset, amount in row["postings"]:
                if account in users:
                    add(changes, asset, Decimal(amount))
    return changes


def venue_positions(ledger: Sequence[Row], uids: frozenset[str]) -> dict[tuple[str, str], Decimal]:
    """(venue, symbol) -> futures position in base coin, as the venue last said."""
    positions: dict[tuple[str, str], Decimal] = {}
    for row in ledger:
        if row["kind"] == "position" and row["uid"] in uids:
            positions[row["venue"], row["symbol"]] = Decimal(row["qty"])
    return {key: qty for key, qty in positions.items() if qty}


def base_of(ledger: Sequence[Row]) -> dict[tuple[str, str], str]:
    """(venue, symbol) -> base asset."""
    return {(row["venue"], row["symbol"]): row["base"] for row in ledger if row["kind"] == "instrument"}


def deltas(ledger: Sequence[Row], uids: frozenset[str], numeraire: str) -> dict[str, Decimal]:
    """Asset -> net exposure gained by the run: balances and futures positions together, the numeraire apart."""
    net = {asset: amount for asset, amount in venue_changes(ledger, uids).items() if asset != numeraire}
    bases = base_of(ledger)
    for key, qty in venue_positions(ledger, uids).items():
        add(net, bases[key], qty)
    return net


def check_flat(delta: Mapping[str, Decimal], dust: Mapping[str, Decimal]) -> list[Violation]:
    """I1: every asset's exposure equals the listed dust, exactly."""
    assets = sorted(set(delta) | set(dust))
    return _violations(
        "I1",
        (
            f"{asset}: net exposure {delta.get(asset, ZERO)}, listed dust {dust.get(asset, ZERO)}"
            for asset in assets
            if delta.get(asset, ZERO) != dust.get(asset, ZERO)
        ),
    )


def check_money(engine: Mapping[str, Decimal], venue: Mapping[str, Decimal]) -> list[Violation]:
    """I2: the engine's own sums equal the venues' balance changes, asset by asset, exactly."""
    assets = sorted(set(engine) | set(venue))
    return _violations(
        "I2",
        (
            f"{asset}: engine {engine.get(asset, ZERO)}, venues {venue.get(asset, ZERO)}"
            for asset in assets
            if engine.get(asset, ZERO) != venue.get(asset, ZERO)
        ),
    )


def check_double_entry(ledger: Sequence[Row]) -> list[Violation]:
    """I2: every posting of the venues sums to zero per asset."""
    wrong = []
    for row in ledger:
        if row["kind"] == "entry":
            sums: dict[str, Decimal] = {}
            for _, asset, amount in row["postings"]:
                add(sums, asset, Decimal(amount))
            if sums:
                wrong.append(f"entry {row['seq']} of {row['venue']} sums to {sums}")
    return _violations("I2", wrong)


def check_fills(ledger: Sequence[Row], journal: Sequence[Row], ours: frozenset[str]) -> list[Violation]:
    """I3: the journal's fills are the venues' fills of our orders, each exactly once, with the same numbers."""

    def key(row: Row) -> tuple[str, str, str]:
        return row["venue"], row["symbol"], str(row["trade_id"])

    venue_rows = {key(row): row for row in ledger if row["kind"] == "fill" and row["client_id"] in ours}
    counted = Counter(key(row) for row in journal if row["record"] == "FillRecord")
    texts = [f"fill {name} is in the journal {count} times" for name, count in counted.items() if count > 1]
    texts += [f"fill {name} is not in the journal" for name in venue_rows if name not in counted]
    texts += [f"fill {name} is not in the venues' ledger" for name in counted if name not in venue_rows]
    for row in journal:
        if row["record"] == "FillRecord" and key(row) in venue_rows:
            theirs = venue_rows[key(row)]
            mine = tuple(Decimal(row[name]) for name in ("qty", "price", "fee"))
            other = tuple(Decimal(theirs[name]) for name in ("qty", "price", "fee"))
            if mine != other:
                texts.append(f"fill {key(row)}: journal (qty, price, fee) {mine}, venue {other}")
    return _violations("I3", texts)


def check_accounted(ledger: Sequence[Row], journal: Sequence[Row]) -> list[Violation]:
    """I4: every order at a venue has an intent journalled before it arrived; every intent has ended."""
    intents = {row["client_id"]: row for row in journal if row["record"] == "OrderIntentRecord"}
    texts = []
    ended: set[str] = set()
    for row in journal:
        if row["record"] == "OrderStateRecord" and row["terminal"]:
            ended.add(row["client_id"])
    filled = filled_quantities(journal)
    for row in ledger:
        if row["kind"] != "order":
            continue
        intent = intents.get(row["client_id"])
        if intent is None:
            texts.append(f"order {row['client_id']} ({row['venue']} {row['symbol']}) has no intent in the journal")
        elif intent["at_mono_ns"] > row["mono_ns"]:
            late = intent["at_mono_ns"] - row["mono_ns"]
            texts.append(f"order {row['client_id']} reached its venue {late} ns before its intent was journalled")
    for client_id, intent in intents.items():
        if client_id not in ended and filled.get(client_id, ZERO) < Decimal(intent["qty"]):
            texts.append(f"intent {client_id} never ended")
    return _violations("I4", texts)


def check_sent_once(ledger: Sequence[Row]) -> list[Violation]:
    """I6: at most one placement request per client order id reached a venue."""
    placed = Counter(
        (row["venue"], row["client_id"])
        for row in ledger
        if row["kind"] == "request" and row["operation"] == "place" and row["client_id"]
    )
    return _violations("I6", (f"{name} was placed {count} times" for name, count in placed.items() if count > 1))


def filled_quantities(journal: Sequence[Row]) -> dict[str, Decimal]:
    """Client order id -> sum of its fills in the journal."""
    filled: dict[str, Decimal] = {}
    for row in journal:
        if row["record"] == "FillRecord":
            filled[row["client_id"]] = filled.get(row["client_id"], ZERO) + Decimal(row["qty"])
    return filled


def check_monotone(ledger: Sequence[Row], journal: Sequence[Row]) -> list[Violation]:
    """I12: 0 <= filled <= quantity, cumulative quantities never shrink, and both sides agree on what was filled."""
    intents = {row["client_id"]: Decimal(row["qty"]) for row in journal if row["record"] == "OrderIntentRecord"}
    filled = filled_quantities(journal)
    texts = [
        f"{client_id}: filled {qty} of {intents.get(client_id, ZERO)}"
        for client_id, qty in filled.items()
        if not ZERO <= qty <= intents.get(client_id, ZERO)
    ]
    theirs: dict[str, Decimal] = {}
    for row in ledger:
        if row["kind"] == "order":
            now = Decimal(row["filled_qty"])
            if now < theirs.get(row["client_id"], ZERO):
                texts.append(f"{row['client_id']}: the venue's filled quantity went back to {now}")
            theirs[row["client_id"]] = now
    texts += [
        f"{client_id}: journal filled {filled.get(client_id, ZERO)}, venue {qty}"
        for client_id, qty in theirs.items()
        if client_id in intents and filled.get(client_id, ZERO) != qty
    ]
    return _violations("I12", texts)


def check_all(
    *,
    ledger: Sequence[Row],
    journal: Sequence[Row],
    uids: frozenset[str],
    numeraire: str,
    engine_pnl: Mapping[str, Decimal],
    dust: Mapping[str, Decimal],
) -> list[Violation]:
    """Every invariant that a run without faults can be held to."""
    ours = frozenset(row["client_id"] for row in journal if row["record"] == "OrderIntentRecord")
    return [
        *check_flat(deltas(ledger, uids, numeraire), dust),
        *check_money(engine_pnl, venue_changes(ledger, uids)),
        *check_double_entry(ledger),
        *check_fills(ledger, journal, ours),
        *check_accounted(ledger, journal),
        *check_sent_once(ledger),
        *check_monotone(ledger, journal),
    ]
