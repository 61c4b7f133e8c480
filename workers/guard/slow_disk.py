"""A disk that may hang: a thread writes, in the order in which it was asked, and whoever asks waits only so long.

The guard's main thread grants leases, ends executors and answers: none of it may take as long as a device that does
not answer. While one hangs that has been waited for, nothing else is waited for.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable

QUEUED_MAX = 1000  # of what a hanging disk is still to take; more is dropped, and counts as given up


class Job:
    """One piece of work for the disk. ``error``: what it raised. ``given_up``: whoever asked no longer waits for it."""

    def __init__(self, work: Callable[[Job], None]) -> None:
        self._work = work
        self.done = threading.Event()
        self.error: Exception | None = None
        self.given_up = False

    def refuse(self) -> None:
        """Nothing becomes of it."""
        self.error, self.given_up = OSError(errno.EAGAIN, "too much waits for the disk"), True
        self.done.set()

    def run(self) -> None:
        """Does it; in the disk's thread."""
        try:
            self._work(self)
        except Exception as error:  # noqa: BLE001  whoever asked is told: nothing may end the thread behind it
            self.error = error
        self.done.set()


class SlowDisk:
    """The thread that writes. It lives while there is something to write, and keeps no process from its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: deque[Job] = deque()
        self._at_work = False
        self._late: Job | None = None

    @property
    def hangs(self) -> bool:
        """Whether something was waited for in vain and is not done yet."""
        return self._late is not None and not self._late.done.is_set()

    def do(self, work: Callable[[Job], None], *, wait_s: float) -> Job:
        """Have ``work`` done, and wait for it at most ``wait_s``; not at all while the disk hangs."""
        job = self.begin(work)
        self.wait(job, wait_s)
        return job

    def begin(self, work: Callable[[Job], None]) -> Job:
        """Have ``work`` done; nobody waits for it yet."""
        job = Job(work)
        with self._lock:
            if len(self._jobs) >= QUEUED_MAX:
                job.refuse()
                return job
            self._jobs.append(job)
            if not self._at_work:
                self._at_work = True
                threading.Thread(target=self._run, name="slow-disk", daemon=True).start()
        return job

    def wait(self, job: Job, wait_s: float) -> None:
        """Wait for ``job`` at most ``wait_s``, and then give it up; not at all while the disk hangs."""
        hung = self.hangs
        if not job.done.wait(0 if hung else wait_s):
            job.given_up = True
            self._late = self._late if hung else job

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._at_work = False
                    return
                job = self._jobs.popleft()
            job.run()
