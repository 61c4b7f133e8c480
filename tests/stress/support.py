"""Real processes for stress tests: forked with the kernels already warm, ended by id, bounded by an alarm."""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WATCHDOG_S = 800  # not a performance limit: a child that hangs must not outlive its test run


class Child:
    """One forked process; ``wait`` returns its wait status."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Exit code; negative = ended by that signal."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status


def fork(body: Callable[[], object]) -> Child:
    """Runs ``body`` in a child; an exception is exit code 1 with its trace on stderr."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid)
    code = 1
    try:
        faulthandler.disable()  # a child that is meant to die by a signal says nothing
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(WATCHDOG_S)
        body()
        code = 0
    except BaseException:  # noqa: BLE001  (a process's outermost frame: pytest must not run on in the child)
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


@contextmanager
def children(*bodies: Callable[[], object]) -> Iterator[list[Child]]:
    """Forks all; whoever still lives at the end is killed."""
    started: list[Child] = []
    try:
        for body in bodies:
            started.append(fork(body))
        yield started
    finally:
        for child in started:
            if child.status is None:
                child.kill()
                child.wait()


def all_end_well(running: list[Child]) -> bool:
    """Waits for all; as soon as one fails, says so (whoever leaves ``children`` then kills the rest)."""
    poller = select.poll()
    fds = {os.pidfd_open(child.pid): child for child in running}
    for fd in fds:
        poller.register(fd, select.POLLIN)
    well = True
    while fds and well:
        for fd, _ in poller.poll():
            well = well and fds.pop(fd).wait() == 0
            poller.unregister(fd)
            os.close(fd)
    for fd in fds:
        os.close(fd)
    return well


def pin(slot: int) -> None:
    """This process to the ``slot``-th of its CPUs, so that two that should run at once do; on one CPU: nothing."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) > 1:
        os.sched_setaffinity(0, {cpus[slot % len(cpus)]})


@contextmanager
def pinned(slot: int) -> Iterator[None]:
    """:func:`pin` for the length of a block."""
    before = os.sched_getaffinity(0)
    pin(slot)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Gate:
    """Lets children begin at the same moment: they block in ``wait`` until ``open``."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def wait(self) -> None:
        os.close(self._write)
        os.read(self._read, 1)

    def open(self) -> None:
        os.close(self._write)
        os.close(self._read)


class Signpost:
    """One child tells its parent that it stands at a point."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def reached(self) -> None:
        os.write(self._write, b"!")

    def await_reached(self) -> None:
        assert os.read(self._read, 1) == b"!"

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)
