"""The guard: it grants the executor a short lease for new risk, keeps halt, drain and blocks, and stands in for an
executor that is lost.

Lost is one that hangs (``guard.hung_after_ms`` without a beat), one that is not READY again in time
(``guard.restart_within_ms``), and one that its supervisor has given up. The guard then latches and fences, ends the
process by SIGKILL and waits for the proof of its death, closes what is open (``closing.py``) and lifts the fence. The
latch stays where it had to send anything; where nothing was open, and in an orderly stop, it goes with the fence.

The main thread looks at the executor and the disk every 100 ms and answers requests in between; a takeover works in a
thread of its own, and so does a replay of the last run's journal (``last_run.py``). A guard that is born while the
fence stands goes on with the takeover. One whose control plane has ended, under ``arb up``, ends what nobody else does,
and itself (``orphan.py``).
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from pipeline.execution.crash_points import crash_points_here
from pipeline.model.errors import BadInput, ConfigInvalid
from shm.liveness import LivenessView
from shm.pages import HaltPage
from workers.audit_log import who
from workers.base import WorkerContext, run_worker
from workers.control_socket import (
    EXECUTOR_READY,
    GUARD_SOCKET,
    REQUEST_BYTES_MAX,
    Say,
    decoded,
    error_reply,
    listen,
    peer_uid,
)
from workers.credentials import without_guard_key
from workers.guard.closing import make_room
from workers.guard.keeper import HaltKeeper
from workers.guard.last_run import LeftHalfDone
from workers.guard.orphan import Orphan, starters_stand_still
from workers.guard.taking_over import TakingOver
from workers.guard.watch import ExecutorWatch, Reading

LOOK_NS = 100_000_000
ACCEPT_AGAIN_S = 0.02
CLIENT_TIMEOUT_S = 0.2  # the guard serves one short request at a time between two leases


class Guard:
    """The parts of the process, and what connects them."""

    def __init__(self, ctx: WorkerContext, page: HaltPage) -> None:
        self._ctx = ctx
        crash = crash_points_here(ctx.config.mode)
        self.keeper = HaltKeeper(ctx, page, crash=crash)
        self._executor = LivenessView.attach(ctx.instance, "executor", missing_ok=True)
        settings = ctx.config.guard
        self.watch = ExecutorWatch(
            hung_after_ms=settings.hung_after_ms,
            restart_within_ms=settings.restart_within_ms,
            served=ctx.restarts > 0 or page.lease[0] != 0,
            left_half_done=LeftHalfDone(ctx),
        )
        self.taking_over = TakingOver(ctx, self.keeper, self._executor, crash=crash)
        self._orphan = Orphan(ctx, self.keeper, self.taking_over)
        if self.keeper.state.fence is not None:
            fence = self.keeper.state.fence
            self.taking_over.begin(fence.reason, fence.hedges, planned=fence.planned)

    def look(self, now_ns: int) -> None:
        """What is due every 100 ms. ``now_ns``: monotonic."""
        self._ctx.reloaded()  # a takeover goes by the limits that the executor had
        if not self._ctx.orphaned:
            self.look_at_executor(now_ns)
        else:
            sight = self._sight()
            self.watch.look(sight, now_ns)
            if not self._orphan.goes_on(now_ns, lives=sight.alive, hangs=sight.alive and not self.watch.beating):
                self._ctx.request_stop()
        under_way = self.taking_over.active
        self.taking_over.step(now_ns)
        if self.taking_over.active:
            self.watch.forget()
        elif under_way and self.taking_over.nothing_open:
            self.watch.begin_anew()

    def look_at_executor(self, now_ns: int) -> None:
        """Begins a takeover, or grants the next lease. What was seen is acted upon before the disk is looked at, which
        may take its time."""
        sight = self._sight()
        lost = self.watch.look(sight, now_ns)
        if lost and not self.taking_over.active and not self.taking_over.has_closed(sight.epoch):
            self.taking_over.begin(lost, self.taking_over.by_configuration())
        self.keeper.grant(sight.epoch, now_ns, beating=self.watch.beating)

    def _sight(self) -> Reading:
        """What the executor's status page shows now."""
        view = self._executor
        view.refresh()
        if not view.mapped:
            return Reading()
        alive = view.alive()
        alone = not alive and starters_stand_still()
        return Reading(alive, epoch=view.epoch, state=view.state, progress=view.progress, unattended=alone)

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request: of the halt page (``keeper.OPERATIONS``), ``take_over``, ``close`` or ``takeover``."""
        operation = request.get("op")
        if operation == "take_over":
            return self._take_over(str(request.get("reason", "")).strip() or "by command")
        if operation == "close":
            return self._close(request)
        if operation == "takeover":
            return self.taking_over.describe()
        return self.keeper.handle(request)

    def _close(self, request: dict[str, Any]) -> dict[str, Any]:
        """Hedges ``ids`` (None: all) are closed in the place of an executor that is not READY, and legs without their
        partner with them; how it goes on: request ``takeover``. ``planned``: by an orderly stop, which leaves no latch:
        what could not be closed is said, and the next start goes on with it."""
        if self.watch.serving and self.watch.beating:
            return {"error": EXECUTOR_READY}
        wanted = request.get("ids")
        if wanted is not None and not isinstance(wanted, list):
            raise BadInput(f"ids: found {wanted!r}, wanted a list of hedges, or null for all")
        by = who(request.get("for_uid", request.get("uid")))
        reason = f"{str(request.get('reason', '')).strip() or 'close'} ({by})"
        hedges = None if wanted is None else [str(name) for name in wanted]
        if self.taking_over.active:
            self.taking_over.widen(hedges)
        else:
            self.taking_over.begin(reason, hedges, planned=bool(request.get("planned")))
        self.keeper.audit(op="close", by=by, reason=reason, hedges=hedges)
        return self.taking_over.describe()

    def _take_over(self, reason: str) -> dict[str, Any]:
        """The supervisor has given the executor up."""
        if self.taking_over.active:
            self.taking_over.widen(self.taking_over.by_configuration())
        else:
            self.taking_over.begin(reason, self.taking_over.by_configuration())
        return self.taking_over.describe()


def _serve_one(server: socket.socket, guard: Guard, say: Say) -> None:
    """Accept a connection, answer one request, close. A silent client is left after 0.2 s: less than a lease."""
    try:
        client, _ = server.accept()
    except BlockingIOError:
        return
    except OSError:  # no descriptor left: nothing is answered for the moment, leases go on
        time.sleep(ACCEPT_AGAIN_S)
        return
    with client:
        client.settimeout(CLIENT_TIMEOUT_S)
        uid = peer_uid(client)
        if uid not in (0, os.geteuid()):
            return
        try:
            with client.makefile("rb") as stream:
                line = stream.readline(REQUEST_BYTES_MAX)
            reply = guard.handle({**decoded(line), "uid": uid})
        except OSError:
            return
        except Exception as error:  # noqa: BLE001  the outermost frame of a request: none ends who grants leases
            reply = error_reply(error, line, say)
        try:
            client.sendall(msgspec.json.encode(reply) + b"\n")
        except OSError:
            return


def _latch(guard: Guard) -> tuple[bool, str]:
    return guard.keeper.state.halted, guard.keeper.state.reason


def _said(guard: Guard, ctx: WorkerContext) -> str:
    """The line of the process's status."""
    state = guard.keeper.state
    text = "HALTED: " + state.reason if state.halted else "latch open"
    try:
        without = without_guard_key(ctx.config, ctx.instance)
    except (ConfigInvalid, OSError) as error:  # logged, and no end: leases, halt and what is open do not wait for a key
        return f"{text}; {error}"
    return f"{text}; no key of its own at {', '.join(without)}: would use the trade key" if without else text


