"""The guard: owner of the halt page. It grants the executor a short lease, and keeps halt, drain and blocks on disk.

The executor sends nothing that adds risk unless the latch is open and the lease has not run out: one atomic load
each before a send. The lease is renewed every 100 ms for 500 ms while the executor's process lives and its beat moves;
so it runs out by itself when the guard dies, and the guard lets it run out when the executor hangs.

``halt.json`` is written (and synced) before the page, so that a halt survives any crash. It is looked at before
each lease: what somebody else has written meanwhile (the supervisor, ``arb halt``, while the guard hung) is obeyed
before the executor gets another. ``drain`` blocks every venue for new risk without the latch. Halt, drain and
blocks outlive the guard and end by ``resume`` only (a drain also by ``undrain``). Breakers and held recoveries are
passed on by the executor and kept beside them.
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
from workers.audit_log import audit, who
from workers.base import WorkerContext, run_worker
from workers.control_socket import BAD_INPUT, GUARD_SOCKET, REQUEST_BYTES_MAX, listen, peer_uid
from workers.halt_file import (
    NO_REASON,
    Block,
    ChangedMeanwhile,
    HaltState,
    KeptBreaker,
    read_halt,
    released,
    stamp_of,
    write_halt,
)

LEASE_PERIOD_NS = 100_000_000
LEASE_NS = 500_000_000
HUNG_AFTER_NS = 2_000_000_000  # an executor that has not beaten for this long gets no further lease
CLIENT_TIMEOUT_S = 0.2  # the guard serves one short request at a time between two leases
OPERATIONS = ("halt", "resume", "drain", "undrain", "block", "unblock", "note", "state")


class Guard:
    """The halt page, the lease, and the requests that change them."""

    def __init__(self, ctx: WorkerContext, page: HaltPage) -> None:
        self._ctx = ctx
        self._page = page
        self._venues = {venue.name: venue.venue_id for venue in ctx.config.venues}
        self._executor = LivenessView.attach(ctx.instance, "executor", missing_ok=True)
        self.leases = ctx.metrics.counter("leases_granted", "leases granted to the executor")
        self.withheld = ctx.metrics.counter("leases_withheld", "lease periods without a grant: executor absent or hung")
        self._stamp = stamp_of(ctx.state_dir)
        self.state = read_halt(ctx.state_dir)
        self._show()

    def _show(self) -> None:
        """Set the page's latch and blocks as the state says."""
        if self.state.halted:
            self._page.latch(self.state.reason)
        else:
            self._page.release()
        for name, venue_id in self._venues.items():
            self._page.block_venue(venue_id, self.state.drain is not None or name in self.state.venues)

    def look_at_disk(self) -> None:
        """Take over what somebody else has written into ``halt.json``. A file that was removed changes nothing."""
        stamp = stamp_of(self._ctx.state_dir)
        if stamp is None or stamp == self._stamp:
            return
        self._stamp = stamp
        self.state = read_halt(self._ctx.state_dir)
        self._show()
        said = f"HALTED: {self.state.reason}" if self.state.halted else "not halted"
        self._ctx.say("warning", f"halt.json was changed by {self.state.by}: {said}")

    def grant(self, now_ns: int) -> None:
        """Look at the disk, then renew the lease for 500 ms, unless the executor is gone or hangs. ``now_ns``:
        monotonic."""
        self.look_at_disk()
        view = self._executor
        view.refresh()
        if not view.alive() or view.beat_age_ns(now_ns) > HUNG_AFTER_NS:
            self._ctx.metrics.inc(self.withheld)
            return
        self._page.grant(view.epoch, now_ns + LEASE_NS)
        self._ctx.metrics.inc(self.leases)

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
        reason, by = str(request.get("reason", "")).strip(), who(request.get("for_uid", request.get("uid")))
        if operation in ("halt", "resume") and not reason:
            return {"error": NO_REASON, "kind": BAD_INPUT}
        block = Block(reason=reason or str(operation), by=by, wall_ns=time.time_ns())
        venue = str(request.get("venue", ""))
        if operation in ("block", "unblock") and venue not in self._venues:
            return {"error": f"venue: found {venue!r}, wanted one of {', '.join(self._venues)}", "kind": BAD_INPUT}
        wanted = self._wanted(str(operation), block, venue)
        problem = self._set(wanted, release=operation in ("resume", "undrain", "unblock"))
        audit(self._ctx.state_dir, op=str(operation), by=by, reason=reason, venue=venue, problem=problem)
        if problem and wanted is not self.state:
            return {"error": f"not carried out: {problem}"}
        self._ctx.say("warning", f"{operation} {venue}".strip() + f" by {by}: {reason}")
        return {**self._reply(), "warning": problem} if problem else self._reply()

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
        }

    def _set(self, wanted: HaltState, *, release: bool) -> str:
        """Make ``wanted`` the state, on the disk and on the page. Returns what went wrong on the disk, else "": what
        adds a block is then in force all the same (while the guard lives), a ``release`` is not."""
        problem = ""
        try:
            # Disk before page: a guard killed in between restores the newer state, never the older one.
            write_halt(self._ctx.state_dir, wanted, known=self._stamp)
            self._stamp = stamp_of(self._ctx.state_dir)
        except ChangedMeanwhile as error:
            self.look_at_disk()
            return f"{error.strerror}: {self.state.reason}; ask again"
        except OSError as error:
            problem = f"halt.json cannot be written: {error.strerror}"
            self._ctx.say("critical", problem)
            if release:
                return problem
        self.state = wanted
        self._show()
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
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, ValueError) as error:
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
