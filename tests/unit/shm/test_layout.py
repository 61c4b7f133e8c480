"""The layout: nothing overlaps, hot fields have lines of their own, and every change is seen by the schema hash."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from shm import layout as ly
from shm import segment as sg
from shm.words import pack_text, unpack_text


def test_regions_follow_each_other_on_line_boundaries() -> None:
    for first, second in (
        (ly.SEG_HEADER_WORDS, ly.FEED_NOTICE_TAIL),
        (ly.FEED_CONN_OFF + ly.CONN_CAPACITY * ly.CONN_WORDS, ly.FEED_NOTICE_OFF),
        (ly.FEED_NOTICE_OFF + ly.NOTICE_CAPACITY * ly.NOTICE_WORDS, ly.FEED_BOOK_OFF),
        (ly.BOOK_HEAD_WORDS + ly.BOOK_SLOTS * ly.BOOK_RECORD_WORDS, ly.BOOK_RING_WORDS),
        (ly.MX_COUNTER_NAMES_OFF + ly.MX_COUNTER_CAPACITY * ly.MX_NAME_WORDS, ly.MX_HIST_NAMES_OFF),
        (ly.MX_HIST_NAMES_OFF + ly.MX_HIST_CAPACITY * ly.MX_NAME_WORDS, ly.MX_COUNTERS_OFF),
        (ly.MX_COUNTERS_OFF + ly.MX_COUNTER_CAPACITY, ly.MX_HISTS_OFF),
        (ly.AP_VENUES_OFF + ly.VENUE_CAPACITY * ly.AP_VENUE_WORDS, ly.AP_BALANCES_OFF),
        (ly.AP_BALANCES_OFF + ly.AP_BALANCE_CAPACITY * ly.AP_BALANCE_WORDS, ly.AP_POSITIONS_OFF),
    ):
        assert first == second and first % ly.LINE_WORDS == 0
    assert ly.MX_LABEL_WORDS + ly.MX_DOC_WORDS == ly.MX_NAME_WORDS


def test_producer_and_consumer_words_are_on_different_lines() -> None:
    assert ly.C_CURSOR // ly.LINE_WORDS != ly.C_SLEEPING // ly.LINE_WORDS
    assert ly.C_CURSOR // ly.LINE_WORDS != ly.SEG_READY // ly.LINE_WORDS
    assert ly.Q_SLOTS_OFF // ly.LINE_WORDS != ly.Q_TAIL // ly.LINE_WORDS


def test_fields_of_one_record_do_not_share_a_word() -> None:
    for prefix, size in (("BR_", ly.BOOK_RECORD_WORDS), ("CR_", ly.CATALOGUE_ROW_WORDS), ("IR_", 8), ("SEG_", 16)):
        fields = {k: v for k, v in vars(ly).items() if k.startswith(prefix) and not k.endswith("_WORDS")}
        assert len(set(fields.values())) == len(fields) and max(fields.values()) < size, prefix


def test_constants_that_move_change_the_schema_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sg.schema_hash.__wrapped__()
    monkeypatch.setattr(ly, "BR_UPDATE_ID", ly.BR_UPDATE_ID + 1)
    assert sg.schema_hash.__wrapped__() != before


def test_text_in_words_is_cut_at_whole_characters() -> None:
    assert unpack_text(pack_text("BTC/USDT", 4)) == "BTC/USDT"
    assert unpack_text(pack_text("ééééé", 1)) == "éééé"
    assert unpack_text(pack_text("aéééé", 1)) == "aééé"
    assert unpack_text(pack_text("", 2)) == ""


def test_package_imports_nothing() -> None:
    source = Path(importlib.import_module("shm").__file__ or "").read_text()
    assert "import" not in source.replace("important", "")
