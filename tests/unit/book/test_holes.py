"""Two connections of which each lacks updates: one fills the other's gaps, and no half-filled book is ever shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.book.holes import FILLED_MAX
from pipeline.book.memory import BOOKS, WATCH
from pipeline.book.results import FrameResult, SnapshotResult
from shm import bookring
from shm.layout import BOOK, FLAG_GAP, FLAGS_UNTRADABLE
from tests.naive.book import NaiveBook, decimals
from tests.worlds.venue_books_rig import CONN, Rig, snapshot, spot_update, ticker, watch_from

OTHER = CONN + 1


def over(rig: Rig, conn: int, frame: bytes) -> FrameResult:
    rig.time += 10
    return FrameResult(rig.books.on_frame(frame, rig.time, conn))


def test_what_the_other_connection_brings_late_heals_a_gap_without_a_snapshot() -> None:
    rig = Rig().live()
    snapshots = rig.books.counters.snapshots
    assert over(rig, OTHER, spot_update(13, 13, [["99.0", "3"]])) is FrameResult.NEED_SNAPSHOT
    assert rig.flags() == FLAG_GAP and rig.books.has_hole(2)
    assert over(rig, OTHER, spot_update(14, 14, [["99.0", "4"]])) is FrameResult.BUFFERED
    assert over(rig, CONN, spot_update(12, 12, [["99.0", "1"], ["98.0", "5"]])) is FrameResult.APPLIED
    assert rig.flags() == 0 and not rig.books.has_hole(2)
    assert rig.read()[BOOK.update_id] == 14 and rig.books.levels(2)[0][1:] == [(990000, 40000), (980000, 50000)]
    assert over(rig, CONN, spot_update(13, 13)) is FrameResult.DROPPED
    counters = rig.books.counters
    assert (counters.gaps, counters.filled, counters.snapshots) == (1, 1, snapshots)


def test_a_part_of_what_is_missing_leaves_the_book_gapped() -> None:
    rig = Rig().live()
    over(rig, OTHER, spot_update(14, 14))
    assert over(rig, CONN, spot_update(12, 12)) is FrameResult.BUFFERED
    assert rig.flags() == FLAG_GAP and rig.books.needs_snapshot() == [2]
    assert over(rig, CONN, spot_update(13, 13)) is FrameResult.APPLIED and rig.flags() == 0


def test_a_connection_does_not_fill_its_own_gap_nor_any_one_that_is_more_than_lacking_updates() -> None:
    rig = Rig().live()
    over(rig, OTHER, spot_update(13, 13))
    assert over(rig, OTHER, spot_update(12, 12)) is FrameResult.BUFFERED
    rig.books.invalidate(2)
    assert not rig.books.has_hole(2)
    assert over(rig, CONN, spot_update(12, 13)) is FrameResult.BUFFERED
    assert rig.snap(snapshot(13)) is SnapshotResult.SYNCED and not rig.books.has_hole(2)


def test_what_would_be_crossed_is_fetched_again() -> None:
    rig = Rig().live()
    over(rig, OTHER, spot_update(13, 13, [["200.0", "1"]]))
    assert over(rig, CONN, spot_update(12, 12)) is FrameResult.NEED_SNAPSHOT
    assert rig.flags() & FLAGS_UNTRADABLE and not rig.books.has_hole(2) and rig.books.needs_snapshot() == [2]


def test_a_long_wait_ends_with_a_snapshot() -> None:
    rig = Rig().live()
    for number in range(13, 14 + FILLED_MAX):
        over(rig, OTHER, spot_update(number, number))
    assert over(rig, CONN, spot_update(12, 12)) is FrameResult.BUFFERED
    assert rig.snap(snapshot(13)) is SnapshotResult.SYNCED and rig.read()[BOOK.update_id] == 13 + FILLED_MAX


def open_both(rig: Rig) -> tuple[int, int]:
    """Both connections stand, from now on; their generations."""
    rig.time += 1_000_000_000
    generations = rig.generation, bookring.conn_open(rig.words, 0, OTHER, 1, 0)
    for conn in (CONN, OTHER):
        watch_from(rig.books, conn, rig.time)
    return generations


@pytest.mark.parametrize("first_is_closed", [False, True])
def test_a_filled_book_is_proved_by_the_connection_that_filled_it(first_is_closed: bool) -> None:
    """What lay beyond the gap came long ago, over one that has stalled or ended since: it says nothing of now."""
    rig = Rig().live()
    _, generation = open_both(rig)
    over(rig, OTHER, spot_update(12, 12))
    assert over(rig, CONN, spot_update(14, 14)) is FrameResult.NEED_SNAPSHOT
    if first_is_closed:
        rig.books.move_connection(CONN, OTHER)
        bookring.conn_close(rig.words, 0, CONN)
    rig.time += 300_000_000
    assert over(rig, OTHER, spot_update(13, 13)) is FrameResult.APPLIED
    read = rig.read()
    assert (read[BOOK.conn], read[BOOK.conn_generation], read[BOOK.update_id]) == (OTHER, generation, 14)
    assert bookring.proof_mono_ns(rig.words, 0, read) == rig.time
    bookring.conn_close(rig.words, 0, OTHER)
    assert bookring.proof_mono_ns(rig.words, 0, read) == 0


def test_a_ticker_ahead_of_a_filled_book_is_counted_by_the_flow_of_the_one_that_filled_it() -> None:
    rig = Rig().live()
    open_both(rig)
    flows = {conn: BOOKS.connections + conn * WATCH.WORDS + WATCH.flow_ns for conn in (CONN, OTHER)}
    over(rig, OTHER, ticker(20, "100.0", "1", "101.0", "2"))
    over(rig, CONN, spot_update(13, 13))
    rig.books.mem[flows[OTHER]] = 10_000_000_000
    assert over(rig, OTHER, spot_update(12, 12)) is FrameResult.APPLIED
    assert rig.books.invalidate_books_behind_ticker(400_000_000) == []
    rig.books.mem[flows[OTHER]] += 500_000_000
    assert rig.books.invalidate_books_behind_ticker(400_000_000) == [2]


@pytest.mark.parametrize("moved", [False, True])
def test_updates_of_a_connection_that_has_ended_give_their_book_to_the_one_of_the_snapshot(moved: bool) -> None:
    """Where the row of the ended one is another's by then, that one would prove the book."""
    rig = Rig().live()
    _, generation = open_both(rig)
    over(rig, OTHER, spot_update(12, 12))
    over(rig, CONN, spot_update(14, 14))
    if moved:
        rig.books.move_connection(CONN, OTHER)
    else:
        rig.books.invalidate_connection(CONN)
    bookring.conn_open(rig.words, 0, CONN, 9, 0)
    asked_ns = rig.time - 5
    assert rig.books.on_snapshot(2, snapshot(13), asked_ns, OTHER) is SnapshotResult.SYNCED
    read = rig.read()
    assert (read[BOOK.update_id], read[BOOK.conn], read[BOOK.conn_generation]) == (14, OTHER, generation)


