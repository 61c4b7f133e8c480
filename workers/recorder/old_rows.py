"""Rows that leave the SQLite ledger after ``recording.ledger_keep_days``, and what they leave behind.

An operation leaves with its orders, states and fills once it has ended, and no hedge of it is open and no newer
operation closes one. What the fills have made of the accounts stays in ``meta`` (``opening``): a report folds later
fills on top of it, so that no sum of a span that is kept changes. Of a contract only fills go that the venue made
before all that stay: realised profit depends on their order. What stays behind its operation leaves with a later day.
Payments of funding stay as long as a hedge that may have been paid by them does, and so does what says which other
hedges had a share in them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.execution.accounts import Accounts, FuturesPosition, fold_fills, venue_order
from pipeline.execution.records import FillRecord
from pipeline.model.enums import InstrumentKind
from pipeline.model.units import NS_PER_DAY
from workers.recorder.sqlite_ledger import read_fill

OPENING, FORGOTTEN = "opening", "forgotten_wall_ns"  # keys of ``meta``
LATE_NS = NS_PER_DAY  # how much later than its operation an order may be, and a fill than the next in its venue's order
#: Events that say what an instance was and is, a few a day: they stay.
EVENTS_KEPT = ("boot", "stop", "takeover", "breaker")
HEDGE, FUNDING = "hedge", "funding"
#: And those that belong to operations: they go with all of these.
OF_OPERATIONS = (HEDGE, "adopted", "external_fill", "external_flow", "external_position")


class KeptAccounts(msgspec.Struct, frozen=True):
    """Accounts that executions have made. ``last``: per futures contract the venue's order of the newest, since
    realised profit depends on it."""

    flows: list[tuple[str, str, Decimal]] = []
    fees: list[tuple[str, str, Decimal]] = []
    futures: list[tuple[str, str, Decimal, Decimal, Decimal]] = []
    last: list[tuple[str, str, int, str]] = []

    def accounts(self) -> Accounts:
        """What fills are folded onto."""
        return Accounts(
            flows={(venue, asset): amount for venue, asset, amount in self.flows},
            fees={(venue, asset): amount for venue, asset, amount in self.fees},
            futures={(venue, symbol): FuturesPosition(*amounts) for venue, symbol, *amounts in self.futures},
        )

    def folded(self, fills: Iterable[FillRecord]) -> tuple[Accounts, KeptAccounts]:
        """The accounts after ``fills`` on top of these, and the same to be kept."""
        rows = sorted(fills, key=venue_order)
        accounts = fold_fills(rows, self.accounts())
        last = {(venue, symbol): (number, trade) for venue, symbol, number, trade in self.last}
        last |= {venue_order(fill)[:2]: venue_order(fill)[2:] for fill in rows if fill.kind is not InstrumentKind.SPOT}
        return accounts, KeptAccounts(
            flows=[(*key, amount) for key, amount in accounts.flows.items()],
            fees=[(*key, amount) for key, amount in accounts.fees.items()],
            futures=[(*key, p.qty, p.cost, p.realised) for key, p in accounts.futures.items()],
            last=[(*key, *order) for key, order in last.items()],
        )


def opening(db: sqlite3.Connection) -> KeptAccounts:
    """The accounts by all fills that have left the ledger."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (OPENING,)).fetchone()
    return KeptAccounts() if row is None else msgspec.json.decode(row[0], type=KeptAccounts)


