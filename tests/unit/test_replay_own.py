"""Own recordings: through the books and the exact replay as captures are; sweeps and latencies by worked numbers."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.book.recording.capture_books import run_books
from pipeline.book.recording.pieces import (
    DROPPED,
    FRAME,
    HEAD,
    PIECE,
    SNAPSHOT,
    SUFFIX,
    Piece,
    RecordedMarket,
    RecordedRow,
    message,
)
from pipeline.exchanges.factory import feed_codec, recording_shapes
from pipeline.model.errors import BadInput
from pipeline.replay import run_exact
from pipeline.replay_inputs import run_inputs
from pipeline.replay_sweep import Row, parse_latencies, parse_sweep, run_sweep
from workers.report.what_if import what_if_page, what_if_text

SPOT, FUTURES = 0, 1
NS = 1e-6  # in milliseconds
ROW = RecordedRow("BTCUSDT", "BTC", "USDT", "0.01", "0.001", "0.001", "5", "10.00", "1")
Levels = list[list[str]]


def depth(first: int, last: int, bids: Levels, asks: Levels, previous: int | None = None) -> bytes:
    data: dict[str, object] = {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": first, "u": last, "b": bids, "a": asks}
    if previous is not None:
        data["T"], data["pu"] = 1, previous
    return json.dumps({"stream": "btcusdt@depth@100ms", "data": data}, separators=(",", ":")).encode()


def frame(time_ns: int, market: int, payload: bytes, conn: int = 0) -> bytes:
    return message(FRAME, HEAD.pack(time_ns, market, conn) + payload)


def snapshot(time_ns: int, market: int, last: int, bids: Levels, asks: Levels) -> bytes:
    body = json.dumps({"lastUpdateId": last, "bids": bids, "asks": asks}, separators=(",", ":")).encode()
    return message(SNAPSHOT, HEAD.pack(time_ns, market, 7) + b"BTCUSDT" + body)


#: At 50 the contract's bid rises over the spot ask, at 80 it falls.
MESSAGES = [
    snapshot(10, SPOT, 5, [["99.00", "2.0"]], [["100.00", "1.5"], ["100.05", "9.0"]]),
    snapshot(15, FUTURES, 70, [["99.90", "4"]], [["100.20", "4"]]),
    frame(20, SPOT, depth(6, 6, [["99.50", "1.0"]], [])),
    frame(30, FUTURES, depth(65, 71, [["99.80", "1"]], [], previous=64)),
    frame(50, FUTURES, depth(72, 73, [["100.10", "1.257"], ["100.02", "3"]], [], previous=71)),
    frame(60, SPOT, depth(7, 7, [["99.60", "1.0"]], [])),
    frame(80, FUTURES, depth(74, 75, [["100.10", "0"], ["100.02", "0"]], [], previous=73)),
    frame(90, SPOT, depth(8, 9, [], [["100.00", "0"]])),
]


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recording of ``MESSAGES``, in as many pieces as lists of them."""

    def write(*parts: list[bytes], row: RecordedRow = ROW) -> Path:
        folder = tmp_path / "market" / "feed.b"
        folder.mkdir(parents=True)
        markets = [RecordedMarket(f"b_{name}", "binance", name, [row]) for name in ("spot", "futures")]
        for number, part in enumerate(parts or (MESSAGES,)):
            piece = Piece(source="feed.b", boot_id="b", wall_ns=1_000, mono_ns=1_000, markets=markets)
            data = message(PIECE, msgspec.json.encode(piece)) + b"".join(part)
            (folder / f"{number}{SUFFIX}").write_bytes(gzip.compress(data))
        return tmp_path / "market"

    return write


