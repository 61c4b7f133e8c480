"""Every recorded capture through the production path: Binance against its own tickers, Gate.io level for level."""

from __future__ import annotations

import gzip
import hashlib
import json
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.book.recording.capture_books import CaptureBooks, open_capture, run_books
from pipeline.book.recording.capture_files import SNAPSHOT
from pipeline.exchanges.factory import feed_codec, recording_shapes
from pipeline.model.fixedpoint import from_fp
from tests.naive.book import NaiveBook, binance_ticker, decimals, gate_event

#: What ``arb books`` says of each (rest: 0), and the beginning of the SHA-256 of its lines (``--out``).
BINANCE = [
    ("spot_btcusdt_20240808.gz", "binance_spot", 3449, (2, 41_248, 28_040, 22), "9a0f769b22c2"),
    ("spot_ethusdt_20240808.gz", "binance_spot", 3432, (2, 33_617, 24_077, 0), "ef6dc76b1f5c"),
    ("usdm_btcusdt_20240808.gz", "binance_futures", 6547, (4, 93_953, 66_089, 722), "30afe1511005"),
    ("usdm_ethusdt_20240808.gz", "binance_futures", 6581, (5, 74_654, 53_992, 0), "c00dced9d233"),
]
WRONG = (
    "gaps", "resyncs", "slow_path", "contradicted", "crossed", "rejected", "inexact_levels", "stale_snapshots",
    "overflowed",
)  # fmt: skip


def counts(result: dict[str, object], *names: str) -> tuple[object, ...]:
    return tuple(result[name] for name in names)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@pytest.mark.parametrize(("name", "venue", "applied", "more", "lines"), BINANCE)
def test_binance_books_equal_the_exchange_own_ticker_after_every_message(
    captures_dir: Path, tmp_path: Path, name: str, venue: str, applied: int, more: tuple[int, ...], lines: str
) -> None:
    out = tmp_path / "books.jsonl"
    result = run_books([captures_dir / name], feed_codec, recording_shapes(), out)
    assert counts(result, "messages", "applied", "snapshots") == (applied + more[0], applied, 1)
    assert counts(result, "dropped", "frames", "tickers", "beyond_horizon") == more
    assert counts(result, *WRONG, "bookless", "broken") == (*(0 for _ in WRONG), [], [])
    assert digest(out) == lines
    tickers: list[tuple[int, tuple[Decimal, Decimal, Decimal, Decimal]]] = []
    with gzip.open(captures_dir / name) as handle:
        for line in handle:
            found = binance_ticker(line.split(b" ", 1)[1])
            if found is not None:
                tickers.append(found[1:])
    assert tickers == sorted(tickers, key=lambda ticker: ticker[0])
    newest = -1
    checked = 0
    for row in map(json.loads, out.read_text().splitlines()):
        assert row["venue"] == venue
        while newest + 1 < len(tickers) and tickers[newest + 1][0] <= row["u"]:
            newest += 1
        if newest < 0:
            continue  # before the first ticker of the recording
        book = tuple(Decimal(row[key]) for key in ("bid", "bid_qty", "ask", "ask_qty"))
        assert book == tickers[newest][1], f"u={row['u']}"
        checked += 1
    assert checked == applied


def gate_books(capture: CaptureBooks) -> dict[str, NaiveBook]:
    """Runs the records one by one through both books and compares all levels after each."""
    naive: dict[str, NaiveBook] = {}
    records = capture.capture.records
    for index, record in enumerate(records):
        capture.step(index)
        if record.kind == SNAPSHOT:
            symbol = record.symbol
            message = json.loads(record.payload, parse_float=Decimal)
            size = capture.capture.multipliers.get(symbol, Decimal(1))
            book = naive.setdefault(symbol, NaiveBook("gate"))
            assert book.snapshot(message["id"], decimals(message["bids"], size), decimals(message["asks"], size))
        else:
            event = gate_event(record.payload, capture.capture.multipliers)
            if event is None:
                continue
            symbol = event["s"]
            book = naive.setdefault(symbol, NaiveBook("gate"))
            book.update(event)
        if book.last is None:
            continue
        number = capture.books.index_of(symbol)
        instrument = capture.instruments[number]
        ours = tuple(
            [(from_fp(p, instrument.price_exp), from_fp(q, instrument.qty_exp)) for p, q in side]
            for side in capture.books.levels(number)
        )
        assert ours == book.levels(), f"{record.file}:{record.line} {symbol}"
    return naive


@pytest.mark.parametrize(
    ("prefix", "updates", "updated"), [("GATEIO", 172, 8), ("GATEIO_FUTURES", 352, 9)], ids=["spot", "futures"]
)
def test_gateio_books_equal_a_decimal_book_level_for_level(
    captures_dir: Path, prefix: str, updates: int, updated: int
) -> None:
    capture = open_capture(captures_dir / prefix, feed_codec, recording_shapes())
    naive = gate_books(capture)
    counters = capture.books.counters
    assert (counters.messages, counters.gaps, counters.slow_path, counters.rejected) == (updates, 0, 0, 0)
    assert counters.applied == sum(book.applied for book in naive.values())
    assert counters.dropped == sum(book.dropped for book in naive.values())
    assert sum(1 for book in naive.values() if book.applied) == updated
    assert counters.inexact_levels == 0 and counters.contradicted == 0


def test_gateio_futures_quantities_are_base_coin_and_contracts_are_named_beside_them(
    captures_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "books.jsonl"
    run_books([captures_dir / "GATEIO_FUTURES"], feed_codec, recording_shapes(), out)
    rows = [row for row in map(json.loads, out.read_text().splitlines()) if row["symbol"] == "QUICK_USDT"]
    assert rows
    for row in rows:
        assert Decimal(row["bid_qty"]) == Decimal(row["bid_contracts"]) * Decimal("0.01")


def test_several_captures_run_one_after_the_other(captures_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "books.jsonl"
    result = run_books([captures_dir / "GATEIO", captures_dir / "GATEIO_FUTURES"], feed_codec, recording_shapes(), out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert result["messages"] == 172 + 352 and result["applied"] == len(rows)
    assert counts(result, "applied", "dropped", "frames", "tickers", "snapshots") == (475, 49, 689, 75, 20)
    assert counts(result, *WRONG, "bookless", "broken") == (*(0 for _ in WRONG), [], [])
    assert digest(out) == "971c7e1e9a8f"
    assert [row["venue"] for row in rows] == sorted(
        (row["venue"] for row in rows), key=["gateio_spot", "gateio_futures"].index
    )
