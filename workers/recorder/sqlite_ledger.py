"""The SQLite ledger (WAL mode): the journal's records as tables, for ``arb report``, ``arb why`` and other readers.

The journal remains the source of truth. The reader's position is stored in the same transaction as the rows that it
covers, so that a killed recorder neither loses nor doubles a row. Opportunities come from the detector's ring, balances
also from the account page. Decimals are text, as the venue sent them; ``*_json`` columns hold small JSON objects.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from pipeline.execution.external_records import (
    ExternalFillRecord,
    ExternalFlowRecord,
    ExternalPositionRecord,
    HeldFillRecord,
)
from pipeline.execution.journal import JournalEntry, JournalPosition
from pipeline.execution.records import (
    AdoptedRecord,
    BalanceRecord,
    BootRecord,
    BreakerRecord,
    DustRecord,
    ExternalRecord,
    FillRecord,
    FundingRecord,
    HedgeRecord,
    OperationRecord,
    OperationResultRecord,
    OperationStateRecord,
    OrderIntentRecord,
    OrderSentRecord,
    OrderStateRecord,
    PositionRecord,
    ReconcileRecord,
    RecoveryRecord,
    RefusalRecord,
    RetiredRecord,
    StopRecord,
    TakeoverRecord,
)
from pipeline.model.enums import InstrumentKind, OrderSide, OrderState
from pipeline.model.structs import Balance

SCHEMA_VERSION = 7
EQUITY_FIELDS = ("asset", "equity", "daily", "trading", "inventory", "realised")
BALANCES_KEPT_NS = 800 * 86400 * 1_000_000_000  # they come without any trade
EQUITY_KEPT_NS = 800 * 86400 * 1_000_000_000  # two years and a bit: a row a minute, 100 MB at most
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS opportunities (
  id INTEGER, detect_mono_ns INTEGER, wall_ns INTEGER, type TEXT, pair TEXT, edge_bps REAL, entry_edge_bps REAL,
  profit_quote REAL, trigger_recv_mono_ns INTEGER, legs_json TEXT, PRIMARY KEY (id, detect_mono_ns)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS operations (
  operation_id TEXT PRIMARY KEY, opportunity_id INTEGER, type TEXT, pair TEXT, state TEXT, outcome TEXT,
  wall_ns INTEGER, notional_usd TEXT, edge_detect_bps REAL, edge_send_bps REAL, edge_fill_bps REAL, pnl_json TEXT,
  pnl_numeraire TEXT, numeraire TEXT, fees_json TEXT, filled_qty TEXT, dust_json TEXT, hedge_open INTEGER,
  reason TEXT, manual INTEGER, closes TEXT,
  trigger_recv_mono_ns INTEGER, detect_mono_ns INTEGER, dequeued_mono_ns INTEGER, gate_mono_ns INTEGER,
  started_mono_ns INTEGER, ended_mono_ns INTEGER, stamps_json TEXT, legs_json TEXT,
  marks_json TEXT, carried TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS operation_states (
  seq INTEGER PRIMARY KEY, operation_id TEXT, from_state TEXT, to_state TEXT, reason TEXT, mono_ns INTEGER,
  wall_ns INTEGER);
CREATE TABLE IF NOT EXISTS orders (
  client_id TEXT PRIMARY KEY, operation_id TEXT, leg INTEGER, purpose TEXT, attempt INTEGER, venue TEXT, symbol TEXT,
  side TEXT, kind TEXT, tif TEXT, qty TEXT, price TEXT, reduce_only INTEGER, state TEXT, order_id TEXT, filled TEXT,
  average_price TEXT, reason TEXT, intent_mono_ns INTEGER, intent_wall_ns INTEGER, send_mono_ns INTEGER,
  last_mono_ns INTEGER, book_seq INTEGER, update_id INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fills (
  venue TEXT, symbol TEXT, trade_id TEXT, order_id TEXT, client_id TEXT, operation_id TEXT, side TEXT, qty TEXT,
  price TEXT, fee TEXT, fee_asset TEXT, is_maker INTEGER, venue_wall_ms INTEGER, recv_mono_ns INTEGER, source TEXT,
  wall_ns INTEGER, kind TEXT, base TEXT, quote TEXT, extra_fees_json TEXT NOT NULL DEFAULT '[]',
  PRIMARY KEY (venue, symbol, trade_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS balances (
  venue TEXT, asset TEXT, wall_ns INTEGER, free TEXT, locked TEXT, source TEXT,
  PRIMARY KEY (venue, asset, wall_ns)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY, kind TEXT, wall_ns INTEGER, mono_ns INTEGER, body_json TEXT);
CREATE TABLE IF NOT EXISTS equity (
  wall_ns INTEGER PRIMARY KEY, asset TEXT, equity TEXT, daily TEXT, trading TEXT, inventory TEXT, realised TEXT);
CREATE TABLE IF NOT EXISTS markouts (
  venue TEXT, symbol TEXT, trade_id TEXT, horizon_s INTEGER, mid TEXT,
  PRIMARY KEY (venue, symbol, trade_id, horizon_s)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS operations_by_time ON operations (wall_ns);
CREATE INDEX IF NOT EXISTS fills_by_time ON fills (wall_ns);
CREATE INDEX IF NOT EXISTS orders_by_operation ON orders (operation_id);
CREATE INDEX IF NOT EXISTS fills_by_operation ON fills (operation_id);
CREATE INDEX IF NOT EXISTS states_by_operation ON operation_states (operation_id);
"""