def test_books_and_the_exact_replay_take_a_recording_with_its_own_rows(
    record: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    path = record(MESSAGES[:5], MESSAGES[5:])
    books = run_books([path], feed_codec, recording_shapes())
    assert (books["applied"], books["gaps"], books["snapshots"]) == (6, 0, 2)
    assert books["symbols"] == ["b_futures:BTCUSDT", "b_spot:BTCUSDT"] and "not_recorded" not in books
    result = run_exact([path], "zero", 0, out)
    assert (result["found"], result["assumed"], result["venues"]) == (1, [], ["b_futures", "b_spot"])
    found = json.loads(out.read_bytes())
    assert found["t_ns"] == 50 and found["buy"] == {
        "venue": "b_spot", "symbol": "BTCUSDT", "u": 6, "price": "100", "qty": "1.5", "limit": "100",
    }  # fmt: skip
    assert run_exact([path], "standard", 0)["found"] == 0, "10 bps of each leg, as the catalogue had it"


def test_another_coin_of_the_same_name_is_counted_and_not_found(record: Callable[..., Path]) -> None:
    result = run_exact([record(row=msgspec.structs.replace(ROW, quarantine="yes"))], "zero", 0)
    assert (result["found"], result["tradable"], result["refused"]) == (0, 0, {"quarantined": 1})


def test_what_was_not_recorded_is_said(record: Callable[..., Path]) -> None:
    path = record([*MESSAGES[:6], message(DROPPED, struct.pack("<Q", 7)), *MESSAGES[6:]])
    assert run_books([path], feed_codec, recording_shapes())["not_recorded"] == {"b_spot": 7, "b_futures": 7}


def test_a_gap_that_another_connection_filled_is_filled_again(record: Callable[..., Path], tmp_path: Path) -> None:
    """The feed asked for no snapshot, so the recording has none."""
    out = tmp_path / "out.jsonl"
    late = depth(74, 75, [["100.10", "0"], ["100.02", "0"]], [], previous=73)
    beyond = depth(76, 77, [["100.11", "2"]], [], previous=75)
    again = depth(78, 79, [["100.12", "2"]], [], previous=77)
    one_way = [*MESSAGES[:6], frame(80, FUTURES, late), frame(80, FUTURES, beyond), frame(85, FUTURES, again)]
    two_ways = [*MESSAGES[:6], frame(70, FUTURES, beyond, 4), frame(80, FUTURES, late), frame(85, FUTURES, again, 4)]
    assert run_books([record(one_way)], feed_codec, recording_shapes(), out)["gaps"] == 0
    lines = out.read_bytes()
    for file in tmp_path.glob("market/feed.b/*"):
        file.unlink()
    (tmp_path / "market" / "feed.b").rmdir()
    books = run_books([record(two_ways)], feed_codec, recording_shapes(), out)
    assert (books["gaps"], books["broken"], books["snapshots"]) == (1, [], 2)
    assert out.read_bytes() == lines, "each update once, in its turn"
    assert run_exact([tmp_path / "market"], "zero", 0, out)["found"] == 2


#: At 50: 1.5 bought at 100, 1.257 sold at 100.10 and 0.243 at 100.02.
PROFIT = 1.257 * 0.10 + 0.243 * 0.02


def sweep(path: Path, **options: Any) -> list[Row]:
    standard: dict[str, Any] = {"fees": "zero", "min_edge_bps": "0", "max_usd": None, "swept": {}}
    return run_sweep([path], **{**standard, "latencies_ms": [0.0], **options})


def test_an_opportunity_is_worth_what_the_books_of_later_still_hold(record: Callable[..., Path]) -> None:
    rows = sweep(record(), latencies_ms=[0.0, 20 * NS, 35 * NS, 60 * NS])
    assert [(row.executable, row.profit_usd, row.beyond_end) for row in rows] == [
        (1, round(PROFIT, 6), 0),
        (1, round(PROFIT, 6), 0),
        (0, 0.0, 0),  # at 80 its bids are gone
        (0, 0.0, 1),  # the recording ends before
    ]
    assert [row.share for row in rows] == [1.0, 1.0, 0.0, 0.0]
    assert all((row.found, row.valued) == (1, 1) for row in rows)


def test_every_combination_of_fees_thresholds_and_sizes_is_a_run_of_its_own(record: Callable[..., Path]) -> None:
    path = record()
    rows = sweep(path, swept=parse_sweep(["fees=0:2:2", "max_usd=100:1000:900"]))
    assert [(row.fees, row.max_usd, row.executable) for row in rows] == [
        ("0", "100", 1), ("0", "1000", 1), ("2", "100", 1), ("2", "1000", 1),
    ]  # fmt: skip
    assert rows[0].profit_usd == pytest.approx(0.999 * 0.10, abs=1e-9), "100 USD buy 0.999: a lot of 0.001 less fits"
    assert rows[1].profit_usd == round(PROFIT, 6) > rows[3].profit_usd > 0
    edges = sweep(path, swept=parse_sweep(["min_edge_bps=9:11:1"]))
    assert [(row.min_edge_bps, row.found) for row in edges] == [("9", 1), ("10", 0), ("11", 0)]


def test_the_table_and_the_picture_show_every_combination(record: Callable[..., Path]) -> None:
    rows = sweep(record(), swept=parse_sweep(["fees=0:2:2"]), latencies_ms=[0.0, 20 * NS])
    text = what_if_text(rows)
    assert len(text.splitlines()) == 5 and "100.0%" in text
    page = what_if_page(rows, ["fees"], "<market>")
    assert page.count("<polyline") == 4 and "&lt;market&gt;" in page and "<script" not in page
    assert "Profit (USD) by latency" in page and "fees 2" in page


@pytest.mark.parametrize(
    "text", ["fees", "fees=1", "fees=1:2", "fees=2:1:1", "fees=0:1:0", "fees=0:1:0.0001", "lots=1:2:1", "max_usd=0:1:1"]
)
def test_a_sweep_that_is_none_is_refused_in_words(text: str) -> None:
    with pytest.raises(BadInput, match="--sweep"):
        parse_sweep([text])
    with pytest.raises(BadInput, match="--sweep"):
        parse_sweep(["fees=0:99:1", "min_edge_bps=0:99:1"])


@pytest.mark.parametrize("text", ["", "a", "1,,2", "-1", "1,99999999"])
def test_latencies_that_are_none_are_refused_in_words(text: str) -> None:
    with pytest.raises(BadInput, match="--latency-ms"):
        parse_latencies(text)


def test_latencies_are_sorted_and_each_once() -> None:
    assert parse_latencies("5, 0,1,5") == [0.0, 1.0, 5.0]


def test_a_recording_without_a_detector_cannot_be_replayed_as_one(record: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="arb demo --record"):
        run_inputs(record())
    with pytest.raises(BadInput, match="no recording of a detector"):
        run_inputs(tmp_path / "nowhere")
