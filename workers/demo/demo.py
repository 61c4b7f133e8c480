"""``arb demo``: simulated exchanges on loopback, the whole engine as real processes, and a reconciled summary.

venues up -> keys and configuration into the instance's state -> engine READY -> trade (with a live view on a terminal;
a process killed on request) -> take no new risk, let operations end -> stop the engine -> check the run by the venues'
own ledger -> clean up. The demo uses the engine from outside: it starts ``workers.control_plane``, reads shared memory
and the journal as any other program can, and takes the simulators' ledger for the truth. What loads numba or rich is
imported where it is used: engine and venues are launched before, and do not wait for it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pipeline.sim.scenarios.specs import load_scenario
from workers.control_plane.cores import plan_cores
from workers.control_plane.launch import Launched, LaunchError, block_new_risk, compiling_text
from workers.credentials import store_credentials
from workers.demo.funding_read import is_funding, unread_funding, wait_until_read
from workers.demo.kept import keep_as_last
from workers.demo.simulator import SimulatorProcess, keys_of
from workers.output import emit, say, stderr_is_terminal

DRAIN_TIMEOUT_S = 15.0
RECOVERY_TIMEOUT_S = 30.0
POLL_S = 0.1
LOOK_S = 0.25
KILL_AFTER_SHARE = 0.4  # of the run: before it to have something to lose, after it to come back


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``arb demo``; ``quiet`` (for tests): no progress on stderr."""

    seconds: float = 30.0
    seed: int = 1
    scenario: str = "demo"
    venues: tuple[str, ...] = ()  # of the scenario, these alone
    kill: str = ""
    hold: bool = False
    json: bool = False
    keep: bool = False
    record: bool = False  # the market too, for ``arb replay``
    quiet: bool = False
    processes: dict[str, Any] = {}  # overrides of the configuration's ``processes``


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """``fields``: the object of ``--json``; ``healthy``: the run passed its own check."""

    fields: dict[str, Any]
    healthy: bool
    interrupted: bool = False


class Interrupt:
    """While entered, SIGINT and SIGTERM set ``requested``: trading ends early, the summary is made all the same."""

    def __init__(self) -> None:
        self.requested = False
        self.count = 0

    def __enter__(self) -> Interrupt:
        self._old = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: object) -> None:
        self.requested = True
        self.count += 1