class Markout(NamedTuple):
    """The mid of a fill's book ``horizon_s`` after the fill: a row of ``markouts``."""

    venue: str
    symbol: str
    trade_id: str
    horizon_s: int
    mid: Decimal


Row = Sequence[Any]
T = TypeVar("T", bound=msgspec.Struct)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


class SqliteLedger:
    """The only writer of ``ledger.sqlite``; brings tables of older schemas up to date. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._open(path)
        except BaseException:
            self._db.close()  # else each attempt on a full disk keeps its descriptors and locks
            raise
        row = self._db.execute("SELECT value FROM meta WHERE key = 'seq_bases'").fetchone()
        #: What is added to a record's number, per journal in the order they were followed: each begins at 1.
        self._bases = [0] if row is None else msgspec.json.decode(row[0], type=list[int])
        self._fold: dict[type, Callable[[JournalEntry, Any], None]] = {
            OperationRecord: self._operation,
            OperationStateRecord: self._operation_state,
            OperationResultRecord: self._operation_result,
            OrderIntentRecord: self._intent,
            OrderSentRecord: self._sent,
            OrderStateRecord: self._order_state,
            FillRecord: self._fill,
            ExternalFillRecord: self._external_fill,
            BalanceRecord: self._balance,
        }

    def _open(self, path: Path) -> None:
        """Tables of today's schema."""
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        if "writer_epoch" in {row[1] for row in self._db.execute("PRAGMA table_info(opportunities)")}:
            self._db.execute("DROP TABLE opportunities")  # of schema 2: instrument numbers of an old catalogue
        if "seq" in {row[1] for row in self._db.execute("PRAGMA table_info(balances)")}:
            self._db.execute("ALTER TABLE balances RENAME TO balances_of_schema_2")
        fill_columns = {row[1] for row in self._db.execute("PRAGMA table_info(fills)")}
        if fill_columns and "kind" not in fill_columns:  # up to schema 3: the journal is read again from its beginning
            self._db.execute("DROP TABLE fills")
            self._db.execute("DROP TABLE operations")
            self._db.execute("DELETE FROM meta WHERE key = 'position'")
        elif fill_columns and "extra_fees_json" not in fill_columns:  # of one fee a fill: no earlier build read more
            self._db.execute("ALTER TABLE fills ADD COLUMN extra_fees_json TEXT NOT NULL DEFAULT '[]'")
        operation_columns = {row[1] for row in self._db.execute("PRAGMA table_info(operations)")}
        if operation_columns and "kind" in fill_columns and "marks_json" not in operation_columns:
            for column in ("marks_json", "carried"):
                self._db.execute(f"ALTER TABLE operations ADD COLUMN {column} TEXT")
        self._db.executescript(SCHEMA)
        if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'balances_of_schema_2'").fetchone():
            self._db.execute(
                "INSERT OR IGNORE INTO balances SELECT venue, asset, wall_ns, free, locked, source"
                " FROM balances_of_schema_2"
            )
            self._db.execute("DROP TABLE balances_of_schema_2")
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
        path.chmod(0o600)

    def position(self) -> JournalPosition | None:
        """Where the journal's reader continues; None for a new ledger."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'position'").fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=JournalPosition)

    def begin_anew(self) -> None:
        """Another journal takes the place of the one that was read so far: forgets the position, keeps all rows. Rows
        of the new one are numbered behind them."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            (newest,) = self._db.execute(
                "SELECT MAX(seq) FROM (SELECT MAX(seq) AS seq FROM events UNION SELECT MAX(seq) FROM operation_states)"
            ).fetchone()
            bases = sorted({*self._bases, newest or 0})
            self.note("seq_bases", _json(bases))
            self._db.execute("DELETE FROM meta WHERE key = 'position'")
            self.note("read_again", "1")
        self._bases = bases

    def apply(self, entries: Sequence[JournalEntry], position: JournalPosition | None) -> None:
        """Write ``entries`` and the reader's ``position`` in one transaction."""
        with self._db:  # commits, or rolls back on any error
            self._db.execute("BEGIN IMMEDIATE")
            row = self._db.execute(  # of a journal that is read again what has left, by now, stays away
                "SELECT value FROM meta WHERE key = 'forgotten_wall_ns'"
                " AND EXISTS (SELECT 1 FROM meta WHERE key = 'read_again')"
            ).fetchone()
            first_ns = 0 if row is None else int(row[0])
            for entry in entries:
                if entry.wall_ns < first_ns:
                    continue
                self._fold.get(type(entry.record), self._event)(entry, entry.record)
            if position is not None:
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('position', ?)", (_json(position),))

    def opportunities(self, rows: Sequence[Row], position: msgspec.Struct | None) -> None:
        """Write rows of the ``opportunities`` table (in its column order; known ones stay as they are) and the ring
        reader's ``position`` in one transaction."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR IGNORE INTO opportunities VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
            if position is not None:
                self.remember("opportunities", position)

    def balances(self, rows: Sequence[Balance], wall_ns: int) -> int:
        """Write balances of the account page at wall-clock time ``wall_ns``, beside those of the journal; how many."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO balances VALUES (?,?,?,?,?,?)",
                [(row.venue, row.asset, wall_ns, _text(row.free), _text(row.locked), row.source) for row in rows],
            )
        return len(rows)

    def markouts(self, rows: Sequence[Markout]) -> int:
        """Write what books said after fills; how many."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO markouts VALUES (?,?,?,?,?)", [(*row[:4], _text(row.mid)) for row in rows]
            )
        return len(rows)

    def equity(self, wall_ns: int, pnl: Mapping[str, Any]) -> int:
        """Write one reading of the equity (``pnl`` of ``executor.json``), and remove those that are older than
        ``EQUITY_KEPT_NS``; 1."""
        row = (wall_ns, *(str(pnl[name]) for name in EQUITY_FIELDS))
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT OR REPLACE INTO equity VALUES (?,?,?,?,?,?,?)", row)
            self._db.execute("DELETE FROM equity WHERE wall_ns < ?", (wall_ns - EQUITY_KEPT_NS,))
        return 1

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing of what is done with the database meanwhile."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db

    def prune(self, opportunities_max: int, wall_ns: int) -> int:
        """Remove the oldest opportunities beyond ``opportunities_max`` (ids grow with time), and balances that are
        older than ``BALANCES_KEPT_NS`` at ``wall_ns``; how many."""
        old = self._db.execute("DELETE FROM balances WHERE wall_ns < ?", (wall_ns - BALANCES_KEPT_NS,))
        done = self._db.execute(
            "DELETE FROM opportunities WHERE id <= (SELECT id FROM opportunities ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (opportunities_max,),
        )
        return int(old.rowcount + done.rowcount)

    def remember(self, what: str, position: msgspec.Struct) -> None:
        """Store how far a ring's reader has read, for :meth:`recall` after a restart."""
        self.note(f"position_{what}", _json(position))

    def recall(self, what: str, kind: type[T]) -> T | None:
        """What :meth:`remember` stored last; None when there is nothing, or nothing of this ``kind``."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (f"position_{what}",)).fetchone()
        try:
            return None if row is None else msgspec.json.decode(row[0], type=kind)
        except msgspec.DecodeError:
            return None

    def note(self, key: str, value: str) -> None:
        """Store a named text about the recorder itself (e.g. why it could not read the journal)."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def close(self) -> int:
        """Move the write-ahead log into the database, where the disk takes it, and close it. 0."""
        try:
            self._db.execute("PRAGMA busy_timeout=0")  # a report that is being read must not hold up the stop for 5 s
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._db.close()
        return 0

    def _seq(self, table: str, entry: JournalEntry) -> int:
        """The number of a record's row. A journal that was restored from an older copy brings records that have theirs
        already: they keep it."""
        for base in self._bases[:-1]:
            place = (base + entry.seq, entry.wall_ns, entry.mono_ns)
            known = self._db.execute(f"SELECT 1 FROM {table} WHERE seq = ? AND wall_ns = ? AND mono_ns = ?", place)
            if known.fetchone():
                return place[0]
        return self._bases[-1] + entry.seq

    # --- one method per record type that has a table of its own ---

    def _operation(self, entry: JournalEntry, r: OperationRecord) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO operations (operation_id, opportunity_id, type, pair, state, wall_ns, notional_usd,"
            " edge_detect_bps, edge_send_bps, manual, closes, trigger_recv_mono_ns, detect_mono_ns, dequeued_mono_ns,"
            " gate_mono_ns, started_mono_ns, legs_json) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (r.operation_id, r.opportunity_id, r.type.name.lower(), r.pair, "executing", entry.wall_ns,
             _text(r.notional_usd), r.edge_detect_bps, r.edge_send_bps, int(r.manual), r.closes or None,
             r.trigger_recv_mono_ns, r.detect_mono_ns, r.dequeued_mono_ns, r.gate_mono_ns, entry.mono_ns,
             _json([msgspec.structs.asdict(leg) for leg in r.legs])),
        )  # fmt: skip

    def _operation_state(self, entry: JournalEntry, r: OperationStateRecord) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO operation_states VALUES (?,?,?,?,?,?,?)",
            (self._seq("operation_states", entry), r.operation_id, r.from_state.name.lower(), r.to_state.name.lower(),
             r.reason, entry.mono_ns, entry.wall_ns),
        )  # fmt: skip
        if r.to_state.persists:
            self._db.execute(
                "UPDATE operations SET state = ? WHERE operation_id = ?", (r.to_state.name.lower(), r.operation_id)
            )

    def _operation_result(self, entry: JournalEntry, r: OperationResultRecord) -> None:
        self._db.execute(
            "UPDATE operations SET outcome=?, edge_fill_bps=?, pnl_json=?, pnl_numeraire=?, numeraire=?, fees_json=?,"
            " filled_qty=?, dust_json=?, hedge_open=?, reason=?, started_mono_ns=?, ended_mono_ns=?, stamps_json=?,"
            " marks_json=?, carried=? WHERE operation_id=?",
            (r.outcome.name.lower(), r.edge_fill_bps, _json(r.pnl), _text(r.pnl_numeraire), r.numeraire, _json(r.fees),
             _text(r.filled_qty), _json(r.dust), int(r.hedge_open), r.reason, r.started_mono_ns, r.ended_mono_ns,
             _json(r.stamps), _json(r.marks) if r.marks else None, _text(r.carried), r.operation_id),
        )  # fmt: skip

    def _intent(self, entry: JournalEntry, r: OrderIntentRecord) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO orders (client_id, operation_id, leg, purpose, attempt, venue, symbol, side, kind,"
            " tif, qty, price, reduce_only, state, filled, intent_mono_ns, intent_wall_ns, book_seq, update_id)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (r.client_id, r.operation_id, r.leg, r.purpose.name.lower(), r.attempt, r.venue, r.symbol,
             r.side.name.lower(), r.order_kind.name.lower(), r.tif.name.lower(), _text(r.qty), _text(r.price),
             int(r.reduce_only), OrderState.INTENT.name.lower(), "0", entry.mono_ns, entry.wall_ns, r.book_seq,
             r.update_id),
        )  # fmt: skip

    def _sent(self, entry: JournalEntry, r: OrderSentRecord) -> None:
        self._db.execute(
            "UPDATE orders SET send_mono_ns = ?, state = CASE state WHEN 'intent' THEN 'sent' ELSE state END"
            " WHERE client_id = ?",
            (r.send_mono_ns, r.client_id),
        )

    def _order_state(self, entry: JournalEntry, r: OrderStateRecord) -> None:
        terminal = tuple(state.name.lower() for state in OrderState if state.is_terminal)
        # A terminal state never changes: late and repeated reports only add what is still unknown.
        self._db.execute(
            f"UPDATE orders SET state = CASE WHEN state IN {terminal} THEN state ELSE ? END,"
            " order_id = CASE WHEN ? = '' THEN order_id ELSE ? END, filled = COALESCE(?, filled),"
            " average_price = COALESCE(?, average_price), reason = CASE WHEN ? = '' THEN reason ELSE ? END,"
            " last_mono_ns = ? WHERE client_id = ?",
            (r.state.name.lower(), r.order_id, r.order_id, _text(r.reported_filled), _text(r.average_price), r.reason,
             r.reason, r.recv_mono_ns, r.client_id),
        )  # fmt: skip

    def _fill(self, entry: JournalEntry, r: FillRecord) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO fills VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (r.venue, r.symbol, r.trade_id, r.order_id, r.client_id, r.operation_id, r.side.name.lower(), _text(r.qty),
             _text(r.price), _text(r.fee), r.fee_asset, int(r.is_maker), r.venue_wall_ms, r.recv_mono_ns, r.source,
             entry.wall_ns, r.kind.name.lower(), r.base, r.quote, _json(r.extra_fees)),
        )  # fmt: skip

    def _external_fill(self, entry: JournalEntry, r: ExternalFillRecord) -> None:
        """A row of ``fills`` without an operation; ``source`` says what caused it. The event names who lost by it."""
        self._event(entry, r)
        if r.booked:
            self._db.execute(
                "INSERT OR IGNORE INTO fills VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (r.venue, r.symbol, r.trade_id, r.order_id, r.client_id, "", r.side.name.lower(), _text(r.qty),
                 _text(r.price), _text(r.fee), r.fee_asset, 0, r.venue_wall_ms, r.recv_mono_ns, f"external {r.cause}",
                 entry.wall_ns, r.kind.name.lower(), r.base, r.quote, _json(r.extra_fees)),
            )  # fmt: skip

    def _balance(self, entry: JournalEntry, r: BalanceRecord) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO balances VALUES (?,?,?,?,?,?)",
            (r.venue, r.asset, entry.wall_ns, _text(r.free), _text(r.locked), r.source),
        )

    def _event(self, entry: JournalEntry, r: Any) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO events VALUES (?,?,?,?,?)",
            (self._seq("events", entry), EVENT_KINDS[type(r)], entry.wall_ns, entry.mono_ns,
             _json(msgspec.structs.asdict(r))),
        )  # fmt: skip


