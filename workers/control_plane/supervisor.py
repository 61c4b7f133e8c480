"""The supervisor: the control plane of an instance. ``run`` reads from top to bottom what a start is.

lock the instance -> read the configuration -> warm the fork server while the venues tell their instruments -> publish
the catalogue -> start the guard, then all others -> watch: exits by the fork server's pidfds, readiness and
watchdog by the notify socket, requests by the control socket -> stop in order.

A storm of restarts halts the instance (the latch is persisted by the guard); ``arb resume`` starts the failed process
again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.model.config_reload import Changes, changes_text, reload_changes
from pipeline.model.enums import Mode, ProcessState
from pipeline.model.errors import ArbitrageEngineError, ConfigInvalid
from workers.base import (
    EXIT_CLEAN,
    EXIT_CONFIG,
    EXIT_COULD_NOT_START,
    LOG_LEVELS,
    RELOAD_FILE,
    WARM_TIMEOUT_US,
    Notifier,
    die_with_parent,
    instance_dir,
    load_credentials,
)
from workers.cli.output import EXIT_INTERRUPTED
from workers.control_plane.children import STOP_TIMEOUT_S, Child, Children, ChildState
from workers.control_plane.fork_server import MESSAGE_BYTES_MAX, start_fork_server
from workers.control_plane.preflight import CouldNotStart, check_keys, check_mode, lock_instance, paper_fees

if TYPE_CHECKING:
    from pipeline.model.config import EngineConfig

TICK_S = 0.25
REFRESH_S = 600.0  # instruments are read again every 10 minutes
WANTED_DIGITS_S = 0.5  # how often the feeds are asked whether a price needed a finer exponent
RETRY_VENUE_S = 10.0  # and a venue that was unreachable at the start, this often
GUARD_READY_S = 30.0
LOG_BYTES_MAX = 4 * 1024 * 1024  # what a process wrote to stderr is begun anew beyond this; logs/ has it in order
TRIM_LOGS_S = 30.0
WARM_MODULES = ("guard", "recorder", "poller", "feed", "detector", "executor")
EARLY_MODULES = ("guard", "recorder", "detector")
RELOADING = ("detector", "executor")  # processes that take in a reloaded configuration
WATCHDOG_US = 10_000_000
EARLY_PIDS_MAX = 32  # more processes than an instance has: the rest is noise


class Supervisor:
    """One running instance."""

    def __init__(
        self, *, instance: str, config: EngineConfig, config_path: str | None, fork_server: socket.socket, units: bool
    ) -> None:
        self.instance = instance
        self.config = config
        self.config_path = config_path
        self.state_dir = instance_dir(instance, create=True)
        self.children = Children(config.feeds)
        self.state = "starting"
        self.notes: list[str] = []
        self._fork_server = fork_server  # with ``units`` only until the kernels are in the cache
        self._units = units  # systemd starts, pins and watches the processes: we observe
        self._fork_server_gone = asyncio.Event()
        self._warm = asyncio.Event()
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._early: dict[int, list[str]] = {}  # words of children whose pid the fork server has not told yet
        self._pending_venues: list[str] = []
        self._warming = ""
        self._failure: str | None = None
        self._was_ready = False
        self._interrupted = False
        self._notifier = Notifier()
        self._started_wall_ns = time.time_ns()
        self._notify_name = f"@arb-{instance}-{secrets.token_hex(6)}"

    # --- life ---

    async def run(self) -> int:
        """Start, watch, stop. Returns the exit code of the instance."""
        from pipeline.exchanges.factory import make_venue
        from pipeline.execution.journal import shrink
        from pipeline.paper import open_accounts
        from shm.liveness import Liveness
        from shm.logring import LogRing
        from shm.pages import CataloguePage
        from shm.segment import cleanup_instance
        from workers.control_plane.catalogue import CatalogueService
        from workers.control_plane.control_socket import ControlServer
        from workers.control_plane.requests import Requests

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.request_stop)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        # a terminal that closes ends what it started; without one, SIGHUP is the word for a reload
        loop.add_signal_handler(signal.SIGHUP, self.request_stop if os.isatty(0) else self._hang_up)
        cleanup_instance(self.instance)
        (self.state_dir / RELOAD_FILE).unlink(missing_ok=True)  # of an earlier run
        self._trim_logs()
        self._liveness = Liveness.create(self.instance, "supervisor")
        self._log = LogRing.create(self.instance, "supervisor")
        self._liveness.set_state(ProcessState.WARMING)
        notify = self._open_notify(loop)
        self._fork_server.setblocking(False)
        loop.add_reader(self._fork_server, self._on_fork_server)
        self._send_to_fork_server(op="config", path=self.config_path)
        dialects = sorted({venue.dialect for venue in self.config.venues})
        self._send_to_fork_server(op="warm", modules=WARM_MODULES, dialects=dialects, last=True)
        self.write_run_file()
        clients = {
            venue.name: make_venue(venue, load_credentials(self.config, venue.exchange, instance=self.instance))
            for venue in self.config.venues
        }
        page = CataloguePage.create(self.instance)
        self.catalogue = CatalogueService(self.config, clients, page, self.say)
        if self.config.mode is Mode.PAPER:
            self.catalogue.fees = paper_fees(self.state_dir)
        control = ControlServer(self.state_dir / "supervisor.sock", Requests(self).handle)
        try:
            await self._load_catalogue()
            if self.config.mode is Mode.PAPER:
                open_accounts(self.state_dir / "paper", [row.spec for row in self.catalogue.rows])
            else:
                await check_keys(self.config, self.instance, clients, self.say)
            await control.start()
            await self._until(self._warm)
            if self._units:
                self._close_fork_server()
                self._notifier.send("READY=1\nSTATUS=catalogue published; waiting for the other units")
            else:
                await self._start_children()
            await self._watch()
        except CouldNotStart as error:
            self.say("error", str(error))
            self._failure = str(error)
        except ConfigInvalid as error:
            self._failure = str(error)
            raise
        finally:
            await self._stop_children()
            if not any(child.alive for child in self.children):
                shrink(self.state_dir / "journal")
            await control.close()
            for client in clients.values():
                await client.close()
            loop.remove_reader(notify)
            notify.close()
            self._close_fork_server()
            self.state = "failed" if self._failure else "stopped"
            self._liveness.set_state(ProcessState.STOPPED)
            self.write_run_file()
            self._liveness.close()
            self._log.close()
            page.close()
            if not self._failure or not self._was_ready:
                cleanup_instance(self.instance)  # after a failure of a running instance they stay for `arb status`
        if self._failure:
            return EXIT_COULD_NOT_START
        return EXIT_INTERRUPTED if self._interrupted else EXIT_CLEAN

    @property
    def failure(self) -> str | None:
        """Why the instance could not start or go on; None when nothing was wrong."""
        return self._failure

    def _interrupt(self) -> None:
        """Ctrl-C: the same orderly stop; the exit code says who asked."""
        self._interrupted = True
        self.request_stop()

    def _close_fork_server(self) -> None:
        if self._fork_server.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._fork_server)
            self._fork_server.close()

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for ``event`` unless the instance is asked to stop or the fork server dies before."""
        waits = [asyncio.create_task(e.wait()) for e in (event, self._stop, self._fork_server_gone)]
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if self._fork_server_gone.is_set() or self._failure:
            raise CouldNotStart(self._failure or "the fork server ended before it was warm; see the lines above")

    async def _load_catalogue(self) -> None:
        failures = await self.catalogue.load(self.config.venues)
        for failure in failures:
            self.say("warning", f"venue unreachable: {failure.text}")
        self._pending_venues = [failure.venue for failure in failures]
        if len(failures) == len(self.config.venues):
            reasons = "; ".join(failure.text for failure in failures) or "no venue is configured"
            raise CouldNotStart(f"no venue answers: {reasons}. Check exchanges.*.markets.*.rest")

    async def _start_children(self) -> None:
        if self._stop.is_set():
            return
        now = time.monotonic()
        self.children["guard"].want(now)
        self._spawn_due(now)
        deadline = now + GUARD_READY_S
        while self.children["guard"].state is not ChildState.READY and not self._stop.is_set():
            if time.monotonic() > deadline or self._failure:
                raise CouldNotStart(self._failure or "the guard is not READY; see log/guard.log in the state folder")
            await self._next_change()
            self._spawn_due(time.monotonic())
        for child in self.children:
            if child.process != "guard":
                child.want(time.monotonic())
        self._spawn_due(time.monotonic())

    async def _watch(self) -> None:
        """Until the stop: restart what ended, kill what hangs, refresh the catalogue, beat."""
        from shm.liveness import LivenessView

        refresh_s = float(os.environ.get("ARB_TEST_CATALOGUE_REFRESH_S", REFRESH_S))
        refresh_at = time.monotonic() + refresh_s
        digits_at = 0.0
        retry_at = time.monotonic() + RETRY_VENUE_S
        trim_at = time.monotonic() + TRIM_LOGS_S
        while not self._stop.is_set():
            now = time.monotonic()
            self._liveness.beat()
            self._notifier.send("WATCHDOG=1")
            if self._units:
                if self.children.observe(LivenessView.attach_all(self.instance), now):
                    self.write_run_file()
            else:
                self._spawn_due(now)
                self._kill_hung(now)
            self._follow_state()
            if now >= digits_at:
                digits_at = now + WANTED_DIGITS_S
                self._raise_exponents()
            if now >= refresh_at:
                refresh_at = now + refresh_s
                self._in_background(self._refresh([venue.name for venue in self.config.venues]))
            elif self._pending_venues and now >= retry_at:
                retry_at = now + RETRY_VENUE_S
                self._in_background(self._refresh(self._pending_venues))
            if now >= trim_at:
                trim_at = now + TRIM_LOGS_S
                self._trim_logs()
            if self._fork_server_gone.is_set():
                raise CouldNotStart("the fork server died: children died with it")
            await self._next_change()

    async def _next_change(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                await self._changed.wait()
        self._changed.clear()

    def _follow_state(self) -> None:
        ready, failed = self.children.all_ready(), self.children.any_failed()
        state = "failed" if failed else "ready" if ready else "starting" if self.state == "starting" else "degraded"
        if state == self.state:
            return
        self.state = state
        if state == "ready":
            self._was_ready = True
            self._liveness.set_state(ProcessState.READY)
            self._notifier.send("READY=1")
        else:
            self._liveness.set_state(ProcessState.DEGRADED)
        self.write_run_file()

    def request_stop(self) -> None:
        self._stop.set()
        self._changed.set()

    async def _refresh(self, names: list[str]) -> None:
        venues = [self.config.venue(name) for name in names]
        failures = await self.catalogue.load(venues)
        failed = [failure.venue for failure in failures]
        self._pending_venues = [v for v in self._pending_venues if v not in names] + failed
        self.ring_feeds()

    def _hang_up(self) -> None:
        try:
            self.reload()
        except ConfigInvalid as error:
            self.say("error", f"reload refused, nothing changed: {error}")

    def reload(self) -> Changes:
        """Read the configuration again and hand it to who reads limits at each use; returns what changed.

        Raises ConfigInvalid, and nothing has changed, when it is wrong or changes something that needs a restart.
        """
        from pipeline.model.config_load import load_config

        wanted = load_config(self.config_path)
        changes = reload_changes(self.config, wanted)
        if changes:
            path = self.state_dir / RELOAD_FILE
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(msgspec.json.encode(wanted))
            temporary.replace(path)
            self.config = wanted
            self._send_to_fork_server(op="config", path=str(path))  # for children that are started from now on
            for process in RELOADING:
                self.children[process].signal(signal.SIGHUP)
        self.say("info", f"configuration reloaded: {changes_text(changes)}")
        return changes

    def _raise_exponents(self) -> None:
        """A feed met a price that its row cannot hold: the whole pair gets a finer exponent and a new epoch."""
        from shm.errors import ShmError
        from shm.metrics import Metrics

        for feed in self.config.feeds:
            try:
                metrics = Metrics.attach(self.instance, f"feed.{feed}")
            except ShmError:  # not there yet, or being replaced: the next look finds it
                continue
            if self.catalogue.take_wanted(metrics.counters()):
                self.ring_feeds()
            metrics.close()

    def ring_feeds(self) -> None:
        """Wake the feeds: the catalogue has changed. A feed that has no bell yet reads the catalogue when it starts."""
        for feed in self.config.feeds:
            with contextlib.suppress(OSError):
                bell = os.open(self.state_dir / "bells" / f"feed.{feed}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    os.write(bell, b"c")
                finally:
                    os.close(bell)

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[Any]) -> None:
        """What failed in the background is said; the watch goes on without it."""
        self._background.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.say("error", f"in the background: {type(error).__name__}: {error}")

    # --- children ---

    def _spawn_due(self, now_s: float) -> None:
        for child in self.children:
            if child.due(now_s):
                child.starting(now_s)
                environment = {"NOTIFY_SOCKET": self._notify_name, "WATCHDOG_USEC": str(WATCHDOG_US)}
                crash_at = os.environ.get("ARB_CRASH_AT", "")
                if crash_at and child.restarts == 0:
                    environment["ARB_CRASH_AT"] = crash_at
                self._send_to_fork_server(
                    op="spawn",
                    process=child.process,
                    exchange=child.exchange,
                    instance=self.instance,
                    restarts=child.restarts,
                    env=environment,
                    log=str(self.state_dir / "log" / f"{child.process}.log"),
                )

    def _kill_hung(self, now_s: float) -> None:
        for child in self.children:
            reason = child.hung(now_s)
            if reason and child.alive:
                self.say("error", f"{child.process}: {reason}; killed")
                child.proof_s = child.started_s = now_s
                child.signal(signal.SIGKILL)

    async def _stop_children(self) -> None:
        self.state = "stopping"
        self._liveness.set_state(ProcessState.STOPPING)
        self._notifier.send("STOPPING=1")
        if self._units:
            return
        for group in self.children.stop_groups():
            for child in group:
                child.stop()
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while any(child.alive for child in group) and not self._fork_server_gone.is_set():
                if time.monotonic() > deadline:
                    for child in group:
                        if child.alive:
                            self.say("error", f"{child.process} did not stop in {STOP_TIMEOUT_S:.0f} s; killed")
                            child.signal(signal.SIGKILL)
                    deadline += STOP_TIMEOUT_S
                await self._next_change()

    def _send_to_fork_server(self, **message: Any) -> None:
        if self._fork_server.fileno() >= 0:
            self._fork_server.send(msgspec.json.encode(message))

    def _on_fork_server(self) -> None:
        try:
            raw = self._fork_server.recv(MESSAGE_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            raw = b""
        self._changed.set()
        if not raw:
            asyncio.get_running_loop().remove_reader(self._fork_server)
            self._fork_server_gone.set()
            return
        message: dict[str, Any] = msgspec.json.decode(raw)
        event = message["event"]
        if event == "warming":
            self._warming = message["text"]
            self.say("info", f"compiling kernels, the first time only: {self._warming}")
            self._notifier.send(f"EXTEND_TIMEOUT_USEC={WARM_TIMEOUT_US}\nSTATUS=compiling kernels: {self._warming}")
            self.write_run_file()
        elif event == "warmed":
            self.say("info", f"warm: {message['module']} in {message['seconds']} s")
        elif event == "cache":
            self.say("warning", f"machine code: {message['text']}")
        elif event == "warm":
            self._warming = ""
            self._warm.set()
        elif event == "failed":
            self._failure = message["text"]
            self._warm.set()
        elif event == "spawned":
            child = self.children[message["process"]]
            child.spawned(message["pid"])
            for text in self._early.pop(message["pid"], []):
                child.notified(text, time.monotonic())
            self.write_run_file()
        elif event == "exited":
            self._on_exit(self.children[message["process"]], message["status"])

    def _on_exit(self, child: Child, status: int) -> None:
        storm = child.exited(status, time.monotonic())
        if child.state is not ChildState.STOPPED and not self._stop.is_set():
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
            self.say("warning", f"{child.process} ended ({how}); {child.status}")
        if storm:
            if status == EXIT_CONFIG and self.state == "starting":
                self._failure = f"{child.process} refuses the configuration: {child.status}"
                self._stop.set()
            else:
                self.say("error", f"{child.process}: restart storm; halting")
                self._in_background(self.halt(f"restart storm of {child.process}"))
        self.write_run_file()

    async def halt(self, reason: str) -> None:
        """Latch the halt: through the guard, or on disk when the guard is not there to hear it."""
        from workers.control_plane.control_socket import ControlError
        from workers.guard import ask_guard, latch_on_disk

        try:
            await asyncio.to_thread(ask_guard, self.instance, {"op": "halt", "reason": reason})
        except ControlError:
            latch_on_disk(self.state_dir, reason)

    # --- notify socket ---

    def _open_notify(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        server.setblocking(False)
        server.bind("\0" + self._notify_name[1:])
        loop.add_reader(server, self._on_notify, server)
        return server

    def _on_notify(self, server: socket.socket) -> None:
        while True:
            try:
                raw, ancillary, _, _ = server.recvmsg(4096, socket.CMSG_SPACE(12))
            except BlockingIOError:
                return
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    pid, uid, _ = struct.unpack("3i", data[:12])
                    if uid in (0, os.geteuid()):
                        self._heard(pid, raw.decode(errors="replace"))

    def _heard(self, pid: int, text: str) -> None:
        child = self.children.by_pid(pid)
        if child is None:
            if len(self._early) < EARLY_PIDS_MAX:
                self._early.setdefault(pid, []).append(text)
        elif child.notified(text, time.monotonic()):
            self._changed.set()
            self.write_run_file()

    # --- words for people ---

    def say(self, level: str, text: str) -> None:
        self.notes = [*self.notes[-49:], f"{level}: {text}"]
        self._log.text(LOG_LEVELS[level], text)
        sys.stderr.write(f"supervisor: {level}: {text}\n")
        sys.stderr.flush()

    def describe(self) -> dict[str, Any]:
        """What ``run.json`` and the status request say."""
        return {
            "instance": self.instance,
            "mode": str(self.config.mode),
            "state": self.state,
            "warming": self._warming,
            "failure": self._failure,
            "pid": os.getpid(),
            "uid": os.geteuid(),
            "config": self.config_path,
            "started_wall_ns": self._started_wall_ns,
            "processes": {
                child.process: {**child.describe(), "cpus": list(self.config.process(child.process).cpus)}
                for child in self.children
            },
            "venues": {
                venue.name: {"rest": venue.rest, "ws": venue.ws, "reachable": venue.name not in self._pending_venues}
                for venue in self.config.venues
            },
            "notes": self.notes[-10:],
        }

    def write_run_file(self) -> None:
        """Replace ``run.json`` whole: a reader sees the old or the new one."""
        path = self.state_dir / "run.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(self.describe()), indent=1))
        temporary.replace(path)

    def _trim_logs(self) -> None:
        for log in (self.state_dir / "log").glob("*.log"):
            if log.stat().st_size > LOG_BYTES_MAX:
                os.truncate(log, 0)  # its writer appends: it goes on at the beginning


def _await_config(path: Path) -> None:
    """Wait for a configuration that the parent (a demo) writes once its venues have told their ports."""
    while not path.exists():
        time.sleep(0.01)


def main(argv: list[str] | None = None) -> int:
    """``python -m workers.control_plane.supervisor``: what ``arb up`` and systemd run."""
    parser = argparse.ArgumentParser(prog="python -m workers.control_plane.supervisor")
    parser.add_argument("--config", default=None)
    parser.add_argument("--instance", default="")
    parser.add_argument("--mode", default="", choices=["", *(mode.value for mode in Mode)])
    parser.add_argument("--i-understand-live-trading", action="store_true")
    parser.add_argument("--units", action="store_true", help="systemd starts the other processes")
    parser.add_argument("--await-config", action="store_true")
    parser.add_argument("--parent", type=int, default=0, help="end when this parent process ends")
    arguments = parser.parse_args(argv)
    if arguments.parent:
        die_with_parent(signal.SIGTERM, arguments.parent)
    try:
        code, _ = run_instance(
            arguments.config,
            instance=arguments.instance,
            mode=arguments.mode,
            live_confirmed=arguments.i_understand_live_trading,
            await_config=arguments.await_config,
            units=arguments.units,
        )
        return code
    except ConfigInvalid as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIG
    except ArbitrageEngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_COULD_NOT_START


def run_instance(
    config_path: str | None,
    *,
    instance: str,
    mode: str,
    live_confirmed: bool,
    await_config: bool = False,
    units: bool = False,
) -> tuple[int, str | None]:
    """A whole instance in the foreground until SIGTERM or SIGINT: its exit code, and why it failed if it did.

    Raises ConfigInvalid, CouldNotStart. Call before any thread or loop.
    """
    from pipeline.model.config_load import load_config

    if mode:
        os.environ["ARB_MODE"] = mode
    if not await_config:  # what is wrong is said before anything is started
        early = load_config(config_path)
        check_mode(early, instance or early.instance, live_confirmed=live_confirmed)
    _, fork_server = start_fork_server()
    if await_config:  # the heavy imports and the kernels that every dialect shares need no configuration
        fork_server.send(msgspec.json.encode({"op": "warm", "modules": EARLY_MODULES, "dialects": [], "last": False}))
        _await_config(Path(str(config_path)))
    config = load_config(config_path)
    name = instance or config.instance
    check_mode(config, name, live_confirmed=live_confirmed)
    lock = lock_instance(name)
    try:
        supervisor = Supervisor(
            instance=name, config=config, config_path=config_path, fork_server=fork_server, units=units
        )
        return asyncio.run(supervisor.run()), supervisor.failure
    finally:
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main())
