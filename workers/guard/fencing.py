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
        self.pid, start_ticks = view.pid, view.start_ticks
        self.problem = ""
        self._pidfd = -1
        if not self.pid or not is_alive(self.pid, start_ticks):
            return
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        if not is_alive(self.pid, start_ticks):  # it died before the descriptor was made, which is of another one then
            self.close()
            return
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            self.close()
        except PermissionError:
            self.problem = f"pid {self.pid} may not be killed by this user: waiting for its end"

    def dead(self, timeout_s: float = 0.0) -> bool:
        """Whether it has ended; its sockets are closed then, and it will never send again."""
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            return False
        self.close()
        return True

    def close(self) -> None:
        """Forgets the process."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
