"""A death inside the one jitted call of an entry (``pipeline/fast_entry/launch.py``), where no point of ours is passed.

The call gets another socket for one of its orders: as soon as bytes are in it, the kernel ends this process by SIGKILL
(``F_SETSIG`` on its other end), before the system call of the send returns. The venue never sees that order. Everything
else is what the product does: the same call, the same journal, the same first order.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket

from pipeline.execution.crash_points import LAUNCH_POINTS, CrashPoints

F_SETSIG = 10  # of Linux: which signal tells of bytes; the standard library has no name for it


def deadly_socket() -> tuple[socket.socket, socket.socket]:
    """Both ends; a byte that is sent to the first one ends this process."""
    ours, theirs = socket.socketpair()
    fcntl.fcntl(theirs, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(theirs, F_SETSIG, int(signal.SIGKILL))
    fcntl.fcntl(theirs, fcntl.F_SETFL, fcntl.fcntl(theirs, fcntl.F_GETFL) | os.O_ASYNC)
    return ours, theirs


class LaunchDeath:
    """Which order's bytes end the process, and when."""

    def __init__(self, crash: CrashPoints) -> None:
        self._crash = crash
        self._ends = deadly_socket() if crash.points & set(LAUNCH_POINTS) else None

    def sockets(self, fds: tuple[int, int]) -> tuple[int, int]:
        """The sockets of an entry's orders, for its one call: each point is passed."""
        if self._ends is None:
            return fds
        first, second = (
            self._ends[0].fileno() if self._crash.deadly(point) else fd
            for point, fd in zip(LAUNCH_POINTS, fds, strict=True)
        )
        return first, second
