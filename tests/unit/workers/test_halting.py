"""The halt whatever hangs: guard, page and disk, each alone and together, on real pages and sockets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline.model.errors import BadInput
from shm.errors import SegmentMismatch, SegmentMissing
from shm.pages import HaltPage
from tests.exhausted import full_disk, no_descriptors
from tests.paths import REPO
from tests.worlds.waiting import WAIT_S, until
from workers import halting
from workers.cli.halt_command import halt_at_once
from workers.cli.main import main
from workers.control_socket import GUARD_SOCKET, ControlError, listen
from workers.exit_codes import EXIT_USAGE
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


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow is no disk that hangs."""
    monkeypatch.setattr(halting, "DISK_S", WAIT_S)


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


def test_a_disk_that_hangs_is_not_waited_for(state: Path, page: HaltPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halting, "DISK_S", 0.1)
    os.mkfifo(state / f"halt.{os.getpid()}.tmp")  # whoever opens it for writing waits
    reply = halt_instance(state, "odd fills")
    assert "has not answered" in reply["warning"] and page.latched
    reader = os.open(state / f"halt.{os.getpid()}.tmp", os.O_RDONLY)  # the thread goes on and ends
    os.close(reader)
    until(lambda: not (state / f"halt.{os.getpid()}.tmp").exists(), "the end of the write")


HALTS = """
import sys
from workers.cli.main import main

code = main(sys.argv[1:])
print(code, [name for name in ("typer", "asyncio", "numba") if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--reason", "odd fills", "--json"], ["--json", "--reason=odd fills"]])
def test_the_command_halts_before_the_command_line_is_loaded(words: list[str], state: Path, page: HaltPage) -> None:
    environment = {**os.environ, "ARB_STATE_DIR": str(state.parent)}
    arguments = [sys.executable, "-c", HALTS, "halt", "--instance", state.name, *words]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.endswith("0 []\n") and page.latched and page.reason == "odd fills"
    in_force = {"halted": True, "reason": "odd fills", "running": False}
    assert msgspec.json.decode(done.stdout) == {**in_force, "blocking": [], "adopted": []}


@pytest.mark.parametrize(
    "words",
    [["halt", "--help"], ["halt", "--reason"], ["halt", "now"], ["halt", "--json=1"], ["halt", "-x"], ["status"], []],
)
def test_what_is_spelled_otherwise_is_the_whole_command_lines(words: list[str]) -> None:
    assert halt_at_once(words) is None


def test_a_halt_without_a_reason_is_refused_by_the_whole_command_line(
    state: Path, page: HaltPage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARB_STATE_DIR", str(state.parent))
    assert main(["halt", "--instance", state.name]) == EXIT_USAGE
    assert "--reason" in capsys.readouterr().err and not page.latched


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


def test_the_page_is_latched_without_numpy() -> None:
    """Its import took longer than a guard has for its answer."""
    code = "import sys, workers.halting, workers.halt_page; sys.exit('numpy' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False).returncode == 0
