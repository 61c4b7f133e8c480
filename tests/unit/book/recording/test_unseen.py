"""Recordings that nobody has seen, made up by seed in the documented formats, against plain Decimal books."""

from __future__ import annotations

import gzip
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.book.recording.capture_books import CaptureBooks, open_capture
from pipeline.exchanges.factory import feed_codec, recording_shapes
from pipeline.model.fixedpoint import from_fp
from tests.naive.recordings import START_NS, BinanceMaker, GateMaker, Row, TwinRun, twin_of_lines, twin_of_log
from workers.cli.main import main

SEEDS = range(12)


def run(path: Path, out: Path) -> tuple[CaptureBooks, list[Row]]:
    with open(out, "wb") as sink:
        books = open_capture(path, feed_codec, recording_shapes(), sink)
        books.run()
    assert books.damage == ""
    rows: list[Row] = []
    for line in out.read_text().splitlines():
        row = json.loads(line)
        values = (None if row[key] is None else Decimal(row[key]) for key in ("bid", "bid_qty", "ask", "ask_qty"))
        rows.append((row["symbol"], row["u"], *values))  # type: ignore[arg-type]
    return books, rows


def compare(books: CaptureBooks, rows: list[Row], twin: TwinRun) -> None:
    """Every applied update with its best levels, in order; and at the end every level of every book."""
    for got, wanted in zip(rows, twin.rows, strict=False):
        assert got == wanted
    assert len(rows) == len(twin.rows) == books.books.counters.applied > 100
    assert books.books.counters.inexact_levels == 0 == books.books.counters.rejected
    for index, instrument in books.instruments.items():
        naive = twin.books[instrument.symbol]
        assert books.books.is_synced(index) == (naive.last is not None)
        if naive.last is not None:
            ours = tuple(
                [(from_fp(p, instrument.price_exp), from_fp(q, instrument.qty_exp)) for p, q in side]
                for side in books.books.levels(index)
            )
            assert ours == naive.levels(), instrument.symbol


@pytest.mark.parametrize("futures", [False, True], ids=["spot", "futures"])
@pytest.mark.parametrize("seed", SEEDS)
def test_line_captures_equal_plain_books(tmp_path: Path, seed: int, futures: bool) -> None:
    path = tmp_path / "recording.gz"
    BinanceMaker(seed, futures, symbols=1 + seed % 4, named_snapshots=bool(seed % 2)).write(path)
    books, rows = run(path, tmp_path / "out")
    assert books.capture.venue == ("binance_futures" if futures else "binance_spot")
    compare(books, rows, twin_of_lines(path, "usdm" if futures else "spot"))


@pytest.mark.parametrize("obu", [False, True], ids=["order_book_update", "obu"])
@pytest.mark.parametrize("futures", [False, True], ids=["spot", "futures"])
@pytest.mark.parametrize("seed", SEEDS)
def test_request_logs_equal_plain_books(tmp_path: Path, seed: int, futures: bool, obu: bool) -> None:
    prefix = tmp_path / "GATEIO"
    GateMaker(seed, futures, obu=obu).write(prefix)
    books, rows = run(prefix, tmp_path / "out")
    assert books.capture.venue == ("gateio_futures" if futures else "gateio_spot")
    compare(books, rows, twin_of_log(prefix, futures=futures))


def test_the_made_up_recordings_have_holes_old_updates_and_late_snapshots(tmp_path: Path) -> None:
    """The generators do what they are for: none of the rare things is left out over the seeds."""
    gaps = dropped = stale = resyncs = slow = 0
    for seed in SEEDS:
        path = tmp_path / str(seed)
        BinanceMaker(seed, futures=False, symbols=2).write(path)
        books, _ = run(path, tmp_path / "out")
        counters = books.books.counters
        gaps, dropped, stale = gaps + counters.gaps, dropped + counters.dropped, stale + counters.stale_snapshots
        resyncs, slow = resyncs + counters.resyncs, slow + counters.slow_path
    assert gaps > 10 and dropped > 50 and resyncs > 10 and slow > 100


def lines(messages: list[Any]) -> bytes:
    return b"".join(b"%d %s\n" % (START_NS + k, json.dumps(message).encode()) for k, message in enumerate(messages))


def update(first: int, last: int, b: Any = (), a: Any = (), s: str = "AUSDT", **more: Any) -> dict[str, Any]:
    return {"e": "depthUpdate", "E": 1, "s": s, "U": first, "u": last, "b": b, "a": a, **more}


def snapshot(last: int, b: Any, a: Any) -> dict[str, Any]:
    return {"lastUpdateId": last, "bids": b, "asks": a}


