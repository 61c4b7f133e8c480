"""The layout: nothing overlaps, hot fields have lines of their own, and every change is seen by the schema hash."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pipeline.book import frame_kernels as book_kernels
from pipeline.book import memory as book_memory
from pipeline.detection import cycle_size, cycles, depth_walk, scan_loop, topology
from pipeline.detection import memory as detector_memory
from pipeline.fast_entry import memory as entry_memory
from pipeline.templates import slots
from shm import layout, layout_pages, segment
from shm.bookring import create_feed
from shm.declare import Table, drawing, dtype_of, meaning, schema_of, tables_of, values, view, word
from shm.errors import SegmentMismatch
from shm.layout import (
    BOOK,
    BOOK_DEPTH,
    BOOK_RING,
    BOOK_SLOTS,
    CONN_CAPACITY,
    CONNECTION,
    COUNTER_CAPACITY,
    CURSOR,
    FEED,
    FLAG_CROSSED,
    FLAG_GAP,
    HEADER,
    HISTOGRAM_CAPACITY,
    LINE_WORDS,
    METRIC_NAME,
    METRICS,
    NOTICE,
    NOTICE_CAPACITY,
    OPPORTUNITY,
    QUEUE,
)
from shm.layout_pages import (
    ACCOUNT,
    ACCOUNT_BALANCE,
    ACCOUNT_VENUE,
    BALANCE_CAPACITY,
    CATALOGUE_ROW,
    INVENTORY_ROW,
    VENUE_CAPACITY,
)
from shm.schema import SEGMENTS, SHARED_TABLES
from shm.words import pack_text, unpack_text

REPO = Path(__file__).resolve().parents[3]
MODULES: tuple[ModuleType, ...] = (
    entry_memory,
    slots,
    layout,
    layout_pages,
    book_memory,
    detector_memory,
    topology,
    cycles,
    depth_walk,
    scan_loop,
    cycle_size,
)
TABLES = [(module, table) for module in MODULES for table in tables_of(vars(module))]
EACH_TABLE = pytest.mark.parametrize("table", dict.fromkeys(table for _, table in TABLES), ids=lambda table: table.NAME)


def test_regions_follow_each_other_on_line_boundaries() -> None:
    for first, second in (
        (HEADER.WORDS, FEED.notice_tail),
        (FEED.connections + CONN_CAPACITY * CONNECTION.WORDS, FEED.notices),
        (FEED.notices + NOTICE_CAPACITY * NOTICE.WORDS, FEED.books),
        (BOOK_RING.records + BOOK_SLOTS * BOOK.WORDS, BOOK_RING.WORDS),
        (METRICS.counter_names + COUNTER_CAPACITY * METRIC_NAME.WORDS, METRICS.hist_names),
        (METRICS.hist_names + HISTOGRAM_CAPACITY * METRIC_NAME.WORDS, METRICS.counters),
        (METRICS.counters + COUNTER_CAPACITY, METRICS.hists),
        (ACCOUNT.venues + VENUE_CAPACITY * ACCOUNT_VENUE.WORDS, ACCOUNT.balances),
        (ACCOUNT.balances + BALANCE_CAPACITY * ACCOUNT_BALANCE.WORDS, ACCOUNT.positions),
    ):
        assert first == second and first % LINE_WORDS == 0


def test_producer_and_consumer_words_are_on_different_lines() -> None:
    assert CURSOR.cursor // LINE_WORDS != CURSOR.sleeping // LINE_WORDS
    assert CURSOR.cursor // LINE_WORDS != HEADER.ready // LINE_WORDS
    assert QUEUE.slots // LINE_WORDS != QUEUE.tail // LINE_WORDS


@EACH_TABLE
def test_fields_of_one_table_do_not_share_a_word_and_lie_in_it(table: Table) -> None:
    end = table.START
    for field in table.FIELDS:
        assert field.offset >= end, field.name
        end = field.offset + field.words
    assert end <= table.END
    assert dtype_of(table).itemsize == table.WORDS * 8


@EACH_TABLE
def test_every_drawing_is_that_of_the_declaration(table: Table) -> None:
    lines = [line.strip() for line in (type(table).__doc__ or "").splitlines()]
    wanted = [line.strip() for line in drawing(table)]
    begin = lines.index(wanted[0])
    assert lines[begin : begin + len(wanted)] == wanted


@EACH_TABLE
def test_every_field_says_what_it_is_and_who_writes_it(table: Table) -> None:
    assert [field.name for field in table.FIELDS if not field.doc or not field.writer] == []


def test_one_name_is_one_table_in_the_whole_tree() -> None:
    named: dict[str, Table] = {}
    for module, table in TABLES:
        assert vars(module)[table.NAME] is table
        assert named.setdefault(table.NAME, table) is table
    assert {table.NAME for table in SHARED_TABLES} < set(named)


def test_segments_of_different_kinds_have_different_numbers() -> None:
    kinds = [table.KIND for table in SHARED_TABLES if table.KIND]
    assert len(kinds) == len(SEGMENTS) == 12
    assert all(table.START == HEADER.WORDS for table in SEGMENTS.values())


def changed(table: Table, name: str) -> Table:
    """The same table with one field a word further on."""
    copy = type(table)()
    fields = [f._replace(offset=f.offset + 1) if f.name == name else f for f in table.FIELDS]
    vars(copy)["FIELDS"] = tuple(fields)
    return copy


@pytest.mark.parametrize("table", SHARED_TABLES, ids=lambda table: table.NAME)
def test_a_field_that_moves_changes_the_schema_hash(table: Table) -> None:
    before = schema_of(vars(layout), vars(layout_pages))
    for field in table.FIELDS:
        moved = {table.NAME: changed(table, field.name)}
        assert schema_of(vars(layout), vars(layout_pages), moved) != before
    assert schema_of(vars(layout), vars(layout_pages), {"BOOK_DEPTH": BOOK_DEPTH + 1}) != before
    assert schema_of(vars(layout), vars(layout_pages), {table.NAME: type(table)()}) == before


def test_a_segment_of_another_schema_is_refused(instance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = create_feed(instance, "mexc", 1)
    other = schema_of(vars(layout), vars(layout_pages), {"BOOK": changed(BOOK, "flags")})
    monkeypatch.setattr(segment, "schema_hash", lambda: other)
    with pytest.raises(SegmentMismatch, match="schema hash"):
        segment.Segment.attach(feed.name, kind=FEED.KIND, instance=instance)


def test_fields_that_overlap_or_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="begins at word 0"):
        type("Overlapping", (Table,), {"a": word("first"), "b": word("second", at=0)})
    with pytest.raises(ValueError, match="2 words of fields, declared are 1"):
        type("Small", (Table,), {"a": word("first"), "b": word("second")}, words=1)


def test_a_field_cannot_be_set() -> None:
    with pytest.raises(AttributeError, match=r"BOOK\.flags is declared, not set"):
        BOOK.flags = 3
    assert BOOK.flags == 2


def test_the_numpy_view_and_the_values_are_the_words() -> None:
    words = np.zeros(3 * BOOK.WORDS, np.int64)
    at = BOOK.WORDS
    words[at + BOOK.flags] = FLAG_GAP | FLAG_CROSSED
    words[at + BOOK.ask_price_fp + 1] = 77
    seen = view(BOOK, words, at, 2)
    assert seen["flags"].tolist() == [6, 0] and seen["ask_price_fp"][0].tolist()[:3] == [0, 77, 0]
    seen["update_id"][1] = 5
    assert words[2 * BOOK.WORDS + BOOK.update_id] == 5
    read = values(BOOK, words, at)
    assert read["flags"] == 6 and read["ask_price_fp"][1] == 77
    flags = next(field for field in BOOK.FIELDS if field.name == "flags")
    assert meaning(flags, 6) == "gap crossed" and meaning(flags, 128) == "unknown:0x80"


def test_floats_texts_and_rows_are_read_as_what_they_are() -> None:
    row = np.zeros(INVENTORY_ROW.WORDS, np.int64)
    row[INVENTORY_ROW.buy_notional : INVENTORY_ROW.buy_notional + 1].view(np.float64)[0] = 2.5
    assert values(INVENTORY_ROW, row)["buy_notional"] == 2.5
    row = np.zeros(CATALOGUE_ROW.WORDS, np.int64)
    row[CATALOGUE_ROW.symbol : CATALOGUE_ROW.symbol + 4] = pack_text("BTC_USDT", 4)
    assert values(CATALOGUE_ROW, row)["symbol"] == "BTC_USDT"
    record = np.zeros(OPPORTUNITY.WORDS, np.int64)
    record[OPPORTUNITY.legs + 16 + 3] = 9
    assert view(OPPORTUNITY, record)["legs"]["qty_fp"][0].tolist() == [0, 9, 0]


def test_results_of_the_book_kernels_have_different_numbers() -> None:
    found = [value for name, value in vars(book_kernels).items() if name.startswith("RESULT_")]
    assert len(found) == len(set(found)) == 15


def test_text_in_words_is_cut_at_whole_characters() -> None:
    assert unpack_text(pack_text("BTC/USDT", 4)) == "BTC/USDT"
    assert unpack_text(pack_text("ééééé", 1)) == "éééé"
    assert unpack_text(pack_text("aéééé", 1)) == "aééé"
    assert unpack_text(pack_text("", 2)) == ""


def test_package_imports_nothing() -> None:
    source = Path(importlib.import_module("shm").__file__ or "").read_text()
    assert "import" not in source.replace("important", "")


SYNC = re.compile(r"# SYNC ([a-z_.]+)")
WRITES = ("store_release", "fence_release", "fence_seq_cst", "_pack_slot", "items[LOG.tail] =")
READS = ("load_acquire", "fence_acquire", "fence_seq_cst", "load_relaxed")


def sync_names(wanted: tuple[str, ...]) -> set[str]:
    """Names of the SYNC comments that stand at a line with one of ``wanted``, or right above it."""
    found: set[str] = set()
    for path in (path for room in ("shm", "pipeline", "workers") for path in (REPO / room).rglob("*.py")):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if match := SYNC.search(line):
                code = (
                    line
                    if line.split("#")[0].strip()
                    else next((x for x in lines[number + 1 :] if x.strip()[:1] != "#"), "")
                )
                if any(operation in code for operation in wanted):
                    found.add(match[1])
    return found


def test_every_declared_sync_name_stands_at_the_writer_and_at_the_reader() -> None:
    declared = {field.sync for table in SHARED_TABLES for field in table.FIELDS if field.sync}
    assert declared - sync_names(WRITES) == set()
    assert declared - sync_names(READS) == set()


def test_every_sync_name_of_the_code_is_declared() -> None:
    declared = {field.sync for table in SHARED_TABLES for field in table.FIELDS if field.sync}
    assert {name for name in sync_names(("",)) if name not in declared} == {
        "journal.magic"
    }  # a file's, not a segment's