def forget(db: sqlite3.Connection, before_wall_ns: int) -> int:
    """Removes what is older, in the caller's transaction, but one day's rows at most; how many rows. Whether there is
    more: :func:`forgotten` is less than ``before_wall_ns``."""
    done_ns = forgotten(db)
    if before_wall_ns <= done_ns:
        return 0
    firsts = [
        db.execute(f"SELECT MIN(wall_ns) FROM {table} WHERE wall_ns >= ?", (done_ns,)).fetchone()[0]
        for table in ("operations", "fills")
    ]
    first_ns = min((at for at in firsts if at is not None), default=before_wall_ns)
    until_ns = min(before_wall_ns, (first_ns // NS_PER_DAY + 1) * NS_PER_DAY)
    _mark_ended_operations(db, until_ns - LATE_NS)
    count = _forget_fills(db, until_ns) + _forget_events(db, until_ns)
    count += db.execute("DELETE FROM balances WHERE wall_ns < ?", (until_ns,)).rowcount
    for table in ("orders", "operation_states", "operations"):
        count += db.execute(f"DELETE FROM {table} WHERE operation_id IN temp.gone").rowcount
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (FORGOTTEN, str(until_ns)))
    return count


def forgotten(db: sqlite3.Connection) -> int:
    """The moment (wall ns) of which what is older has left; 0 where nothing has."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (FORGOTTEN,)).fetchone()
    return 0 if row is None else int(row[0])


def _mark_ended_operations(db: sqlite3.Connection, before_wall_ns: int) -> None:
    """``temp.gone``: operations that are old and over, with all that closed their hedges."""
    for table in ("held", "gone"):
        db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} (operation_id TEXT PRIMARY KEY)")
        db.execute(f"DELETE FROM temp.{table}")
    left: dict[str, Decimal] = {}
    for (body,) in db.execute("SELECT body_json FROM events WHERE kind = 'hedge' ORDER BY seq"):
        hedge = msgspec.json.decode(body)
        left[hedge["operation_id"]] = Decimal(hedge["qty"])
    db.executemany("INSERT INTO temp.held VALUES (?)", [(name,) for name, qty in left.items() if qty])
    db.execute(
        "INSERT OR IGNORE INTO temp.held SELECT COALESCE(closes, operation_id) FROM operations"
        " WHERE wall_ns >= ? OR outcome IS NULL",
        (before_wall_ns,),
    )
    db.execute(
        "INSERT INTO temp.gone SELECT operation_id FROM operations"
        " WHERE wall_ns < ? AND COALESCE(closes, operation_id) NOT IN temp.held",
        (before_wall_ns,),
    )
    db.execute(  # fills that stayed behind their operation
        "INSERT OR IGNORE INTO temp.gone SELECT operation_id FROM fills WHERE wall_ns < ? AND operation_id != ''"
        " AND operation_id NOT IN (SELECT operation_id FROM operations)",
        (before_wall_ns,),
    )


def _forget_fills(db: sqlite3.Connection, before_wall_ns: int) -> int:
    """Removes fills of what is gone and old ones of others, and folds them into the opening accounts."""
    leaves = "wall_ns < ? AND (operation_id = '' OR operation_id IN temp.gone)"
    stay: dict[tuple[str, str], tuple[str, str, int, str]] = {}  # contract -> the first of its fills that stays
    for fill in _fills(
        db, f"kind != 'spot' AND wall_ns < ? AND NOT ({leaves})", before_wall_ns + LATE_NS, before_wall_ns
    ):
        order = venue_order(fill)
        stay[order[:2]] = min(stay.get(order[:2], order), order)
    found = [
        fill
        for fill in _fills(db, leaves, before_wall_ns)
        if (order := venue_order(fill))[:2] not in stay or order < stay[order[:2]]
    ]
    _, kept = opening(db).folded(found)
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (OPENING, msgspec.json.encode(kept).decode()))
    keys = [(fill.venue, fill.symbol, fill.trade_id) for fill in found]
    for table in ("fills", "markouts"):
        db.executemany(f"DELETE FROM {table} WHERE venue = ? AND symbol = ? AND trade_id = ?", keys)
    return len(found)


def _fills(db: sqlite3.Connection, where: str, *values: int) -> list[FillRecord]:
    cursor = db.cursor()
    cursor.row_factory = sqlite3.Row
    return [read_fill(row) for row in cursor.execute(f"SELECT * FROM fills WHERE {where}", values)]


def _forget_events(db: sqlite3.Connection, before_wall_ns: int) -> int:
    plain = f"kind NOT IN {(*EVENTS_KEPT, *OF_OPERATIONS, FUNDING)}"
    count = db.execute(f"DELETE FROM events WHERE wall_ns < ? AND {plain}", (before_wall_ns,)).rowcount
    kinds = f"SELECT seq, kind, wall_ns, body_json FROM events WHERE kind IN {(*OF_OPERATIONS, FUNDING)}"
    rows = [(seq, kind, wall_ns, msgspec.json.decode(body)) for seq, kind, wall_ns, body in db.execute(kinds)]
    stay = _that_stay(db, {name for *_, body in rows for name in _names(body)})
    first: dict[tuple[str, str], int] = {}  # contract -> since when hedges that stay have been open there
    newest: dict[str, int] = {}
    for _, kind, wall_ns, body in rows:
        if kind == HEDGE:
            newest[body["operation_id"]] = max(wall_ns, newest.get(body["operation_id"], 0))
            if body["operation_id"] in stay:
                contract = (body["futures_venue"], body["futures_symbol"])
                first[contract] = min(wall_ns, first.get(contract, wall_ns))
    over: list[tuple[int]] = []
    for seq, kind, wall_ns, body in rows:
        needed = not stay.isdisjoint(_names(body))
        if kind == FUNDING:
            needed = wall_ns >= first.get((body["venue"], body["symbol"]), before_wall_ns)
        elif kind == HEDGE:
            since_ns = first.get((body["futures_venue"], body["futures_symbol"]))
            needed |= since_ns is not None and newest[body["operation_id"]] >= since_ns
        if wall_ns < before_wall_ns and not needed:
            over.append((seq,))
    db.executemany("DELETE FROM events WHERE seq = ?", over)
    return count + len(over)


def _that_stay(db: sqlite3.Connection, names: Iterable[str]) -> set[str]:
    """Those of some operations that do not leave now, and have not left before."""
    known = "SELECT 1 FROM operations WHERE operation_id = ? AND operation_id NOT IN temp.gone"
    return {name for name in names if db.execute(known, (name,)).fetchone()}


def _names(body: dict[str, Any]) -> set[str]:
    """The operations that an event is about."""
    return {share[0] for share in body.get("taken", ())} | (
        {body["operation_id"]} if body.get("operation_id") else set()
    )