def test_tens_of_thousands_of_levels_beyond_the_snapshot_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep"
    rows = [[[f"{100000 - k}.01", f"{k + 1}"] for k in range(at, at + 4000)] for at in range(0, 60000, 4000)]
    messages: list[Any] = [snapshot(1, [["100001", "1"]], [["100002", "1"]])]
    messages += [update(2 + k, 2 + k, b=chunk) for k, chunk in enumerate(rows)]
    deleted = [[price, "0"] for price, _ in rows[0]] + [["100001", "0"]]
    path.write_bytes(lines([*messages, update(17, 17, b=deleted)]))
    books, got = run(path, tmp_path / "out")
    assert len(got) == 16 and books.books.counters.gaps == 0
    assert got[-1][2:4] == (Decimal("96000.01"), Decimal(4001))
    assert len(books.books.levels(0)[0]) == 56000


def test_a_message_of_megabytes_goes_through(tmp_path: Path) -> None:
    path = tmp_path / "big"
    rows = [[f"{k}.00000001", "1.00000000"] for k in range(1, 100_001)]
    path.write_bytes(lines([snapshot(1, [], []), update(2, 2, b=rows)]))
    assert path.stat().st_size > 2 << 20
    books, got = run(path, tmp_path / "out")
    assert got[0][2] == Decimal("100000.00000001") and books.books.counters.rejected == 0


def test_a_snapshot_that_stands_before_the_hole_that_it_heals_is_used(tmp_path: Path) -> None:
    path = tmp_path / "again"
    messages = [
        update(1, 5),
        snapshot(5, [["10", "1"]], [["11", "1"]]),
        update(6, 7, b=[["10.5", "2"]]),
        snapshot(100, [["20", "1"]], [["21", "1"]]),  # the recorder connected again: nobody knows of a hole yet
        update(99, 101, b=[["20.5", "3"]]),
        update(102, 102),
    ]
    path.write_bytes(lines(messages))
    books, got = run(path, tmp_path / "out")
    assert [(row[1], row[2]) for row in got] == [(7, Decimal("10.5")), (101, Decimal("20.5")), (102, Decimal("20.5"))]
    assert books.books.counters.gaps == 1 == books.books.counters.resyncs


def test_a_ticker_that_disagrees_is_counted_and_the_recording_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "t"
    ticker = {"e": "bookTicker", "u": 6, "s": "AUSDT", "b": "10", "B": "1", "a": "10.9", "A": "1"}
    messages = [
        update(1, 5),
        snapshot(5, [["10", "1"]], [["11", "1"]]),
        ticker,
        update(6, 7),
        {**ticker, "u": 8},
        update(8, 9, b=[["11.5", "1"]]),  # crossed for one update
        update(10, 10, a=[["11", "0"], ["12", "1"]]),
    ]
    path.write_bytes(lines(messages))
    books, got = run(path, tmp_path / "out")
    counters = books.books.counters
    assert [row[1] for row in got] == [7, 9, 10]
    assert (counters.contradicted, counters.crossed, counters.gaps) == (1, 1, 0)
    marks = [json.loads(line).get("marks") for line in (tmp_path / "out").read_text().splitlines()]
    assert marks == [["contradicted"], ["crossed"], None]
    assert main(["books", str(path)]) == 1


def test_a_row_beyond_the_snapshots_depth_is_marked_and_no_error(tmp_path: Path) -> None:
    path = tmp_path / "deep"
    bids = [[str(1000 - k), "1"] for k in range(100)]
    asks = [[str(1001 + k), "1"] for k in range(100)]
    fall = [[price, "0"] for price, _ in bids] + [["890", "1"]]
    messages = [update(1, 5), snapshot(5, bids, asks), update(6, 7), update(8, 9, b=fall, a=[["891", "1"]])]
    path.write_bytes(lines(messages))
    run(path, tmp_path / "out")
    marks = [json.loads(line).get("marks") for line in (tmp_path / "out").read_text().splitlines()]
    assert marks == [None, ["beyond_horizon"]] and main(["books", str(path)]) == 0


