"""Exact replay: deterministic, and the same episodes as a plain-Python twin over Decimal books."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.book.recording.capture_books import DamagedCapture
from pipeline.model.errors import BadInput
from pipeline.replay import run_exact
from pipeline.replay_rows import FeeChoice, split_symbol
from tests.command_line import assert_contract
from tests.naive.detection import Fees, FoundEpisode, replay_twin

SPOT_BTC, SPOT_ETH = "spot_btcusdt_20240808.gz", "spot_ethusdt_20240808.gz"
USDM_BTC, USDM_ETH = "usdm_btcusdt_20240808.gz", "usdm_ethusdt_20240808.gz"
STANDARD = {"spot": Fees(1000, 1000, 0), "usdm": Fees(500, 0, 500)}

ROWS = {
    "binance_spot": {
        "BTCUSDT": {
            "base": "BTC", "quote": "USDT", "tick": "0.01", "step": "0.001", "min_qty": "0.001", "min_notional": "5",
            "taker_bps": "10", "maker_bps": "10",
        }
    },
    "binance_futures": {
        "BTCUSDT": {
            "base": "BTC", "quote": "USDT", "tick": "0.1", "step": "0.01", "min_qty": "0.01", "min_notional": "100",
            "taker_bps": "5", "maker_bps": "2",
        }
    },
}  # fmt: skip


def depth(first: int, last: int, bids: list[list[str]], asks: list[list[str]], previous: int | None = None) -> bytes:
    data: dict[str, object] = {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": first, "u": last, "b": bids, "a": asks}
    if previous is not None:
        data["T"], data["pu"] = 1, previous
    return json.dumps({"stream": "btcusdt@depth@100ms", "data": data}, separators=(",", ":")).encode()


def snapshot(last: int, bids: list[list[str]], asks: list[list[str]]) -> bytes:
    return json.dumps({"lastUpdateId": last, "bids": bids, "asks": asks}, separators=(",", ":")).encode()


def write_capture(path: Path, lines: list[tuple[int, bytes]]) -> Path:
    with gzip.open(path, "wb") as handle:
        handle.writelines(b"%d %s\n" % line for line in lines)
    return path


@pytest.fixture
def small(tmp_path: Path) -> list[Path]:
    """A spot and a futures capture of a few messages: at 50 the contract's bid rises over the spot ask, at 80 falls."""
    (tmp_path / "instruments.json").write_text(json.dumps(ROWS))
    spot = [
        (10, snapshot(5, [["99.00", "2.00000000"]], [["100.00", "1.50000000"], ["100.05", "9.00000000"]])),
        (20, depth(6, 6, [["99.50", "1.00000000"]], [])),
        (60, depth(7, 7, [["99.60", "1.00000000"]], [])),
        (90, depth(8, 9, [], [["100.00", "0.00000000"]])),
    ]
    futures = [
        (15, snapshot(70, [["99.90", "4.000"]], [["100.20", "4.000"]])),
        (30, depth(65, 71, [["99.80", "1.000"]], [], previous=64)),
        (50, depth(72, 73, [["100.10", "1.257"], ["100.02", "3.000"]], [], previous=71)),
        (80, depth(74, 75, [["100.10", "0.000"], ["100.02", "0.000"]], [], previous=73)),
    ]
    return [write_capture(tmp_path / "spot.gz", spot), write_capture(tmp_path / "fut.gz", futures)]


