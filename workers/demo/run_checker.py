"""The check of a run: the venues' ledger compared with the engine's journal, by invariants I1 to I12.

It imports no engine code, so that an error of the engine cannot hide itself. Both sides come as plain values:
``ledger`` = the rows that the simulated exchanges keep (their control URL), ``journal`` = the engine's records as
mappings with their type's name. Decimals are text on both sides. Each check returns violations
``{"invariant", "text"}``; a ledger that cannot be read is an error, never a passed run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.model.structs import ZERO
from workers.demo.funding_read import is_funding, unread_funding

Row = Mapping[str, Any]
Violation = dict[str, str]
ENTRY = 0  # purpose of an order that adds risk
LISTED_MAX = 20  # violations of one invariant that are listed; the others are counted


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


def until_stop(ledger: Sequence[Row], journal: Sequence[Row], due_until_ns: int | None = None) -> list[Row]:
    """The venues' rows without the funding that they paid after the engine had stopped: hedges that stay open go on
    paying and earning, and nobody is there who could book it. All rows where the journal does not end with a stop.

    ``due_until_ns``: what the venues have booked until then must be in the journal. What comes later, and the journal
    has not, is left out as well: a stop asks for it and waits for a few seconds, then the next start reads it.
    """
    if not journal or journal[-1]["record"] != "StopRecord":
        return list(ledger)
    stopped_ns = journal[-1]["at_mono_ns"]
    late: set[int] = set()
    if due_until_ns is not None:
        late = {row["seq"] for row in unread_funding(ledger, journal) if row["mono_ns"] > due_until_ns}
    return [row for row in ledger if not is_funding(row) or (row["mono_ns"] <= stopped_ns and row["seq"] not in late)]


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
    """(venue, symbol) -> futures position in base coin by the venue's last row; flat ones are left out."""
    positions: dict[tuple[str, str], Decimal] = {}
    for row in ledger:
        if row["kind"] == "position" and row["uid"] in uids:
            positions[row["venue"], row["symbol"]] = Decimal(row["qty"])
    return {key: qty for key, qty in positions.items() if qty}


def base_of(ledger: Sequence[Row]) -> dict[tuple[str, str], str]:
    """(venue, symbol) -> base asset."""
    return {(row["venue"], row["symbol"]): row["base"] for row in ledger if row["kind"] == "instrument"}


def deltas(ledger: Sequence[Row], uids: frozenset[str], numeraire: str) -> dict[str, Decimal]:
    """Asset -> net exposure gained by the run: balances and futures positions together, the numeraire apart.

    What fees took from coins set aside for them is a cost, not an exposure.
    """
    net = {asset: amount for asset, amount in venue_changes(ledger, uids).items() if asset != numeraire}
    bases = base_of(ledger)
    for key, qty in venue_positions(ledger, uids).items():
        add(net, bases[key], qty)
    for row in ledger:
        if row["kind"] == "fill" and row.get("coin_asset") and row["uid"] in uids:
            add(net, row["coin_asset"], Decimal(row["coin_fee"]))
    return net


def _unequal(here: str, ours: Mapping[str, Decimal], there: str, theirs: Mapping[str, Decimal]) -> Iterator[str]:
    """One line for each asset of which the two sides have different amounts; an absent one is zero."""
    for asset in sorted(set(ours) | set(theirs)):
        if ours.get(asset, ZERO) != theirs.get(asset, ZERO):
            yield f"{asset}: {here} {ours.get(asset, ZERO)}, {there} {theirs.get(asset, ZERO)}"


def check_flat(delta: Mapping[str, Decimal], dust: Mapping[str, Decimal]) -> list[Violation]:
    """I1: every asset's exposure equals the listed dust, exactly."""
    return _violations("I1", _unequal("net exposure", delta, "listed dust", dust))


def check_money(engine: Mapping[str, Decimal], venue: Mapping[str, Decimal]) -> list[Violation]:
    """I2: the engine's own sums equal the venues' balance changes, asset by asset, exactly."""
    return _violations("I2", _unequal("engine", engine, "venues", venue))


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


def _numbers(row: Row, further: Iterable[Sequence[str]]) -> tuple[Decimal, Decimal, dict[str, Decimal]]:
    """(quantity, price, fees per asset) of a fill; ``further``: (asset, amount) beside ``fee``."""
    fees: dict[str, Decimal] = {}
    for asset, amount in ((row.get("fee_asset", ""), row["fee"]), *further):
        if Decimal(amount):
            add(fees, asset, Decimal(amount))
    return Decimal(row["qty"]), Decimal(row["price"]), fees


