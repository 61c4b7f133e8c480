"""Books whose connection is changed for another one: those that stand move, the others are fetched again. And what a
frame costs that cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.book.memory import BOOKS, WATCH
from pipeline.book.results import FrameResult, SnapshotResult
from shm import bookring
from shm.layout import BOOK, FLAG_GAP, FLAG_HALTED, FLAG_UNPROVED
from tests.worlds.venue_books_rig import CONN, Rig, snapshot, spot_update, watch_from

MS = 1_000_000
NEXT_CONN = 4


class Changing(Rig):
    """BTCUSDT and ETHUSDT live on one connection; the next one stands beside it. Frames have no gap of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.books.add(book_index=1, instrument_id=5, symbol="ETHUSDT", price_exp=4, qty_exp=4)
        self.time = 10_000 * MS
        watch_from(self.books, CONN, self.time)
        self.live()
        self.send(spot_update(9, 9, s="ETHUSDT"))
        self.books.on_snapshot(1, snapshot(9), self.time, CONN)
        bookring.conn_open(self.words, 0, NEXT_CONN, 1, 0)
        watch_from(self.books, NEXT_CONN, self.time)
        self.last = 9
        self.both(10)

    def send(self, frame: bytes, conn: int = CONN) -> FrameResult:
        return FrameResult(self.books.on_frame(frame, self.time, conn))

    def news(self) -> bytes:
        self.last += 1
        return spot_update(self.last, self.last, s="ETHUSDT", E=self.wall_ms())

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.time // MS

    def other(self, conn: int) -> None:
        """News of ETHUSDT over one connection."""
        self.send(self.news(), conn)

    def both(self, after_ms: int) -> None:
        """The same news of ETHUSDT over both, the old one first."""
        self.time += after_ms * MS
        frame = self.news()
        for conn in (CONN, NEXT_CONN):
            self.send(frame, conn)

    def proved(self, book_index: int = 2) -> bool:
        record = self.read(book_index)
        return not record[BOOK.flags] & FLAG_UNPROVED and bookring.proof_mono_ns(self.words, 0, record) > 0


def from_before_a_silence(rig: Changing) -> None:
    rig.time += 600 * MS
    rig.both(0)  # ends the silence: an update of BTCUSDT may have been lost in it
    rig.both(100)


def from_before_a_silence_that_goes_on(rig: Changing) -> None:
    for _ in range(6):
        rig.time += 100 * MS
        rig.other(NEXT_CONN)


def contradicted(rig: Changing) -> None:
    later = spot_update(10, 10, E=rig.wall_ms() + 400)
    assert rig.send(later) is FrameResult.DROPPED and rig.flags() == FLAG_UNPROVED


def late(rig: Changing) -> None:
    rig.last += 1
    rig.send(spot_update(rig.last, rig.last, s="ETHUSDT", E=rig.wall_ms() - 2000))
    assert not rig.books.mem[BOOKS.connections + CONN * WATCH.WORDS + WATCH.on_time]


@pytest.mark.parametrize("doubt", [from_before_a_silence, from_before_a_silence_that_goes_on, contradicted, late])
def test_a_book_that_its_connection_does_not_prove_is_proved_by_no_other(doubt) -> None:  # type: ignore[no-untyped-def]
    rig = Changing()
    assert rig.proved()
    doubt(rig)
    assert 2 in rig.books.move_connection(CONN, NEXT_CONN)
    rig.time += 10 * MS
    rig.other(NEXT_CONN)
    assert not rig.proved() and 2 in rig.books.needs_snapshot()
    assert rig.books.on_snapshot(2, snapshot(20), rig.time, NEXT_CONN) is SnapshotResult.SYNCED
    assert rig.proved()


def test_a_silence_of_the_next_connection_leaves_older_books_in_doubt() -> None:
    rig = Changing()
    for _ in range(7):
        rig.time += 100 * MS
        rig.other(CONN)
    rig.other(NEXT_CONN)  # ends its silence
    assert rig.proved()
    assert rig.books.move_connection(CONN, NEXT_CONN) == [2]
    assert not rig.proved() and rig.proved(1)


def test_books_that_stand_move_with_the_flags_that_their_owner_gave_them() -> None:
    rig = Changing()
    rig.books.set_halted(2, True)
    assert rig.books.move_connection(CONN, NEXT_CONN) == []
    record = rig.read()
    assert (record[BOOK.conn], record[BOOK.flags]) == (NEXT_CONN, FLAG_HALTED) and rig.proved() and rig.proved(1)
    assert rig.books.move_connection(NEXT_CONN, CONN) == [], "and back, where the next one goes"
    assert rig.read()[BOOK.conn] == CONN and rig.proved()


def test_a_book_that_waits_goes_on_waiting_under_the_next_connection() -> None:
    rig = Changing()
    rig.books.invalidate(2)
    assert rig.books.move_connection(CONN, NEXT_CONN) == []
    assert rig.books.needs_snapshot() == [2] and rig.books.invalidate_connection(CONN) == []


