"""Work of the supervisor that a full disk, missing descriptors or a vanished segment may stop, but nothing else.

Trading does not depend on what the supervisor writes and shows; it must not end the processes below it over that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from shm.errors import ShmError


class BestEffort:
    """Runs such work; what stops it is said once, and it is done again at its next turn. ``say``: (level, text)."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._problems: dict[str, str] = {}

    def __call__(self, what: str, work: Callable[[], object]) -> bool:
        """Whether ``work`` was done."""
        try:
            work()
        except (OSError, ShmError) as error:
            problem = (error.strerror if isinstance(error, OSError) else "") or str(error)
            if self._problems.get(what) != problem:
                self._problems[what] = problem
                self._say("error", f"{what}: {problem}; tried again, the processes go on")
            return False
        if self._problems.pop(what, None) is not None:
            self._say("info", f"{what}: works again")
        return True


class Background:
    """Tasks beside the supervisor's loop; what ends one is said, and the loop goes on without it. ``say``: as above."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin ``work`` in the running loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._say("error", f"in the background: {type(error).__name__}: {error}")
