"""``arb inspect``: what lies in an instance's shared memory and journal, by the names of its fields.

Reads the segments themselves, so that it works while the instance runs and after it crashed. A result is a plain dict:
``instance``, ``what``, ``segment`` and ``owner`` where there is one, and ``tables``: each a record (``fields``) or
``rows``, with ``units``, ``meanings`` and the doc of each field. Of long arrays only what is not 0 appears, by its
index.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipeline.execution.journal import (
    JournalEntry,
    JournalPosition,
    JournalReader,
    segment_indices,
    segment_start,
)
from pipeline.model.catalogue_row import words_to_row, words_to_text
from pipeline.model.enums import (
    FeeAssetRule,
    InstrumentKind,
    OpportunityType,
    ProcessState,
    Refusal,
    ReportOutcome,
    TradingStatus,
)
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import from_fp
from shm.bookring import proof_mono_ns, read_book
from shm.declare import Field, Table, meaning, unit_of, value_of
from shm.layout import (
    BOOK,
    CONN_CAPACITY,
    CONNECTION,
    CURSOR,
    FEED,
    HEADER,
    LEG,
    LINE_WORDS,
    METRICS,
    OPPORTUNITY,
    QUEUE,
    REPORT,
)
from shm.layout_pages import CAT_FLAG_REMOVED, CATALOGUE_ROW, CATALOGUE_TEXT_WORDS
from shm.liveness import LivenessView
from shm.metrics import Metrics
from shm.pages import CataloguePage, read_row
from shm.queue import read_at
from shm.schema import SEGMENTS
from shm.segment import SHM_FOLDER, Segment, list_segments, owner_lives, segment_name
from shm.words import Words
from workers.control_plane.instances import run_file
from workers.state_folder import instance_dir
from workers.view.book_verdict import BookState, book_age_limit_ms, feed_lives, state_of_book, verdict

PAGES = ("catalogue", "inventory", "halt", "account")
PAYLOADS = {"opps": OPPORTUNITY, "reports": REPORT}
QUEUE_ITEMS = 8  # newest items of a queue that are shown
ARRAY_MAX = 32  # longer arrays are shown as what is not 0 in them
JOURNAL_DEFAULT = 10
VALUE_WIDTH = 44
ENUMS: dict[str, type[IntEnum]] = {
    "CATALOGUE_ROW.kind": InstrumentKind,
    "CATALOGUE_ROW.status": TradingStatus,
    "CATALOGUE_ROW.fee_asset_rule": FeeAssetRule,
    "LIVENESS.state": ProcessState,
    "OPPORTUNITY.type": OpportunityType,
    "REPORT.outcome": ReportOutcome,
    "REPORT.refusal": Refusal,
}

Result = dict[str, Any]


def inspect(instance: str, words: list[str]) -> Result:
    """What ``words`` name: SEGMENT | page NAME | book VENUE SYMBOL | queue NAME | journal [N].

    Raises BadInput for anything else, with what exists; ShmError where memory is there and cannot be read (another
    build's, or not READY); JournalError for a damaged journal.
    """
    match words:
        case ["page", name]:
            return read_page(instance, name)
        case ["book", venue, symbol]:
            return read_market_book(instance, venue, symbol)
        case ["queue", name]:
            return read_queue(instance, name)
        case ["journal"]:
            return read_journal_tail(instance, JOURNAL_DEFAULT)
        case ["journal", count]:
            if not count.isdigit() or int(count) < 1:
                raise BadInput(f"journal: found {count!r}, wanted the number of records, 1 or more")
            return read_journal_tail(instance, int(count))
        case [name] if name not in ("page", "book", "queue"):
            return read_segment(instance, name)
    raise BadInput(
        f"found {' '.join(words)!r}, wanted SEGMENT, page NAME, book VENUE SYMBOL, queue NAME or journal [N]; "
        f"pages: {_listed(_names(instance, PAGES))}; queues: {_listed(_queues(instance))}; "
        f"segments: {_listed(segments(instance))}"
    )


def segments(instance: str) -> list[str]:
    """Names of the instance's segments, without the prefix that all of them have."""
    prefix = len(segment_name(instance, "x")) - 1
    return [name[prefix:] for name in list_segments(instance)]


# --- what can be named ---


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _names(instance: str, wanted: tuple[str, ...]) -> list[str]:
    there = segments(instance)
    return [name for name in wanted if name in there]


def _queues(instance: str) -> list[str]:
    return [name for name in segments(instance) if _kind_of(instance, name) == QUEUE.KIND]


def _kind_of(instance: str, name: str) -> int:
    """The kind in a segment's header; 0 where there is none to read."""
    try:
        with open(SHM_FOLDER / segment_name(instance, name)[1:], "rb") as handle:
            raw = handle.read(HEADER.WORDS * 8)
    except OSError:
        return 0
    return int(np.frombuffer(raw, "<i8")[HEADER.kind]) if len(raw) == HEADER.WORDS * 8 else 0


def _attach(instance: str, name: str, choice: list[str], what: str) -> tuple[Segment, Table]:
    if not segments(instance):
        raise BadInput(
            f"{what} {name}: instance {instance} has no shared memory: it has stopped in order, or not run since the "
            "host started; its journal is still there (`arb inspect journal`)"
        )
    if name not in choice:
        raise BadInput(f"{what}: found {name!r}, wanted one of {_listed(choice)} (instance {instance})")
    kind = _kind_of(instance, name)
    table = SEGMENTS.get(kind)
    if table is None:
        known = ", ".join(f"{number} {known.NAME.lower()}" for number, known in sorted(SEGMENTS.items()))
        raise BadInput(f"{what} {name}: its header says kind {kind}, wanted one of {known}")
    return Segment.attach(segment_name(instance, name), kind=kind, instance=instance), table


def _result(instance: str, what: str, segment: Segment | None = None) -> Result:
    result: Result = {"instance": instance, "what": what, "tables": []}
    if segment is not None:
        result["segment"] = segment.name
        result["owner"] = {"pid": segment.owner_pid, "alive": owner_lives(segment.name)}
    return result


# --- tables as plain values ---


def _fields(table: Table, words: Words, at: int = 0) -> dict[str, Any]:
    return {field.name: _shown(value_of(field, words, at)) for field in table.FIELDS if field.words and not field.rows}


def _shown(value: Any) -> Any:
    if isinstance(value, list) and len(value) > ARRAY_MAX:
        return {str(index): item for index, item in enumerate(value) if item}
    return value


def _meaning(table: Table, field: Field, value: Any) -> str:
    enum = ENUMS.get(f"{table.NAME}.{field.name}")
    if enum is not None:
        return enum(value).name.lower() if value in enum._value2member_map_ else "unknown"
    if table is HEADER and field.name == "kind":
        return SEGMENTS[value].NAME.lower() if value in SEGMENTS else "unknown"
    return meaning(field, value)


def _described(table: Table) -> Result:
    shown = [field for field in table.FIELDS if field.words and not field.rows]
    return {
        "table": table.NAME,
        "units": {field.name: field.unit for field in shown if field.unit},
        "docs": {field.name: field.doc for field in shown},
    }


def _record(table: Table, words: Words, at: int = 0, title: str = "") -> Result:
    """One record of a table: fields with values, units and meanings."""
    fields = _fields(table, words, at)
    found = _meanings(table, fields)
    return {**_described(table), "title": title or table.NAME.lower(), "fields": fields, "meanings": found}


def _meanings(table: Table, fields: dict[str, Any]) -> dict[str, str]:
    texts = {field.name: _meaning(table, field, fields[field.name]) for field in table.FIELDS if field.name in fields}
    return {name: text for name, text in texts.items() if text}


def _rows(table: Table, words: Words, begin: int, count: int, title: str) -> Result:
    """The rows in use (a word that is not 0, a seqlock's even number apart) of ``count`` that begin at word ``begin``;
    a seqlock's row is copied whole."""
    rows: list[Result] = []
    seqlock = table.FIELDS[0].sync == "row.seq"
    every = words[begin : begin + count * table.WORDS].reshape(count, table.WORDS)
    used = every[:, 1:].any(axis=1) | ((every[:, 0] & 1) == 1) if seqlock else every.any(axis=1)
    for index in np.flatnonzero(used).tolist():
        copy = words[begin + index * table.WORDS : begin + (index + 1) * table.WORDS]
        if seqlock:
            copy = np.zeros(table.WORDS, np.int64)
            if int(read_row(words, begin + index * table.WORDS, copy)) < 0:
                rows.append({"index": index, "torn": True})
                continue
        fields = _fields(table, copy)
        rows.append({"index": index, "fields": fields, "meanings": _meanings(table, fields)})
    return {**_described(table), "title": title, "rows": rows, "capacity": count}


def _parts(table: Table, words: Words) -> Iterator[tuple[Field, Table, int]]:
    """(field, table of its rows, how many there are) of every field of rows."""
    for field in table.FIELDS:
        if field.rows is not None:
            yield field, field.rows, field.items or (len(words) - field.offset) // field.rows.WORDS


# --- what can be inspected ---


def read_segment(instance: str, name: str) -> Result:
    """Header, fields, and how many rows are in use of any segment; of metrics also the values by their labels."""
    name = name.removeprefix("/").removeprefix(f"arb.{instance}.")
    segment, table = _attach(instance, name, segments(instance), "segment")
    result = _result(instance, f"segment {name}", segment)
    result["tables"] = [_record(HEADER, segment.words), _record(table, segment.words)]
    for field, rows, count in _parts(table, segment.words):
        used = segment.words[field.offset : field.offset + count * rows.WORDS].reshape(count, rows.WORDS).any(axis=1)
        summary = {"in_use": int(used.sum()), "capacity": count, "of": rows.NAME}
        result["tables"].append({"table": rows.NAME, "title": field.name, "fields": summary, "units": {}})
    if table is METRICS:
        metrics = Metrics(name.removeprefix("metrics."), segment)
        result["tables"].append({"table": "counters", "title": "counters", "fields": metrics.counters(), "units": {}})
        counts = {label: histogram.count for label, histogram in metrics.histograms().items()}
        result["tables"].append({"table": "values", "title": "values in histograms", "fields": counts, "units": {}})
    return result


def read_page(instance: str, name: str) -> Result:
    """A page's fields and all its rows in use."""
    segment, table = _attach(instance, name, _names(instance, PAGES), "page")
    result = _result(instance, f"page {name}", segment)
    if any(field.rows is None for field in table.FIELDS):
        result["tables"].append(_record(table, segment.words))
    for field, rows, count in _parts(table, segment.words):
        result["tables"].append(_rows(rows, segment.words, field.offset, count, field.name))
    return result


def read_market_book(instance: str, venue: str, symbol: str) -> Result:
    """The newest book of one instrument, its connection, and both sides in decimals. ``symbol``: the venue's, or the
    pair. ``readable`` is false where nothing was published or the copy is torn."""
    index, row = _instrument(instance, venue, symbol)
    record = np.zeros(BOOK.WORDS, np.int64)
    feeds = [name for name in segments(instance) if _kind_of(instance, name) == FEED.KIND]
    state = BookState(status=0)
    for name in feeds:
        segment, _ = _attach(instance, name, feeds, "segment")
        status = int(read_book(segment.words, 0, int(row[CATALOGUE_ROW.book_index]), record))
        if status < 0:
            state = BookState(status=status)
        if status > 0 and int(record[BOOK.instrument]) == index:  # else another feed's
            lives = feed_lives(LivenessView.attach(instance, name, missing_ok=True))
            proof, now_ns = int(proof_mono_ns(segment.words, 0, record)), time.monotonic_ns()
            state = state_of_book(
                record,
                status=status,
                proof_mono_ns=proof,
                feed_epoch=int(segment.words[HEADER.epoch]),
                feed_lives=lives,
                now_mono_ns=now_ns,
            )
            result = _result(instance, f"book {venue} {symbol}", segment)
            result["readable"] = True
            result["proof_mono_ns"] = proof
            result["age_ms"] = None if state.age_ms is None else round(state.age_ms, 3)
            result["levels"] = _levels(record, row)
            result["tables"] = [_record(BOOK, record), *_connection(segment.words, int(record[BOOK.conn]))]
            return {**result, **_verdict(instance, venue, index, row, state)}
    result = _result(instance, f"book {venue} {symbol}")
    result |= {"readable": False, "tables": [_record(CATALOGUE_ROW, row, title="instrument")]}
    return {**result, **_verdict(instance, venue, index, row, state)}


def _verdict(instance: str, venue: str, index: int, row: Words, state: BookState) -> dict[str, Any]:
    removed = bool(int(row[CATALOGUE_ROW.flags]) & CAT_FLAG_REMOVED)
    state = state._replace(max_age_ms=book_age_limit_ms(run_file(instance)), removed=removed)
    return verdict(instance, words_to_row(index, row, venue), state)


def _connection(words: Words, conn: int) -> list[Result]:
    if not 0 <= conn < CONN_CAPACITY:
        return []
    return [_record(CONNECTION, words, FEED.connections + conn * CONNECTION.WORDS, f"connection {conn}")]


def _levels(record: Words, row: Words) -> dict[str, list[list[Decimal]]]:
    price_exp, qty_exp = int(row[CATALOGUE_ROW.price_exp]), int(row[CATALOGUE_ROW.qty_exp])
    sides = (
        ("bids", BOOK.bid_count, BOOK.bid_price_fp, BOOK.bid_qty_fp),
        ("asks", BOOK.ask_count, BOOK.ask_price_fp, BOOK.ask_qty_fp),
    )
    return {
        name: [
            [
                from_fp(int(record[prices + k]), price_exp).normalize(),
                from_fp(int(record[qtys + k]), qty_exp).normalize(),
            ]
            for k in range(int(record[count]))
        ]
        for name, count, prices, qtys in sides
    }


def _instrument(instance: str, venue: str, symbol: str) -> tuple[int, Words]:
    """Instrument id and catalogue row."""
    venues = list(run_file(instance).get("venues", {}))
    if not venues:
        raise BadInput(f"instance {instance}: {instance_dir(instance)}/run.json names no venues; try `page catalogue`")
    if venue not in venues:
        raise BadInput(f"book: found venue {venue!r}, wanted one of {_listed(venues)}")
    page = CataloguePage.attach(instance)
    symbols: list[str] = []
    for index in range(page.count):
        row = page.row(index)
        if row is None or int(row[CATALOGUE_ROW.venue]) != venues.index(venue):
            continue
        names = [_text(row, CATALOGUE_ROW.symbol), _text(row, CATALOGUE_ROW.pair_text)]
        if symbol in names:
            return index, row
        symbols.append(names[0])
    raise BadInput(f"book: found symbol {symbol!r}, wanted one of {_listed(sorted(symbols))} ({venue})")


def _text(row: Words, at: int) -> str:
    return words_to_text(row[at : at + CATALOGUE_TEXT_WORDS])


def read_queue(instance: str, name: str) -> Result:
    """Both ends of a queue and its newest items, by the names of their record's fields."""
    segment, table = _attach(instance, name, _queues(instance), "queue")
    result = _result(instance, f"queue {name}", segment)
    words = segment.words
    result["tables"].append(_record(table, words, title="producer"))
    result["waiting"] = None
    if f"{name}.cursor" in segments(instance):
        cursor, _ = _attach(instance, f"{name}.cursor", segments(instance), "segment")
        result["consumer"] = {"pid": cursor.owner_pid, "alive": owner_lives(cursor.name)}
        result["waiting"] = int(words[QUEUE.tail]) - int(cursor.words[CURSOR.cursor])
        result["tables"].append(_record(CURSOR, cursor.words, title="consumer"))
    tail = int(words[QUEUE.tail])
    item = np.zeros(max(LINE_WORDS, int(words[QUEUE.slot_words])), np.int64)
    for index in range(max(0, tail - QUEUE_ITEMS), tail):
        if int(read_at(words, 0, index, item)) == 1:
            result["tables"] += _item(PAYLOADS.get(name), item.copy(), index)
    return result


def _item(table: Table | None, item: Words, index: int) -> list[Result]:
    if table is None or len(item) != table.WORDS:
        plain = {"table": "words", "title": f"item {index}", "units": {}}
        return [{**plain, "fields": {str(k): value for k, value in enumerate(item.tolist())}}]
    found = [_record(table, item, title=f"item {index}")]
    if table is OPPORTUNITY:
        legs = max(0, min(int(item[OPPORTUNITY.leg_count]), 3))
        found += [_record(LEG, item, OPPORTUNITY.legs + k * LEG.WORDS, f"item {index} leg {k}") for k in range(legs)]
    return found


# --- journal ---


def read_journal_tail(instance: str, count: int) -> Result:
    """The last ``count`` records of the instance's journal by the names of their structs' fields."""
    directory = instance_dir(instance) / "journal"
    result = _result(instance, f"journal, last {count}")
    if not segment_indices(directory):
        raise BadInput(f"journal: found no segment in {directory}: the executor of {instance} has never run")
    result["journal"] = str(directory)
    for entry in newest_entries(directory, count):
        fields = {name: _plain(getattr(entry.record, name)) for name in entry.record.__struct_fields__}
        stamps = {"mono_ns": entry.mono_ns, "wall_ns": entry.wall_ns, "boot_epoch": entry.boot_epoch}
        result["tables"].append(
            {
                "table": type(entry.record).__name__,
                "title": f"record {entry.seq}",
                "seq": entry.seq,
                "type": entry.type,
                **stamps,
                "units": {name: unit for name in fields if (unit := unit_of(name))},
                "fields": fields,
            }
        )
    return result


def newest_entries(directory: Path, count: int) -> list[JournalEntry]:
    """The last ``count`` entries; only the segments that hold them are read, and the last one."""
    starts = [segment_start(directory, index) for index in segment_indices(directory)]
    newest = _entries(directory, starts[-1], count)
    begin = (newest[-1].seq if newest else starts[-1].next_seq - 1) - count + 1
    earlier = [start for start in starts if start.next_seq <= max(begin, starts[0].next_seq)]
    return _entries(directory, earlier[-1], count) if len(newest) < count else newest


def _entries(directory: Path, start: JournalPosition, count: int) -> list[JournalEntry]:
    newest: deque[JournalEntry] = deque(maxlen=count)
    reader = JournalReader(directory, start)
    try:
        while entries := reader.poll(1000):
            newest.extend(entries)
    finally:
        reader.close()
    return list(newest)


def _plain(value: Any) -> Any:
    """Structs as dicts by field name, enums by name, bytes as hexadecimal text."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    return value


# --- text ---


def inspect_text(result: Result) -> str:
    """The result for people: one field a line with value, unit and meaning."""
    lines = [f"{result['what']} of instance {result['instance']}"]
    if "owner" in result:
        owner = result["owner"]
        lines.append(f"{result['segment']}, owner {owner['pid']} {'alive' if owner['alive'] else 'dead'}")
    known = ("instance", "what", "segment", "owner", "tables", "levels", "tradable", "sentence")
    lines += [f"{name} {_value(value)}" for name, value in result.items() if name not in known]
    for side, levels in result.get("levels", {}).items():
        lines += ["", f"{side} (price, quantity)", *(f"  {price:f}  {qty:f}" for price, qty in levels)]
    for table in result["tables"]:
        lines += ["", f"{table['title']}: {table['table']}"]
        if "rows" in table:
            lines.append(f"  {len(table['rows'])} of {table['capacity']} rows in use")
            for row in table["rows"]:
                lines.append(f"  row {row['index']}" + (": torn, its writer died in it" if row.get("torn") else ""))
                lines += _field_lines(row.get("fields", {}), table["units"], row.get("meanings", {}), indent=4)
        else:
            lines += _field_lines(table["fields"], table["units"], table.get("meanings", {}), indent=2)
    if "sentence" in result:
        lines += ["", result["sentence"]]
    return "\n".join(lines)


def _field_lines(fields: dict[str, Any], units: dict[str, str], meanings: dict[str, str], *, indent: int) -> list[str]:
    width = max((len(name) for name in fields), default=0)
    lines = []
    for name, value in fields.items():
        text = f"{' ' * indent}{name:<{width}}  {_value(value):<{VALUE_WIDTH if name in units else 0}}"
        text += f"  {units[name]}" if name in units else ""
        lines.append((text + (f"  ({meanings[name]})" if name in meanings else "")).rstrip())
    return lines


def _value(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return str(value)