def run(ctx: WorkerContext) -> None:
    """The guard's life: latch and fence from disk into the page, READY, then a look every 100 ms, requests between."""
    page = HaltPage.create(ctx.instance)
    problem = make_room(ctx)
    if problem:
        ctx.say("error", problem)
    guard = Guard(ctx, page)
    server = listen(ctx.state_dir / GUARD_SOCKET)
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.register(ctx.stop_fd, select.POLLIN)
    ctx.liveness.parked = True
    ctx.ready(_said(guard, ctx))
    said = _latch(guard)
    due_ns = time.monotonic_ns()
    while not ctx.stop_requested():
        now_ns = time.monotonic_ns()
        if now_ns >= due_ns:
            guard.look(now_ns)
            due_ns = now_ns + LOOK_NS
            ctx.progress()
            if _latch(guard) != said:
                said = _latch(guard)
                ctx.status(_said(guard, ctx))
        for descriptor, _ in poll.poll(max(0.0, (due_ns - time.monotonic_ns()) / 1e6)):
            if descriptor == server.fileno():
                _serve_one(server, guard, ctx.say)
    server.close()
    guard.taking_over.stop()
    page.revoke()


def warm(dialects: Sequence[str]) -> None:
    """What a takeover imports: the executor's parts, and the dialects' clients."""
    from workers.executor.process import warm as warm_executor

    warm_executor(dialects)


def main() -> int:
    """``python -m workers.guard --instance I --config F``."""
    return run_worker("guard", run)


if __name__ == "__main__":
    sys.exit(main())
