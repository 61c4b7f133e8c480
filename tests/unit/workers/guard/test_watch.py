"""When the guard counts an executor as lost: by looks alone, on no clock."""

from __future__ import annotations

from pipeline.model.enums import ProcessState
from workers.guard.watch import FIRST_START_NS, ExecutorWatch, Sight

LOOK_NS = 100_000_000
MS_NS = 1_000_000


class Looks:
    """A watch, its clock and an executor's page."""

    def __init__(self, *, served: bool = False) -> None:
        self.watch = ExecutorWatch(hung_after_ms=1000, restart_within_ms=5000, served=served)
        self.now_ns = 7_000_000_000
        self.progress = 0

    def look(
        self,
        state: ProcessState = ProcessState.READY,
        *,
        alive: bool = True,
        beats: bool = True,
        after_ns: int = LOOK_NS,
    ) -> str:
        self.now_ns += after_ns
        self.progress += beats
        return self.watch.look(Sight(alive, 3, state, self.progress), self.now_ns)

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
    assert ExecutorWatch(hung_after_ms=1000, restart_within_ms=5000, served=True).look(Sight(), 1) == ""


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
    known = ExecutorWatch(hung_after_ms=1000, restart_within_ms=5000, served=True)
    never = ExecutorWatch(hung_after_ms=1000, restart_within_ms=5000, served=False)
    looks = [7_000_000_000 + count * LOOK_NS for count in range(60)]
    assert any(known.look(Sight(), now_ns) for now_ns in looks)
    assert not any(never.look(Sight(), now_ns) for now_ns in looks), "an instance whose executor is still to come"
