"""``arb archive``: a recording as Parquet, nothing lost, nothing made twice."""

from __future__ import annotations

import fcntl
import gzip
import importlib.util
import json
import os
import zlib
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
from workers.report.archive import COLUMNS, archive, archive_text

needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None,
    reason="pyarrow is not installed (an extra); tests/host/test_parquet.py runs it with one",
)
ROW = RecordedRow("BTCUSDT", "BTC", "USDT", "0.01", "0.001", "0.001", "5", "10.00", "1")
DAY_NS = 1_767_225_600_000_000_000  # 2026-01-01 UTC


def depth(first: int, last: int, bids: list[list[str]], conn: int = 0) -> bytes:
    data = {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": first, "u": last, "b": bids, "a": []}
    body = json.dumps({"stream": "btcusdt@depth@100ms", "data": data}, separators=(",", ":")).encode()
    return message(FRAME, HEAD.pack(20 + last, 0, conn) + body)


def snapshot(last: int) -> bytes:
    levels = {"lastUpdateId": last, "bids": [["99.00", "2.0"]], "asks": [["100.10", "1.5"]]}
    body = json.dumps(levels, separators=(",", ":")).encode()
    return message(SNAPSHOT, HEAD.pack(10 + last, 0, 7) + b"BTCUSDT" + body)


FIRST = [snapshot(5), depth(6, 6, [["99.50", "1.0"]]), depth(7, 7, [["99.25", "3"]])]
SECOND = [snapshot(7), depth(8, 8, [["99.75", "4"]])]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two pieces of one feed, an hour apart: the first with two updates, the second with one."""
    return recorded(tmp_path / "market", FIRST, SECOND)


def recorded(folder: Path, *parts: list[bytes]) -> Path:
    """A recording of one feed with a piece for each of ``parts``."""
    (folder / "feed.b").mkdir(parents=True)
    markets = [RecordedMarket("b_spot", "binance", "spot", [ROW])]
    for number, part in enumerate(parts):
        piece = Piece(source="feed.b", boot_id="b", wall_ns=DAY_NS + 1_000, mono_ns=1_000, markets=markets)
        data = message(PIECE, msgspec.json.encode(piece)) + b"".join(part)
        (folder / "feed.b" / f"{number}{SUFFIX}").write_bytes(gzip.compress(data))
    return folder


def still_written(piece: Path) -> None:
    """The piece as its writer leaves it between two flushes: everything so far, and no end."""
    packer = zlib.compressobj(wbits=31)
    data = packer.compress(gzip.decompress(piece.read_bytes())) + packer.flush(zlib.Z_SYNC_FLUSH)
    piece.write_bytes(data)


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


@needs_pyarrow
def test_every_frame_and_every_top_is_there(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


@needs_pyarrow
def test_what_is_there_is_not_made_again_and_the_newest_piece_waits(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = archive(recording, out, keeps_writing=True)
    assert (len(first["files"]), first["waiting"], first["skipped"]) == (2, 1, 0)
    again = archive(recording, out, keeps_writing=False)
    assert (len(again["files"]), again["waiting"], again["skipped"]) == (2, 0, 1)
    last = archive(recording, out, keeps_writing=False)
    assert (last["files"], last["skipped"]) == ([], 2)
    with pytest.raises(BadInput, match="found no pieces of feeds"):
        archive(tmp_path / "nothing", out, keeps_writing=False)


@needs_pyarrow
def test_a_piece_without_an_end_is_read_again_until_it_has_one(recording: Path, tmp_path: Path) -> None:
    out, newest = tmp_path / "out", recording / "feed.b" / f"1{SUFFIX}"
    whole = newest.read_bytes()
    newest.write_bytes(b"")  # just opened: not even its header is on the disk
    first = archive(recording, out, keeps_writing=False)
    assert (len(first["files"]), first["unfinished"]) == (2, 1)
    newest.write_bytes(whole)
    still_written(newest)
    part = archive(recording, out, keeps_writing=False)
    assert (part["skipped"], part["frames"], part["unfinished"], part["failed"]) == (1, 2, 1, [])
    recorded(tmp_path / "longer", FIRST, [*SECOND, depth(9, 9, [["99.80", "1"]])])
    newest.write_bytes((tmp_path / "longer" / "feed.b" / newest.name).read_bytes())
    ended = archive(recording, out, keeps_writing=False)
    assert (ended["skipped"], ended["frames"], ended["tops"], ended["unfinished"]) == (1, 3, 2, 0)
    assert archive(recording, out, keeps_writing=False)["skipped"] == 2


@needs_pyarrow
def test_a_piece_whose_writer_was_killed_is_done_when_a_newer_one_has_begun(recording: Path, tmp_path: Path) -> None:
    still_written(recording / "feed.b" / f"0{SUFFIX}")
    fields = archive(recording, tmp_path / "out", keeps_writing=False)
    assert (fields["unfinished"], len(fields["files"])) == (0, 4)
    assert archive(recording, tmp_path / "out", keeps_writing=False)["skipped"] == 2


@needs_pyarrow
def test_a_path_in_the_folder_of_an_instance_that_runs_waits_for_its_newest_piece(
    state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    market = recorded(state_dir / "one" / "market", FIRST, SECOND)
    lock = os.open(state_dir / "one" / "lock", os.O_RDWR | os.O_CREAT)
    for path in (market, market / "feed.b"):
        out = str(tmp_path / path.name)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(["archive", str(path), "--out", out, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (len(found["files"]), found["waiting"]) == (2, 1)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert run(["archive", str(path), "--out", out, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["waiting"] == 0
    os.close(lock)


@needs_pyarrow
def test_a_piece_that_cannot_be_read_is_named_and_keeps_no_other_from_being_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    market, out = recorded(tmp_path / "market", FIRST, FIRST, SECOND), tmp_path / "out"
    damaged = market / "feed.b" / f"1{SUFFIX}"
    damaged.write_bytes(gzip.compress(message(FRAME, b"")))
    (market / "feed.b" / f"0{SUFFIX}").rename(tmp_path / "kept")
    gone = market / "feed.b" / f"0{SUFFIX}"
    gone.symlink_to(tmp_path / "nowhere")  # as one that was removed after it had been listed
    assert run(["archive", str(market), "--out", str(out), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert_contract("archive", found)
    assert [piece for piece, _ in found["failed"]] == [str(gone), str(damaged)] and len(found["files"]) == 2
    assert "no header of a recording" in found["failed"][1][1]
    assert run(["archive", str(market), "--out", str(out)]) == 1
    assert f"FAILED {damaged}" in capsys.readouterr().out
    gone.unlink()
    (tmp_path / "kept").rename(gone)
    again = archive(market, out, keeps_writing=False)
    assert [piece for piece, _ in again["failed"]] == [str(damaged)]
    assert (again["skipped"], len(again["files"])) == (1, 2)


@needs_pyarrow
def test_a_frame_that_is_not_understood_is_named_and_ends_no_book(tmp_path: Path) -> None:
    odd = message(FRAME, HEAD.pack(27, 0, 0) + b"\x00binary")
    market = recorded(tmp_path / "market", [*FIRST[:2], odd, FIRST[2]])
    fields = archive(market, tmp_path / "out", keeps_writing=False)
    assert (fields["frames"], fields["tops"], fields["failed"]) == (4, 2, [])
    ((place, text),) = fields["rejected"]
    assert place == f"{market / 'feed.b'}/0{SUFFIX}:4" and text == "b_spot: 1 frames not understood"


@needs_pyarrow
def test_books_that_end_a_piece_lost_are_named_unless_another_connection_brings_what_is_missing(
    tmp_path: Path,
) -> None:
    beyond, late = depth(9, 9, [["99.80", "1"]], conn=3), depth(8, 8, [["99.75", "4"]])
    broken, whole = recorded(tmp_path / "a", [*FIRST, beyond]), recorded(tmp_path / "b", [*FIRST, beyond, late])
    fields = archive(broken, tmp_path / "out_a", keeps_writing=False)
    assert fields["broken"] == [[f"{broken / 'feed.b'}/0{SUFFIX}", "b_spot: BTCUSDT"]] and fields["tops"] == 2
    assert "an update or a snapshot lacks: b_spot: BTCUSDT" in archive_text(fields)
    fields = archive(whole, tmp_path / "out_b", keeps_writing=False)
    assert (fields["broken"], fields["tops"]) == ([], 4)
    never = recorded(tmp_path / "c", FIRST[1:])
    fields = archive(never, tmp_path / "out_c", keeps_writing=False)
    assert fields["broken"] == [[f"{never / 'feed.b'}/0{SUFFIX}", "b_spot: BTCUSDT"]] and fields["tops"] == 0


@needs_pyarrow
def test_every_file_of_a_kind_has_the_same_types_and_below_it_is_nothing_else(tmp_path: Path) -> None:
    """Also of a piece without an applied message: whoever reads the folder as one table needs it."""
    import pyarrow.parquet as parquet

    out = tmp_path / "out"
    archive(recorded(tmp_path / "market", FIRST, [snapshot(9)]), out, keeps_writing=False)
    for kind, columns in COLUMNS.items():
        files = sorted(path for path in (out / kind).rglob("*") if path.is_file())
        schemas = [parquet.ParquetFile(path).schema_arrow for path in files]
        assert len(files) == 2 and schemas[0].equals(schemas[1], check_metadata=False)
        assert [(field.name, str(field.type)) for field in schemas[0]] == [
            (name, {"float64": "double", "bool_": "bool"}.get(wanted, wanted)) for name, wanted in columns.items()
        ]
