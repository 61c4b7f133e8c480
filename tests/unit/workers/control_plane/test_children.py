"""The process table: restarts, backoff, storms, hangs; no process is started here."""

from __future__ import annotations

import os

import pytest

from pipeline.model.enums import ProcessState
from workers.control_plane.children import (
    BACKOFF_FIRST_S,
    HEALTHY_AFTER_S,
    NEVER_GIVEN_UP,
    START_TIMEOUT_S,
    STORM_EXITS,
    STORM_WINDOW_S,
    WATCHDOG_S,
    Child,
    Children,
    ChildState,
)
from workers.exit_codes import EXIT_USAGE


def started(child: Child, now_s: float) -> None:
    assert child.due(now_s)
    child.starting(now_s)


def test_child_is_ready_when_it_says_so() -> None:
    child = Child("detector")
    child.want(1.0)
    started(child, 1.0)
    assert child.notified("STATUS=warming", 1.1) is False
    assert child.status == "warming"
    assert child.notified("READY=1\nSTATUS=go", 1.2) is True
    assert (child.state, child.status) == (ChildState.READY, "go")


def test_second_ready_changes_only_the_status() -> None:
    child = Child("detector")
    child.want(1.0)
    started(child, 1.0)
    child.notified("READY=1", 1.2)
    assert child.notified("READY=1\nSTATUS=still", 2.0) is False
    assert child.status == "still"


def test_first_exit_restarts_at_once_and_measures_recovery() -> None:
    child = Child("executor")
    child.want(0.0)
    started(child, 0.0)
    child.notified("READY=1", 0.5)
    assert child.exited(-9, 10.0) is False
    assert child.due(10.0)
    child.starting(10.0)
    child.notified("READY=1", 10.25)
    assert child.recovery_ms == pytest.approx(250.0)
    assert child.restarts == 1


def test_backoff_doubles_from_the_second_exit_on() -> None:
    child = Child("feed.mexc", exchange="mexc")
    child.want(0.0)
    waits = []
    now = 0.0
    for _ in range(STORM_EXITS - 1):
        child.starting(now)
        child.exited(1, now)
        waits.append(child.start_at_s - now)
        now += STORM_WINDOW_S  # far enough apart to be no storm
    assert waits == pytest.approx([0.0, BACKOFF_FIRST_S, 2 * BACKOFF_FIRST_S, 4 * BACKOFF_FIRST_S])


def test_storm_fails_the_child_until_an_operator_wants_it_again() -> None:
    child = Child("detector")
    child.want(0.0)
    verdicts = []
    for number in range(STORM_EXITS):
        child.starting(float(number))
        verdicts.append(child.exited(1, float(number)))
    assert verdicts == [False] * (STORM_EXITS - 1) + [True]
    assert child.state is ChildState.FAILED
    assert not child.due(1e9)
    child.want(100.0)
    assert child.due(100.0)


def test_exits_far_apart_are_no_storm() -> None:
    child = Child("detector")
    child.want(0.0)
    for number in range(3 * STORM_EXITS):
        now = number * (HEALTHY_AFTER_S + 10.0)
        child.starting(now)
        child.notified("READY=1", now)
        assert child.exited(-9, now + HEALTHY_AFTER_S + 1.0) is False
        assert child.start_at_s == now + HEALTHY_AFTER_S + 1.0  # forgiven: at once again


def test_refused_configuration_is_not_tried_again() -> None:
    child = Child("poller")
    child.want(0.0)
    child.starting(0.0)
    assert child.exited(EXIT_USAGE, 0.1) is True
    assert child.state is ChildState.FAILED


def test_wanted_end_is_a_stop() -> None:
    child = Child("recorder")
    child.want(0.0)
    child.starting(0.0)
    child.stop()
    child.exited(0, 1.0)
    assert child.state is ChildState.STOPPED
    assert not child.due(2.0)


def test_hangs_are_seen_by_missing_proof_only() -> None:
    child = Child("executor")
    child.want(0.0)
    child.starting(0.0)
    assert child.hung(START_TIMEOUT_S - 0.5) == ""
    assert "not READY" in child.hung(START_TIMEOUT_S + 0.1)
    child.notified("READY=1", 60.2)
    child.notified("WATCHDOG=1", 61.0)
    assert all(child.hung(61.0 + second) == "" for second in range(int(WATCHDOG_S) + 1))
    assert "no proof" in child.hung(61.0 + WATCHDOG_S + 0.1)


