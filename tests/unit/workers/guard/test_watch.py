"""When the guard counts an executor as lost: by looks alone, on no clock."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from pipeline.model.enums import ProcessState
from tests.worlds.instance_rig import stand_still
from tests.worlds.waiting import until
from workers.guard.watch import FIRST_START_NS, ExecutorWatch, Reading
from workers.kills.rig import children_of

LOOK_NS = 100_000_000


def made(*, served: bool, left_half_done: Callable[[], bool | None] = lambda: False) -> ExecutorWatch:
    return ExecutorWatch(hung_after_ms=1000, restart_within_ms=5000, served=served, left_half_done=left_half_done)


class Looks:
    """A watch, its clock and an executor's page."""

    def __init__(self, *, served: bool = False) -> None:
        self.watch = ExecutorWatch(
            hung_after_ms=1000, restart_within_ms=5000, served=served, left_half_done=lambda: False
        )
        self.now_ns = 7_000_000_000
        self.progress = 0

    def look(
        self,
        state: ProcessState = ProcessState.READY,
        *,
        alive: bool = True,
        beats: bool = True,
        after_ns: int = LOOK_NS,
        unattended: bool = False,
    ) -> str:
        self.now_ns += after_ns
        self.progress += beats
        return self.watch.look(Reading(alive, 3, state, self.progress, unattended), self.now_ns)

    def until_lost(self, limit: int, state: ProcessState = ProcessState.READY, **kwargs: bool) -> int:
        """How many looks it takes; ``limit`` + 1: it never comes."""
        for count in range(1, limit + 1):
            if self.look(state, **kwargs):
                return count
        return limit + 1


def test_a_beating_executor_is_never_lost() -> None:
    looks = Looks()
    assert looks.until_lost(500) == 501
    assert looks.watch.beating


def test_a_ready_executor_without_a_beat_for_a_second_hangs() -> None:
    looks = Looks()
    looks.look()
    assert looks.until_lost(50, beats=False) == 10
    assert not looks.watch.beating
    looks.watch.forget()
    looks.look()
    assert looks.watch.beating


def test_time_in_which_the_guard_itself_stood_still_does_not_count() -> None:
    looks = Looks()
    looks.look()
    assert looks.look(beats=False, after_ns=60_000_000_000) == ""
    assert looks.until_lost(50, beats=False) == 8, "one late look counts for two"


def test_an_executor_that_starts_may_be_silent_but_must_come_in_time() -> None:
    looks = Looks()
    looks.look()
    assert looks.until_lost(100, ProcessState.WARMING, beats=False) == 50
    looks = Looks(served=True)
    assert 49 <= looks.until_lost(100, alive=False, beats=False) <= 51


def test_the_first_start_of_all_has_the_time_of_kernels_and_venues() -> None:
    looks = Looks()
    limit = FIRST_START_NS // LOOK_NS
    assert looks.until_lost(limit + 10, ProcessState.WARMING, beats=False) > limit - 2
    assert made(served=True).look(Reading(), 1) == ""


def test_after_everything_was_closed_a_start_has_the_time_of_a_first_one() -> None:
    looks = Looks(served=True)
    assert looks.until_lost(100, ProcessState.WARMING) <= 51
    looks.watch.begin_anew()
    assert looks.until_lost(1000, ProcessState.WARMING) == 1001
    looks.look()
    assert looks.until_lost(100, ProcessState.WARMING) <= 51, "it has served again"


def test_an_executor_that_stops_on_purpose_is_not_lost() -> None:
    looks = Looks()
    looks.look()
    assert looks.until_lost(200, ProcessState.STOPPING, beats=False) == 201
    assert looks.until_lost(200, ProcessState.STOPPED, alive=False, beats=False) == 201


