"""The halt latch on disk: what survives, and that doubt counts as a halt."""

from __future__ import annotations

from pathlib import Path

from workers.halt_file import HaltState, latch_on_disk, read_halt, write_halt


def test_without_a_file_nothing_is_halted(tmp_path: Path) -> None:
    assert read_halt(tmp_path).halted is False


def test_latch_is_read_back_as_written(tmp_path: Path) -> None:
    state = HaltState(halted=True, reason="manual, ümlaut", by="uid 0", wall_ns=7)
    write_halt(tmp_path, state)
    assert read_halt(tmp_path) == state
    assert (tmp_path / "halt.json").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "halt.tmp").exists()


def test_damaged_file_counts_as_halted(tmp_path: Path) -> None:
    for content in (b"", b"{", b'{"halted": "maybe"}', b"\xff\xfe"):
        (tmp_path / "halt.json").write_bytes(content)
        assert read_halt(tmp_path).halted is True


def test_disk_latch_without_a_guard(tmp_path: Path) -> None:
    latch_on_disk(tmp_path, "guard is gone")
    found = read_halt(tmp_path)
    assert (found.halted, found.reason, found.by) == (True, "guard is gone", "disk")
