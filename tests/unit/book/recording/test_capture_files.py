"""Captures of every kind that a user may name: plain, gzipped by content, raw, several symbols, cut off, missing."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.book.recording.capture_books import DamagedCapture, run_books
from pipeline.book.recording.capture_files import read_capture
from pipeline.exchanges.factory import feed_codec, recording_shapes
from pipeline.model.errors import BadInput
from tests.naive.book import NaiveBook, binance_event, decimals


def event(first: int, last: int, symbol: str, b: Any = (), a: Any = (), **more: Any) -> dict[str, Any]:
    return {"e": "depthUpdate", "E": 1, "s": symbol, "U": first, "u": last, **more, "b": b, "a": a}


def lines(messages: list[dict[str, Any]], *, wrapped: bool = True) -> bytes:
    out = []
    for k, message in enumerate(messages):
        frame = message
        if wrapped and "s" in message:
            frame = {"stream": f"{message['s'].lower()}@depth", "data": message}
        out.append(b"%d %s\n" % (1_700_000_000_000_000_000 + k, json.dumps(frame, separators=(",", ":")).encode()))
    return b"".join(out)


ONE = [
    event(1, 2, "PEPEUSDT", [["0.00000812", "5000000"]]),
    {"lastUpdateId": 2, "bids": [["0.00000811", "1000000.5"]], "asks": [["0.0000082", "77"]]},
    event(3, 5, "PEPEUSDT", [["0.00000812", "12345678901.00"]]),
    event(6, 6, "PEPEUSDT", [["0.00000812", "0.00"]], [["0.00000815", "3.1415"]]),
]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_line_captures_are_told_by_content(tmp_path: Path, wrapped: bool, packed: bool) -> None:
    path, out = tmp_path / "recording.dat", tmp_path / "out"
    data = lines(ONE, wrapped=wrapped)
    path.write_bytes(gzip.compress(data) if packed else data)
    result = run_books([path], feed_codec, recording_shapes(), out)
    assert (result["messages"], result["applied"], result["dropped"], result["gaps"]) == (3, 2, 1, 0)
    assert rows_of(out) == [
        {
            "venue": "binance_spot",
            "symbol": "PEPEUSDT",
            "u": 5,
            "bid": "0.00000812",
            "bid_qty": "12345678901",
            "ask": "0.0000082",
            "ask_qty": "77",
        },
        {
            "venue": "binance_spot",
            "symbol": "PEPEUSDT",
            "u": 6,
            "bid": "0.00000811",
            "bid_qty": "1000000.5",
            "ask": "0.00000815",
            "ask_qty": "3.1415",
        },
    ]


def test_pu_means_futures(tmp_path: Path) -> None:
    path = tmp_path / "f"
    messages = [event(1, 2, "X", pu=0), {"lastUpdateId": 2, "bids": [], "asks": []}, event(9, 9, "X", pu=2)]
    path.write_bytes(lines(messages))
    assert read_capture(path, recording_shapes()).venue == "binance_futures"
    result = run_books([path], feed_codec, recording_shapes(), tmp_path / "out")
    assert (result["applied"], result["gaps"]) == (2, 0)
    assert rows_of(tmp_path / "out")[-1]["bid"] is None and rows_of(tmp_path / "out")[-1]["ask_qty"] is None


def test_several_symbols_share_a_recording_and_find_their_snapshots_by_price(tmp_path: Path) -> None:
    path, out = tmp_path / "m", tmp_path / "out"
    snap = [
        {"lastUpdateId": 12, "bids": [["61000.1", "1"]], "asks": [["61000.2", "1"]]},
        {"lastUpdateId": 11, "bids": [["2600.55", "3"]], "asks": [["2600.56", "1"]]},
    ]
    path.write_bytes(
        lines(
            [
                event(10, 11, "BTCUSDT", [["61000.0", "1"]]),
                event(10, 11, "ETHUSDT", [["2600.5", "1"]]),
                *snap,
                event(12, 13, "BTCUSDT", [["61000.15", "2"]]),
                event(12, 12, "ETHUSDT", [], [["2600.56", "0"], ["2600.57", "4"]]),
            ]
        )
    )
    result = run_books([path], feed_codec, recording_shapes(), out)
    assert (result["applied"], result["dropped"], result["gaps"]) == (2, 2, 0)
    assert [(row["symbol"], row["bid"], row["ask"], row["ask_qty"]) for row in rows_of(out)] == [
        ("BTCUSDT", "61000.15", "61000.2", "1"),
        ("ETHUSDT", "2600.55", "2600.57", "4"),
    ]


def test_a_snapshot_that_fits_no_symbol_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m"
    messages = [
        event(10, 11, "BTCUSDT", [["61000.0", "1"]]),
        event(10, 11, "WBTCUSDT", [["61001.0", "1"]]),
        {"lastUpdateId": 12, "bids": [["61000.1", "1"]], "asks": []},
    ]
    path.write_bytes(lines(messages))
    with pytest.raises(BadInput, match=r"m:3: snapshot without a symbol"):
        run_books([path], feed_codec, recording_shapes())


def test_a_gap_waits_for_the_next_recorded_snapshot(tmp_path: Path) -> None:
    path, out = tmp_path / "g", tmp_path / "out"
    messages = [
        *ONE[:3],
        event(9, 9, "PEPEUSDT", [["0.00000814", "1"]]),
        event(10, 10, "PEPEUSDT", [["0.00000813", "1"]]),
        {"lastUpdateId": 9, "bids": [["0.00000814", "1"]], "asks": [["0.0000082", "77"]]},
        event(11, 11, "PEPEUSDT"),
    ]
    path.write_bytes(lines(messages))
    result = run_books([path], feed_codec, recording_shapes(), out)
    assert (result["messages"], result["applied"], result["gaps"], result["resyncs"]) == (5, 3, 1, 1)
    assert [row["u"] for row in rows_of(out)] == [5, 10, 11]


@pytest.mark.parametrize("cut", [1, 2, 9, 60])
@pytest.mark.parametrize("packed", [True, False])
def test_a_cut_off_capture_gives_everything_before_and_names_file_and_line(
    tmp_path: Path, cut: int, packed: bool
) -> None:
    path, out = tmp_path / "cut.gz", tmp_path / "out"
    data = lines(ONE)[:-1]  # without the last line feed it is still whole
    path.write_bytes(gzip.compress(data) if packed else data)
    assert run_books([path], feed_codec, recording_shapes(), out)["applied"] == 2
    path.write_bytes(gzip.compress(data[:-cut]) if packed else data[:-cut])
    with pytest.raises(DamagedCapture, match=r"cut\.gz:4: ") as caught:
        run_books([path], feed_codec, recording_shapes(), out)
    assert len(rows_of(out)) == 1 == caught.value.result["applied"]


def test_cut_off_compression_is_named(tmp_path: Path) -> None:
    path, out = tmp_path / "cut.gz", tmp_path / "out"
    data = gzip.compress(lines(ONE + [event(7 + k, 7 + k, "PEPEUSDT") for k in range(3000)]))
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedCapture, match=r"cut\.gz:\d+: ") as caught:
        run_books([path], feed_codec, recording_shapes(), out)
    assert len(rows_of(out)) == caught.value.result["applied"] > 2


def test_a_damaged_line_in_the_middle_ends_the_capture_there(tmp_path: Path) -> None:
    path, out = tmp_path / "bad", tmp_path / "out"
    whole = lines(ONE).splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:3]) + b"12 {broken}\n" + whole[3])
    with pytest.raises(DamagedCapture, match=r"bad:4: "):
        run_books([path], feed_codec, recording_shapes(), out)
    assert len(rows_of(out)) == 1


def test_a_wrong_number_invalidates_the_book_and_the_run_goes_on(tmp_path: Path) -> None:
    path, out = tmp_path / "neg", tmp_path / "out"
    path.write_bytes(lines([*ONE[:3], event(6, 6, "PEPEUSDT", [["-1", "5"]]), ONE[1], event(7, 7, "PEPEUSDT")]))
    result = run_books([path], feed_codec, recording_shapes(), out)
    assert (result["applied"], result["rejected"]) == (1, 1)


@pytest.mark.parametrize(
    ("content", "match"),
    [(None, "no such capture"), (b"", "empty"), (b"hello\n", "x:1"), (b'5 {"a":1}\n', "no depth update")],
)
def test_what_is_no_capture_is_refused(tmp_path: Path, content: bytes | None, match: str) -> None:
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=match):
        run_books([path], feed_codec, recording_shapes())
    with pytest.raises(BadInput, match="directory"):
        run_books([tmp_path], feed_codec, recording_shapes())


def test_an_unwritable_output_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(lines(ONE))
    with pytest.raises(BadInput, match="cannot write"):
        run_books([path], feed_codec, recording_shapes(), tmp_path / "no" / "out")


def log(tmp_path: Path, pushes: list[tuple[float, dict[str, Any]]], replies: list[tuple[float, str, Any]]) -> Path:
    """Writes a request log and returns its prefix."""
    prefix = tmp_path / "LOG"
    ws = ["wss://x/ws <-> 1.0", 'wss://x/ws <- 1.1: {"event":"subscribe"}']
    ws += [f"{time}: {json.dumps(message)}" for time, message in pushes]
    http = [f"https://x/order_book?{query} -> {time}: {json.dumps(book)}" for time, query, book in replies]
    contracts = [
        {"name": "PEPE_USDT", "quanto_multiplier": "10000000"},
        {"name": "BTC_USDT", "quanto_multiplier": "0.0001"},
    ]
    Path(f"{prefix}.0").write_text(f"https://x/contracts -> 0.5: {json.dumps(contracts)}\nconfiguration: {{}}\n")
    Path(f"{prefix}.http.0.0").write_text("\n".join([*http, ""]))
    Path(f"{prefix}.ws.1.0").write_text("\n".join([*ws, ""]))
    return prefix


def push(symbol: str, first: int, last: int, b: Any = (), a: Any = ()) -> dict[str, Any]:
    result = {"U": first, "u": last, "a": a, "b": b, "s": symbol, "t": 5}
    return {"time": 1, "time_ms": 2, "channel": "futures.order_book_update", "event": "update", "result": result}


def test_request_logs_merge_by_time_and_scale_contracts(tmp_path: Path) -> None:
    pushes = [
        (2.0, push("BTC_USDT", 5, 5, [{"p": "27000.1", "s": 3}])),
        (2.5, push("PEPE_USDT", 8, 9, [{"p": "0.00000149", "s": 12}])),
        (4.0, push("BTC_USDT", 6, 7, [{"p": "27000.2", "s": 12345}])),
    ]
    replies = [
        (3.0, "contract=BTC_USDT&limit=100", {"id": 5, "asks": [{"s": 7, "p": "27001"}], "bids": []}),
        (
            3.5,
            "contract=PEPE_USDT",
            {"id": 8, "asks": [{"s": 1, "p": "0.0000015"}], "bids": [{"s": 2, "p": "0.000001"}]},
        ),
        (3.6, "contract=DIA_USDT", {"id": 8, "asks": [], "bids": []}),
    ]
    prefix, out = log(tmp_path, pushes, replies), tmp_path / "out"
    result = run_books([prefix], feed_codec, recording_shapes(), out)
    assert (result["messages"], result["applied"], result["dropped"], result["gaps"]) == (3, 2, 1, 0)
    pepe, btc = rows_of(out)
    assert (pepe["symbol"], pepe["bid"], pepe["bid_qty"], pepe["bid_contracts"]) == (
        "PEPE_USDT",
        "0.00000149",
        "120000000",
        "12",
    )
    assert (btc["bid_qty"], btc["ask_qty"]) == ("1.2345", "0.0007")
    named_by_one_of_three = run_books([f"{prefix}.ws.1.0"], feed_codec, recording_shapes())
    assert named_by_one_of_three["applied"] == 2


def test_a_log_without_one_of_its_files_is_refused(tmp_path: Path) -> None:
    prefix = log(tmp_path, [(2.0, push("BTC_USDT", 5, 5))], [])
    Path(f"{prefix}.http.0.0").unlink()
    with pytest.raises(BadInput, match=r"LOG\.http\.0\.0"):
        run_books([prefix], feed_codec, recording_shapes())


def test_a_cut_off_log_gives_everything_before_and_names_file_and_line(tmp_path: Path) -> None:
    pushes = [(2.0, push("BTC_USDT", 5, 5)), (4.0, push("BTC_USDT", 6, 7)), (5.0, push("BTC_USDT", 8, 8))]
    prefix = log(tmp_path, pushes, [(3.0, "contract=BTC_USDT", {"id": 5, "asks": [], "bids": []})])
    ws = Path(f"{prefix}.ws.1.0")
    ws.write_bytes(ws.read_bytes()[:-20])
    with pytest.raises(DamagedCapture, match=r"LOG\.ws\.1\.0:5: "):
        run_books([prefix], feed_codec, recording_shapes(), tmp_path / "out")
    assert [row["u"] for row in rows_of(tmp_path / "out")] == [7]


def test_digits_of_any_size_are_held_exactly_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    fine = [event(1, 1, "X", [["0.000000000000000001", "1"]]), {"lastUpdateId": 1, "bids": [], "asks": []}]
    path.write_bytes(lines([*fine, event(2, 2, "X", [["0.123456789012345678", "0.000000000000000001"]])]))
    out = tmp_path / "out"
    run_books([path], feed_codec, recording_shapes(), out)
    assert rows_of(out)[0]["bid"] == "0.123456789012345678"
    assert rows_of(out)[0]["bid_qty"] == "0.000000000000000001"
    path.write_bytes(lines([*fine, event(2, 2, "X", [["100000", "1"]])]))
    with pytest.raises(BadInput, match="do not fit"):
        run_books([path], feed_codec, recording_shapes())


@pytest.mark.parametrize("seed", range(3))
def test_random_recordings_equal_the_decimal_book(tmp_path: Path, seed: int) -> None:
    import random

    draw = random.Random(seed)
    digits = draw.randrange(0, 9)
    unit = Decimal(1).scaleb(-digits)

    def rows(low: int, high: int, count: int) -> list[list[str]]:
        made = {draw.randrange(low, high): draw.choice([0, draw.randrange(1, 10**9)]) for _ in range(count)}
        return [[f"{unit * price:f}", f"{Decimal(qty).scaleb(-draw.randrange(0, 7)):f}"] for price, qty in made.items()]

    messages: list[dict[str, Any]] = []
    last = 100
    for _ in range(300):
        first, last = last + 1, last + draw.randrange(1, 5)
        messages.append(event(first, last, "ABC", rows(50_000, 60_000, 30), rows(60_001, 70_000, 30)))
    book_rows = [[p, q] for p, q in rows(50_000, 60_000, 900) if Decimal(q)]
    ask_rows = [[p, q] for p, q in rows(60_001, 70_000, 900) if Decimal(q)]
    snapshot = {"lastUpdateId": messages[4]["u"] - 1, "bids": book_rows, "asks": ask_rows}
    recording = [*messages[:9], snapshot, *messages[9:]]
    path, out = tmp_path / "r", tmp_path / "out"
    path.write_bytes(lines(recording))
    run_books([path], feed_codec, recording_shapes(), out)
    naive = NaiveBook("spot")
    wanted = []
    for message in recording:
        before = naive.applied
        if "lastUpdateId" in message:
            waiting, naive.waiting = naive.waiting, []
            assert naive.snapshot(message["lastUpdateId"], decimals(book_rows), decimals(ask_rows))
            batch = waiting
        else:
            batch = [binance_event(json.dumps(message).encode()) or {}]
        for one in batch:
            if naive.update(one) == "applied":
                wanted.append((one["u"], *naive.best))
        assert naive.applied >= before
    got = [
        (r["u"], *(None if r[k] is None else Decimal(r[k]) for k in ("bid", "bid_qty", "ask", "ask_qty")))
        for r in rows_of(out)
    ]
    assert got == wanted and len(got) > 250