@pytest.mark.parametrize("wrapped", [True, False])
def test_partial_books_of_usdm_are_never_a_success(
    tmp_path: Path, captures_dir: Path, capsys: pytest.CaptureFixture[str], wrapped: bool
) -> None:
    """Five levels a frame, with a predecessor like an update: refused by the stream's name; without one, crossed."""
    path = tmp_path / "partial"
    whole = gzip.decompress((captures_dir / "usdm_btcusdt_20240808.gz").read_bytes()).splitlines()
    found, previous, mid = [], 0, 61_800.0
    for line in whole:
        time, _, text = line.partition(b" ")
        message = json.loads(text)
        if "stream" not in message:
            found.append(line)
        elif message["data"].get("e") == "depthUpdate":
            data = message["data"]
            mid += 0.7 * (-1) ** len(found)
            data |= {"b": [[f"{mid - k / 10:.1f}", "1"] for k in range(1, 6)], "pu": previous or data["pu"]}
            data |= {"a": [[f"{mid + k / 10:.1f}", "1"] for k in range(5)]}
            previous = data["u"]
            body = {"stream": "btcusdt@depth5@0ms", "data": data} if wrapped else data
            found.append(time + b" " + json.dumps(body).encode())
        if len(found) == 300:
            break
    path.write_bytes(b"\n".join(found) + b"\n")
    assert main(["books", str(path)]) == (2 if wrapped else 1)
    assert ("partial books only" if wrapped else "crossed") in capsys.readouterr().err


def test_a_coin_margined_recording_is_refused_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "coin"
    for symbol in ("BTCUSD_PERP", "BTCUSD_211231"):
        path.write_bytes(lines([update(1, 5, s=symbol, pu=0, ps="BTCUSD")]))
        assert main(["books", str(path)]) == 2
        assert f"COIN-M futures ({symbol})" in capsys.readouterr().err


def test_unnamed_snapshots_of_coins_at_the_same_price_are_told_by_their_levels(tmp_path: Path) -> None:
    path = tmp_path / "twins"
    messages = [
        update(10, 11, [["100", "1"], ["99", "7"]], s="AUSDT"),
        update(10, 11, [["100", "2"], ["98.5", "7"]], s="AUSDC"),
        snapshot(12, [["100", "2"], ["98.5", "7"], ["98", "1"]], [["101", "5"]]),
        snapshot(11, [["100", "1"], ["99", "7"], ["98", "1"]], [["101", "6"]]),
        update(12, 12, [["100.5", "1"]], s="AUSDT"),
        update(12, 13, [["100.7", "1"]], s="AUSDC"),
    ]
    path.write_bytes(lines(messages))
    _, got = run(path, tmp_path / "out")
    assert got == [
        ("AUSDT", 12, Decimal("100.5"), Decimal(1), Decimal(101), Decimal(6)),
        ("AUSDC", 13, Decimal("100.7"), Decimal(1), Decimal(101), Decimal(5)),
    ]


ONE_BOOK = [snapshot(1, [["5", "1"]], [["6", "1"]]), update(2, 2, [["5.5", "1"]])]
MIXED = [*ONE_BOOK, {**update(3, 3), "pu": 2}]
FAR_TIME = b"9999999999999999999 " + json.dumps(update(3, 3)).encode() + b"\n"
FINE = [*ONE_BOOK, update(3, 3, [["0.000000000000000001", "1"], ["98765432.1", "1"]])]


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (lines(ONE_BOOK), 0, ""),
        (lines(ONE_BOOK[1:]), 1, "no snapshot of the recording reaches the updates of binance_spot:AUSDT"),
        (lines(MIXED), 2, "cap:3: a message of binance_futures in a capture of binance_spot"),
        (lines(ONE_BOOK) + FAR_TIME, 2, "cap:3: not a whole '<ns> <JSON>' line"),
        (lines(FINE), 2, "AUSDT: prices up to 9.87654e+07 with 18 digits do not fit int64"),
        (gzip.compress(lines(ONE_BOOK * 200), mtime=0)[:-30], 2, "compressed data is cut off or damaged"),
        (lines(ONE_BOOK)[:-9], 2, "cap:2: not a whole '<ns> <JSON>' line"),
        (b"", 2, "capture is empty"),
        (b"\x00\x01\x02", 2, "cap:1: not a whole"),
        (b"5 " + b"[" * 50_000 + b"]" * 50_000 + b"\n", 2, "holds no depth update of a venue that we know"),
    ],
    ids=["whole", "no_snapshot", "mixed", "far_time", "too_fine", "cut_gzip", "cut_line", "empty", "binary", "nested"],
)
def test_the_command_says_in_one_sentence_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    code: int,
    words: str,
) -> None:
    path = tmp_path / "cap"
    path.write_bytes(content)
    arguments = ["books", str(path), "--json"]
    monkeypatch.setattr(sys, "argv", ["arb", *arguments])
    assert main(arguments) == code
    done = capsys.readouterr()
    assert len(done.out.splitlines()) == 1 and json.loads(done.out)
    assert words in done.err and len(done.err.splitlines()) == (1 if words else 0)