class Demo:
    """One run. Each step is a method; ``run_demo`` calls them in order."""

    def __init__(self, options: DemoOptions) -> None:
        if options.kill:
            from workers.demo.kill import check_killable

            check_killable(options.kill)
        self.scenario = load_scenario(options.scenario)  # refused before anything is started
        if options.venues:
            self.scenario = self.scenario.only(options.venues)
        self.options = options
        self.instance = f"demo-{secrets.token_hex(4)}"
        self.started_wall_ns = time.time_ns()
        self.engine = Launched(self.instance)
        self.simulator = SimulatorProcess(
            seed=options.seed,
            scenario=options.scenario,
            waits=True,
            venues=options.venues,
            log=self.engine.state_dir / "log" / "simulator.log",
        )
        self.sim: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.before: dict[str, Any] = {}  # what the market offered before the engine was READY
        self.killed: dict[str, Any] = {}
        self.start_seconds = 0.0
        self.traded_seconds = 0.0
        self.due_until_ns = 0  # mono: what the venues have booked until then is to be in the journal
        self.engine_state: dict[str, Any] = {}  # as `arb status` says it, when the time is over

    def start(self, show: Callable[[str], None], interrupt: Interrupt) -> None:
        """Start venues and engine and wait until it is READY.

        Raises LaunchError, SimulatorError, and KeyboardInterrupt where an interrupt comes before that.
        """
        show("starting the simulated exchanges and the engine")
        self.sim = self.simulator.wait_ready()
        self.config = {**self.sim.pop("engine_config"), "engine_name": self.instance}
        plan, plan_text = plan_cores(sorted(os.sched_getaffinity(0)), list(self.config["exchanges"]))
        show(plan_text)
        self.config["processes"] = {**plan, **self.config.get("processes", {}), **self.options.processes}
        if self.options.record:
            self.config["recording"] = {**self.config.get("recording", {}), "market": True}
        for exchange, key in keys_of(self.sim["venues"]).items():
            store_credentials(self.instance, exchange, key)
        self.engine.configure(self.config)
        show_compiling = compiling_text(show)

        def progress(described: dict[str, Any]) -> None:
            if interrupt.requested:
                raise KeyboardInterrupt
            show_compiling(described)

        self.start_seconds = self.engine.wait_ready(progress)
        self.simulator.control("/begin", b"{}")  # nothing that the scenario has prepared may come before the engine
        self.before = self.simulator.control("/summary")["dislocations"]
        show(f"engine READY {self.start_seconds:.1f} s after its launch")

    def trade(self, interrupt: Interrupt, view: Callable[[str], None]) -> None:
        """Let the engine trade until the time is over or an interrupt comes. Raises LaunchError when a process ends."""
        began = time.monotonic()
        end = began + self.options.seconds
        kill_at = began + self.options.seconds * KILL_AFTER_SHARE
        while (now := time.monotonic()) < end and not interrupt.requested:
            if not self.engine.alive():
                raise LaunchError(f"the engine ended in the middle of the run:\n{self.engine.last_message()}")
            if not self.simulator.alive():
                said = self.simulator.last_message()
                raise LaunchError(f"the simulated exchanges ended in the middle of the run:\n{said}")
            if self.options.kill and not self.killed and now >= kill_at:
                self._kill(interrupt)
            self._watch_recovery()
            view(f"{end - now:.0f} s left")
            time.sleep(min(POLL_S, max(0.0, end - now)))
        self.traded_seconds = time.monotonic() - began

    def _kill(self, interrupt: Interrupt) -> None:
        """SIGKILL the chosen process; the executor in the middle of an operation (see ``kill``)."""
        from workers.demo.kill import kill_executor

        process = self.options.kill
        if process == "feed":
            process = f"feed.{next(iter(self.config['exchanges']))}"
        row = self.engine.describe().get("processes", {}).get(process, {})
        if process == "executor":
            venue = next(iter(self.sim["venues"]))
            killed = kill_executor(self.engine, self.simulator, venue, lambda: not interrupt.requested)
        else:
            killed = {"at": "SIGKILL", "pid": self.engine.kill(process)}
        self.killed = {"process": process, "restarts": row.get("restarts", 0) + 1, **killed}
        say(f"killed {process}: {killed['at']}")

    def _watch_recovery(self) -> None:
        if self.killed and "recovery_ms" not in self.killed:
            row = self.engine.describe().get("processes", {}).get(self.killed["process"], {})
            if row.get("ready") and row.get("restarts", 0) >= self.killed["restarts"]:
                self.killed["recovery_ms"] = row.get("recovery_ms")
                say(f"{self.killed['process']} is READY again after {row.get('recovery_ms')} ms")

    def drain(self, interrupt: Interrupt) -> dict[str, Any]:
        """Take no new risk, wait for the funding that is booked, then for open operations: payments set off exits,
        which no drain holds up. The last reading before the stop.

        An interrupt ends the wait for funding; one that came before, and has ended the trading, does not."""
        deadline = time.monotonic() + (RECOVERY_TIMEOUT_S if self.killed else 0.0)
        while self.killed and "recovery_ms" not in self.killed and time.monotonic() < deadline:
            self._watch_recovery()
            time.sleep(POLL_S)
        from workers.view.status import Reader

        answer = Reader(self.instance).answer()  # before the drain, which is a reason of its own
        reasons = [{"what": row.what, "solve": row.solve} for row in answer.reasons]
        self.engine_state = {"state": str(answer.state), "reasons": reasons}
        block_new_risk(self.engine)
        came_before = interrupt.count
        wait_until_read(self._unread_funding, lambda: time.sleep(LOOK_S), is_over=lambda: interrupt.count > came_before)
        return drained(self.engine, DRAIN_TIMEOUT_S)

    def _unread_funding(self) -> Sequence[Mapping[str, Any]]:
        """What the venues have booked as funding until now and no journal of the instance has. [] where the engine has
        ended: nobody will read it."""
        self.due_until_ns = time.monotonic_ns()
        booked = [row for row in self.simulator.control("/ledger?kind=entry")["rows"] if is_funding(row)]
        if not booked or not self.engine.alive():
            return []
        from workers.demo.summary import journal_of, plain_journal

        return unread_funding(booked, plain_journal(journal_of(self.engine.state_dir)))

    def check(self, reading: dict[str, Any]) -> dict[str, Any]:
        """The summary, after the engine has stopped: its journal compared with the venues' ledger."""
        from workers.demo.summary import summarise

        fields = summarise(
            reading=reading,
            sim=self.sim,
            ledger=self.simulator.control("/ledger")["rows"],
            sim_summary=self.simulator.control("/summary"),
            offered_before=self.before,
            journal_dir=self.engine.state_dir / "journal",
            config=self.config,
            seconds=self.traded_seconds,
            start_seconds=self.start_seconds,
            killed=self.killed,
            due_until_ns=self.due_until_ns,
        )
        own = {"engine_state": self.engine_state, "scenario_lasts_s": self.scenario.lasts_s()}
        return {**fields, **own, "instance": self.instance, "state": str(self.engine.state_dir)}


