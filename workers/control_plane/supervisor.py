"""The supervisor: the control plane of an instance. ``Supervisor.run`` reads from top to bottom what a start is.

Its caller (``start.run_instance``) has checked the configuration, forked the fork server and taken the instance's lock.
The supervisor then publishes the catalogue while the fork server loads the kernels, starts the guard and after it all
others, and watches: exits by the fork server's messages, readiness and watchdog by the notify socket, requests by the
control socket. With ``units`` systemd starts and watches the processes, and the supervisor observes them.

A restart storm of one process halts the instance (the guard keeps the latch on disk); ``arb resume`` starts the process
again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from functools import partial
from typing import Any

import msgspec

from pipeline.exchanges.base import VenueClient
from pipeline.exchanges.factory import make_venue
from pipeline.execution.crash_points import crash_points_here
from pipeline.execution.journal import shrink
from pipeline.model.config import EngineConfig
from pipeline.model.config_reload import Changes, changes_text, reload_changes
from pipeline.model.enums import Mode, ProcessState
from pipeline.model.errors import ConfigInvalid
from pipeline.paper_account import open_accounts
from shm.liveness import Liveness, LivenessView
from shm.pages import CataloguePage
from shm.segment import cleanup_instance
from workers.base import RELOAD_FILE, WARM_TIMEOUT_US, Notifier, ignore_stop_requests
from workers.control_plane.announcer import NOTES_SHOWN, Announcer, Event
from workers.control_plane.best_effort import Background, BestEffort
from workers.control_plane.catalogue import CatalogueService, WantedRows
from workers.control_plane.children import Child, Children, ChildState
from workers.control_plane.close_before_stop import StopClosing, stop_bound_s, stop_notice
from workers.control_plane.fork_client import GONE, SILENT_MAX_S, ForkServerClient, spawn_request
from workers.control_plane.instances import venue_row, write_run_file
from workers.control_plane.notify_socket import NotifySocket
from workers.control_plane.preflight import (
    CouldNotStart,
    ForkServerLost,
    check_keys,
    first_rows,
    paper_fees,
    reloaded_config,
)
from workers.control_plane.requests import Requests
from workers.control_plane.restart_storm import give_up
from workers.control_plane.started_again import may_start_again
from workers.control_plane.stopping import stop_group, take_signals
from workers.control_plane.timer import RETRY_VENUE_S, TICK_S, Timer, came, each_tick, first_of
from workers.control_socket import SUPERVISOR_SOCKET, ControlServer
from workers.credentials import load_credentials
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from workers.last_run.detection_switch import as_switched, forget_stopped
from workers.last_run.symbol_switch import forget_symbols, kept_symbols
from workers.locked_keys import locked_files
from workers.state_folder import LAST_DEMO, LOG_BYTES_MAX, instance_dir, replace_file, trim_logs

REFRESH_S = 120.0  # instruments are read again: rates of funding and their next stamps among them
WANTED_DIGITS_S = 0.5  # how often the feeds are asked whether a price needed a finer exponent
GUARD_READY_S = 45.0
TRIM_LOGS_S = 30.0
WRITE_AGAIN_S = 1.0  # a run.json that the disk has not taken
WARM_MODULES = ("guard", "recorder", "poller", "feed", "detector", "executor")
RELOADING = ("detector", "executor", "guard")  # processes that take in a reloaded configuration
EARLY_PIDS_MAX = 32  # more processes than an instance has


class Supervisor:
    """One running instance. Constructed before the event loop; everything else happens in :meth:`run`."""

    catalogue: CatalogueService

    def __init__(
        self,
        *,
        instance: str,
        config: EngineConfig,
        config_path: str | None,
        fork_server: tuple[int, socket.socket],
        units: bool,
        on_event: Event | None = None,
    ) -> None:
        """``fork_server``: its pid, our end of its channel; with ``units`` it only compiles the kernels."""
        self.instance = instance
        self.config = config
        self.config_path = None if config_path is None else os.path.abspath(config_path)  # commands run elsewhere
        self.state_dir = instance_dir(instance, create=True)
        self.children = Children(config.feeds, monitored=config.monitoring is not None)
        self.state = "starting"
        self.announcer = Announcer(instance, self.state_dir, config, units=units, on_event=on_event)
        self._left_open: dict[str, Any] = {}
        self._fork_server_pid, self._channel = fork_server
        self._best_effort = BestEffort(self.announcer.say)
        self._run_file_due = True
        self.units = units
        self._warm, self._changed, self._stop, self._fork_server_gone = (asyncio.Event() for _ in range(4))
        self._background = Background(self.announcer.say)
        self._refreshing: asyncio.Task[None] | None = None  # instruments that are being read
        self._early: dict[int, list[str]] = {}  # messages of children whose pid the fork server has not reported yet
        self._pending_venues: list[str] = []  # whose instruments could not be read
        self._row_notes: dict[str, dict[str, str]] = {}  # what is amiss with instruments
        self._outdated: list[str] = []  # venues whose rows are not what holds any longer: fees, funding, a refusal
        self._warming = ""
        self._failure: str | None = None
        self._locked_keys = config.mode is not Mode.PAPER and bool(locked_files(instance))
        self._was_ready = self._interrupted = self.starts_again = False  # the last: the caller begins anew
        self._crash = crash_points_here(config.mode)
        self._notifier = Notifier()
        self._started_wall_ns = time.time_ns()

    @property
    def ended(self) -> dict[str, Any]:
        """Why the instance could not start or go on (``error``; None: nothing was wrong), and what stays open."""
        return {"error": self._failure, **self._left_open}

    # --- life ---

    async def run(self) -> int:
        """Start, watch, stop. Returns the exit code of the instance. Raises ConfigInvalid, ShmError, OSError."""
        take_signals(stop=self.request_stop, interrupt=self._interrupt, hang_up=self._hang_up)
        self._forget_earlier_run()
        self._open_shared_memory()
        self._open_channels()
        self.write_run_file()
        self._open_catalogue()
        control = ControlServer(self.state_dir / SUPERVISOR_SOCKET, Requests(self).handle, self.announcer.say)
        try:
            await control.start()  # first of all: a start that waits for a venue can be asked and stopped
            self._background.start(each_tick(self._liveness.beat, lambda: self.state == "starting"))
            await self._load_catalogue()
            await self._open_accounts()
            await self._until(self._warm)
            await self._start_processes()
            await self._watch()
        except CouldNotStart as error:
            self.announcer.say("error", str(error))
            self._failure = str(error)
            self.starts_again = isinstance(error, ForkServerLost) and may_start_again(time.monotonic())
            if self.starts_again and not self._stop.is_set():
                self.announcer.say("warning", "the instance begins anew")
        except ConfigInvalid as error:
            self._failure = str(error)
            raise
        finally:
            await self._stop_children()
            await control.close()
            await self._close()
            self.starts_again = self.starts_again and not self._stop.is_set()  # also asked meanwhile
            if not self.starts_again:
                ignore_stop_requests(asyncio.get_running_loop())
        if self._failure:
            return EXIT_COULD_NOT_START
        return EXIT_INTERRUPTED if self._interrupted else EXIT_OK

    # --- steps of a start ---

    def _forget_earlier_run(self) -> None:
        cleanup_instance(self.instance)
        for name in (RELOAD_FILE, LAST_DEMO):  # the next demo removes no folder that somebody uses
            (self.state_dir / name).unlink(missing_ok=True)
        self.config = as_switched(self.config, self.state_dir)
        trim_logs(self.state_dir / "log", LOG_BYTES_MAX)

    def _open_shared_memory(self) -> None:
        self._liveness = Liveness.create(self.instance, "supervisor")
        self.announcer.open()
        self._liveness.set_state(ProcessState.WARMING)

    def _open_channels(self) -> None:
        self._notify = NotifySocket(self.instance, self._on_notify)
        self._fork_server = ForkServerClient(self._channel, self._fork_server_pid, self._on_fork_server)
        self._fork_server.send(op="config", path=self.config_path)
        dialects = sorted({venue.dialect for venue in self.config.venues})
        self._fork_server.send(op="warm", modules=WARM_MODULES, dialects=dialects, last=True)

    def _open_catalogue(self) -> None:
        self._clients: dict[str, VenueClient] = {
            venue.name: make_venue(venue, load_credentials(self.config, venue.exchange, instance=self.instance))
            for venue in self.config.venues
        }
        self._page = CataloguePage.create(self.instance)
        self.catalogue = CatalogueService(self.config, self._clients, self._page, self.announcer.say, self.state_dir)
        self.catalogue.change_again(kept_symbols(self.state_dir, self.announcer.say))
        self._wanted_rows = WantedRows(self.instance, self.config.feeds, self.catalogue, self._background.start)
        if self.config.mode is Mode.PAPER:
            self.catalogue.fees = paper_fees(self.state_dir)

    async def _load_catalogue(self) -> None:
        load, venues = partial(self.catalogue.load, self.config.venues), len(self.config.venues)
        self._pending_venues = await first_rows(load, venues, self.state_dir, self.announcer.say, self._wait_longer)

    async def _wait_longer(self) -> bool:
        self._notifier.send(f"EXTEND_TIMEOUT_USEC={WARM_TIMEOUT_US}\nSTATUS=no venue answers; asked again by itself")
        self._pending_venues = [venue.name for venue in self.config.venues]
        self.write_run_file()
        await self._until(self._stop, RETRY_VENUE_S)
        return not self._stop.is_set()

    async def _open_accounts(self) -> None:
        if self.config.mode is Mode.PAPER:
            open_accounts(self.state_dir / "paper", self.catalogue.traded(), self.config.paper)
        else:
            await check_keys(self.config, self.instance, self._clients, self.announcer.say)

    async def _until(self, event: asyncio.Event, within_s: float | None = None) -> None:
        """Wait for ``event`` unless the instance is asked to stop or the fork server dies before."""
        await first_of(event, self._stop, self._fork_server_gone, within_s=within_s)
        if self._fork_server_gone.is_set() or self._failure:
            raise CouldNotStart(self._failure or "the fork server ended during the start; see the lines above")

    async def _start_processes(self) -> None:
        """The guard, and when it is READY all others. With ``units`` only say that systemd may start them."""
        if self.units:
            self._fork_server.close()
            self._notifier.send("READY=1\nSTATUS=catalogue published; waiting for the other units")
            return
        if self._stop.is_set():
            return
        now = time.monotonic()
        self.children["guard"].want(now)
        self._spawn_due(now)
        deadline = now + GUARD_READY_S
        while self.children["guard"].state is not ChildState.READY and not self._stop.is_set():
            if time.monotonic() > deadline or self._failure:
                log = self.state_dir / "log" / "guard.log"
                raise CouldNotStart(self._failure or f"the guard is not READY after {GUARD_READY_S:.0f} s; see {log}")
            await self._next_change()
            self._spawn_due(time.monotonic())
        for child in self.children:
            if child.process != "guard":
                child.want(time.monotonic())
        self._spawn_due(time.monotonic())

    async def _watch(self) -> None:
        """Until the stop: restart what ended, kill what hangs, keep the catalogue current, beat."""
        now = time.monotonic()
        refresh_s = float(os.environ.get("ARB_TEST_CATALOGUE_REFRESH_S", REFRESH_S))
        refresh = Timer(refresh_s, now + refresh_s)
        retry = Timer(RETRY_VENUE_S, now + RETRY_VENUE_S)
        trim = Timer(TRIM_LOGS_S, now + TRIM_LOGS_S)
        digits, write = Timer(WANTED_DIGITS_S, now), Timer(WRITE_AGAIN_S, now)
        while not self._stop.is_set():
            now = time.monotonic()
            self._liveness.beat()
            self._notifier.send("WATCHDOG=1")
            self._best_effort("processes", partial(self._look_after_children, now))
            self._follow_state()
            look = partial(self.announcer.look, self.describe, now, all_ready=self.children.all_ready())
            self._best_effort("views of the processes", look)
            if digits.due(now):
                self._best_effort("rows", self._look_at_rows)
            idle = self._refreshing is None or self._refreshing.done()  # two would take each other's request budget
            if idle and refresh.due(now):
                self._refreshing = self._background.start(self._refresh([venue.name for venue in self.config.venues]))
            elif idle and (stale := {*self._pending_venues, *self._outdated}) and retry.due(now):
                self._refreshing = self._background.start(self._refresh(sorted(stale)))
            if trim.due(now):
                self._best_effort("logs", lambda: trim_logs(self.state_dir / "log", LOG_BYTES_MAX))
            if self._run_file_due and write.due(now):
                self.write_run_file()
            if self._fork_server_gone.is_set():
                raise ForkServerLost("the fork server ended, and the other processes with it")
            await self._next_change()

    def _look_after_children(self, now_s: float) -> None:
        """Start what is due and kill what hangs; with ``units`` observe what systemd does."""
        if not self.units:
            self._spawn_due(now_s)
            self._kill_hung(now_s)
            if self._fork_server.ended_because_it_hangs(now_s):  # nothing could be started again any more
                self.announcer.say("error", f"the fork server has not answered for {SILENT_MAX_S:.0f} s; killed")
        elif self.children.observe(LivenessView.attach_all(self.instance), now_s):
            self.write_run_file()

    async def _next_change(self) -> None:
        await came(self._changed, TICK_S)
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
        self._crash("supervisor_noted")
        self.write_run_file()

    def request_stop(self) -> None:
        """Ask for an orderly stop, as SIGTERM does."""
        self._stop.set()
        self._changed.set()

    def _interrupt(self) -> None:
        """Ctrl-C: the same orderly stop with another exit code."""
        self._interrupted = True
        self.request_stop()

    async def _close(self) -> None:
        """What is left once the children have stopped; segments of a failed running instance stay for `arb status`."""
        if not self.starts_again:
            self._best_effort("what stays open", lambda: self._left_open.update(self.announcer.left_open()))
        if all(child.ended() for child in self.children):
            self._best_effort("journal", lambda: shrink(self.state_dir / "journal"))
        if self._stop.is_set() and not self.units and not self._failure:  # an orderly stop: then as configured
            for forget in (forget_stopped, forget_symbols):
                self._best_effort("switches", partial(forget, self.state_dir))
        for client in self._clients.values():
            await client.close()
        self._notify.close()
        self._fork_server.close()
        self.state = "failed" if self._failure else "stopped"
        self._liveness.set_state(ProcessState.STOPPED)
        self.write_run_file()
        self._liveness.close()
        self.announcer.close()
        self._page.close()
        if not self._failure or not self._was_ready:
            cleanup_instance(self.instance)

    # --- catalogue and configuration ---

    async def _refresh(self, names: list[str]) -> None:
        failed = [failure.venue for failure in await self.catalogue.load([self.config.venue(name) for name in names])]
        self._pending_venues, self._run_file_due = [v for v in self._pending_venues if v not in names] + failed, True

    def _hang_up(self) -> None:
        try:
            self.reload()
        except (ConfigInvalid, OSError) as error:
            self.announcer.say("error", f"reload refused, nothing changed: {error}")

    def reload(self, wanted: EngineConfig | None = None) -> Changes:
        """Read the configuration again (or take ``wanted``), pass it on to who takes it in; returns what changed.

        Raises ConfigInvalid, and nothing has changed, when it is wrong or changes something that needs a restart.
        """
        by_file, wanted = wanted is None, wanted or reloaded_config(self.config_path)
        changes = reload_changes(self.config, wanted)
        if by_file:
            forget_stopped(self.state_dir)
        if changes:
            path = self.state_dir / RELOAD_FILE
            replace_file(path, msgspec.json.encode(wanted))
            self.config = wanted
            self.catalogue.before_end_h = wanted.detection.no_entries_before_end_h
            self._fork_server.send(op="accepted", path=str(path))  # for children that are started from now on
            for process in RELOADING:
                self.children[process].signal(signal.SIGHUP)
        self.announcer.say("info", f"configuration reloaded: {changes_text(changes)}")
        return changes

    def _look_at_rows(self) -> None:
        """What the processes ask of the catalogue, and what is amiss with its instruments."""
        self._outdated = self._wanted_rows.look()
        notes = self.catalogue.row_notes()
        if notes != self._row_notes:
            self._row_notes, self._run_file_due = notes, True

    # --- children ---

    def _spawn_due(self, now_s: float) -> None:
        for child in self.children:
            if child.due(now_s):
                child.starting(now_s)
                request = spawn_request(child, self.instance, self.state_dir, self._notify.address)
                if not self._fork_server.send(**request):
                    child.not_started(now_s)
                self._crash("supervisor_spawned")

    def _kill_hung(self, now_s: float) -> None:
        for child in self.children:
            reason = child.hung(now_s)
            if reason and child.alive:
                self.announcer.say("error", f"{child.process}: {reason}; killed")
                child.proof_s = child.started_s = now_s
                child.signal(signal.SIGKILL)

    async def _stop_children(self) -> None:
        self.state = "stopping"
        self._liveness.set_state(ProcessState.STOPPING)
        self._crash("supervisor_stopping")
        self._notifier.send(stop_notice(self.config))
        if self.units:
            return
        closing = StopClosing(self.config, self.children, self.state_dir, self.announcer.say, self.write_run_file)
        for group in self.children.stop_groups():
            if self._was_ready and self._reports():
                await closing.before(group, lambda: self._spawn_due(time.monotonic()))
            await stop_group(group, self.announcer.say, self._next_change, self._reports)
            if self._reports():
                await closing.after(group, lambda: self._spawn_due(time.monotonic()))

    def _reports(self) -> bool:
        """Whether there is a fork server that tells of the ends of processes."""
        return not self._fork_server_gone.is_set()

    def _on_fork_server(self, message: dict[str, Any]) -> None:
        """One message of the fork server; its events are listed in ``fork_server``."""
        self._changed.set()
        event = message["event"]
        if event == GONE:
            self._fork_server_gone.set()
        elif event == "warming":
            self._warming = message["text"]
            self.announcer.say("info", f"compiling kernels, the first time only: {self._warming}")
            self._notifier.send(f"EXTEND_TIMEOUT_USEC={WARM_TIMEOUT_US}\nSTATUS=compiling kernels: {self._warming}")
            self.write_run_file()
        elif event == "warmed":
            self.announcer.say("info", f"warm: {message['module']} in {message['seconds']} s")
        elif event == "not taken":
            self.announcer.say("error", message["text"])
        elif event == "cache":
            self.announcer.say("warning", f"machine code: {message['text']}")
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
            self.announcer.say("warning", f"{child.process} ended ({how}); {child.status}")
        if storm:
            if status == EXIT_USAGE and self.state == "starting":
                self._failure = f"{child.process} refuses the configuration: {child.status}"
                self._stop.set()
            else:
                self.announcer.say("error", f"{child.process}: restart storm; halting: `arb resume` starts it again")
                self._background.start(give_up(self.state_dir, child.process, child.is_failed))
        self.write_run_file()

    def _on_notify(self, pid: int, text: str) -> None:
        """One message of a child's readiness protocol."""
        child = self.children.by_pid(pid)
        if child is None:
            if len(self._early) < EARLY_PIDS_MAX:
                self._early.setdefault(pid, []).append(text)
        elif child.notified(text, time.monotonic()):
            self._changed.set()
            self.write_run_file()

    # --- what operators see ---

    def describe(self) -> dict[str, Any]:
        """The instance as ``run.json`` and the status request show it."""
        return {
            "instance": self.instance,
            "mode": str(self.config.mode),
            "state": self.state,
            "units": self.units,
            "warming": self._warming,
            "failure": self._failure,
            "pid": os.getpid(),
            "uid": os.geteuid(),
            "config": self.config_path,
            "profile": os.environ.get("ARB_PROFILE", ""),
            "passphrase": self._locked_keys,
            "started_wall_ns": self._started_wall_ns,
            "stop_bound_s": stop_bound_s(self.config),
            "processes": {
                child.process: {**child.describe(), "cpus": list(self.config.process(child.process).cpus)}
                for child in self.children
            },
            "venues": {
                venue.name: venue_row(venue, reachable=venue.name not in self._pending_venues)
                for venue in self.config.venues
            },
            **self._row_notes,
            "notes": self.announcer.notes[-NOTES_SHOWN:],
            "counters": self.announcer.last_counters() if self.state in ("stopped", "failed") else {},
        }

    def write_run_file(self) -> None:
        """Replace ``run.json`` whole: a reader sees the old or the new one. A disk that refuses is asked again."""
        self._run_file_due = not self._best_effort("run.json", lambda: write_run_file(self.state_dir, self.describe()))
