"""A guard whose disk hangs: it answers, grants and blocks all the same, and gives nothing back that the disk lacks."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline.model.clock import mono_ns
from tests.worlds.guard.life import Life
from tests.worlds.waiting import WAIT_S, until
from workers.guard import keeper as keeper_module
from workers.guard.keeper import RETRY_NS
from workers.halt_file import OPEN, HaltState, read_halt
from workers.halt_page import latch_page


@pytest.fixture
def life(instance: str, tmp_path: Path) -> Iterator[Life]:
    made = Life(instance, tmp_path)
    yield made
    made.close()


@contextlib.contextmanager
def hanging_disk(life: Life) -> Iterator[None]:
    """Whoever writes ``halt.json`` meanwhile waits, and is refused at the end."""
    blocked = life.context.state_dir / f"halt.{os.getpid()}.tmp"
    os.mkfifo(blocked)  # who opens it for writing waits for a reader
    try:
        yield
    finally:
        os.close(os.open(blocked, os.O_RDONLY))
        until(lambda: not life.guard.keeper._disk.hangs, "the end of the write that hung")


def test_what_keeps_risk_away_is_answered_and_in_force_while_the_disk_hangs_and_is_written_later(life: Life) -> None:
    folder, keeper = life.context.state_dir, life.guard.keeper
    with hanging_disk(life):
        reply = life.ask(op="halt", reason="odd fills")
        assert reply["halted"] and "has not answered" in reply["warning"]
        assert life.page.latched and life.page.unsaved, "the next guard finds it there"
        assert life.ask(op="state")["halted"]
        assert life.ask(op="block", venue="mexc_spot", reason="odd")["blocked_venues"] == ["mexc_spot"]
        assert read_halt(folder) == OPEN
    assert not life.saves(mono_ns() + RETRY_NS)
    found = read_halt(folder)
    assert found.reason == "odd fills" and list(found.venues) == ["mexc_spot"] and found == keeper.state
    assert not life.page.unsaved


def test_what_gives_risk_back_is_not_carried_out_by_a_disk_that_hangs_nor_later(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "RELEASE_WAIT_S", 0.0)
    folder = life.context.state_dir
    life.ask(op="halt", reason="odd fills")
    answers, real = threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        answers.wait()
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    asked = life.ask(op="resume", reason="looked")
    assert "not carried out" in asked["error"] and not life.may_send(mono_ns())
    assert "not carried out" in life.ask(op="resume", reason="looked")["error"], "while it hangs, at once"
    answers.set()
    until(lambda: not life.guard.keeper._disk.hangs, "the disk")
    assert not life.saves(mono_ns() + RETRY_NS) and read_halt(folder).reason == "odd fills"
    monkeypatch.undo()
    assert not life.ask(op="resume", reason="looked")["halted"]
    assert life.may_send(mono_ns() + 2 * RETRY_NS)


def test_leases_go_on_while_the_disk_hangs(life: Life) -> None:
    with hanging_disk(life):
        life.ask(op="note", holds=["ra1x2"])
        assert life.may_send(mono_ns())
    life.saves(mono_ns() + RETRY_NS)
    assert read_halt(life.context.state_dir).holds == ("ra1x2",)


def test_what_somebody_else_writes_while_the_disk_hangs_is_obeyed_beside_what_it_has_not_taken(life: Life) -> None:
    folder = life.context.state_dir
    with hanging_disk(life):
        life.ask(op="drain", reason="maintenance")
        (folder / "halt.json").write_bytes(
            msgspec.json.encode(HaltState(halted=True, reason="by hand", by="me", wall_ns=1))
        )
        assert not life.page.latched, "what stands there is read when the disk has answered"
    assert not life.saves(mono_ns() + RETRY_NS)
    found = read_halt(folder)
    assert found.reason == "by hand" and found.drain is not None and life.page.latched


def test_what_a_slow_disk_takes_late_is_written_and_not_written_again(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes longer for each write than is waited for would be given the same for ever."""
    monkeypatch.setattr(keeper_module, "BLOCK_WAIT_S", 0.0)
    folder, keeper = life.context.state_dir, life.guard.keeper
    writes: list[int] = []
    answers, real = threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        writes.append(descriptor)
        answers.wait(WAIT_S)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    assert "has not answered" in life.ask(op="halt", reason="odd fills")["warning"]
    assert life.page.unsaved
    answers.set()
    until(lambda: not keeper._disk.hangs, "the disk")
    for period in range(1, 4):
        life.saves(mono_ns() + period * RETRY_NS)
    assert len(writes) == 1 and read_halt(folder) == keeper.state and keeper.state.reason == "odd fills"
    assert not life.page.unsaved


def test_a_mark_of_a_newer_halt_stays_when_the_disk_has_taken_an_older_one_late(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "BLOCK_WAIT_S", 0.0)
    keeper = life.guard.keeper
    with monkeypatch.context() as patched:
        answers, real = threading.Event(), os.fdatasync

        def slow(descriptor: int) -> None:
            answers.wait(WAIT_S)
            real(descriptor)

        patched.setattr(os, "fdatasync", slow)
        life.ask(op="halt", reason="odd fills")
        latch_page(life.instance, "newer")
        answers.set()
        until(lambda: not keeper._disk.hangs, "the disk")
    keeper.look_at_disk()
    assert life.page.unsaved and life.page.reason == "newer"


def test_no_lease_waits_for_what_is_written_again(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    with hanging_disk(life):
        life.ask(op="note", holds=["ra1x2"])
    monkeypatch.setattr(keeper_module, "BLOCK_WAIT_S", WAIT_S)
    answers, real = threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        answers.wait(WAIT_S)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    assert life.may_send(mono_ns() + RETRY_NS)
    late = life.guard.keeper._late
    assert late is not None and not late.done.is_set(), "the lease was granted before the disk has answered"
    answers.set()
    life.saves(mono_ns() + 2 * RETRY_NS)
    assert read_halt(life.context.state_dir).holds == ("ra1x2",)