#: Records without a table of their own, and their name in ``events.kind``.
EVENT_KINDS: dict[type, str] = {
    BootRecord: "boot",
    PositionRecord: "position",
    RefusalRecord: "refusal",
    DustRecord: "dust",
    HedgeRecord: "hedge",
    RecoveryRecord: "recovery",
    ReconcileRecord: "reconcile",
    BreakerRecord: "breaker",
    FundingRecord: "funding",
    ExternalRecord: "external",
    ExternalFillRecord: "external_fill",
    ExternalFlowRecord: "external_flow",
    ExternalPositionRecord: "external_position",
    HeldFillRecord: "held_fill",
    AdoptedRecord: "adopted",
    StopRecord: "stop",
    RetiredRecord: "retired",
    TakeoverRecord: "takeover",
}


def read_fill(row: sqlite3.Row) -> FillRecord:
    """The record that a row of ``fills`` was written from; its instrument number, which holds for one run, is -1."""
    extra = row["extra_fees_json"] if "extra_fees_json" in row.keys() else "[]"  # noqa: SIM118 - a row is no mapping
    return FillRecord(
        venue=row["venue"],
        symbol=row["symbol"],
        trade_id=row["trade_id"],
        order_id=row["order_id"],
        client_id=row["client_id"],
        operation_id=row["operation_id"],
        instrument_id=-1,
        kind=InstrumentKind[row["kind"].upper()],
        base=row["base"],
        quote=row["quote"],
        side=OrderSide[row["side"].upper()],
        qty=Decimal(row["qty"]),
        price=Decimal(row["price"]),
        fee=Decimal(row["fee"]),
        fee_asset=row["fee_asset"],
        is_maker=bool(row["is_maker"]),
        venue_wall_ms=row["venue_wall_ms"],
        recv_mono_ns=row["recv_mono_ns"],
        source=row["source"],
        extra_fees=msgspec.json.decode(extra, type=tuple[tuple[str, Decimal], ...]),
    )


def open_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection with named columns, safe beside the running recorder. Raises sqlite3.OperationalError.

    Within ``with`` all that is read is of one moment, that of the first statement: the recorder commits every 100 ms,
    and a sum beside a count of another moment is of neither."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    connection.execute("BEGIN")
    return connection