def test_an_executor_that_died_before_it_had_made_its_page_is_missed_by_a_guard_that_was_born_after_it() -> None:
    known = made(served=True)
    never = made(served=False)
    looks = [7_000_000_000 + count * LOOK_NS for count in range(60)]
    assert any(known.look(Reading(), now_ns) for now_ns in looks)
    assert not any(never.look(Reading(), now_ns) for now_ns in looks), "an instance whose executor is still to come"


@pytest.mark.parametrize("state", [ProcessState.READY, ProcessState.STOPPING])
def test_an_executor_that_ended_by_an_error_and_does_not_come_back_is_lost(state: ProcessState) -> None:
    """After an error it closes its sockets as at a stop, and so dies while STOPPING."""
    looks = Looks()
    looks.look()
    looks.look(ProcessState.STOPPING, beats=False)
    assert looks.until_lost(200, state, alive=False, beats=False) == 50


def test_a_dead_executor_that_nobody_can_start_again_is_lost_as_soon_as_one_that_hangs() -> None:
    looks = Looks()
    looks.look()
    assert looks.until_lost(5, alive=False, beats=False, unattended=True) == 6
    assert not looks.look(alive=False, beats=False), "its supervisor goes on"
    assert looks.until_lost(50, alive=False, beats=False, unattended=True) == 10
    assert looks.until_lost(50, ProcessState.STOPPED, alive=False, beats=False, unattended=True) == 51


def test_a_parent_that_is_stopped_starts_nothing() -> None:
    answer = "import sys; from workers.guard.orphan import starters_stand_still as f; input(); print(f(), flush=True)"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    for stopped in (False, True):
        with subprocess.Popen(
            [sys.executable, "-c", parent, answer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as one:
            assert one.stdin is not None and one.stdout is not None
            until(lambda one=one: bool(children_of(one.pid)), "the child")  # type: ignore[misc]
            if stopped:
                stand_still(one.pid)
            one.stdin.write("\n")
            one.stdin.flush()
            assert one.stdout.readline() == f"{stopped}\n"
            one.send_signal(signal.SIGCONT)


def test_an_executor_that_has_stopped_is_not_lost() -> None:
    looks = Looks()
    looks.look()
    assert looks.until_lost(200, ProcessState.STOPPED, alive=False, beats=False) == 201


def test_what_the_last_run_left_is_asked_once_and_only_where_no_executor_comes() -> None:
    asked = list[bool]()

    def left() -> bool:
        asked.append(True)
        return True

    watch = made(served=False, left_half_done=left)
    looks = [7_000_000_000 + count * LOOK_NS for count in range(60)]
    lost = [bool(watch.look(Reading(), now_ns)) for now_ns in looks]
    assert asked == [True] and lost.index(True) == 51
    in_time = made(served=False, left_half_done=left)
    for now_ns in looks[:40]:
        assert not in_time.look(Reading(), now_ns)
    assert not in_time.look(Reading(True, 3, ProcessState.READY, 1), looks[41]) and asked == [True]


@pytest.mark.parametrize("finding_out", [0, 1, 30], ids=["at once", "a look", "seconds"])
def test_an_executor_that_comes_while_the_last_run_is_looked_up_is_not_lost(finding_out: int) -> None:
    """The answer is about the run before: what kills nobody is a look from before it."""
    looks = Looks()
    state = ProcessState.WARMING
    asked: list[int] = []

    def left() -> bool | None:
        nonlocal state
        asked.append(1)
        if len(asked) <= finding_out:
            return None
        state = ProcessState.READY  # while the answer was found
        return True

    looks.watch = made(served=False, left_half_done=left)
    for _ in range(150):
        assert not looks.look(state)
    assert len(asked) == finding_out + 1 and looks.watch.serving


def test_one_that_does_not_come_is_lost_as_soon_as_the_last_run_is_known() -> None:
    looks = Looks()
    answers: list[bool | None] = [None] * 20 + [True]
    looks.watch = made(served=False, left_half_done=lambda: answers.pop(0))
    looks.look(ProcessState.WARMING)
    assert looks.until_lost(200, ProcessState.WARMING) == 50 + 20 + 1
