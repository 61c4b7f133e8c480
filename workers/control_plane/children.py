"""The table of child processes: started, ready, watched, restarted with backoff, stopped in order.

A process that ends is started again at once, then after 0.2 s, doubling to 5 s; one that ends ``STORM_EXITS`` times
within ``STORM_WINDOW_S`` (a restart storm), or refuses its configuration, is not started again, and the instance is
halted; the guard always is, once it has been READY.
Nothing here opens a socket or reads a clock: times are monotonic seconds, given by the caller.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline.model.enums import ProcessState
from workers.exit_codes import EXIT_OK, EXIT_USAGE

if TYPE_CHECKING:
    from shm.liveness import LivenessView

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 5.0
HEALTHY_AFTER_S = 30.0  # READY for this long forgives earlier exits
STORM_EXITS = 5
STORM_WINDOW_S = 60.0
WATCHDOG_S = 10.0  # a READY process that proves no progress for this long is killed
START_TIMEOUT_S = 60.0  # and one that does not become READY
LOOK_MAX_S = 1.0  # a look counts for no more time than this, however late it comes
STOP_TIMEOUT_S = 12.0  # above base.STOP_GRACE_S

#: Started again for ever: the guard alone closes what a lost executor leaves open, and nothing depends on the monitor.
NEVER_GIVEN_UP = ("guard", "monitor")

#: Stopped group by group: first no new opportunities, then no new orders, then the readers, last the guard and who
#: tells of all that.
STOP_ORDER = (("detector",), ("executor",), ("feed", "poller"), ("recorder",), ("guard",), ("monitor",))


class ChildState(StrEnum):
    """Where a child is between not asked for and given up."""

    WAITING = "waiting"  # not asked for yet, or backing off
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"  # ended because it was asked to
    FAILED = "failed"  # restart storm or refused configuration: an operator must act


class Child:
    """One process of the instance and its history."""

    def __init__(self, process: str, *, exchange: str = "") -> None:
        self.process = process
        self.exchange = exchange
        self.state = ChildState.WAITING
        self.pid = 0
        self.pidfd = -1
        self.restarts = 0
        self.status = ""
        self.exit_status: int | None = None
        self.wanted = False
        self.was_ready = False  # once, in whatever life
        self.start_at_s = 0.0
        self.started_s = 0.0
        self.ready_s = 0.0
        self.proof_s = 0.0
        self._looked_s = 0.0
        self.recovery_ms: float | None = None  # last time from an exit to READY
        self._exits: deque[float] = deque(maxlen=STORM_EXITS)
        self._backoff_s = 0.0
        self._exited_s: float | None = None

    @property
    def alive(self) -> bool:
        """Whether the process has a pid."""
        return self.pid != 0

    def is_failed(self) -> bool:
        """Whether it was given up: an operator must act."""
        return self.state is ChildState.FAILED

    def want(self, now_s: float) -> None:
        """Ask for the process: it is :meth:`due` from now on, with its history of exits forgotten if it had failed."""
        self.wanted = True
        self.start_at_s = now_s
        if self.state in (ChildState.FAILED, ChildState.STOPPED):
            self.state = ChildState.WAITING
            self._exits.clear()
            self._backoff_s = 0.0

    def due(self, now_s: float) -> bool:
        """Whether it is to be started now."""
        return self.wanted and self.state is ChildState.WAITING and now_s >= self.start_at_s

    def starting(self, now_s: float) -> None:
        """The fork server has been asked for it."""
        self.state = ChildState.STARTING
        self.started_s = self.proof_s = now_s

    def spawned(self, pid: int) -> None:
        """It runs as ``pid``."""
        self.pid = pid
        self._open_pidfd()

    def not_started(self, now_s: float) -> None:
        """The fork server did not take the request for it: asked again soon."""
        self.state = ChildState.WAITING
        self.start_at_s = now_s + BACKOFF_FIRST_S

    def _open_pidfd(self) -> None:
        """The pid cannot be in use again before the fork server has reported the end, which forgets it."""
        if self.pid and self.pidfd < 0:
            with contextlib.suppress(OSError):  # it is dead already, or there is no descriptor now
                self.pidfd = os.pidfd_open(self.pid)

    def ended(self) -> bool:
        """Whether no process is left, as the kernel says; also where nobody has reported it yet."""
        if not self.pid:
            return True
        self._open_pidfd()
        if self.pidfd < 0:
            return not os.path.exists(f"/proc/{self.pid}")
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def notified(self, message: str, now_s: float) -> bool:
        """Take one message of its readiness protocol. True when it has just become READY."""
        became_ready = False
        for line in message.splitlines():
            key, _, value = line.partition("=")
            if key == "READY" and self.state is ChildState.STARTING:
                self.state = ChildState.READY
                self.ready_s = now_s
                self.was_ready = True
                became_ready = True
                if self._exited_s is not None:
                    self.recovery_ms = (now_s - self._exited_s) * 1000
                    self._exited_s = None
            elif key == "STATUS":
                self.status = value
            elif key == "EXTEND_TIMEOUT_USEC" and self.state is ChildState.STARTING:
                self.started_s = now_s  # it waits for somebody else, and says so: its time begins anew
            elif key == "STOPPING" and self.state is not ChildState.STOPPING:
                self.state = ChildState.STOPPING
        self.proof_s = now_s
        return became_ready

    def exited(self, status: int, now_s: float) -> bool:
        """It has ended. True when it is given up: a restart storm (not ``NEVER_GIVEN_UP``), or a configuration that it
        refuses (those: before their first READY)."""
        self._forget_pid()
        self.exit_status = status
        if not self.wanted:
            self.state = ChildState.STOPPED
            return False
        if self.ready_s and now_s - self.ready_s > HEALTHY_AFTER_S:
            self._exits.clear()
            self._backoff_s = 0.0
        self.ready_s = 0.0
        self._exits.append(now_s)
        if self._exited_s is None:
            self._exited_s = now_s
        storm = len(self._exits) == STORM_EXITS and now_s - self._exits[0] <= STORM_WINDOW_S
        never = self.process in NEVER_GIVEN_UP
        if (storm and not never) or (status == EXIT_USAGE and not (never and self.was_ready)):
            self.state = ChildState.FAILED
            return True
        self.state = ChildState.WAITING
        self.start_at_s = now_s + self._backoff_s
        self._backoff_s = min(BACKOFF_MAX_S, max(BACKOFF_FIRST_S, self._backoff_s * 2))
        self.restarts += 1
        return False

    def observed(self, pid: int, state: ChildState, now_s: float) -> None:
        """As :meth:`spawned`, :meth:`notified` and :meth:`exited`, for a process that systemd starts."""
        if pid != self.pid:
            if self.pid:
                self._forget_pid()
                self._exited_s = self._exited_s or now_s
            if pid:
                self.restarts += self.started_s > 0
                self.started_s = now_s
                self.spawned(pid)
        if state is ChildState.READY and self.state is not ChildState.READY and self._exited_s is not None:
            self.recovery_ms = (now_s - self._exited_s) * 1000
            self._exited_s = None
        self.state = state

    def hung(self, now_s: float) -> str:
        """Why it must be killed: no progress, or not READY in time; "" when it need not. Only time in which the
        supervisor itself ran counts: what was sent meanwhile is read after this look."""
        if self._looked_s:
            late_s = max(0.0, now_s - self._looked_s - LOOK_MAX_S)
            self.proof_s += late_s
            self.started_s += late_s
        self._looked_s = now_s
        if self.state is ChildState.READY and now_s - self.proof_s > WATCHDOG_S:
            return f"no proof of progress for {now_s - self.proof_s:.1f} s"
        if self.state is ChildState.STARTING and now_s - self.started_s > START_TIMEOUT_S:
            return f"not READY after {now_s - self.started_s:.0f} s"
        return ""

    def signal(self, number: int) -> None:
        """Send it a signal, by pidfd: a pid that is in use again is never hit. Nothing when it has ended."""
        self._open_pidfd()
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """End it, and a process that is stopped too."""
        self.signal(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to stop (SIGTERM); it is not started again."""
        self.wanted = False
        if self.alive:
            self.state = ChildState.STOPPING
            self.signal(signal.SIGTERM)
        else:
            self.state = ChildState.STOPPED

    def _forget_pid(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self.pid, self.pidfd = 0, -1

    def describe(self) -> dict[str, object]:
        """Its row in ``run.json`` and in the supervisor's status reply."""
        return {
            "pid": self.pid,
            "state": str(self.state),
            "ready": self.state is ChildState.READY,
            "restarts": self.restarts,
            "status": self.status,
            "exit_status": self.exit_status if self.exit_status != EXIT_OK else None,
            "recovery_ms": None if self.recovery_ms is None else round(self.recovery_ms, 1),
        }


class Children:
    """All processes of an instance, by name and by pid."""

    def __init__(self, exchanges: Iterable[str], *, monitored: bool = False) -> None:
        feeds = [Child(f"feed.{name}", exchange=name) for name in exchanges]
        names = ("guard", "poller", "detector", "executor", "recorder", *(["monitor"] if monitored else []))
        others = [Child(name) for name in names]
        self.by_name: dict[str, Child] = {child.process: child for child in [*others, *feeds]}

    def __iter__(self) -> Iterator[Child]:
        return iter(self.by_name.values())

    def __getitem__(self, process: str) -> Child:
        return self.by_name[process]

    def observe(self, views: Mapping[str, LivenessView], now_s: float) -> bool:
        """Take over what the liveness pages say of processes that systemd starts. Whether anything changed."""
        changed = False
        for child in self.by_name.values():
            view = views.get(child.process)
            alive = view is not None and view.alive()
            ready = alive and view is not None and view.state in (ProcessState.READY, ProcessState.DEGRADED)
            state = ChildState.READY if ready else ChildState.STARTING if alive else ChildState.WAITING
            pid = view.pid if alive and view is not None else 0
            changed |= (state, pid) != (child.state, child.pid)
            child.observed(pid, state, now_s)
        return changed

    def by_pid(self, pid: int) -> Child | None:
        """The child that runs as ``pid``; None when none does."""
        for child in self.by_name.values():
            if child.pid == pid:
                return child
        return None

    def all_ready(self) -> bool:
        """Whether every process is READY."""
        return all(child.state is ChildState.READY for child in self.by_name.values())

    def any_failed(self) -> bool:
        """Whether a process has been given up."""
        return any(child.state is ChildState.FAILED for child in self.by_name.values())

    def stop_groups(self) -> list[list[Child]]:
        """Children in the order in which they are stopped; no group is empty."""
        groups = [
            [child for child in self.by_name.values() if child.process.split(".", 1)[0] in group]
            for group in STOP_ORDER
        ]
        return [group for group in groups if group]
