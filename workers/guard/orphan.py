"""A guard whose control plane has ended: it ends last, so that a leg that nobody else ends does not wait for a start.

The kernel asks the executor to stop as well, and that ends what is open by itself. Where it has died with the control
plane, hangs, or does not end in its time, the guard ends what it has left half done; hedges stay, as after every death
of the control plane. Then the guard ends: it is short enough for the next start, which waits for this one's end.
"""

from __future__ import annotations

import os

from workers.base import STOP_GRACE_S, WorkerContext
from workers.guard.keeper import HaltKeeper
from workers.guard.taking_over import TakingOver
from workers.halt_file import HANGS
from workers.last_run.half_done import half_done

EXECUTOR_NS = int((STOP_GRACE_S + 1) * 1e9)  # the kernel has ended it by then, unless it is stopped
CLOSING_NS = 20_000_000_000  # of the takeover: the proof of an order in flight takes 11 s of it
ORPHAN_NS = EXECUTOR_NS + CLOSING_NS  # below GUARD_READY_S, for which the next start waits for its own guard


def starters_stand_still() -> bool:
    """Whether this process's parent or that one's is stopped: fork server and supervisor, which start a lost executor
    again. Under one unit a process both are systemd's, which nobody stops."""
    pid = os.getppid()
    for _ in range(2):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as handle:
                state, parent = handle.read().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended: the kernel says so itself
            return False
        if state in "tT":
            return True
        pid = int(parent)
    return False


class Orphan:
    """:meth:`goes_on` is called every 100 ms from when the control plane has ended."""

    def __init__(self, ctx: WorkerContext, keeper: HaltKeeper, taking_over: TakingOver) -> None:
        self._ctx = ctx
        self._keeper = keeper
        self._taking_over = taking_over
        self._since_ns = 0
        self._until_ns = 0
        self._hung = False  # asked already what it has left, while it hung
        self._asked = False

    def goes_on(self, now_ns: int, *, lives: bool, hangs: bool) -> bool:
        """Whether there is, or may be, something left to do. ``lives``, ``hangs``: the executor. ``now_ns``:
        monotonic."""
        if not self._since_ns:
            self._since_ns = now_ns
            self._until_ns = now_ns + ORPHAN_NS
            self._keeper.revoke()
            self._ctx.say("warning", "the control plane has ended: what is half done is ended first")
        if now_ns >= self._until_ns:
            self._ctx.say("error", "what is open is not ended in time; the next start goes on with it")
            return False
        if self._taking_over.active:
            return True
        if lives and now_ns - self._since_ns < EXECUTOR_NS:
            if hangs and not self._hung:
                self._hung = True
                self._take_over(f"{HANGS}, the control plane has ended", now_ns)
            return True
        if self._asked:
            return False
        self._asked = True
        return self._take_over("control plane and executor have ended", now_ns)

    def _take_over(self, how: str, now_ns: int) -> bool:
        """Begins a takeover where something is half done; whether it is."""
        left = half_done(self._ctx.state_dir)
        if left:
            self._until_ns = now_ns + CLOSING_NS
            self._taking_over.begin(f"{how}, and left {left}", ())
        return bool(left)