def test_one_line_per_episode_with_executable_size_and_limits(small: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    result = run_exact(small, "zero", 0, out)
    assert_contract("replay --exact", result)
    assert result["found"] == 1 and result["tradable"] == 1 and result["assumed"] == []
    (line,) = out.read_bytes().splitlines()
    found = json.loads(line)
    # 100.10 x 1.257 and 100.02 x 3 can be sold, 100.00 x 1.5 bought (100.05 only against 100.10): 1.5 on both lots
    assert found == {
        "t_ns": 50,
        "type": "spot_futures_hedge",
        "buy": {"venue": "binance_spot", "symbol": "BTCUSDT", "u": 6, "price": "100", "qty": "1.5", "limit": "100"},
        "sell": {
            "venue": "binance_futures", "symbol": "BTCUSDT", "u": 73, "price": "100.1", "qty": "1.5",
            "limit": "100.02",
        },
        "edge_bps": "10.000000",
    }  # fmt: skip


def test_the_order_of_the_captures_on_the_command_line_does_not_matter(small: list[Path], tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    run_exact(small, "zero", 0, first)
    run_exact(small[::-1], "zero", 0, second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(("fees", "edge", "found"), [("standard", 0, 0), ("zero", "9.99", 1), ("zero", "10", 0),
                                                      ("2", "5.9", 1), ("2", "6.1", 0)])  # fmt: skip
def test_fees_and_minimum_decide(small: list[Path], fees: str, edge: str, found: int) -> None:
    assert run_exact(small, fees, edge)["found"] == found


def test_fees_may_come_from_a_file(small: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "fees.json"
    path.write_text('{"binance_spot": "1.5", "binance_futures": {"BTCUSDT": 2}}')
    assert run_exact(small, str(path), "6.4")["found"] == 1
    assert run_exact(small, str(path), "6.6")["found"] == 0
    path.write_text('{"binance_spot": "1.5"}')
    with pytest.raises(BadInput, match="nothing for BTCUSDT of binance_futures"):
        run_exact(small, str(path), 0)


def test_a_broken_book_has_no_edge(small: list[Path], tmp_path: Path) -> None:
    futures = [
        (15, snapshot(70, [["99.90", "4.000"]], [["100.20", "4.000"]])),
        (30, depth(65, 71, [["99.80", "1.000"]], [], previous=64)),
        (50, depth(80, 81, [["100.10", "1.000"]], [], previous=79)),  # a hole
        (70, depth(82, 83, [["100.11", "1.000"]], [], previous=81)),
    ]
    broken = write_capture(tmp_path / "hole.gz", futures)
    assert run_exact([small[0], broken], "zero", 0)["found"] == 0


def test_unlisted_symbols_get_rows_from_their_own_digits(small: list[Path], tmp_path: Path) -> None:
    (tmp_path / "instruments.json").unlink()
    result = run_exact(small, "zero", 0)
    assert result["assumed"] == ["binance_futures:BTCUSDT", "binance_spot:BTCUSDT"]
    assert result["found"] == 1


def test_bad_input_is_named(small: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such capture"):
        run_exact([tmp_path / "absent.gz"])
    with pytest.raises(BadInput, match="no capture"):
        run_exact([])
    with pytest.raises(BadInput, match="wanted zero, standard"):
        run_exact(small, "free")
    with pytest.raises(BadInput, match="cannot write"):
        run_exact(small, "zero", 0, tmp_path / "no" / "such" / "folder")
    (tmp_path / "instruments.json").write_text("{")
    with pytest.raises(BadInput, match="instrument rows"):
        run_exact(small)


def test_a_capture_that_is_cut_off_is_replayed_up_to_the_damage(small: list[Path]) -> None:
    raw = small[1].read_bytes()
    small[1].write_bytes(raw[:-12])
    with pytest.raises(DamagedCapture, match=r"fut\.gz") as caught:
        run_exact(small, "zero", 0)
    assert caught.value.result["messages"] > 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("symbol", "parts"),
    [
        ("BTC_USDT", ("BTC", "USDT")),
        ("ETHBTC", ("ETH", "BTC")),
        ("1000SATSUSDT", ("1000SATS", "USDT")),
        ("X", ("X", "X")),
    ],
)
def test_symbols_split_into_base_and_quote(symbol: str, parts: tuple[str, str]) -> None:
    assert split_symbol(symbol) == parts


def test_fees_are_rounded_up_to_ppm() -> None:
    assert FeeChoice("7.501").taker_ppm("v", "s", "0") == 751
    assert FeeChoice("-0.5").taker_ppm("v", "s", "0") == -50
    with pytest.raises(BadInput, match="out of range"):
        FeeChoice("5000").taker_ppm("v", "s", "0")


def assert_same(path: Path, wanted: list[FoundEpisode]) -> None:
    """The engine's lines are the twin's episodes: time, books, prices exactly; the edge to the printed digits."""
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [row["t_ns"] for row in rows] == [episode.t_ns for episode in wanted]
    for row, episode in zip(rows, wanted, strict=True):
        for leg, twin in ((row["buy"], episode.buy), (row["sell"], episode.sell)):
            assert (leg["venue"], leg["symbol"], leg["u"], Decimal(leg["price"])) == twin
        assert float(row["edge_bps"]) == pytest.approx(float(episode.edge_bps), abs=1e-5)


def twin_of(captures: Path, pairs: list[tuple[str, str]], fees: dict[str, Fees], bps: Fraction) -> list[FoundEpisode]:
    venues = {"spot": "binance_spot", "usdm": "binance_futures"}
    files = [captures / f"{kind}_{symbol.lower()}_20240808.gz" for kind, symbol in pairs]
    return replay_twin(
        [(venues[kind], symbol, file, fees[kind]) for (kind, symbol), file in zip(pairs, files, strict=True)], bps
    )


ALL = [("spot", "BTCUSDT"), ("spot", "ETHUSDT"), ("usdm", "BTCUSDT"), ("usdm", "ETHUSDT")]
ZERO = {"spot": Fees(), "usdm": Fees()}


def test_recorded_market_without_fees_gives_what_the_twin_finds(captures_dir: Path, tmp_path: Path) -> None:
    files = [captures_dir / name for name in (SPOT_BTC, SPOT_ETH, USDM_BTC, USDM_ETH)]
    out = tmp_path / "out.jsonl"
    result = run_exact(files, "zero", 0, out)
    wanted = twin_of(captures_dir, ALL, ZERO, Fraction(0))
    assert_same(out, wanted)
    assert result["found"] == len(wanted) == 11
    assert (result["messages"], result["tradable"], result["refused"]) == (20_022, 11, {})
    assert result["digest"] == "9241988cabb617d4e364f3702078e3c4123d3f21a7dd2673212160a4c078bce6"


def test_recorded_market_with_standard_fees_has_nothing(captures_dir: Path, tmp_path: Path) -> None:
    files = [captures_dir / name for name in (SPOT_BTC, USDM_BTC)]
    assert run_exact(files, "standard")["found"] == 0
    # far below zero the episodes are the twin's again, fees in base and in quote included
    first, second = tmp_path / "a", tmp_path / "b"
    runs = [run_exact(files, "standard", "-11.5", out) for out in (first, second)]
    assert first.read_bytes() == second.read_bytes() and runs[0] == runs[1]
    wanted = twin_of(captures_dir, [ALL[0], ALL[2]], STANDARD, Fraction(-23, 2))
    assert (runs[0]["messages"], runs[0]["found"], len(wanted)) == (10_002, 95, 95)
    assert runs[0]["digest"] == "aef7f6b41c4212f5dcfda846bf677d8e6566ef091c647f5158d02d417cccf35f"
    assert_same(first, wanted)
