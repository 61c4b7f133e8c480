"""The halt whatever hangs: guard, page and disk, each alone and together, on real pages and sockets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.model.errors import BadInput
from shm.errors import SegmentMismatch, SegmentMissing
from shm.pages import HaltPage
from tests.exhausted import full_disk, no_descriptors
from tests.worlds.waiting import until
from workers.control_socket import GUARD_SOCKET, ControlError, listen
from workers.halt_file import read_halt
from workers.halt_page import latch_page
from workers.halting import halt_instance, release_without_guard

TOKEN = 3


@pytest.fixture
def state(tmp_path: Path, instance: str) -> Path:
    folder = tmp_path / instance
    folder.mkdir()
    return folder


@pytest.fixture
def page(instance: str) -> Iterator[HaltPage]:
    made = HaltPage.create(instance)
    made.grant(TOKEN, 10**18)
    yield made
    made.close()


def test_a_guard_that_hangs_is_not_needed(state: Path, page: HaltPage) -> None:
    hung = listen(state / GUARD_SOCKET)  # takes connections, answers nothing
    assert page.may_send(TOKEN, 1)
    reply = halt_instance(state, "odd fills", uid=7)
    hung.close()
    assert reply["halted"] and "in force" in reply["warning"]
    assert not page.may_send(TOKEN, 1) and page.reason == "odd fills" and page.unsaved
    found = read_halt(state)
    assert (found.halted, found.reason) == (True, "odd fills") and found.by.startswith("uid 7")


def test_a_full_disk_does_not_keep_the_halt_from_the_page(state: Path, page: HaltPage) -> None:
    with full_disk():
        reply = halt_instance(state, "odd fills")
    assert "not on the disk yet" in reply["warning"]
    assert not page.may_send(TOKEN, 1) and page.unsaved
    assert not read_halt(state).halted and not list(state.glob("*.tmp")), "no part of a file stays"


def test_a_disk_that_hangs_is_not_waited_for(state: Path, page: HaltPage) -> None:
    os.mkfifo(state / f"halt.{os.getpid()}.tmp")  # whoever opens it for writing waits
    reply = halt_instance(state, "odd fills")
    assert "has not answered" in reply["warning"] and page.latched
    reader = os.open(state / f"halt.{os.getpid()}.tmp", os.O_RDONLY)  # the thread goes on and ends
    os.close(reader)
    until(lambda: not (state / f"halt.{os.getpid()}.tmp").exists(), "the end of the write")


def test_without_a_page_the_disk_keeps_it_and_without_both_it_is_refused(state: Path) -> None:
    assert "as soon as a guard runs" in halt_instance(state, "before the first start")["warning"]
    assert read_halt(state).halted
    with full_disk(), pytest.raises(ControlError, match=r"not halted: .*page: no segment .*disk: "):
        halt_instance(state, "again")
    with pytest.raises(BadInput, match="reason"):
        halt_instance(state, " ")


def test_no_descriptors_are_an_answer(state: Path, page: HaltPage) -> None:
    with no_descriptors(), pytest.raises(ControlError, match="not halted"):
        halt_instance(state, "odd fills")
    assert halt_instance(state, "odd fills")["halted"], "and nothing stays in the way"


def test_a_release_without_a_guard_reaches_the_next_one(state: Path, page: HaltPage) -> None:
    halt_instance(state, "odd fills")
    assert page.unsaved
    release_without_guard(state, "looked", by="uid 7")
    assert not page.unsaved and not read_halt(state).halted


def test_only_a_page_of_this_build_is_latched(instance: str) -> None:
    with pytest.raises(SegmentMissing):
        latch_page(instance, "x")
    path = Path(f"/dev/shm/arb.{instance}.halt")
    for content in (bytes(100), bytes(HaltPage.WORDS * 8)):
        path.write_bytes(content)
        with pytest.raises(SegmentMismatch):
            latch_page(instance, "x")
        assert path.read_bytes() == content
    path.unlink()