def check_fills(ledger: Sequence[Row], journal: Sequence[Row], ours: frozenset[str]) -> list[Violation]:
    """I3: the journal's fills are the venues' fills of our orders, each exactly once, with the same numbers; fills of
    others that it has booked are the venues' too."""

    def key(row: Row) -> tuple[str, str, str]:
        return row["venue"], row["symbol"], str(row["trade_id"])

    venue_rows = {key(row): row for row in ledger if row["kind"] == "fill" and row["client_id"] in ours}
    counted = Counter(key(row) for row in journal if row["record"] == "FillRecord")
    texts = [f"fill {name} is in the journal {count} times" for name, count in counted.items() if count > 1]
    texts += [f"fill {name} is not in the journal" for name in venue_rows if name not in counted]
    texts += [f"fill {name} is not in the venues' ledger" for name in counted if name not in venue_rows]
    others = {key(row): row for row in ledger if row["kind"] == "fill" and row["client_id"] not in ours}
    booked = [row for row in journal if row["record"] == "ExternalFillRecord" and row["booked"]]
    texts += [f"external fill {key(row)} is not in the venues' ledger" for row in booked if key(row) not in others]
    for row in [*booked, *(row for row in journal if row["record"] == "FillRecord")]:
        theirs = others.get(key(row)) or venue_rows.get(key(row))
        if theirs is not None:
            coins = ((theirs.get("coin_asset", ""), theirs.get("coin_fee", "0")),)
            mine, other = _numbers(row, row.get("extra_fees", ())), _numbers(theirs, coins)
            if mine != other:
                texts.append(f"fill {key(row)}: journal (qty, price, fees) {mine}, venue {other}")
    return _violations("I3", texts)


def check_accounted(ledger: Sequence[Row], journal: Sequence[Row]) -> list[Violation]:
    """I4: every order at a venue has an intent journalled before it arrived, or is noted as somebody else's; every
    intent has ended."""
    intents = {row["client_id"]: row for row in journal if row["record"] == "OrderIntentRecord"}
    others = {
        (row["venue"], row["order_id"])
        for row in journal
        if row["record"] in ("ExternalFillRecord", "ExternalRecord") and row["order_id"]
    }
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
        if intent is None and (row["venue"], str(row.get("wire_order_id") or row.get("order_id"))) in others:
            continue
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


def check_ids(ledger: Sequence[Row], journal: Sequence[Row]) -> list[Violation]:
    """I5: ids of intents and operations are unique over all runs, and a venue knows one order by each."""
    texts = []
    for record, name in (("OrderIntentRecord", "client_id"), ("OperationRecord", "operation_id")):
        counted = Counter(row[name] for row in journal if row["record"] == record)
        texts += [f"{name} {value} was given {count} times" for value, count in counted.items() if count > 1]
    orders: dict[tuple[str, str], set[str]] = {}
    for row in ledger:
        if row["kind"] == "order" and row["client_id"]:
            orders.setdefault((row["venue"], row["client_id"]), set()).add(str(row.get("order_id")))
    texts += [f"{name} is {len(found)} orders at its venue" for name, found in orders.items() if len(found) > 1]
    return _violations("I5", texts)


def stale_ns(journal: Sequence[Row], versions: Sequence[Sequence[Any]]) -> list[tuple[int, str]]:
    """(ns, client id) of every order that added risk: how long before its intent the venue had published a newer book
    than the one that the order names; 0 = there was none. ``versions``: the venues' rows [venue, symbol, update id,
    wall ms, mono ns, ...]."""
    published: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for venue, symbol, update_id, _, mono_ns, *_ in versions:
        published.setdefault((venue, symbol), []).append((int(update_id), int(mono_ns)))
    found = []
    for row in journal:
        if row["record"] != "OrderIntentRecord" or int(row["purpose"]) != ENTRY:
            continue
        later = [
            at for update_id, at in published.get((row["venue"], row["symbol"]), ()) if update_id > row["update_id"]
        ]
        found.append((max(0, row["at_mono_ns"] - min(later)) if later else 0, row["client_id"]))
    return found


def check_fresh(journal: Sequence[Row], versions: Sequence[Sequence[Any]], limit_ms: float) -> list[Violation]:
    """I8: no order that adds risk names a book that had been outdated for longer than ``limit_ms``."""
    places = {
        row["client_id"]: f"{row['venue']} {row['symbol']} u {row['update_id']} at {row['at_mono_ns']}"
        for row in journal
        if row["record"] == "OrderIntentRecord"
    }
    texts = [
        f"{client_id} on {places[client_id]}: its book had been outdated for {ns // 1_000_000} ms"
        for ns, client_id in stale_ns(journal, versions)
        if ns > limit_ms * 1e6
    ]
    return _violations("I8", texts)


