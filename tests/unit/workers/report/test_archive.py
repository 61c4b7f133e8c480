"""``arb archive``: a recording as Parquet, nothing lost, nothing made twice."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.book.recording.pieces import (
    FRAME,
    HEAD,
    PIECE,
    SNAPSHOT,
    SUFFIX,
    Piece,
    RecordedMarket,
    RecordedRow,
    message,
    read_recording,
)
from pipeline.model.errors import BadInput
from tests.command_line import assert_contract
from workers.cli.app import run
from workers.report.archive import archive

ROW = RecordedRow("BTCUSDT", "BTC", "USDT", "0.01", "0.001", "0.001", "5", "10.00", "1")
DAY_NS = 1_767_225_600_000_000_000  # 2026-01-01 UTC


def depth(first: int, last: int, bids: list[list[str]]) -> bytes:
    data = {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": first, "u": last, "b": bids, "a": []}
    body = json.dumps({"stream": "btcusdt@depth@100ms", "data": data}, separators=(",", ":")).encode()
    return message(FRAME, HEAD.pack(20 + last, 0, 0) + body)


def snapshot(last: int) -> bytes:
    levels = {"lastUpdateId": last, "bids": [["99.00", "2.0"]], "asks": [["100.10", "1.5"]]}
    body = json.dumps(levels, separators=(",", ":")).encode()
    return message(SNAPSHOT, HEAD.pack(10 + last, 0, 7) + b"BTCUSDT" + body)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two pieces of one feed, an hour apart: the first with two updates, the second with one."""
    folder = tmp_path / "market" / "feed.b"
    folder.mkdir(parents=True)
    markets = [RecordedMarket("b_spot", "binance", "spot", [ROW])]
    parts = [[snapshot(5), depth(6, 6, [["99.50", "1.0"]]), depth(7, 7, [["99.25", "3"]])]]
    parts += [[snapshot(7), depth(8, 8, [["99.75", "4"]])]]
    for number, part in enumerate(parts):
        piece = Piece(source="feed.b", boot_id="b", wall_ns=DAY_NS + 1_000, mono_ns=1_000, markets=markets)
        data = message(PIECE, msgspec.json.encode(piece)) + b"".join(part)
        (folder / f"{number}{SUFFIX}").write_bytes(gzip.compress(data))
    return tmp_path / "market"


def table(path: str) -> list[dict[str, Any]]:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, Any]] = parquet.ParquetFile(path).read().to_pylist()
    return rows


def test_without_pyarrow_it_is_refused_with_the_command_that_installs_it(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"arb archive: found no package pyarrow.*pip install"):
        archive(recording, tmp_path / "out", keeps_writing=False)


def test_every_frame_and_every_top_is_there(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra: pip install -e '.[parquet]')")
    out = tmp_path / "out"
    assert run(["archive", str(recording), "--out", str(out), "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert_contract("archive", fields)
    assert (fields["frames"], fields["tops"], fields["not_recorded"], len(fields["files"])) == (5, 3, 0, 4)
    by_kind = {kind: sorted((out / kind).glob("venue=b_spot/date=2026-01-01/*.parquet")) for kind in ("frames", "tops")}
    rows = [row for path in by_kind["frames"] for row in table(str(path))]
    (capture,) = read_recording(recording)
    kinds = ["frame", "snapshot"]
    assert [(row["at_ns"], row["kind"], row["symbol"], row["payload"]) for row in rows] == [
        (record.time_ns, kinds[record.kind], record.symbol, record.payload) for record in capture.records
    ]
    tops = [row for path in by_kind["tops"] for row in table(str(path))]
    assert [(row["update_id"], row["bid"], row["bid_qty"], row["ask"]) for row in tops] == [
        (6, 99.5, 1.0, 100.1), (7, 99.5, 1.0, 100.1), (8, 99.75, 4.0, 100.1),
    ]  # fmt: skip
    assert [row["at_ns"] for row in tops] == [DAY_NS + 26, DAY_NS + 27, DAY_NS + 28]
    assert not any(row["crossed"] for row in tops)


def test_what_is_there_is_not_made_again_and_the_newest_piece_waits(recording: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra: pip install -e '.[parquet]')")
    out = tmp_path / "out"
    first = archive(recording, out, keeps_writing=True)
    assert (len(first["files"]), first["waiting"], first["skipped"]) == (2, 1, 0)
    again = archive(recording, out, keeps_writing=False)
    assert (len(again["files"]), again["waiting"], again["skipped"]) == (2, 0, 1)
    last = archive(recording, out, keeps_writing=False)
    assert (last["files"], last["skipped"]) == ([], 2)
    with pytest.raises(BadInput, match="found no pieces of feeds"):
        archive(tmp_path / "nothing", out, keeps_writing=False)
