"""The tape of a run of real processes, made afterwards: the simulated venues' ledger, both journals and what was done
to the processes, merged by the monotonic clock that all of them share.

It has what the tape of the virtual world has (``pipeline/chaos/world.py``), but for the feeds' books and the refusals
that a venue's wire gives before its matching engine sees an order: ``feeds_seen`` and ``refusals_seen`` of its
``config`` row say so. A ``wire`` row stands where a journal has the stamp of a send.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any

from pipeline.chaos.facts import config_fields, end_fields
from pipeline.chaos.tape import Row, plain
from pipeline.execution.journal import JournalEntry
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import BootRecord, OrderSentRecord, TakeoverRecord
from pipeline.model.config import EngineConfig
from pipeline.model.units import NS_PER_MS

#: Numbers of the ledger's rows, which are texts where they were served.
NUMBERS = frozenset(
    {"tick", "lot", "multiplier", "min_qty", "min_notional", "price", "qty", "filled_qty", "filled_quote", "quote"}
    | {"fee", "coin_fee", "realised_pnl", "free", "locked", "total", "cost", "margin", "position_before"}
    | {"position_after", "mark_price", "liq_price"}
)
TEXTS_IN = {"instrument": {"quote"}}  # kind -> fields of that name which are texts there
PREFIX = "t-"  # Gate.io wants it before custom ids; the engine's own ids are without it
FLIGHT_NS = 1_000_000_000  # of a request or an answer between busy processes
SEND_NS = 400_000_000  # two cores that are wanted by many
NOTICE_NS = 500_000_000
#: Rows of one moment: what was done comes before what was said about it, what left before it arrived.
RANKS = {"act": 0, "record": 1, "wire": 2}


def recorded_tape(
    config: EngineConfig,
    venues: Iterable[Mapping[str, Any]],
    entries: Sequence[JournalEntry],
    acts: Iterable[Mapping[str, Any]],
    ending: Mapping[str, Any],
    slow: int = 1,
) -> list[Row]:
    """Rows in order. ``venues``: the ledger's as its control endpoint serves them; ``entries``: of both journals
    (``whole_journal``); ``acts``: rows with ``mono_ns`` and ``act``; ``ending``: what the ``end`` row says of the
    engine's state beside the fold of its journal (rested, planted, idle, ready, waiting, refused); ``slow``: how much
    longer than on two quiet cores a way between processes may take."""
    rows = [*_of_venues(venues), *_of_journal(entries)]
    rows += [{"kind": "act", "venue": "", "wall_ns": 0, **act} for act in acts]
    instruments = [row for row in rows if row["kind"] == "instrument"]
    others = [row for row in rows if row["kind"] != "instrument"]
    others.sort(key=lambda row: (row["mono_ns"], RANKS.get(row["kind"], 3)))  # stable: each source keeps its order
    first = {"kind": "config", "venue": "", "wall_ns": 0, "mono_ns": 0}
    ways = {"flight_ns": FLIGHT_NS * slow, "send_ns": SEND_NS * slow, "notice_ns": NOTICE_NS * slow}
    first |= config_fields(config, **ways, feed_lag_ns={})
    ledger = Ledger()
    for entry in entries:
        ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
    last_ns = max(map(itemgetter("mono_ns"), others), default=0)
    last = {"kind": "end", "venue": "", "wall_ns": 0, "mono_ns": last_ns, **ending, **end_fields(ledger, entries)}
    tape = [first, *instruments, *others, last]
    return [{**row, "seq": number} for number, row in enumerate(tape, 1)]


def _of_venues(served: Iterable[Mapping[str, Any]]) -> Iterable[Row]:
    for raw in served:
        row = {key: _number(raw["kind"], key, value) for key, value in raw.items()}
        if row.get("client_id"):
            row["client_id"] = str(row["client_id"]).removeprefix(PREFIX)
        row["trade_id"] = row.get("wire_trade_id") or row.get("trade_id", "")
        if row["kind"] == "entry":
            row["postings"] = [[account, asset, Decimal(amount)] for account, asset, amount in row["postings"]]
        yield row
        if row["kind"] == "request" and row["operation"] == "place" and row["detail"].get("status") == 429:
            after = {"retry_after_s": row["detail"]["retry_after_s"], "injected": True, "late_ns": 0}
            yield {**row, "kind": "limited", **after}


def _number(kind: str, key: str, value: Any) -> Any:
    known = key in NUMBERS and key not in TEXTS_IN.get(kind, ())
    return Decimal(value) if known and isinstance(value, str) and value else value


def _of_journal(entries: Sequence[JournalEntry]) -> Iterable[Row]:
    """Records with their run and who has written them; the lives and deaths between them. A record's stamp is that of
    the event that it follows from, so within a journal a later record never stands before an earlier one."""
    guards = {entry.boot_epoch for entry in entries if isinstance(entry.record, TakeoverRecord)}
    now_ns = epoch = 0
    for entry in entries:
        by = "guard" if entry.boot_epoch in guards else "executor"
        since_ns, now_ns = now_ns, max(now_ns, entry.mono_ns)
        stamped: Row = {"venue": "", "wall_ns": entry.wall_ns, "mono_ns": now_ns}
        if isinstance(entry.record, TakeoverRecord | BootRecord) and entry.boot_epoch != epoch:
            if epoch:
                yield {**stamped, "kind": "act", "act": "death", "since_ns": since_ns}
            epoch = entry.boot_epoch
            yield {**stamped, "kind": "act", "act": "life", "life": epoch, "by": by}
        name = type(entry.record).__name__
        yield {**stamped, "kind": "record", "life": epoch, "by": by, "record": name, "body": plain(entry.record)}
        if isinstance(entry.record, OrderSentRecord):
            sent = {"kind": "wire", "client_id": entry.record.client_id, "life": epoch}
            yield {**stamped, **sent, "mono_ns": entry.record.send_mono_ns}


def act(name: str, mono_ns: int, **fields: Any) -> Row:
    """A row of ``acts``."""
    return {"act": name, "mono_ns": mono_ns, **fields}


def lease_lost(stopped_ns: int, woken_ns: int, lease_ms: int) -> list[Row]:
    """The rows for a guard that stood still: no lease that it has granted outlasts ``lease_ms``."""
    expired_ns = stopped_ns + lease_ms * NS_PER_MS
    if expired_ns >= woken_ns:
        return []
    return [act("lease", expired_ns, on=False), act("lease", woken_ns, on=True)]
