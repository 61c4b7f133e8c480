"""The guard: owns the halt page. Grants the executor a short lease, and keeps the halt latch on disk.

The executor sends nothing that adds risk unless the latch is open and the lease has not run out: one atomic load
each before a send. The lease is renewed every 100 ms for 500 ms while the executor's process lives and its beat moves;
so it runs out by itself when the guard dies, and the guard lets it run out when the executor hangs.

``halt.json`` is written (and synced) before the page, so that a halt survives any crash, and is read at the start.
``drain`` blocks every venue for new risk without a latch: it is gone with the next start.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from workers.base import WorkerContext, instance_dir, run_worker
from workers.control_plane.control_socket import BAD_INPUT, REQUEST_BYTES_MAX, ask, listen, peer_uid

if TYPE_CHECKING:
    from shm.pages import HaltPage

LEASE_PERIOD_NS = 100_000_000
LEASE_NS = 500_000_000
HUNG_AFTER_NS = 2_000_000_000  # an executor that has not beaten for this long gets no further lease
SOCKET_NAME = "guard.sock"
CLIENT_TIMEOUT_S = 0.2  # the guard serves one short request at a time between two leases


class HaltState(msgspec.Struct, frozen=True, kw_only=True):
    """Content of ``halt.json``."""

    halted: bool
    reason: str
    by: str
    wall_ns: int


def read_halt(state_dir: Path) -> HaltState:
    """The persisted latch. A file that cannot be understood counts as a halt: unknown is never permission."""
    try:
        raw = (state_dir / "halt.json").read_bytes()
    except FileNotFoundError:
        return HaltState(halted=False, reason="", by="", wall_ns=0)
    try:
        return msgspec.json.decode(raw, type=HaltState)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return HaltState(halted=True, reason="halt.json cannot be read", by="guard", wall_ns=time.time_ns())


def write_halt(state_dir: Path, state: HaltState) -> None:
    """Replace ``halt.json`` durably; returns only when the disk has it."""
    path = state_dir / "halt.json"
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(state))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def latch_on_disk(state_dir: Path, reason: str) -> None:
    """Halt an instance whose guard does not answer: in force from its next start, or when the lease has run out."""
    write_halt(state_dir, HaltState(halted=True, reason=reason, by="disk", wall_ns=time.time_ns()))


def ask_guard(instance: str, request: dict[str, Any]) -> dict[str, Any]:
    """One request to a running guard. Raises ControlError when it does not answer."""
    return ask(instance_dir(instance) / SOCKET_NAME, request)


class Guard:
    """The halt page and what may change it."""

    def __init__(self, ctx: WorkerContext, page: HaltPage) -> None:
        from shm.liveness import LivenessView

        self._ctx = ctx
        self._page = page
        self._venues = len(ctx.config.venues)
        self._executor = LivenessView.attach(ctx.instance, "executor", missing_ok=True)
        self.draining = False
        self.leases = ctx.metrics.counter("leases_granted", "leases granted to the executor")
        self.withheld = ctx.metrics.counter("leases_withheld", "lease periods without a grant: executor absent or hung")
        self.state = read_halt(ctx.state_dir)
        self._show()
        for venue_id in range(self._venues):  # a drain of the life before is over
            page.block_venue(venue_id, False)

    def _show(self) -> None:
        """The page follows the disk."""
        if self.state.halted:
            self._page.latch(self.state.reason)
        else:
            self._page.release()

    def grant(self, now_ns: int) -> None:
        """One lease period."""
        view = self._executor
        view.refresh()
        if not view.alive() or view.beat_age_ns(now_ns) > HUNG_AFTER_NS:
            self._ctx.metrics.inc(self.withheld)
            return
        self._page.grant(view.epoch, now_ns + LEASE_NS)
        self._ctx.metrics.inc(self.leases)

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """halt, resume, drain, undrain, block, unblock, state."""
        operation = request.get("op")
        reason = str(request.get("reason", "")).strip()
        if operation in ("halt", "resume"):
            if not reason:
                return {"error": "a reason is needed: --reason WORDS", "kind": BAD_INPUT}
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
                return {"error": f"no venue {wanted!r}: 0 to {self._venues - 1}"}
            self._page.block_venue(wanted, operation == "block")
        elif operation != "state":
            return {"error": f"unknown request {operation!r}"}
        return {"halted": self.state.halted, "reason": self.state.reason, "draining": self.draining}

    def _latch(self, *, halted: bool, reason: str, by: str) -> str:
        """Sets or opens the latch. Returns what went wrong on the disk: a halt is in force all the same (while the
        guard lives), a resume is not."""
        state = HaltState(halted=halted, reason=reason, by=by, wall_ns=time.time_ns())
        problem = ""
        try:
            # Disk before page: a guard killed in between restores the newer word, never the older one.
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
    """Accept, answer one request, close. Bounded: a silent client costs less than a lease."""
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
            reply = {"error": f"request not understood: {error}"}
        except OSError:
            return
        try:
            client.sendall(msgspec.json.encode(reply) + b"\n")
        except OSError:
            return


def run(ctx: WorkerContext) -> None:
    """Latch from disk into the page, then a lease every 100 ms, and requests in between."""
    from shm.pages import HaltPage

    page = HaltPage.create(ctx.instance)
    guard = Guard(ctx, page)
    server = listen(ctx.state_dir / SOCKET_NAME)
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
    return run_worker("guard", run)


if __name__ == "__main__":
    sys.exit(main())
