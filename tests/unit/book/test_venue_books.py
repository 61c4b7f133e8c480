"""VenueBooks on hand-made streams: gaps, snapshots, quarantine, refusals; what readers see at each step."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from pipeline.book.memory import FRAME_CAP_BYTES, OLD_RUN_MAX
from pipeline.book.results import FrameResult, SnapshotResult
from pipeline.exchanges.mexc.protobuf import PushDataV3ApiWrapper
from pipeline.model.errors import ArbitrageEngineError
from shm import bookring
from shm.layout import ABSENT_ASK, ABSENT_BID, BOOK, FLAG_CROSSED, FLAG_GAP, FLAG_HALTED, FLAG_SNAPSHOT, FLAG_UNPROVED
from tests.paths import REPO
from tests.worlds.venue_books_rig import CONN, Rig, snapshot, spot_update, ticker


def test_first_update_asks_for_a_snapshot_and_is_replayed_on_top_of_it() -> None:
    rig = Rig()
    assert rig.books.needs_snapshot() == []
    assert rig.frame(spot_update(8, 9, [["99.0", "7"]])) is FrameResult.NEED_SNAPSHOT
    assert rig.frame(spot_update(10, 12, [["99.5", "3"]])) is FrameResult.BUFFERED
    assert rig.books.needs_snapshot() == [2] and rig.books.last_book_index == 2
    assert rig.snap(snapshot(10)) is SnapshotResult.SYNCED
    record = rig.read()
    assert record[BOOK.flags] == FLAG_SNAPSHOT
    assert record[BOOK.update_id] == 12 and record[BOOK.instrument] == 77
    assert record[BOOK.row_epoch] == 9 and record[BOOK.conn] == CONN
    assert record[BOOK.conn_generation] == rig.generation
    assert record[BOOK.venue_wall_ns] == 1700000000000 * 1_000_000
    assert record[BOOK.recv_mono_ns] == rig.time
    assert list(record[BOOK.bid_price_fp :][:3]) == [1000000, 995000, ABSENT_BID]
    assert list(record[BOOK.bid_qty_fp :][:3]) == [10000, 30000, 0]
    assert list(record[BOOK.ask_price_fp :][:2]) == [1010000, ABSENT_ASK]
    assert (record[BOOK.bid_count], record[BOOK.ask_count]) == (2, 1)
    assert rig.frame(spot_update(13, 13)) is FrameResult.APPLIED
    assert rig.flags() == 0
    counters = rig.books.counters
    assert (counters.messages, counters.applied, counters.dropped, counters.gaps, counters.resyncs) == (3, 2, 1, 0, 0)


def test_a_gap_is_published_before_anything_else_and_only_its_book_resynchronises() -> None:
    rig = Rig()
    rig.books.add(book_index=1, instrument_id=5, symbol="ETHUSDT", price_exp=4, qty_exp=4)
    rig.live()
    assert rig.frame(spot_update(5, 5, s="ETHUSDT")) is FrameResult.NEED_SNAPSHOT
    assert rig.books.on_snapshot(1, snapshot(5), rig.time, CONN) is SnapshotResult.SYNCED
    assert rig.frame(spot_update(13, 13, [["100.5", "1"]])) is FrameResult.NEED_SNAPSHOT
    assert rig.flags() == FLAG_GAP and rig.read()[BOOK.update_id] == 11
    assert rig.books.needs_snapshot() == [2] and rig.books.is_synced(1)
    assert rig.frame(spot_update(12, 12)) is FrameResult.BUFFERED  # what was missing comes late: reordered
    assert rig.frame(spot_update(6, 6, s="ETHUSDT")) is FrameResult.APPLIED
    assert rig.snap(snapshot(13)) is SnapshotResult.SYNCED
    assert rig.flags() == FLAG_SNAPSHOT and rig.books.counters.gaps == 1 and rig.books.counters.resyncs == 1


def test_old_and_repeated_updates_change_nothing() -> None:
    rig = Rig().live()
    seq = rig.read()[BOOK.seq]
    assert rig.frame(spot_update(11, 11, [["100.7", "5"]])) is FrameResult.DROPPED
    assert rig.frame(spot_update(3, 4, [["100.7", "5"]])) is FrameResult.DROPPED
    assert rig.read()[BOOK.seq] == seq and rig.books.counters.dropped == 3


def test_many_old_updates_in_a_row_mean_that_the_numbering_restarted() -> None:
    rig = Rig().live()
    results = [rig.frame(spot_update(1 + k % 11, 1 + k % 11, E=0)) for k in range(OLD_RUN_MAX)]
    assert results == [FrameResult.DROPPED] * (OLD_RUN_MAX - 1) + [FrameResult.NEED_SNAPSHOT]
    assert rig.books.counters.gaps == 1


def test_a_snapshot_before_the_first_buffered_update_is_stale_and_a_later_one_is_taken() -> None:
    rig = Rig()
    rig.frame(spot_update(20, 22, [["99.0", "1"]]))
    assert rig.snap(snapshot(10)) is SnapshotResult.STALE
    assert rig.books.needs_snapshot() == [2] and rig.books.counters.gaps == 0
    assert rig.snap(snapshot(21)) is SnapshotResult.SYNCED
    assert rig.books.top(2).update_id == 22
    assert rig.books.counters.stale_snapshots == 1


def test_a_live_book_takes_no_older_snapshot() -> None:
    rig = Rig().live()
    assert rig.snap(snapshot(11, [["50", "1"]])) is SnapshotResult.STALE
    assert rig.books.top(2).bid == 1000000 and rig.books.is_synced(2)


@pytest.mark.parametrize("bid", ["101.0", "101.5"])
def test_a_locked_or_crossed_book_is_quarantined_until_a_snapshot(bid: str) -> None:
    rig = Rig().live()
    assert rig.frame(spot_update(12, 12, [[bid, "1"]])) is FrameResult.RESYNC
    assert rig.flags() == FLAG_CROSSED and rig.books.needs_snapshot() == [2]
    assert rig.frame(spot_update(13, 13, [[bid, "0"]])) is FrameResult.BUFFERED
    assert rig.snap(snapshot(12)) is SnapshotResult.SYNCED
    assert rig.flags() == FLAG_SNAPSHOT and rig.books.counters.crossed == 1


def test_a_crossed_snapshot_is_refused() -> None:
    rig = Rig()
    rig.frame(spot_update(9, 9))
    assert rig.snap(snapshot(10, [["102", "1"]])) is SnapshotResult.STALE
    assert rig.flags() & FLAG_CROSSED and rig.books.needs_snapshot() == [2]


def test_deleting_an_unknown_level_does_nothing() -> None:
    rig = Rig().live()
    before = rig.books.levels(2)
    assert rig.frame(spot_update(12, 12, [["42.0", "0.00000000"]], [["900", "0"]])) is FrameResult.APPLIED
    assert rig.books.levels(2) == before


BAD_NUMBERS = ["NaN", "-1", "1e999", "1e5", "1_000", "١٢", "Infinity", "", " 1", "0x10", "1.", ".5", "9" * 30]


@pytest.mark.parametrize("text", [*BAD_NUMBERS, "0", "0.000"])
def test_a_bad_price_rejects_the_frame_and_invalidates_the_book(text: str) -> None:
    rig = Rig().live()
    assert rig.frame(spot_update(12, 12, [["99", "1"], [text, "1"]])) is FrameResult.REJECTED
    assert rig.flags() & FLAG_GAP and rig.books.needs_snapshot() == [2]
    assert rig.books.last_book_index == 2
    assert rig.books.levels(2)[0] == [(1000000, 10000)]  # nothing of the frame was applied


@pytest.mark.parametrize("text", BAD_NUMBERS)
def test_a_bad_quantity_rejects_the_frame_and_invalidates_the_book(text: str) -> None:
    rig = Rig().live()
    assert rig.frame(spot_update(12, 12, [], [["102", text]])) is FrameResult.REJECTED
    assert rig.flags() & FLAG_GAP and rig.books.counters.rejected == 1


@pytest.mark.parametrize(
    "frame",
    [
        spot_update(12, 12, [["99", "1"]])[:-9],
        b"",
        b"{",
        b"\xff\xfe",
        b'{"e":"depthUpdate","s":"BTCUSDT"}',
        b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":13,"u":12,"b":[],"a":[]}',
        b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":12,"u":12,"b":{},"a":[]}',
        b"nonsense",
        b'"text"',
    ],
)
def test_damaged_frames_are_rejected(frame: bytes) -> None:
    rig = Rig().live()
    assert rig.frame(frame) is FrameResult.REJECTED


def test_a_truncated_frame_invalidates_the_book_that_it_named() -> None:
    rig = Rig().live()
    assert rig.frame(spot_update(12, 12, [["99", "1"]])[:-4]) is FrameResult.REJECTED
    assert rig.books.needs_snapshot() == [2]


def test_a_frame_beyond_the_bound_is_rejected() -> None:
    rig = Rig().live()
    assert rig.frame(b" " * (FRAME_CAP_BYTES + 1)) is FrameResult.REJECTED


def test_a_price_finer_than_the_exponent_is_reported_never_rounded() -> None:
    rig = Rig().live()
    assert rig.frame(spot_update(12, 12, [["99.123456", "1"]])) is FrameResult.PRICE_PRECISION
    assert rig.books.needed_price_exp == 6 and rig.books.last_book_index == 2
    assert rig.flags() == FLAG_GAP | FLAG_HALTED
    rig.books.add(book_index=2, instrument_id=77, symbol="BTCUSDT", price_exp=6, qty_exp=4, row_epoch=10)
    rig.frame(spot_update(12, 12, [["99.123456", "1"]]))
    assert rig.snap(snapshot(11)) is SnapshotResult.SYNCED
    assert rig.books.levels(2)[0][1] == (99123456, 10000)
    assert rig.read()[BOOK.row_epoch] == 10


def test_trailing_zeros_beyond_the_exponent_are_no_digits() -> None:
    rig = Rig().live()
    assert rig.frame(spot_update(12, 12, [["99.12340000", "1.00000000"]])) is FrameResult.APPLIED
    assert rig.books.counters.inexact_levels == 0


def test_a_snapshot_with_a_finer_price_is_reported() -> None:
    rig = Rig()
    rig.frame(spot_update(9, 9))
    assert rig.snap(snapshot(10, [["99.123456", "1"]])) is SnapshotResult.PRICE_PRECISION
    assert rig.books.needed_price_exp == 6


def test_quantity_digits_beyond_the_exponent_are_cut_down_and_counted() -> None:
    rig = Rig().live()
    assert rig.frame(spot_update(12, 12, [["99", "1.23456"]], [["102", "0.00001"]])) is FrameResult.APPLIED
    assert (990000, 12345) in rig.books.levels(2)[0]
    assert rig.books.levels(2)[1] == [(1010000, 20000)]  # less than one unit is nothing
    assert rig.books.counters.inexact_levels == 2


def test_unusual_but_valid_shapes_take_the_slow_path() -> None:
    rig = Rig().live()
    frame = spot_update(12, 12, [["99", "1", []], [98, 2.5]], new={"nested": [1]})
    assert rig.frame(frame) is FrameResult.APPLIED
    assert rig.books.counters.slow_path == 1
    assert rig.books.levels(2)[0] == [(1000000, 10000), (990000, 10000), (980000, 25000)]
    huge = spot_update(13, 13, [["97", "1.000000000000000000001"]])
    assert rig.frame(huge) is FrameResult.APPLIED and rig.books.counters.slow_path == 2
    bare = spot_update(14, 14, [[98, 2.5e-3]])  # json writers of some languages spell small numbers so
    assert rig.frame(bare.replace(b"0.0025", b"25E-4")) is FrameResult.APPLIED
    assert rig.books.levels(2)[0][2] == (980000, 25)


def test_padding_zeros_beyond_nineteen_digits_stay_on_the_fast_path() -> None:
    rig = Rig().live()
    rows = [["97.000000000000000000000", "1000000000000.00000000"]]
    assert rig.frame(spot_update(12, 12, rows)) is FrameResult.APPLIED
    assert rig.books.counters.slow_path == 0
    assert rig.books.levels(2)[0][-1] == (970000, 10**16)


def test_a_frame_nested_without_end_is_refused() -> None:
    rig = Rig().live()
    assert rig.frame(b'{"x":' * 100_000) is FrameResult.REJECTED
    assert rig.snap(b'{"lastUpdateId":99,"bids":[],"asks":' + b"[" * 100_000) is SnapshotResult.REJECTED


def test_wrapped_and_raw_frames_mean_the_same() -> None:
    rig = Rig().live()
    wrapped = b'{"stream":"btcusdt@depth@100ms","data":' + spot_update(12, 12, [["99", "1"]]) + b"}"
    assert rig.frame(wrapped) is FrameResult.APPLIED


def test_other_topics_and_unknown_symbols_prove_the_connection_and_touch_no_book() -> None:
    rig = Rig().live()
    record = rig.read()
    trade = b'{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"1","q":"1","T":1,"m":true}'
    assert rig.frame(trade) is FrameResult.OTHER_TOPIC
    assert rig.frame(spot_update(1, 1, s="DOGEUSDT")) is FrameResult.OTHER_TOPIC
    assert rig.books.last_book_index == -1
    assert bookring.proof_mono_ns(rig.words, 0, record) == rig.time
    assert rig.frame(b'{"result":null,"id":1}') is FrameResult.CONTROL
    assert bookring.proof_mono_ns(rig.words, 0, record) < rig.time, "an answer is none of its topics"
    assert rig.read()[BOOK.seq] == record[BOOK.seq]


def test_a_ticker_that_equals_the_book_is_only_counted() -> None:
    rig = Rig().live()
    assert rig.frame(ticker(11, "100", "1", "101", "2")) is FrameResult.TICKER
    assert rig.frame(ticker(12, "100", "5", "101", "2")) is FrameResult.TICKER  # ahead of the book: news
    assert rig.flags() == 0 and rig.books.counters.tickers == 2


@pytest.mark.parametrize("wrong", [("100", "9", "101", "2"), ("100", "1", "101.5", "2"), ("99", "1", "101", "2")])
def test_a_ticker_of_the_same_id_that_differs_contradicts_the_book(wrong: tuple[str, str, str, str]) -> None:
    rig = Rig().live()
    assert rig.frame(ticker(11, *wrong)) is FrameResult.RESYNC
    assert rig.flags() == FLAG_UNPROVED | FLAG_GAP
    assert rig.books.needs_snapshot() == [2] and rig.books.counters.contradicted == 1


def test_the_newest_ticker_not_above_the_book_contradicts_it_once_a_later_one_has_come() -> None:
    rig = Rig().live()
    assert rig.frame(spot_update(12, 15)) is FrameResult.APPLIED
    assert rig.frame(ticker(13, "100", "9", "101", "2")) is FrameResult.TICKER  # a later one up to 15 may follow
    assert rig.frame(ticker(16, "100", "1", "101", "2")) is FrameResult.RESYNC


def test_tickers_that_came_before_their_depth_are_compared_when_it_comes() -> None:
    rig = Rig().live()
    assert rig.frame(ticker(12, "100", "1", "101", "3")) is FrameResult.TICKER
    assert rig.frame(ticker(14, "100", "8", "101", "3")) is FrameResult.TICKER
    assert rig.frame(spot_update(12, 13, [], [["101.0", "3"]])) is FrameResult.APPLIED
    assert rig.frame(spot_update(14, 14, [["100.0", "7"]])) is FrameResult.RESYNC


def test_conflated_tickers_compare_only_at_equal_ids() -> None:
    rig = Rig("gateio", "spot", "BTC_USDT")
    push = {"time": 1, "channel": "spot.order_book_update", "event": "update"}
    tick = {"time": 1, "channel": "spot.book_ticker", "event": "update"}

    def update(first: int, last: int, **more: Any) -> bytes:
        body = {"t": 5, "s": "BTC_USDT", "U": first, "u": last, "b": [], "a": [], **more}
        return json.dumps({**push, "result": body}).encode()

    def book_ticker(last: int, b: str) -> bytes:
        body = {"t": 5, "u": last, "s": "BTC_USDT", "b": b, "B": "1", "a": "101", "A": "2"}
        return json.dumps({**tick, "result": body}).encode()

    whole = update(7, 7, full=True, b=[["100", "1"]], a=[["101", "2"]])
    assert rig.frame(whole) is FrameResult.APPLIED and rig.flags() == FLAG_SNAPSHOT
    assert rig.frame(update(8, 9)) is FrameResult.APPLIED
    assert rig.frame(book_ticker(8, "99")) is FrameResult.TICKER
    assert rig.frame(book_ticker(12, "99")) is FrameResult.TICKER
    assert rig.flags() == 0
    assert rig.frame(update(10, 12)) is FrameResult.RESYNC
    assert rig.frame(update(13, 13, full=True, b=[["90", "1"]], a=[])) is FrameResult.APPLIED
    assert rig.books.levels(2) == ([(900000, 10000)], []) and rig.books.counters.resyncs == 1
    assert rig.frame(update(12, 12, full=True)) is FrameResult.DROPPED


def test_usdm_follows_its_predecessors_id() -> None:
    rig = Rig("binance", "futures")
    assert rig.frame(spot_update(90, 95, pu=89)) is FrameResult.NEED_SNAPSHOT
    assert rig.frame(spot_update(98, 105, [["99", "1"]], pu=95)) is FrameResult.BUFFERED
    assert rig.snap(snapshot(100)) is SnapshotResult.SYNCED
    assert rig.frame(spot_update(120, 130, pu=105)) is FrameResult.APPLIED
    assert rig.frame(spot_update(120, 130, pu=105)) is FrameResult.DROPPED
    assert rig.frame(spot_update(131, 140, pu=131)) is FrameResult.NEED_SNAPSHOT


def test_contracts_become_base_quantity_exactly() -> None:
    rig = Rig("gateio", "futures", "QUICK_USDT", qty_multiplier=Decimal("0.01"))
    body = {"t": 5, "s": "QUICK_USDT", "U": 7, "u": 7, "full": True, "b": [{"p": "57", "s": 46}], "a": []}
    push = {"time": 1, "channel": "futures.order_book_update", "event": "update", "result": body}
    assert rig.frame(json.dumps(push).encode()) is FrameResult.APPLIED
    assert rig.books.levels(2)[0] == [(570000, 4600)]


def test_a_large_contract_size_multiplies_exactly() -> None:
    rig = Rig("gateio", "futures", "PEPE_USDT", qty_multiplier=Decimal(10_000_000), qty_exp=0)
    body = {"t": 5, "s": "PEPE_USDT", "U": 7, "u": 7, "full": True, "b": [{"p": "0.0001", "s": 123456789}], "a": []}
    push = {"time": 1, "channel": "futures.order_book_update", "event": "update", "result": body}
    assert rig.frame(json.dumps(push).encode()) is FrameResult.APPLIED
    assert rig.books.levels(2)[0] == [(1, 1234567890000000)]


def mexc_push(first: int, last: int, bids: Any = (), asks: Any = ()) -> bytes:
    push = PushDataV3ApiWrapper(channel="spot@public.aggre.depth.v3.api.pb@10ms@BTCUSDT", symbol="BTCUSDT", sendTime=9)
    push.publicAggreDepths.fromVersion, push.publicAggreDepths.toVersion = str(first), str(last)
    for side, rows in ((push.publicAggreDepths.bids, bids), (push.publicAggreDepths.asks, asks)):
        for price, qty in rows:
            side.add(price=price, quantity=qty)
    return bytes(push.SerializeToString())


def test_mexc_aligns_on_versions() -> None:
    rig = Rig("mexc", "spot")
    assert rig.frame(mexc_push(5, 7)) is FrameResult.NEED_SNAPSHOT
    assert rig.frame(mexc_push(8, 12, [("99.5", "3")])) is FrameResult.BUFFERED
    assert rig.snap(snapshot(10)) is SnapshotResult.SYNCED
    assert rig.books.levels(2)[0] == [(1000000, 10000), (995000, 30000)]
    assert rig.frame(mexc_push(13, 13, [("99.5", "0")])) is FrameResult.APPLIED
    assert rig.frame(mexc_push(15, 15)) is FrameResult.NEED_SNAPSHOT
    assert rig.frame(b'{"id":0,"code":0,"msg":"PONG"}') is FrameResult.CONTROL
    assert rig.frame(b"\x0a\xff\xff") is FrameResult.REJECTED
    assert rig.books.counters.slow_path == 0


def test_mexc_symbol_can_be_read_off_the_channel() -> None:
    rig = Rig("mexc", "spot")
    push = PushDataV3ApiWrapper(channel="spot@public.aggre.depth.v3.api.pb@10ms@BTCUSDT")
    push.publicAggreDepths.fromVersion = push.publicAggreDepths.toVersion = "5"
    assert rig.frame(bytes(push.SerializeToString())) is FrameResult.NEED_SNAPSHOT
    assert rig.books.counters.slow_path == 1


def test_the_buffer_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.book.waiting_updates.WAITING_FRAMES_MAX", 3)
    rig = Rig()
    for k in range(1, 7):
        rig.frame(spot_update(k, k))
    assert rig.snap(snapshot(2)) is SnapshotResult.STALE
    assert rig.snap(snapshot(4)) is SnapshotResult.SYNCED
    assert rig.books.top(2).update_id == 6 and rig.books.counters.overflowed == 3


def test_memory_grows_with_the_book() -> None:
    rig = Rig()
    rig.frame(spot_update(9, 9))
    bids = [[str(100000 - k), "1"] for k in range(5000)]
    asks = [[str(200000 + k), "1"] for k in range(5000)]
    assert rig.snap(snapshot(10, bids, asks)) is SnapshotResult.SYNCED
    assert [len(side) for side in rig.books.levels(2)] == [5000, 5000]
    more = [[f"{100000 - k}.5", "2"] for k in range(4000)]
    assert rig.frame(spot_update(11, 11, more)) is FrameResult.APPLIED
    assert len(rig.books.levels(2)[0]) == 9000 and rig.books.counters.snapshots == 1


def test_a_side_beyond_its_bound_is_a_gap() -> None:
    rig = Rig().live()
    for k in range(1, 12):
        rows = [[f"{100000 + k * 15000 - i}", "1"] for i in range(15000)]
        result = rig.frame(spot_update(11 + k, 11 + k, [], rows))
        if result is FrameResult.NEED_SNAPSHOT:
            break
    assert result is FrameResult.NEED_SNAPSHOT and rig.books.counters.overflowed == 1
    assert rig.flags() & FLAG_GAP


def test_connection_loss_unproves_its_books_only() -> None:
    rig = Rig().live()
    rig.books.add(book_index=1, instrument_id=5, symbol="ETHUSDT", price_exp=4, qty_exp=4)
    rig.books.on_frame(spot_update(5, 5, s="ETHUSDT"), rig.time, 7)
    rig.books.on_snapshot(1, snapshot(5), rig.time, 7)
    assert rig.books.invalidate_connection(CONN) == [2]
    assert rig.flags() == FLAG_UNPROVED
    assert rig.books.is_synced(1)


def test_a_planned_reconnect_moves_books_without_a_hole() -> None:
    rig = Rig().live()
    bookring.conn_open(rig.words, 0, 4, 1, 0)
    assert FrameResult(rig.books.on_frame(spot_update(11, 11), rig.time, 4)) is FrameResult.DROPPED
    rig.books.move_connection(CONN, 4)
    assert rig.read()[BOOK.conn] == 4 and rig.flags() == 0
    assert FrameResult(rig.books.on_frame(spot_update(12, 12), rig.time, 4)) is FrameResult.APPLIED
    assert rig.books.invalidate_connection(CONN) == []


def test_a_halted_book_says_so_in_every_record() -> None:
    rig = Rig().live()
    rig.books.set_halted(2, True)
    assert rig.flags() == FLAG_HALTED
    rig.frame(spot_update(12, 12))
    assert rig.flags() == FLAG_HALTED
    rig.books.set_halted(2, False)
    assert rig.flags() == 0


def test_symbols_come_and_go_while_running() -> None:
    rig = Rig().live()
    for k in range(3):
        rig.books.add(book_index=k if k < 2 else 3, instrument_id=k, symbol=f"S{k}", price_exp=4, qty_exp=4)
    with pytest.raises(ArbitrageEngineError, match="no room"):
        rig.books.add(book_index=8, instrument_id=9, symbol="S9", price_exp=4, qty_exp=4)
    with pytest.raises(ArbitrageEngineError, match="taken"):
        rig.books.add(book_index=2, instrument_id=9, symbol="S8", price_exp=4, qty_exp=4)
    rig.books.remove("BTCUSDT")
    assert rig.flags() & FLAG_GAP
    assert rig.frame(spot_update(12, 12)) is FrameResult.OTHER_TOPIC
    assert rig.frame(spot_update(1, 1, s="S1")) is FrameResult.NEED_SNAPSHOT
    assert rig.books.symbol_of(1) == "S1" and rig.books.index_of("BTCUSDT") == -1
    rig.books.add(book_index=2, instrument_id=77, symbol="BTCUSDT", price_exp=4, qty_exp=4)
    rig.live()
    assert rig.flags() == 0


@pytest.mark.parametrize("symbol", ["", "X" * 25, "Ä" * 13])
def test_symbols_that_the_table_cannot_hold_are_refused(symbol: str) -> None:
    with pytest.raises(ArbitrageEngineError, match="symbol"):
        Rig(symbol=symbol)


@pytest.mark.parametrize(("symbol", "result"), [("币安人生USDT", "APPLIED"), ("BTCUSDT", "OTHER_TOPIC")])
def test_a_symbol_in_chinese_is_ours_where_it_is_subscribed(symbol: str, result: str) -> None:
    frame = (REPO / "tests" / "cases" / "books" / "M_binance_unicode_symbol.json").read_bytes()
    rig = Rig(symbol=symbol)
    rig.frame(spot_update(9, 9, s=symbol))
    assert rig.snap(snapshot(11, [["0.2", "1"]], [["101", "2"]])) is SnapshotResult.SYNCED
    assert rig.frame(frame) is FrameResult[result]


def test_symbols_beyond_ascii_are_kept_and_take_the_slow_path() -> None:
    rig = Rig(symbol="币安USDT")
    rig.frame(spot_update(9, 9, s="币安USDT"))
    assert rig.snap(snapshot(10, [["100", "1"]], [["101", "2"]])) is SnapshotResult.SYNCED
    assert rig.frame(spot_update(11, 11, [["100.5", "1"]], s="币安USDT")) is FrameResult.APPLIED
    assert rig.books.counters.slow_path == 2


def test_quiet_instruments_can_ask_before_any_update() -> None:
    rig = Rig()
    rig.books.request_snapshot(2)
    assert rig.books.needs_snapshot() == [2]
    assert rig.snap(snapshot(10)) is SnapshotResult.SYNCED
    assert rig.flags() == FLAG_SNAPSHOT


def test_memoryviews_are_taken_as_they_come() -> None:
    rig = Rig().live()
    data = memoryview(b"xx" + spot_update(12, 12, [["99", "1"]]))[2:]
    assert FrameResult(rig.books.on_frame(data, rig.time, CONN)) is FrameResult.APPLIED
