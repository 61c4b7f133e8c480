"""The halt latch on disk: what survives, and that doubt counts as a halt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.halt_file import (
    FOLLOWED_NS,
    Block,
    ChangedMeanwhile,
    HaltState,
    KeptBreaker,
    just_written,
    latch_on_disk,
    read_halt,
    release_on_disk,
    stamp_of,
    write_halt,
)


def test_without_a_file_nothing_is_halted(tmp_path: Path) -> None:
    assert read_halt(tmp_path).halted is False


def test_latch_is_read_back_as_written(tmp_path: Path) -> None:
    state = HaltState(halted=True, reason="manual, ümlaut", by="uid 0", wall_ns=7)
    write_halt(tmp_path, state)
    assert read_halt(tmp_path) == state
    assert (tmp_path / "halt.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["halt.json"]


def test_damaged_file_counts_as_halted(tmp_path: Path) -> None:
    for content in (b"", b"{", b'{"halted": "maybe"}', b"\xff\xfe"):
        (tmp_path / "halt.json").write_bytes(content)
        assert read_halt(tmp_path).halted is True


def test_disk_latch_without_a_guard(tmp_path: Path) -> None:
    latch_on_disk(tmp_path, "guard is gone", by="uid 7 (ann)")
    found = read_halt(tmp_path)
    assert (found.halted, found.reason, found.by) == (True, "guard is gone", "uid 7 (ann)")


def test_a_disk_latch_keeps_what_else_stands_in_the_file(tmp_path: Path) -> None:
    block = Block(reason="why", by="uid 0", wall_ns=1)
    kept = HaltState(
        halted=False, reason="", by="", wall_ns=0, drain=block, venues={"mexc_spot": block},
        breakers=(KeptBreaker(name="daily_loss", reason="5001 USD"),), holds=("r1",),
    )  # fmt: skip
    write_halt(tmp_path, kept)
    latch_on_disk(tmp_path, "storm", by="uid 7 (ann)")
    found = read_halt(tmp_path)
    assert found.halted
    assert (found.drain, found.venues, found.breakers, found.holds) == (
        block, {"mexc_spot": block}, kept.breakers, ("r1",),
    )  # fmt: skip
    release_on_disk(tmp_path, "looked at it", by="uid 7 (ann)")
    found = read_halt(tmp_path)
    assert (found.halted, found.drain, found.venues) == (False, None, {})
    assert found.breakers == kept.breakers, "breakers are re-armed, not resumed"


def test_a_file_of_the_version_before_is_read(tmp_path: Path) -> None:
    (tmp_path / "halt.json").write_bytes(b'{"halted":true,"reason":"old","by":"uid 0","wall_ns":3}')
    assert read_halt(tmp_path) == HaltState(halted=True, reason="old", by="uid 0", wall_ns=3)


def test_a_writer_that_was_overtaken_writes_nothing(tmp_path: Path) -> None:
    write_halt(tmp_path, HaltState(halted=False, reason="", by="", wall_ns=0))
    known = stamp_of(tmp_path)
    latch_on_disk(tmp_path, "the guard hangs", by="uid 7 (ann)")
    with pytest.raises(ChangedMeanwhile):
        write_halt(tmp_path, HaltState(halted=False, reason="older", by="guard", wall_ns=1), known=known)
    assert read_halt(tmp_path).reason == "the guard hangs"


def test_what_was_written_just_now_the_page_may_not_show_yet(tmp_path: Path) -> None:
    assert not just_written(tmp_path), "no file: nothing to follow"
    write_halt(tmp_path, HaltState(halted=False, reason="", by="", wall_ns=0))
    assert just_written(tmp_path)
    written_ns = (tmp_path / "halt.json").stat().st_mtime_ns - FOLLOWED_NS
    os.utime(tmp_path / "halt.json", ns=(written_ns, written_ns))
    assert not just_written(tmp_path)
