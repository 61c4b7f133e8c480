"""The course of a takeover, step by step: fence, end of the executor with proof, closing, end of the fence."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.execution.crash_points import nothing
from pipeline.model.enums import OnLoss, ProcessState
from pipeline.takeover import TakeoverResult
from shm.liveness import LivenessView
from workers.base import WorkerContext
from workers.guard.closing import Closing
from workers.guard.fencing import Condemned
from workers.guard.keeper import HaltKeeper
from workers.output import plain_values

ATTEMPTS_MAX = 3  # closings that fail by themselves; then the executor gets its chance, halted
RETRY_NS = 1_000_000_000
PAUSE_MAX_NS = 32_000_000_000  # between closings whose fence cannot be lifted: each writes into the guard's journal
JOIN_S = 5.0
NOTHING_OPEN = ""
RESUME = "; look, then `arb resume --reason R`"


class TakingOver:
    """At most one takeover at a time. :meth:`step` is called every 100 ms, in the guard's main thread."""

    def __init__(
        self,
        ctx: WorkerContext,
        keeper: HaltKeeper,
        executor: LivenessView,
        *,
        crash: Callable[[str], None] = nothing,
    ) -> None:
        self._crash = crash
        self._ctx = ctx
        self._keeper = keeper
        self._executor = executor
        self._condemned: Condemned | None = None
        self._closing: Closing | None = None
        self.hedges: tuple[str, ...] | None = ()  # ids that the takeover closes; None = all
        self._reason = ""
        self._attempts = 0
        self._planned = False
        self._due_ns = 0
        self._pause_ns = RETRY_NS
        self._unlifted: tuple[str, bool] | None = None  # closed, and the disk does not take the fence's end
        self._closed_epoch = -1  # of the dead executor after whom everything has been closed
        self._lines: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self.last: TakeoverResult | None = None
        self._orders: list[dict[str, Any]] = []
        self._reasons: dict[str, str] = {}
        self.takeovers = ctx.metrics.counter("takeovers", "times that the guard stood in for the executor")

    @property
    def active(self) -> bool:
        """Whether the executor is fenced."""
        return bool(self._reason)

    @property
    def nothing_open(self) -> bool:
        """Whether the last takeover has closed everything."""
        return self.last is not None and self.last.flat and not self.last.left and self.hedges is None

    def begin(self, reason: str, hedges: Sequence[str] | None, *, planned: bool = False) -> None:
        """Fences, and ends the executor. ``hedges``: ids to close; None = all. ``planned``: an orderly stop."""
        self._reason, self.hedges = reason, None if hedges is None else tuple(hedges)
        self._attempts = 0
        self._planned = planned
        self._unlifted, self._pause_ns = None, RETRY_NS
        self.last = None
        self._ctx.metrics.inc(self.takeovers)
        self._ctx.say("critical", f"taking over: {reason}")
        self._condemned = None
        self._keeper.fence(reason, hedges, planned=planned, in_force=self._condemn)
        self._crash("guard_fenced")

    def _condemn(self) -> None:
        """Ends the executor, which the page has fenced: what hangs dies, and the next one waits at the fence, however
        long the disk takes to keep it."""
        if self._condemned is None:
            self._condemned = Condemned(self._executor)
            if self._condemned.problem:
                self._ctx.say("error", self._condemned.problem)

    def widen(self, hedges: Sequence[str] | None) -> None:
        """The takeover under way closes these hedges as well; None = all."""
        if self.hedges is None or hedges is None:
            self.hedges = None
        else:
            self.hedges = tuple(dict.fromkeys([*self.hedges, *hedges]))
        self._keeper.widen_fence(self.hedges)
        self._unlifted, self._due_ns = None, 0
        if self._closing is not None:
            self._closing.hedges = self.hedges

    def has_closed(self, epoch: int) -> bool:
        """Whether nothing can be open of the executor of ``epoch``: it is dead, and was stood in for to the end."""
        return epoch == self._closed_epoch

    def by_configuration(self) -> Sequence[str] | None:
        """The hedges that are closed when the executor is lost."""
        return () if self._ctx.config.guard.on_executor_loss is OnLoss.HOLD else None

    def step(self, now_ns: int) -> None:
        """One step of the takeover under way. ``now_ns``: monotonic."""
        self._pass_on()
        if not self.active:
            return
        if self._condemned is not None:
            if not self._condemned.dead():
                return
            self._condemned = None
            self._crash("guard_proved")
        closing = self._closing
        if self._unlifted is not None:
            if now_ns >= self._due_ns:
                self._lift(*self._unlifted, now_ns)
        elif closing is None:
            if now_ns >= self._due_ns:
                self._closing = Closing(self._ctx, self._reason, self.hedges, lambda *line: self._lines.put(line))
                self._closing.start()
        elif not closing.ended:
            self._executor.refresh()
            closing.awaited = self._executor.alive() and self._executor.state == ProcessState.WARMING
        else:
            self._closing = None
            self._closed(closing, now_ns)

    def _closed(self, closing: Closing, now_ns: int) -> None:
        self._pass_on()
        if closing.result is not None and self._more_than(closing.taken):
            self._due_ns = now_ns  # commanded while it ended: another one closes it
            return
        if closing.result is None:
            self._attempts += 1
            self._ctx.say("critical", f"closing failed: {closing.error}")
            self._due_ns = now_ns + RETRY_NS
            if self._attempts < ATTEMPTS_MAX:
                return
            # A stop that nobody had to act in leaves no latch: the next start goes on with what is open.
            silent = self._planned and not closing.acted
            what = NOTHING_OPEN if silent else f"the guard could not close what is open: {closing.error}"
        else:
            self.last, self._orders, self._reasons = closing.result, closing.orders, closing.reasons
            self._executor.refresh()
            epoch = self._executor.epoch if self._executor.mapped else 0
            self._closed_epoch = -1 if self._executor.alive() else epoch
            what = _words(closing.result) if closing.acted else NOTHING_OPEN
        # The latch stays where a guard has acted, but for a stop: what that has left, the next start goes on with.
        stays = bool(what) and (closing.result is None or not self._planned)
        what += RESUME if stays and closing.result is not None else ""
        self._ctx.say("warning", f"takeover ended: {what or _nothing_done(closing)}")
        self._crash("guard_closed")
        problem = self._lift(what, stays, now_ns)
        if problem:
            self._ctx.say("critical", f"the fence stands: {problem}")
            if closing.result is not None and closing.result.ended:
                self._unlifted = what, stays
            else:  # what is open, or could not be closed, is tried again meanwhile
                self._due_ns = now_ns + self._pause_ns
                self._pause_ns = min(PAUSE_MAX_NS, 2 * self._pause_ns)

    def _more_than(self, taken: Sequence[str] | None) -> bool:
        """Whether hedges are to be closed that are not among these; None = all."""
        return taken is not None and (self.hedges is None or not set(self.hedges) <= set(taken))

    def _lift(self, what: str, stays: bool, now_ns: int) -> str:
        """Ends the fence; what went wrong, "" where the takeover is over."""
        problem = self._keeper.lift_fence(what, stays=stays)
        if problem:
            self._due_ns = now_ns + RETRY_NS
        else:
            self._reason, self._unlifted = "", None
        return problem

    def _pass_on(self) -> None:
        """What the closing thread had to say; the log ring has one writing thread."""
        while True:
            try:
                level, text = self._lines.get_nowait()
            except queue.Empty:
                return
            self._ctx.say(level, text)

    def stop(self) -> None:
        """The guard ends: so does the closing. The fence stays on the disk, and the next guard goes on."""
        if self._closing is not None:
            self._closing.ask_end()
            self._closing.join(JOIN_S)
            self._pass_on()

    def describe(self) -> dict[str, Any]:
        """The takeover under way, or how the last one ended; of one whose fence alone still stands, too."""
        last, under_way = self.last, self._closing
        reasons = self._reasons if last is not None else {}
        return {
            "taking_over": (self._reason or None) if self._unlifted is None else None,
            "closed": list(last.closed) if last is not None else [],
            "left": dict(under_way.reasons) if under_way is not None else reasons,
            "orders": plain_values(self._orders) if last is not None else [],
            "flat": last.flat if last is not None else None,
        }


def _nothing_done(closing: Closing) -> str:
    return "nothing was open" if closing.result is not None else "what is open waits for the next start"


def _words(result: TakeoverResult) -> str:
    text = f"the guard sent {len(result.orders)} orders, closed {len(result.closed)} hedges"
    if result.left:
        text += f", {len(result.left)} hedges are left"
    if result.unsettled:
        text += f", {len(result.unsettled)} orders wait for proof"
    if result.held:
        text += f", {len(result.held)} recoveries wait for an operator"
    if result.waiting:
        text += f", {len(result.waiting)} operations or hedges wait for a venue that is away"
    return text