def check_published(journal: Sequence[Row], versions: Sequence[Sequence[Any]]) -> list[Violation]:
    """I8, whatever the speed of the host: every order that adds risk names a book that its venue had published before.
    Books older than the oldest that ``versions`` still has are not judged.

    A number between two of the stream's is that of a snapshot: the venue had it after the lower one. A record has the
    stamp of the opportunity that it follows from, and the gate reads the newest book behind that: on a busy host it may
    have come between, so the moment is that of its frame, where that is later. The frame of a snapshot has the stamp of
    its question, and a venue that is slow to answer publishes meanwhile: of an order that was sent the send counts.
    """
    sent_ns = {row["client_id"]: row["send_mono_ns"] for row in journal if row["record"] == "OrderSentRecord"}
    read_ns = {
        (row["operation_id"], number): leg.book_recv_mono_ns
        for row in journal
        if row["record"] == "OperationRecord"
        for number, leg in enumerate(row["legs"])
    }
    published: dict[tuple[str, str], dict[int, int]] = {}
    for venue, symbol, update_id, _, mono_ns, *_ in versions:
        published.setdefault((venue, symbol), {}).setdefault(int(update_id), int(mono_ns))
    texts = []
    for row in journal:
        if row["record"] != "OrderIntentRecord" or int(row["purpose"]) != ENTRY:
            continue
        known = published.get((row["venue"], row["symbol"]), {})
        number = row["update_id"]
        if known and number < min(known):
            continue
        reached = bool(known) and number <= max(known)
        at_ns = known[max(one for one in known if one <= number)] if reached else None
        frame_ns = read_ns.get((row["operation_id"], row["leg"]), 0)
        moment_ns = max(row["at_mono_ns"], frame_ns, sent_ns.get(row["client_id"], 0))
        if at_ns is None or at_ns > moment_ns:
            when = "never" if at_ns is None else "later"
            texts.append(f"{row['client_id']} on {row['venue']} {row['symbol']} u {number}: published {when}")
    return _violations("I8", texts)


def check_collar(ledger: Sequence[Row], versions: Sequence[Sequence[Any]], bps_max: Decimal) -> list[Violation]:
    """I10: no fill of an order with a client id is further than ``bps_max`` from the best price that its venue had
    published last."""
    ticks = {(row["venue"], row["symbol"]): Decimal(row["tick"]) for row in ledger if row["kind"] == "instrument"}
    published: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
    for venue, symbol, _, _, mono_ns, bid, _, ask, _ in versions:
        published.setdefault((venue, symbol), []).append((int(mono_ns), int(bid), int(ask)))
    texts = []
    for row in ledger:
        key = (row["venue"], row.get("symbol", ""))
        if row["kind"] != "fill" or not row["client_id"] or key not in published:
            continue  # fills without a client id are the venue's own (liquidation) or another client's
        at = bisect_right(published[key], (row["mono_ns"], 0, 0)) - 1
        touch = published[key][at][2 if row["side"] == "buy" else 1] if at >= 0 else -1
        if touch <= 0:
            continue
        off_bps = abs(Decimal(row["price"]) / (touch * ticks[key]) - 1) * 10_000
        if not off_bps <= bps_max:
            texts.append(f"fill {row['trade_id']} of {row['client_id']}: {off_bps:.1f} bps from the best price")
    return _violations("I10", texts)


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
    newest: dict[tuple[str, str], Row] = {}  # (venue, the venue's order id): orders of others have no client id
    for row in ledger:
        if row["kind"] != "order":
            continue
        key = (row["venue"], str(row["order_id"]))
        if key in newest and Decimal(row["filled_qty"]) < Decimal(newest[key]["filled_qty"]):
            name = row["client_id"] or f"order {row['order_id']} of {row['venue']}"
            texts.append(f"{name}: the venue's filled quantity went back to {row['filled_qty']}")
        newest[key] = row
    theirs: dict[str, Decimal] = {}
    for row in newest.values():
        add(theirs, row["client_id"], Decimal(row["filled_qty"]))
    texts += [
        f"{client_id}: journal filled {filled.get(client_id, ZERO)}, venue {theirs.get(client_id, ZERO)}"
        for client_id in dict.fromkeys(row["client_id"] for row in newest.values())
        if client_id in intents and filled.get(client_id, ZERO) != theirs.get(client_id, ZERO)
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
    """Every invariant that must hold in a run without faults."""
    ours = frozenset(row["client_id"] for row in journal if row["record"] == "OrderIntentRecord")
    return [
        *check_flat(deltas(ledger, uids, numeraire), dust),
        *check_money(engine_pnl, venue_changes(ledger, uids)),
        *check_double_entry(ledger),
        *check_fills(ledger, journal, ours),
        *check_accounted(ledger, journal),
        *check_ids(ledger, journal),
        *check_sent_once(ledger),
        *check_monotone(ledger, journal),
    ]
