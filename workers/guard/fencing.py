"""Ending a process so that nothing can come from it any more: SIGKILL and the proof of its death, both by pidfd.

A disk that hangs keeps threads inside the kernel, and with them the process from its end as the pidfd shows it. It is
proved dead all the same where its main thread, the only one that sends orders, has ended, and every other one sleeps
uninterruptibly with the SIGKILL pending: that ends it before it is back in its code.
"""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from shm.liveness import LivenessView, is_alive

PROC = Path("/proc")
KILL_BIT = 1 << (signal.SIGKILL - 1)  # in SigPnd of /proc/PID/task/TID/status


class Condemned:
    """One process that must be dead before anybody acts in its place. A pid that is in use again is never hit."""

    def __init__(self, view: LivenessView) -> None:
        view.refresh()
        self.pid, self._start_ticks = view.pid, view.start_ticks
        self.problem = ""
        self._pidfd = -1
        self._dead = False
        self._strike()

    def _strike(self) -> None:
        """SIGKILL through a pidfd; tried again by :meth:`dead` where there is no descriptor for it."""
        if not self.pid or not is_alive(self.pid, self._start_ticks):
            self._dead = True
            return
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._dead = True
            return
        except OSError as error:
            self.problem = f"pid {self.pid} cannot be ended yet: {error.strerror}"
            return
        if not is_alive(self.pid, self._start_ticks):  # it died before the descriptor was made, which is of another one
            self._forget()
            return
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            self._forget()
        except PermissionError:
            self.problem = f"pid {self.pid} may not be killed by this user: waiting for its end"

    def dead(self, timeout_s: float = 0.0) -> bool:
        """Whether it has ended, and will never send again; its sockets are closed then, except where the kernel holds
        threads of it."""
        if not self._dead and self._pidfd < 0:
            self._strike()
        if self._pidfd >= 0:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if poll.poll(timeout_s * 1000) or ended_but_for_the_kernel(self.pid, self._start_ticks):
                self._forget()
        return self._dead

    def _forget(self) -> None:
        """It is dead."""
        self._dead = True
        os.close(self._pidfd)
        self._pidfd = -1


def ended_but_for_the_kernel(pid: int, start_ticks: int, proc: Path = PROC) -> bool:
    """Whether the main thread of this process has ended, and every other one waits inside the kernel for its end."""
    led = False
    try:
        for task in (proc / str(pid) / "task").iterdir():
            raw = (task / "stat").read_bytes()
            fields = raw[raw.rindex(b")") + 2 :].split()
            ended = fields[0] in (b"Z", b"X")
            if task.name == str(pid):
                led = ended and int(fields[19]) == start_ticks
            elif not ended and not (fields[0] == b"D" and _kill_pending(task)):
                return False
    except (OSError, ValueError):  # it changes just now, or cannot be looked at: the next look says more
        return False
    return led


def _kill_pending(task: Path) -> bool:
    for line in (task / "status").read_text(errors="replace").splitlines():
        if line.startswith("SigPnd:"):
            return bool(int(line.split()[1], 16) & KILL_BIT)
    return False
