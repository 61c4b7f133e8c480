"""What the last run left half done, as the guard asks: in a thread, which replays the journal for as long as it takes.

The guard goes on meanwhile: it beats, grants leases, answers, and sees whether the executor comes by itself.
"""

from __future__ import annotations

import gc
import threading

from workers.base import WorkerContext
from workers.last_run.half_done import half_done


class LeftHalfDone:
    """Asked at every look until it has an answer; the thread begins with the first."""

    def __init__(self, ctx: WorkerContext) -> None:
        self._ctx = ctx
        self._thread: threading.Thread | None = None
        self._left: str | None = None

    def __call__(self) -> bool | None:
        """Whether the last executor has left a leg alone; None while it is being found out. Hedges that are open may
        wait, and so may what an operator holds."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._replay, name="last-run", daemon=True)
            self._thread.start()
        if self._left is None and self._thread.is_alive():
            return None
        if self._left:
            self._ctx.say("warning", f"the last run left {self._left}: this start is waited for as a restart is")
        return self._left != ""  # a thread that ended without a word proves nothing

    def _replay(self) -> None:
        left = half_done(self._ctx.state_dir)
        gc.collect()  # the ledger that was replayed
        self._left = left