def drained(engine: Launched, timeout_s: float) -> dict[str, Any]:
    """Block new risk and wait until no operation is open, at most ``timeout_s``; the last reading (``arb status``).

    The bound is one of looks: what a host that stands still takes is no time in which an operation could have ended."""
    from workers.view.status import Reader

    block_new_risk(engine)
    reader = Reader(engine.instance)
    for _ in range(round(timeout_s / POLL_S)):
        if not reader.read()["orders"].get("open_operations", 0):
            break
        time.sleep(POLL_S)
    return reader.read()


def healthy(fields: dict[str, Any]) -> bool:
    """Whether a run passed: P&L equal, flat, nothing unresolved, no violation, no order where none was allowed."""
    return bool(
        fields["pnl"]["equal"]
        and fields["flat"]
        and not fields["violations"]
        and not fields["operations"]["unresolved"]
        and not (fields["expect_no_orders"] and fields["orders"])
    )


def run_demo(options: DemoOptions) -> DemoResult:
    """Start, trade, drain, stop, check, clean up. Raises ArbitrageEngineError when it could not start."""
    demo = Demo(options)
    result: DemoResult | None = None
    try:
        with Interrupt() as interrupt:
            demo.start(say if not options.quiet else lambda text: None, interrupt)
            from workers.view.live_view import LiveView

            on_terminal = stderr_is_terminal() and not options.quiet
            with LiveView(demo.instance, demo.config, enabled=on_terminal, plain=not options.quiet) as view:
                demo.trade(interrupt, view.update)
            reading = demo.drain(interrupt)
            demo.engine.stop()
            fields = demo.check(reading)
            result = DemoResult(fields=fields, healthy=healthy(fields), interrupted=interrupt.requested)
            if options.hold and not interrupt.requested:
                _hold(result, interrupt, options)
            return result
    finally:
        with contextlib.suppress(OSError):
            demo.engine.stop()
        demo.simulator.stop()
        _keep(demo, options, result)


def _keep(demo: Demo, options: DemoOptions, result: DemoResult | None) -> None:
    """Keep the state of a run that has a summary, until the next demo; for good with ``--keep`` and where the run
    failed its own check, which has to be looked at."""
    demo.engine.clean(keep_state=result is not None or options.keep)
    if result is None and not options.keep:
        return
    failed = result is not None and not result.healthy and not result.interrupted
    until = "rm -r when done" if options.keep or failed else "until the next demo"
    if not (options.keep or failed):
        with contextlib.suppress(OSError):
            keep_as_last(demo.engine.state_dir)
    at = f"--instance {demo.instance}"
    say(f"state kept in {demo.engine.state_dir} ({until}); to look at it: arb why ID {at}, arb report {at}")
    if options.record:
        from workers.recording.rings import MARKET_FOLDER

        folder = demo.engine.state_dir / MARKET_FOLDER
        say(f"the market of the run: arb replay --exact {folder}, arb replay --detector {folder}")


def _hold(result: DemoResult, interrupt: Interrupt, options: DemoOptions) -> None:
    """Keep the venues up for other clients until SIGTERM; with --json the object is printed before."""
    if options.json:
        emit(result.fields, as_json=True, text=str)
    for name, row in result.fields["sim"]["venues"].items():
        say(f"{name}: rest {row['rest']}  ws {row['ws']}")
    say(f"control {result.fields['sim']['control']}")
    say("holding the venues until SIGTERM or Ctrl-C")
    while not interrupt.requested:
        time.sleep(POLL_S)
    interrupt.requested = False  # the way in which a hold ends: not an interruption of the run
