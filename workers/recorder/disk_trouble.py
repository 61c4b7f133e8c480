"""A disk that takes nothing for a while: the recorder waits for it and goes on; no other process notices."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from workers.base import WorkerContext

RETRY_S = 1.0
#: Primary error names of SQLite that speak of the disk or of descriptors; every other one is a bug or damage.
OF_THE_DISK = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_NOMEM", "SQLITE_BUSY")


def disk_problem(error: OSError | sqlite3.OperationalError) -> str:
    """What the disk says; "" where it is not the disk that speaks."""
    if isinstance(error, OSError):
        return str(error.strerror or error)
    return str(error) if error.sqlite_errorname.startswith(OF_THE_DISK) else ""


class DiskTrouble:
    """Runs the parts of a round; a part that the disk refuses is said once and tried again a second later."""

    def __init__(self, ctx: WorkerContext) -> None:
        self._ctx = ctx
        self._problems: dict[str, str] = {}
        self._again_s: dict[str, float] = {}

    def attempt(self, name: str, work: Callable[[], int]) -> int:
        """What ``work`` returns; 0 where the disk refuses it or did so a moment ago."""
        if time.monotonic() < self._again_s.get(name, 0.0):
            return 0
        try:
            count = work()
        except (OSError, sqlite3.OperationalError) as error:
            problem = disk_problem(error)
            if not problem:
                raise
            if not self._problems:
                text = f"the disk refuses: {problem}; tried again, and what the rings lose meanwhile is counted"
                self._ctx.degraded(text)
            self._problems[name] = problem
            self._again_s[name] = time.monotonic() + RETRY_S
            return 0
        if self._problems.pop(name, "") and not self._problems:
            self._ctx.recovered("the disk takes records again")
        return count
