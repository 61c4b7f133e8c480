"""Ending a process so that nothing can come from it any more: SIGKILL and the proof of its death, both by pidfd."""

from __future__ import annotations

import os
import select
import signal

from shm.liveness import LivenessView, is_alive


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
        """Whether it has ended; its sockets are closed then, and it will never send again."""
        if not self._dead and self._pidfd < 0:
            self._strike()
        if self._pidfd >= 0:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if poll.poll(timeout_s * 1000):
                self._forget()
        return self._dead

    def _forget(self) -> None:
        """It is dead."""
        self._dead = True
        os.close(self._pidfd)
        self._pidfd = -1