@pytest.mark.parametrize("why_not", ["", "silent", "late", "unproved", "before", "nothing since"])
def test_a_book_is_carried_on_by_the_connection_that_has_had_the_same(why_not: str) -> None:
    """Unless that one may have lost an update too, or the book was in doubt before the two were alike."""
    rig = Rig().live()
    generation, other_generation = open_both(rig)
    over(rig, CONN, spot_update(12, 12))
    watch = BOOKS.connections + OTHER * WATCH.WORDS
    rig.books.mem[watch + WATCH.life_ns] = rig.time - (400_000_000 if why_not == "silent" else 600_000_000)
    rig.books.mem[watch + WATCH.on_time] = why_not != "late"
    rig.books.mem[watch + WATCH.data_ns] = rig.time - 1 if why_not == "nothing since" else rig.time + 1
    if why_not == "unproved":
        stale = spot_update(11, 11, E=1700000000300)
        assert over(rig, CONN, stale) is FrameResult.DROPPED
    rig.books.stand_by(CONN, OTHER, generation + (why_not == "before"))
    read = rig.read()
    carrier = (CONN, generation) if why_not else (OTHER, other_generation)
    assert (read[BOOK.conn], read[BOOK.conn_generation], read[BOOK.update_id]) == (*carrier, 12)


STEPS = some.lists(some.sampled_from(["both", "first", "second", "none"]), min_size=1, max_size=30)


def event(number: int) -> dict[str, Any]:
    side = [[str(90 + number % 7), str(number % 4)]]
    return {
        "U": number,
        "u": number,
        "b": side if number % 3 else [],
        "a": [] if number % 3 else [["103", str(number)]],
    }


@settings(max_examples=150, deadline=None)
@given(STEPS, some.lists(some.booleans(), max_size=60))
def test_two_connections_are_one_book_as_the_plain_twin_has_it(carried: list[str], turns: list[bool]) -> None:
    rig, twin = Rig().live(), NaiveBook("spot")
    twin.snapshot(10, decimals([["100.0", "1"]]), decimals([["101.0", "2"]]))
    twin.update({"U": 11, "u": 11}, CONN)
    queues = {
        CONN: [number for number, who in enumerate(carried, 12) if who in ("both", "first")],
        OTHER: [number for number, who in enumerate(carried, 12) if who in ("both", "second")],
    }
    for turn in [*turns, *[True, False] * 30]:
        conn = CONN if turn else OTHER
        if not queues[conn]:
            continue
        body = event(queues[conn].pop(0))
        over(rig, conn, spot_update(body["U"], body["u"], body["b"], body["a"]))
        twin.update({**body, "b": decimals(body["b"]), "a": decimals(body["a"])}, conn)
        assert rig.books.is_synced(2) is (twin.last is not None)
        if twin.last is not None:
            assert rig.read()[BOOK.update_id] == twin.last and rig.flags() == 0
            scaled = [[(int(p * 10**4), int(q * 10**4)) for p, q in side] for side in twin.levels()]
            assert list(rig.books.levels(2)) == scaled
        else:
            assert rig.flags() & FLAGS_UNTRADABLE
