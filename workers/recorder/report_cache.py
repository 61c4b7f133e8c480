"""``report.sqlite``: what ``arb report`` has computed before, so that a call reads only what is new.

A cache beside the ledger and never a truth: each row bears what it was computed from, and is computed anew where that
has changed. It may be deleted at any time. Where the file cannot be used (a state folder of another user, a
full disk) nothing is kept.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import msgspec

from pipeline.execution.accounts import Accounts, venue_order
from pipeline.model.enums import InstrumentKind
from workers.recorder.attribution import OperationPnl
from workers.recorder.old_rows import KeptAccounts, opening
from workers.recorder.sqlite_ledger import read_fill

FILE_NAME = "report.sqlite"
VERSION = "2"  # of what is kept; another one is dropped (1: a count could be of a later moment than its sums)
CHECKPOINTS_MAX = 32
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS operations (operation_id TEXT PRIMARY KEY, signature TEXT, body TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (until_wall_ns INTEGER PRIMARY KEY, fills INTEGER, body BLOB);
"""


class ReportCache:
    """What was computed before. ``computed``, ``folded``: operations and executions that this object had to compute."""

    def __init__(self, path: Path) -> None:
        self.computed = 0
        self.folded = 0
        self._db = _open(path)
        self._new: list[tuple[str, str, str]] = []  # operations that are not in the file yet
        self._checkpoints: dict[int, tuple[int, bytes]] = {}  # until wall ns -> number of fills, accounts
        with contextlib.suppress(sqlite3.Error):
            rows = [] if self._db is None else self._db.execute("SELECT * FROM accounts").fetchall()
            self._checkpoints = {until: (count, body) for until, count, body in rows}

    def get(self, operation_id: str, signature: str) -> OperationPnl | None:
        """The operation, where it was computed from the same records."""
        if self._db is None:
            return None
        try:
            row = self._db.execute(
                "SELECT body FROM operations WHERE operation_id = ? AND signature = ?", (operation_id, signature)
            ).fetchone()
            return None if row is None else msgspec.json.decode(row[0], type=OperationPnl)
        except (sqlite3.Error, msgspec.DecodeError, TypeError):  # another call writes, or a damaged row
            return None

    def put(self, signature: str, one: OperationPnl) -> None:
        """Keep one operation, from :meth:`save` on."""
        self.computed += 1
        self._new.append((one.operation_id, signature, msgspec.json.encode(one).decode()))

    def accounts_before(self, ledger: sqlite3.Connection, wall_ns: int) -> Accounts:
        """The accounts by all fills of ``ledger`` before ``wall_ns``: from the newest checkpoint that still holds, and
        the fills since then. ``ledger`` is read at one moment (``open_reader``): what is kept is the sums of those
        fills beside the count of the same."""
        since, kept = self._newest(ledger, wall_ns)
        rows = ledger.execute("SELECT * FROM fills WHERE wall_ns >= ? AND wall_ns < ?", (since, wall_ns))
        fills = sorted((read_fill(row) for row in rows), key=venue_order)
        last = {(venue, symbol): (number, trade) for venue, symbol, number, trade in kept.last}
        for fill in fills:
            if fill.kind is not InstrumentKind.SPOT and venue_order(fill)[2:] < last.get(
                venue_order(fill)[:2], (0, "")
            ):
                rows = ledger.execute("SELECT * FROM fills WHERE wall_ns < ?", (wall_ns,))
                fills = sorted((read_fill(row) for row in rows), key=venue_order)
                kept = opening(ledger)
                break
        accounts, kept = kept.folded(fills)
        self.folded += len(fills)
        if fills:
            self._keep(ledger, wall_ns, kept)
        return accounts

    def _newest(self, ledger: sqlite3.Connection, wall_ns: int) -> tuple[int, KeptAccounts]:
        """(moment, accounts) of the newest checkpoint until ``wall_ns`` that nothing was added before since."""
        for until in sorted((found for found in self._checkpoints if found <= wall_ns), reverse=True):
            count, body = self._checkpoints[until]
            if ledger.execute("SELECT COUNT(*) FROM fills WHERE wall_ns < ?", (until,)).fetchone()[0] == count:
                with contextlib.suppress(msgspec.DecodeError, TypeError):  # a damaged row, or one of another type
                    return until, msgspec.json.decode(body, type=KeptAccounts)
            del self._checkpoints[until]
        return 0, opening(ledger)

    def _keep(self, ledger: sqlite3.Connection, wall_ns: int, kept: KeptAccounts) -> None:
        """Keep a checkpoint, behind the newest fill: later ones are added from there."""
        newest, count = ledger.execute(
            "SELECT MAX(wall_ns), COUNT(*) FROM fills WHERE wall_ns < ?", (wall_ns,)
        ).fetchone()
        self._checkpoints[newest + 1] = (count, msgspec.json.encode(kept))
        for until in sorted(self._checkpoints)[:-CHECKPOINTS_MAX]:
            del self._checkpoints[until]

    def save(self) -> None:
        """Write everything to the file, in one transaction, and close it; what cannot be kept is computed again."""
        if self._db is None:
            return
        with contextlib.suppress(sqlite3.Error), self._db:
            self._db.executemany("INSERT OR REPLACE INTO operations VALUES (?,?,?)", self._new)
            self._db.execute("DELETE FROM accounts")
            rows = [(until, *kept) for until, kept in self._checkpoints.items()]
            self._db.executemany("INSERT INTO accounts VALUES (?,?,?)", rows)
        self._db.close()


def _open(path: Path) -> sqlite3.Connection | None:
    """The cache in ``path``; None where it cannot be used. A file of root in a user's folder would lock the user out of
    it, so only the folder's owner writes one."""
    try:
        if path.parent.stat().st_uid != os.geteuid():
            return None
        try:
            return _opened(path)
        except sqlite3.OperationalError:  # a full disk, or another call writes
            return None
        except sqlite3.DatabaseError:  # damaged
            path.unlink()
            return _opened(path)
    except (OSError, sqlite3.Error):
        return None


def _opened(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error, OSError."""
    db = sqlite3.connect(path, timeout=1.0)
    try:
        db.executescript(_SCHEMA)
        known = db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
        if known != (VERSION,):
            with db:
                db.execute("DELETE FROM operations")
                db.execute("DELETE FROM accounts")
                db.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (VERSION,))
        path.chmod(0o600)
    except BaseException:
        db.close()
        raise
    return db