def test_a_supervisor_that_stood_still_kills_nobody_for_that_time() -> None:
    """What its children sent meanwhile is read after its first look."""
    child = Child("executor")
    child.want(0.0)
    child.starting(0.0)
    child.notified("READY=1\nWATCHDOG=1", 1.0)
    assert child.hung(1.5) == ""
    assert child.hung(100.0) == ""
    child.notified("READY=1\nWATCHDOG=1", 100.1)
    assert all(child.hung(100.1 + second) == "" for second in range(int(WATCHDOG_S) + 1))
    assert "no proof" in child.hung(100.2 + WATCHDOG_S)


def test_stop_order_ends_with_the_latch_and_names_every_child() -> None:
    children = Children(["mexc", "gateio"])
    groups = [[child.process for child in group] for group in children.stop_groups()]
    assert groups[0] == ["detector"]
    assert groups[1] == ["executor"]
    assert groups[-1] == ["guard"]
    monitored = Children(["mexc"], monitored=True).stop_groups()
    assert [child.process for child in monitored[-1]] == ["monitor"], "it tells of the others' stop"
    assert sorted(name for group in groups for name in group) == sorted(child.process for child in children)


class Page:
    """A liveness page as :meth:`Children.observe` reads it."""

    def __init__(self, pid: int, state: ProcessState, *, lives: bool = True) -> None:
        self.pid, self.state, self.lives = pid, int(state), lives

    def alive(self) -> bool:
        return self.lives


def test_processes_that_systemd_starts_are_observed() -> None:
    children = Children(["mexc"])
    assert not children.observe({}, 0.0)
    own = os.getpid()
    pages = {child.process: Page(own, ProcessState.WARMING) for child in children}
    assert children.observe(pages, 1.0)  # type: ignore[arg-type]
    assert not children.all_ready() and children["feed.mexc"].state is ChildState.STARTING
    for page in pages.values():
        page.state = int(ProcessState.READY)
    assert children.observe(pages, 2.0)  # type: ignore[arg-type]
    assert children.all_ready()
    assert not children.observe(pages, 2.1), "nothing new"  # type: ignore[arg-type]
    pages["feed.mexc"].lives = False
    children.observe(pages, 3.0)  # type: ignore[arg-type]
    gone = children["feed.mexc"]
    assert (gone.pid, gone.state, gone.pidfd) == (0, ChildState.WAITING, -1)
    pages["feed.mexc"] = Page(os.getppid(), ProcessState.READY)
    children.observe(pages, 3.5)  # type: ignore[arg-type]
    back = children["feed.mexc"]
    assert (back.pid, back.restarts, back.recovery_ms) == (os.getppid(), 1, 500.0)
    assert children.all_ready()
    for child in children:
        child.observed(0, ChildState.WAITING, 4.0)  # closes what was opened


def test_the_guard_is_never_given_up() -> None:
    for process, given_up in (("executor", True), ("guard", False)):
        child = Child(process)
        child.want(0.0)
        verdicts = []
        for number in range(3 * STORM_EXITS):
            if child.state is not ChildState.WAITING:
                break
            child.starting(child.start_at_s)
            verdicts.append(child.exited(-9, child.start_at_s + 0.001 * number))
        assert any(verdicts) == given_up
        assert (child.state is ChildState.FAILED) == given_up


@pytest.mark.parametrize("process", NEVER_GIVEN_UP)
def test_what_is_never_given_up_refuses_a_configuration_before_it_was_ready_alone(process: str) -> None:
    child = Child(process)
    child.want(0.0)
    child.starting(0.0)
    assert child.exited(EXIT_USAGE, 0.1) is True
    child.want(1.0)
    child.starting(1.0)
    child.notified("READY=1", 1.5)
    for number in range(2 * STORM_EXITS):
        assert child.exited(EXIT_USAGE, 2.0 + number) is False
        assert child.state is ChildState.WAITING
        child.starting(child.start_at_s)


def test_a_start_that_waits_for_somebody_else_and_says_so_is_not_late() -> None:
    child = Child("executor")
    child.want(0.0)
    started(child, 0.0)
    child.notified("EXTEND_TIMEOUT_USEC=10000000\nSTATUS=fenced", START_TIMEOUT_S - 1)
    assert all(child.hung(START_TIMEOUT_S - 1 + second) == "" for second in range(int(START_TIMEOUT_S) + 1))
    assert child.hung(2 * START_TIMEOUT_S - 0.5) != ""
