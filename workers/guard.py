"""The guard: owner of the halt page. It grants the executor a short lease, and keeps the halt latch on disk.

The executor sends nothing that adds risk unless the latch is open and the lease has not run out: one atomic load
each before a send. The lease is renewed every 100 ms for 500 ms while the executor's process lives and its beat moves;
so it runs out by itself when the guard dies, and the guard lets it run out when the executor hangs.

``halt.json`` is written (and synced) before the page, so that a halt survives any crash; it is read at the start.
``drain`` blocks every venue for new risk without the latch: it ends with the guard's process.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from typing import Any

import msgspec

from shm.liveness import LivenessView
from shm.pages import HaltPage
from workers.base import WorkerContext, run_worker
from workers.control_socket import BAD_INPUT, GUARD_SOCKET, REQUEST_BYTES_MAX, listen, peer_uid
from workers.halt_file import NO_REASON, HaltState, read_halt, write_halt

LEASE_PERIOD_NS = 100_000_000
LEASE_NS = 500_000_000
HUNG_AFTER_NS = 2_000_000_000  # an executor that has not beaten for this long gets no further lease
CLIENT_TIMEOUT_S = 0.2  # the guard serves one short request at a time between two leases
OPERATIONS = ("halt", "resume", "drain", "undrain", "block", "unblock", "state")


class Guard:
    """The halt page, the lease, and the requests that change them."""

    def __init__(self, ctx: WorkerContext, page: HaltPage) -> None:
        self._ctx = ctx
        self._page = page
        self._venues = len(ctx.config.venues)
        self._executor = LivenessView.attach(ctx.instance, "executor", missing_ok=True)
        self.draining = False
        self.leases = ctx.metrics.counter("leases_granted", "leases granted to the executor")
        self.withheld = ctx.metrics.counter("leases_withheld", "lease periods without a grant: executor absent or hung")
        self.state = read_halt(ctx.state_dir)
        self._show()
        for venue_id in range(self._venues):  # a drain ends with the process that was asked for it
            page.block_venue(venue_id, False)

    def _show(self) -> None:
        """Set the page's latch as the state on disk says."""
        if self.state.halted:
            self._page.latch(self.state.reason)
        else:
            self._page.release()

    def grant(self, now_ns: int) -> None:
        """Renew the lease for 500 ms, unless the executor is gone or hangs. ``now_ns``: monotonic."""
        view = self._executor
        view.refresh()
        if not view.alive() or view.beat_age_ns(now_ns) > HUNG_AFTER_NS:
            self._ctx.metrics.inc(self.withheld)
            return
        self._page.grant(view.epoch, now_ns + LEASE_NS)
        self._ctx.metrics.inc(self.leases)

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request: halt, resume, drain, undrain, block, unblock or state; its reply."""
        operation = request.get("op")
        reason = str(request.get("reason", "")).strip()
        if operation in ("halt", "resume"):
            if not reason:
                return {"error": NO_REASON, "kind": BAD_INPUT}
            problem = self._latch(halted=operation == "halt", reason=reason, by=f"uid {request.get('uid')}")
            if problem and operation == "resume":
                return {"error": f"not resumed: {problem}"}
            if problem:
                return {"halted": True, "reason": reason, "draining": self.draining, "warning": problem}
        elif operation in ("drain", "undrain"):
            self.draining = operation == "drain"
            for venue_id in range(self._venues):
                self._page.block_venue(venue_id, self.draining)
        elif operation in ("block", "unblock"):
            wanted = request.get("venue_id")
            if not isinstance(wanted, int) or not 0 <= wanted < self._venues:
                return {"error": f"venue_id: found {wanted!r}, wanted 0 to {self._venues - 1}"}
            self._page.block_venue(wanted, operation == "block")
        elif operation != "state":
            return {"error": f"op: found {operation!r}, wanted one of {', '.join(OPERATIONS)}"}
        return {"halted": self.state.halted, "reason": self.state.reason, "draining": self.draining}

    def _latch(self, *, halted: bool, reason: str, by: str) -> str:
        """Set or open the latch. Returns what went wrong on the disk, else "": a halt is then in force all the same
        (while the guard lives), a resume is not."""
        state = HaltState(halted=halted, reason=reason, by=by, wall_ns=time.time_ns())
        problem = ""
        try:
            # Disk before page: a guard killed in between restores the newer state, never the older one.
            write_halt(self._ctx.state_dir, state)
        except OSError as error:
            problem = f"halt.json cannot be written: {error.strerror}"
            self._ctx.say("critical", problem)
            if not halted:
                return problem
        self.state = state
        self._show()
        self._ctx.say("warning", f"{'HALTED' if halted else 'resumed'} by {by}: {reason}")
        return problem


def _serve_one(server: socket.socket, guard: Guard) -> None:
    """Accept a connection, answer one request, close. A silent client is left after 0.2 s: less than a lease."""
    try:
        client, _ = server.accept()
    except BlockingIOError:
        return
    with client:
        client.settimeout(CLIENT_TIMEOUT_S)
        uid = peer_uid(client)
        if uid not in (0, os.geteuid()):
            return
        try:
            with client.makefile("rb") as stream:
                line = stream.readline(REQUEST_BYTES_MAX)
            request = msgspec.json.decode(line, type=dict[str, Any])
            reply = guard.handle({**request, "uid": uid})
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, ValueError) as error:
            reply = {"error": f"found a request that cannot be decoded, wanted one JSON object a line: {error}"}
        except OSError:
            return
        try:
            client.sendall(msgspec.json.encode(reply) + b"\n")
        except OSError:
            return


def run(ctx: WorkerContext) -> None:
    """The guard's life: latch from disk into the page, READY, then a lease every 100 ms and requests in between."""
    page = HaltPage.create(ctx.instance)
    guard = Guard(ctx, page)
    server = listen(ctx.state_dir / GUARD_SOCKET)
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.register(ctx.stop_fd, select.POLLIN)
    ctx.liveness.parked = True
    ctx.ready("HALTED: " + guard.state.reason if guard.state.halted else "latch open")
    due_ns = time.monotonic_ns()
    while not ctx.stop_requested():
        now_ns = time.monotonic_ns()
        if now_ns >= due_ns:
            guard.grant(now_ns)
            due_ns = now_ns + LEASE_PERIOD_NS
            ctx.progress()
        for descriptor, _ in poll.poll(max(0.0, (due_ns - time.monotonic_ns()) / 1e6)):
            if descriptor == server.fileno():
                _serve_one(server, guard)
    server.close()
    page.revoke()


def main() -> int:
    """``python -m workers.guard --instance I --config F``."""
    return run_worker("guard", run)


if __name__ == "__main__":
    sys.exit(main())