def test_a_snapshot_that_is_older_than_its_question_proves_no_book_whose_connection_has_ended() -> None:
    """A venue's cache answers with a book from before an update that we have had already; the next connection had not
    been there when that one's successor came."""
    rig = Rig()
    assert rig.frame(spot_update(9, 9)) is FrameResult.NEED_SNAPSHOT
    assert rig.frame(spot_update(10, 10)) is FrameResult.BUFFERED
    assert rig.books.invalidate_connection(CONN) == []
    bookring.conn_open(rig.words, 0, NEXT_CONN, 1, 0)
    for asked_after_ns in (10, 20):
        asked_ns = rig.time + asked_after_ns
        assert rig.books.on_snapshot(2, snapshot(9), asked_ns, NEXT_CONN) is SnapshotResult.STALE
        assert not rig.books.is_synced(2) and rig.books.needs_snapshot() == [2]
    assert rig.books.counters.stale_snapshots == 2
    assert rig.books.on_snapshot(2, snapshot(12), rig.time + 30, NEXT_CONN) is SnapshotResult.SYNCED
    record = rig.read()
    assert (record[BOOK.update_id], record[BOOK.conn]) == (12, NEXT_CONN)


def test_an_update_behind_the_question_is_carried_on_by_the_connection_that_it_was_asked_over() -> None:
    rig = Rig()
    assert rig.frame(spot_update(9, 9)) is FrameResult.NEED_SNAPSHOT
    asked_ns = rig.time + 5
    assert rig.frame(spot_update(10, 10)) is FrameResult.BUFFERED
    bookring.conn_open(rig.words, 0, NEXT_CONN, 1, 0)
    assert rig.books.invalidate_connection(CONN) == []
    assert rig.books.on_snapshot(2, snapshot(9), asked_ns, NEXT_CONN) is SnapshotResult.SYNCED
    record = rig.read()
    assert (record[BOOK.update_id], record[BOOK.conn]) == (10, NEXT_CONN)


class Contracts(Rig):
    """Two contracts of Gate.io, whose frames name the symbol behind the levels, on a connection with other topics."""

    def __init__(self) -> None:
        super().__init__("gateio", "futures", "BTC_USDT")
        self.books.add(book_index=1, instrument_id=5, symbol="ETH_USDT", price_exp=4, qty_exp=4)
        watch_from(self.books, CONN, self.time)
        for symbol in ("BTC_USDT", "ETH_USDT"):
            assert self.frame(contract_update(symbol, 7, full=True)) is FrameResult.APPLIED

    def proved(self, book_index: int) -> bool:
        record = self.read(book_index)
        return not record[BOOK.flags] & FLAG_GAP and bookring.proof_mono_ns(self.words, 0, record) > 0


def contract_update(symbol: str, number: int, price: str = "57", **more: Any) -> bytes:
    body = {"U": number, "a": [], "b": [{"p": price, "s": 46}], "s": symbol, "t": 5, "u": number, **more}
    return json.dumps({"time": 1, "channel": "futures.order_book_update", "event": "update", "result": body}).encode()


def test_a_refused_frame_that_names_its_symbol_last_costs_that_book_alone() -> None:
    rig = Contracts()
    assert rig.frame(contract_update("BTC_USDT", 8, price="NaN")) is FrameResult.REJECTED
    assert rig.books.last_book_index == 2 and rig.books.needs_snapshot() == [2]
    rig.frame(contract_update("ETH_USDT", 8))
    assert not rig.proved(2) and rig.proved(1)


@pytest.mark.parametrize(
    "frame",
    [contract_update("BTC_USDT", 8)[:120], contract_update("BTX_USDT", 8, price="NaN"), b"\xff" * 100],
    ids=["cut off", "of a symbol that is not ours", "bytes"],
)
def test_after_a_frame_of_nobody_knows_whom_books_are_proved_by_their_own_next_update(frame: bytes) -> None:
    rig = Contracts()
    assert rig.proved(1) and rig.proved(2)
    assert rig.frame(frame) is FrameResult.REJECTED
    rig.frame(contract_update("ETH_USDT", 8))
    assert rig.proved(1) and not rig.proved(2)
    rig.books.set_halted(2, False)  # published again as it is
    rig.frame(contract_update("ETH_USDT", 9))
    assert not rig.proved(2)
    rig.frame(contract_update("BTC_USDT", 8))
    assert rig.proved(2)


def test_a_late_connection_stays_late_over_a_frame_that_cannot_be_read() -> None:
    rig = Contracts()
    watch = BOOKS.connections + CONN * WATCH.WORDS
    rig.books.mem[watch + WATCH.on_time] = 0
    assert rig.frame(b"\xff") is FrameResult.REJECTED
    rig.frame(contract_update("ETH_USDT", 8))
    assert not rig.books.mem[watch + WATCH.on_time] and not rig.proved(1)
