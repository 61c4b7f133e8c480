"""The halt page and ``halt.json``: latch, lease, fence, drain and blocks, and the requests that change them.

The executor sends nothing that adds risk unless the latch is open and its lease has not run out, and nothing at all
under the fence: one atomic load each before a send. The lease is renewed every 100 ms for 500 ms while the executor's
process lives and its beat moves; so it runs out by itself when the guard dies.

What takes risk away stands on the page first, so that no slow disk delays it, and then in ``halt.json`` (synced); what
gives it back, on the disk first: a guard that is killed in between has answered nobody. A halt that the disk does not
take stays marked on the page for the next guard, and is written as soon as the disk takes it. Page and disk are looked
at before each lease: what somebody else has latched or written meanwhile (the supervisor, ``arb halt``, while the guard
hung) is obeyed before the executor gets another. A disk that hangs is waited for ``BLOCK_WAIT_S`` or ``RELEASE_WAIT_S``
and then no more: a block is in force and is written later, a release is not carried out. ``drain`` blocks every venue
for new risk without the latch. Halt, drain and blocks outlive the guard and end by ``resume`` only (a drain also by
``undrain``); the fence ends with the takeover that it is for. Breakers and held recoveries are passed on by the
executor and kept beside them.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pipeline.execution.crash_points import nothing
from shm.pages import HaltPage
from workers.audit_log import audit, who
from workers.base import WorkerContext
from workers.control_socket import BAD_INPUT
from workers.guard.slow_disk import Job, SlowDisk
from workers.halt_file import (
    BY_UNREADABLE,
    NO_REASON,
    OPEN,
    Block,
    ChangedMeanwhile,
    Fence,
    HaltState,
    KeptBreaker,
    Stamp,
    read_halt,
    released,
    stamp_of,
    stricter,
    write_halt,
)

LEASE_NS = 500_000_000
BY_GUARD = "guard"  # who latched, where the guard did it by itself
BY_COMMAND = "a command that the guard did not answer"
SET_ATTEMPTS = 3  # somebody else may write halt.json at the same time
RETRY_NS = 1_000_000_000  # what the disk has not taken is written again
BLOCK_WAIT_S = 1.0  # for the disk, of what is in force already: a loaded one takes tenths of it; one lease lapses
RELEASE_WAIT_S = 3.0  # of what is not carried out before the disk has it: whoever asks waits for 5 s
OPERATIONS = ("halt", "resume", "drain", "undrain", "block", "unblock", "note", "state")


class HaltKeeper:
    """The halt page, the lease, and the requests that change them."""

    def __init__(self, ctx: WorkerContext, page: HaltPage, *, crash: Callable[[str], None] = nothing) -> None:
        self._crash = crash
        self._ctx = ctx
        self._page = page
        self._venues = {venue.name: venue.venue_id for venue in ctx.config.venues}
        self.leases = ctx.metrics.counter("leases_granted", "leases granted to the executor")
        self.withheld = ctx.metrics.counter("leases_withheld", "lease periods without a grant: executor absent or hung")
        self._problem = ""  # of the disk, as last said
        self._overtaken = False  # somebody else has written halt.json before the last write
        self._retry_at_ns = 0
        self._disk = SlowDisk()
        self._late: Job | None = None  # a write that nobody waits for and that the disk may still carry out
        self._late_stamp: Stamp | None = None
        self._late_state = OPEN  # what that writes
        self._unwritten = False  # the file is not, or may become, something else than the state
        self._stamp = stamp_of(ctx.state_dir)
        self.state = read_halt(ctx.state_dir)
        if self.state.by == BY_UNREADABLE:
            self._stamp = None  # it is read again
        self.state = self._halted_by_page()  # of a guard before, or of a command while there was none
        self._show()

    def _halted_by_page(self) -> HaltState:
        """The state with the halt that is on the page alone, where it has none of its own or one that would go with the
        fence."""
        state, reason = self.state, self._page.reason
        beside_fence = self._goes_with_fence() and not state.reason.startswith(reason)  # the page has 256 bytes of it
        if not self._page.unsaved or (state.halted and not beside_fence):
            return state
        return msgspec.structs.replace(state, halted=True, reason=reason, by=BY_COMMAND, wall_ns=time.time_ns())

    def _goes_with_fence(self) -> bool:
        state, fence = self.state, self.state.fence
        return fence is not None and state.halted and (state.by, state.reason) == (BY_GUARD, fence.reason)

    def _show(self) -> None:
        """Set the page's fence, latch and blocks as the state says. A halt that a command has latched on the page
        (``unsaved``) stays until it is the state's own."""
        if self.state.fence is not None:
            self._page.fence()
        else:
            self._page.lift_fence()
        if self.state.halted:
            self._page.latch(self.state.reason)
        elif not self._page.unsaved:
            self._page.release()
        for name, venue_id in self._venues.items():
            self._page.block_venue(venue_id, self.state.drain is not None or name in self.state.venues)

    def look_at_disk(self) -> None:
        """Take over what somebody else has latched on the page or written into ``halt.json``. A file that was removed
        changes nothing."""
        self.state = self._halted_by_page()
        if not self._late_ended():  # what stands there may be this guard's own, of before
            return
        stamp = stamp_of(self._ctx.state_dir)
        if stamp is None or stamp == self._stamp:
            return
        found = read_halt(self._ctx.state_dir)
        if found.by == BY_UNREADABLE:  # for the moment: halted, nothing else is forgotten, and it is read again
            if not self.state.halted:
                self.state = msgspec.structs.replace(self.state, halted=True, reason=found.reason, by=found.by)
                self._show()
                self._ctx.say("critical", found.reason)
            return
        self._stamp = stamp
        self.state = stricter(found, self.state) if self._unwritten else found
        self.state = self._halted_by_page()
        self._show()
        said = f"HALTED: {self.state.reason}" if self.state.halted else "not halted"
        self._ctx.say("warning", f"halt.json was changed by {self.state.by}: {said}")

    def save_halt(self, now_ns: int) -> None:
        """Take over a halt that a command has latched on the page, and write what the disk has not taken yet, once a
        second. ``now_ns``: monotonic."""
        wanted = self._page.unsaved or self._unwritten
        if not wanted or now_ns < self._retry_at_ns or self._disk.hangs or not self._late_ended():
            return
        self._retry_at_ns = now_ns + RETRY_NS
        self.state = self._halted_by_page()
        self._show()
        self._unwritten = True
        self._begin_write(self.state, release=False)  # not waited for: leases go on

    def grant(self, epoch: int, now_ns: int, *, beating: bool) -> None:
        """Look at the disk and the page, then renew the lease of the executor of ``epoch`` for 500 ms, unless it is
        fenced, gone or hangs (``beating``). ``now_ns``: monotonic."""
        self.look_at_disk()
        self.save_halt(now_ns)
        if not beating or self.state.fence is not None:
            self._ctx.metrics.inc(self.withheld)
            return
        self._crash("guard_lease")
        self._page.grant(epoch, now_ns + LEASE_NS)
        self._ctx.metrics.inc(self.leases)

    def revoke(self) -> None:
        """No lease from now on."""
        self._page.revoke()

    def fence(
        self,
        reason: str,
        hedges: Sequence[str] | None,
        *,
        planned: bool = False,
        in_force: Callable[[], None] = lambda: None,
    ) -> None:
        """Latch and fence: nobody but the guard sends from here on. In force even where the disk refuses.

        ``hedges``: ids of those that the takeover closes, None = all; ``planned``: in an orderly stop. Both are kept
        with the fence, for the guard that comes after one that dies. ``in_force``: called once the page shows it,
        before the disk, which may take seconds."""
        now_ns = time.time_ns()
        names = None if hedges is None else tuple(hedges)
        self.state = self._halted_by_page()  # a command's halt is none that goes with the fence
        for _ in range(SET_ATTEMPTS):
            fence = Fence(reason=reason, by=BY_GUARD, wall_ns=now_ns, hedges=names, planned=planned)
            wanted = msgspec.structs.replace(self.state, fence=fence)
            if not wanted.halted:
                wanted = msgspec.structs.replace(wanted, halted=True, reason=reason, by=BY_GUARD, wall_ns=now_ns)
            self._set(wanted, release=False, shown=in_force)
            if self.state.fence == fence:
                break
        self.audit(op="fence", by=BY_GUARD, reason=reason, venue="", problem="")

    def widen_fence(self, hedges: Sequence[str] | None) -> None:
        """The takeover under way closes these hedges (as in :meth:`fence`); the latch stays as it is."""
        names = None if hedges is None else tuple(hedges)
        self.state = self._halted_by_page()
        for _ in range(SET_ATTEMPTS):
            fence = self.state.fence
            if fence is None or fence.hedges == names:
                return
            wanted = msgspec.structs.replace(fence, hedges=names)
            self._set(msgspec.structs.replace(self.state, fence=wanted), release=False)

    def lift_fence(self, what: str, *, stays: bool) -> str:
        """End the fence. ``what`` was done meanwhile, "" where nothing had to be; ``stays``: the guard's latch does,
        and says it; else that goes with the fence. Returns what went wrong: the fence stands then."""
        self.look_at_disk()
        state, fence = self.state, self.state.fence
        if fence is None:
            return ""
        wanted = msgspec.structs.replace(state, fence=None)
        if self._goes_with_fence():
            if stays:
                wanted = msgspec.structs.replace(wanted, reason=f"{fence.reason}; {what}")
            else:
                wanted = msgspec.structs.replace(wanted, halted=False, reason="")
        problem = self._set(wanted, release=True)
        self.audit(op="lift fence", by=BY_GUARD, reason=what, venue="", problem=problem)
        return problem

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request (``OPERATIONS``); its reply."""
        operation = request.get("op")
        if operation not in OPERATIONS:
            return {"error": f"op: found {operation!r}, wanted one of {', '.join(OPERATIONS)}"}
        self.look_at_disk()
        if operation == "state":
            return self._reply()
        if operation == "note":
            return self._note(request)
        reason, by = str(request.get("reason", "")).strip(), _by(request)
        if operation in ("halt", "resume") and not reason:
            return {"error": NO_REASON, "kind": BAD_INPUT}
        block = Block(reason=reason or str(operation), by=by, wall_ns=time.time_ns())
        venue = str(request.get("venue", ""))
        if operation in ("block", "unblock") and venue not in self._venues:
            return {"error": f"venue: found {venue!r}, wanted one of {', '.join(self._venues)}", "kind": BAD_INPUT}
        halt = self._halt()
        for _ in range(SET_ATTEMPTS):
            wanted = self._wanted(str(operation), block, venue)
            problem = self._set(wanted, release=operation in ("resume", "undrain", "unblock"))
            if not self._overtaken or (operation == "resume" and self._halt() != halt):
                break  # who resumes has not seen a halt that came meanwhile
        self.audit(op=str(operation), by=by, reason=reason, venue=venue, problem=problem)
        if problem and wanted is not self.state:
            return {"error": f"not carried out: {problem}"}
        self._ctx.say("warning", f"{operation} {venue}".strip() + f" by {by}: {reason}")
        return {**self._reply(), "warning": problem} if problem else self._reply()

    def _halt(self) -> tuple[bool, str, str, int]:
        return self.state.halted, self.state.reason, self.state.by, self.state.wall_ns

    def _wanted(self, operation: str, block: Block, venue: str) -> HaltState:
        state, replace = self.state, msgspec.structs.replace
        if operation == "halt":
            return replace(state, halted=True, reason=block.reason, by=block.by, wall_ns=block.wall_ns)
        if operation == "resume":
            return released(state, reason=block.reason, by=block.by)
        if operation in ("drain", "undrain"):
            return replace(state, drain=block if operation == "drain" else None)
        others = {name: value for name, value in state.venues.items() if name != venue}
        return replace(state, venues={**others, venue: block} if operation == "block" else others)

    def _note(self, request: dict[str, Any]) -> dict[str, Any]:
        """Keep the breakers and held recoveries that the executor passes on."""
        breakers = tuple(msgspec.convert(row, KeptBreaker) for row in request.get("breakers", ()))
        wanted = msgspec.structs.replace(self.state, breakers=breakers, holds=tuple(request.get("holds", ())))
        problem = "" if wanted == self.state else self._set(wanted, release=False)
        return {"error": problem} if problem else self._reply()

    def _reply(self) -> dict[str, Any]:
        state = self.state
        return {
            "halted": state.halted,
            "reason": state.reason,
            "draining": state.drain is not None,
            "blocked_venues": sorted(state.venues),
            "fenced": state.fence is not None,
        }

    def _set(self, wanted: HaltState, *, release: bool, shown: Callable[[], None] = lambda: None) -> str:
        """Make ``wanted`` the state, on the page and on the disk; ``shown`` is called in between. Returns what went
        wrong on the disk, else "": what adds a block is in force all the same, a ``release`` is not."""
        before, self._overtaken = self.state, False
        # On the page alone so far: written or ended by this. What a command latches meanwhile is neither.
        unsaved = self._page.unsaved and (wanted.halted or before.halted)
        if not release:
            self.state = wanted
            self._show()  # before the disk, which may take seconds
            self._crash("guard_latched")
            shown()
        reason = self._page.reason
        ends = unsaved and not wanted.halted
        if ends:  # before the write: a mark that is there after it is of a newer halt
            self._page.keep_unsaved(False)
        try:
            self._write(wanted, release=release)
        except ChangedMeanwhile as error:
            self.state, self._overtaken = before, True
            self._page.keep_unsaved(self._page.unsaved or ends)
            self.look_at_disk()
            return f"{error.strerror}: {self.state.reason}; ask again"
        except OSError as error:
            late = isinstance(error, TimeoutError)
            stands = before.halted if late and release else wanted.halted and not release
            self._page.keep_unsaved(self._page.unsaved or ends or stands)
            self._unwritten = self._unwritten or late or not release
            return self._not_written(error)
        self._problem, self._unwritten = "", False
        self.state = wanted
        if unsaved and wanted.halted and self._page.reason == reason:  # else the mark is a newer halt's
            self._page.keep_unsaved(False)
        self.state = self._halted_by_page()
        self._show()
        return ""

    def _write(self, wanted: HaltState, *, release: bool) -> None:
        """``halt.json``, as far as the disk takes it in time. Raises OSError; TimeoutError where it hangs: a release
        that it has not begun to carry out by then is none any more."""
        wait_s = RELEASE_WAIT_S if release else BLOCK_WAIT_S
        by_s = time.monotonic() + wait_s
        if self._late is not None:  # of what stood there before
            self._disk.wait(self._late, wait_s)
        if self._disk.hangs or not self._late_ended():
            raise TimeoutError(errno.ETIMEDOUT, "the disk does not answer")
        job = self._begin_write(wanted, release=release)
        self._disk.wait(job, max(0.0, by_s - time.monotonic()))
        if not job.done.is_set():
            raise TimeoutError(errno.ETIMEDOUT, f"the disk has not answered in {wait_s} s")
        self._late = None
        if job.error is not None:
            raise job.error
        self._stamp = self._late_stamp

    def _begin_write(self, wanted: HaltState, *, release: bool) -> Job:
        """Has the disk's thread write ``wanted``; a release only until that is given up."""
        folder = self._ctx.state_dir
        known = self._stamp if stamp_of(folder) is not None else None  # None: it was removed

        def write(job: Job) -> None:
            write_halt(folder, wanted, known=known, wanted=lambda: not (release and job.given_up))
            self._late_stamp = stamp_of(folder)

        self._late, self._late_state = self._disk.begin(write), wanted
        return self._late

    def _late_ended(self) -> bool:
        """Whether the disk has done, or refused, everything that it was given; what it has taken, however late, is
        written."""
        late = self._late
        if late is None or not late.done.is_set():
            return late is None
        self._late = None
        if late.error is None:
            self._stamp = self._late_stamp
            if self._late_state == self.state:
                self._problem, self._unwritten = "", False
                if self.state.halted and self.state.reason.startswith(self._page.reason):  # else of a newer halt
                    self._page.keep_unsaved(False)
        elif isinstance(late.error, OSError) and not isinstance(late.error, ChangedMeanwhile) and not late.given_up:
            self._not_written(late.error)
        return True

    def audit(self, **row: Any) -> None:
        """A line of the audit log, by the thread that may wait for the disk."""
        self._disk.do(lambda _: audit(self._ctx.state_dir, **row), wait_s=BLOCK_WAIT_S)

    def _not_written(self, error: OSError) -> str:
        problem = f"halt.json cannot be written: {error.strerror}"
        if problem != self._problem:
            self._ctx.say("critical", problem)
        self._problem = problem
        return problem


def _by(request: dict[str, Any]) -> str:
    """Who decided: ``process`` where it was the supervisor itself, else the user in whose name it is asked."""
    return str(request["process"]) if "process" in request else who(request.get("for_uid", request.get("uid")))
