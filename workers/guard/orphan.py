"""A guard whose control plane has ended: it ends last, so that a leg that nobody else ends does not wait for a start.

The kernel asks the executor to stop as well, and that ends what is open by itself. Where it has died with the control
plane, or does not end in its time, the guard ends what it has left half done; hedges stay, as after every death of the
control plane. Then the guard ends: it is short enough for the next start, which waits for this one's end.
"""

from __future__ import annotations

from shm.liveness import LivenessView
from workers.base import STOP_GRACE_S, WorkerContext
from workers.guard.keeper import HaltKeeper
from workers.guard.taking_over import TakingOver
from workers.last_run.half_done import half_done

ORPHAN_NS = 20_000_000_000  # below GUARD_READY_S, for which the next start waits for its own guard
EXECUTOR_NS = int((STOP_GRACE_S + 1) * 1e9)  # the kernel has ended it by then, unless it is stopped


class Orphan:
    """:meth:`goes_on` is called every 100 ms from when the control plane has ended."""

    def __init__(self, ctx: WorkerContext, keeper: HaltKeeper, executor: LivenessView, taking_over: TakingOver) -> None:
        self._ctx = ctx
        self._keeper = keeper
        self._executor = executor
        self._taking_over = taking_over
        self._since_ns = 0
        self._asked = False

    def goes_on(self, now_ns: int) -> bool:
        """Whether there is, or may be, something left to do. ``now_ns``: monotonic."""
        if not self._since_ns:
            self._since_ns = now_ns
            self._keeper.revoke()
            self._ctx.say("warning", "the control plane has ended: what is half done is ended first")
        if now_ns - self._since_ns >= ORPHAN_NS:
            self._ctx.say("error", "what is open is not ended in time; the next start goes on with it")
            return False
        if self._taking_over.active:
            return True
        self._executor.refresh()
        if self._executor.alive() and now_ns - self._since_ns < EXECUTOR_NS:
            return True
        if self._asked:
            return False
        self._asked = True
        left = half_done(self._ctx.state_dir)
        if left:
            self._taking_over.begin(f"control plane and executor have ended, and left {left}", ())
        return bool(left)
