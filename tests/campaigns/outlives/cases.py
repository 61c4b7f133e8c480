"""What outlives what: every process of a whole instance stopped and killed, one by one and in pairs, and a host without
disk, without descriptors and without shared memory. Judged by the venues' ledger.

Each case hurts a trading instance, looks at what the matrix in ``workers/README.md`` promises, heals, and waits until
it trades again; a case that does not keep its promise is printed and fails the run. After the last one the instance
ends in order and every invariant is judged. Stopped processes are met by a halt of the shell, which is measured:

* ``in force``: from the first line of the command, before its imports, to the latch on the page, in ms;
* ``by the shell``: from the launch of ``arb halt`` to the latch, in ms;
* ``last entry``: from the first line of the command to the last arrival of an entry order at a venue (its own stamp).

    python -m tests.campaigns.outlives [--what halt,flatten,host,hang,kill] [--only NAME,NAME ...] [--singles]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from pipeline.execution.journal.guard_journal import whole_journal
from pipeline.execution.records import OrderIntentRecord, Purpose
from pipeline.model.errors import ArbitrageEngineError
from shm.liveness import LivenessView
from tests.campaigns.level_fit import own_bytes
from tests.campaigns.outlives.halts import Halted, goals_of
from tests.exhausted import no_descriptors
from tests.worlds.instance_rig import (
    SHORT_WINDOWS,
    Rig,
    exposure,
    half_done,
    holds_a_hedge,
    is_judged,
    running,
    running_pid,
    segments_of,
    stand_still,
    state_of,
    taken_over,
    takeover,
    takeovers,
)
from tests.worlds.waiting import until
from workers.demo.summary import JournalTotals
from workers.halt_file import read_halt
from workers.kills.verdict import all_met, cut_by_sigterm, verdict
from workers.last_run.half_done import replayed

WHAT = ("halt", "flatten", "host", "hang", "kill")
CONTROL = ("supervisor", "fork server")
KILLED = ("supervisor", "fork server", "recorder", "poller", "guard", "executor")
STOPPED = (*KILLED, "detector", "feed.mexc", "feed.gateio")
SMALL = {**SHORT_WINDOWS, "execution": {**SHORT_WINDOWS["execution"], "journal_segment_bytes": 256 * 1024}}
LOG_BYTES_MAX = 16 * 1024 * 1024  # of everything in ``log/`` and ``logs/`` after every case
MEMORY_BYTES_MAX = 600 * 1024 * 1024  # of each process after every case: an executor after a million operations
FIRST_LINE = (
    "import time; print(time.monotonic_ns(), flush=True)\n"
    "import sys; from workers.cli.main import main; sys.exit(main(sys.argv[1:]))"
)
#: Prints when the latch stands on the page whose file is given, and nothing where its stdin closes before.
WATCH = """
import mmap, select, sys, time
from shm.layout_pages import HALT

with open(sys.argv[1], "rb") as file:
    words = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)).cast("q")
print("watching", flush=True)
while not words[HALT.latch] and not select.select([sys.stdin], [], [], 0.0002)[0]:
    pass
print(time.monotonic_ns() if words[HALT.latch] else 0, flush=True)
"""


# --- hurting ---


def pid_of(rig: Rig, name: str) -> int:
    """Pid of a process by its name in the matrix; one that is down is waited for."""
    if name == "supervisor":
        return rig.engine.pid
    return rig.fork_server() if name == "fork server" else running_pid(rig, name)


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """SIGSTOP meanwhile."""
    try:
        stand_still(*pids)
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def disk_full(rig: Rig) -> Iterator[None]:
    """No process of the instance, and none that it starts, gets a byte of any file system, ``/dev/shm`` too."""

    def limit(bytes_max: int) -> None:
        server = rig.fork_server()
        with stopped(server):  # no fork under way: its child would keep the limit of before
            for pid in rig.pids():
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (bytes_max, resource.RLIM_INFINITY))

    limit(0)
    try:
        yield
    finally:
        limit(resource.RLIM_INFINITY)


# --- looking ---

HALTS: list[Halted] = []  # of this run, beside stopped processes


def halt_by_shell(rig: Rig, reason: str) -> Halted:
    """``arb halt`` as a process of its own, and when the latch stood on the page."""
    arguments = [sys.executable, "-c", WATCH, f"/dev/shm/arb.{rig.instance}.halt"]
    # Sessions of their own, as an operator's shell: what else runs in ours must not be measured.
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as watcher:
        assert watcher.stdout is not None and watcher.stdin is not None
        assert watcher.stdout.readline() == "watching\n"
        launched_ns = time.monotonic_ns()
        done = subprocess.run(
            [sys.executable, "-c", FIRST_LINE, "halt", "--instance", rig.instance, "--reason", reason],
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        watcher.stdin.close()
        at_ns = int(watcher.stdout.readline())
    assert done.returncode == 0, done.stdout + done.stderr
    assert at_ns, "the page is not latched when the command has ended"
    first_line_ns = int(done.stdout.partition("\n")[0])
    return Halted(first_line_ns, (at_ns - first_line_ns) / 1e6, (at_ns - launched_ns) / 1e6)


def last_entry_ms(rig: Rig, first_line_ns: int, until_ns: int) -> float:
    """From a halt to the last arrival of an entry order at a venue; 0 where none came after it. By the venues' ledger;
    the journal only says which orders are entries."""
    entries = {
        entry.record.client_id
        for entry in whole_journal(rig.engine.state_dir)
        if isinstance(entry.record, OrderIntentRecord) and entry.record.purpose is Purpose.ENTRY
    }
    after = [
        int(row["mono_ns"])
        for row in rig.ledger()
        if row["kind"] == "request" and row.get("operation") == "place" and row["client_id"] in entries
    ]
    return max([(at - first_line_ns) / 1e6 for at in after if first_line_ns < at < until_ns], default=0.0)


def nothing_naked(rig: Rig) -> None:
    """The venues' ledger holds what the journals say that is held: hedges, and remainders below every minimum."""
    known = JournalTotals(list(whole_journal(rig.engine.state_dir))).targets("USDT")
    found = exposure(rig)
    assert found == known, f"naked: venues {found}, journals {known}"


def whole_again(rig: Rig) -> None:
    """Waits for a moment in which the venues' ledger holds what the journals say that is held, while it trades or not:
    a leg that nobody ends stands in both for ever, and is no such moment."""

    def whole() -> bool:
        totals = JournalTotals(list(whole_journal(rig.engine.state_dir)))
        ended = totals.operations.keys() <= totals.results.keys()
        return ended and exposure(rig) == totals.targets("USDT")

    until(whole, "a moment without an open operation, and nothing naked")


def trades_on(rig: Rig) -> None:
    """Waits for an operation that begins from now on."""
    before = rig.counter("entries")
    until(lambda: rig.counter("entries") > before, "entries")


def logs_bounded(rig: Rig) -> None:
    """No log of the instance has grown beyond its bound."""
    found = {
        path.name: path.stat().st_size
        for folder in ("log", "logs")
        for path in (rig.engine.state_dir / folder).glob("*")
        if not path.name.startswith("simulator")
    }
    assert sum(found.values()) < LOG_BYTES_MAX, f"logs: {found}"


def memory_bounded(rig: Rig) -> None:
    """No process of the instance has grown beyond its bound, whatever it waited for."""
    found = {pid: own_bytes(pid) for pid in rig.pids()}
    assert max(found.values()) < MEMORY_BYTES_MAX, f"memory by pid: {found}"


def kept(rig: Rig, reason: str) -> bool:
    """Whether the disk has the halt."""
    return reason in read_halt(rig.engine.state_dir).reason


def well_again(rig: Rig) -> None:
    """Everything READY, resumed as often as a storm, a takeover and a halt need it, and trading."""

    def ready() -> bool:
        if rig.all_ready() and not takeover(rig).get("taking_over"):
            return True
        if rig.engine.alive() and read_halt(rig.engine.state_dir).halted:
            rig.resume()
        return False

    until(ready, "every process READY and no halt")
    for name in rig.breakers():
        rig.rearm(name)
    trades_on(rig)


# --- cases ---


def halt_while_stopped(rig: Rig, names: Sequence[str]) -> str:
    """A halt by the shell while these processes are stopped."""
    reason = f"{' and '.join(names)} hang"
    with stopped(*(pid_of(rig, name) for name in names)):
        halted = halt_by_shell(rig, reason)
    until(lambda: kept(rig, reason), "the halt on the disk")
    last_ms = last_entry_ms(rig, halted.first_line_ns, time.monotonic_ns())
    HALTS.append(replace(halted, after_latch_ms=max(0.0, last_ms - halted.in_force_ms)))
    well_again(rig)
    return f"in force {halted.in_force_ms:6.1f}  by the shell {halted.by_shell_ms:6.1f}  last entry {last_ms:6.1f} ms"


def flatten_while_stopped(rig: Rig, names: Sequence[str]) -> str:
    """A flatten by the shell while these processes are stopped, with one leg filled and the other on its way."""
    began = time.monotonic()
    holds_a_hedge(rig)
    half_done(rig, "gateio_spot")
    with stopped(*(pid_of(rig, name) for name in names)):
        until(lambda: _flatten(rig), "flat, if not in one answer")
        took = time.monotonic() - began
        nothing_naked(rig)
    rig.resume()  # a flatten drains
    well_again(rig)
    return f"flat after {took:5.1f} s"


def hang_until_ended(rig: Rig, names: Sequence[str]) -> str:
    """Processes that stay stopped, with one leg filled and the other on its way: their watchdog (of the supervisor, or
    of the guard for the executor) ends them. Nobody ends a supervisor that hangs, but its unit: nothing is naked while
    it does, whoever hangs beside it."""
    began, life = time.monotonic(), rig.engine.describe()["started_wall_ns"]
    half_done(rig, "gateio_futures")
    pids, before = [pid_of(rig, name) for name in names], takeovers(rig)
    with stopped(*pids):
        if "supervisor" not in names:
            until(lambda: all(state_of(pid) in "ZX" for pid in pids), "the end of what hangs")
        elif "executor" in names:
            taken_over(rig, before)
            nothing_naked(rig)
        else:
            whole_again(rig)
    if "fork server" in names and "supervisor" not in names:
        rig.begun_anew(life)
    well_again(rig)
    return f"trades after {time.monotonic() - began:5.1f} s"


def kill_in_flight(rig: Rig, names: Sequence[str]) -> str:
    """SIGKILL of these processes with one leg filled and the other on its way."""
    began = time.monotonic()
    life = rig.engine.describe()["started_wall_ns"]
    half_done(rig, "gateio_futures")
    executor = LivenessView.attach(rig.instance, "executor")
    for pid in [pid_of(rig, name) for name in names]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if "supervisor" in names:
        rig.engine.stop()
        until(lambda: not executor.alive(), "the orphaned executor's end")
        guard = LivenessView.attach(rig.instance, "guard", missing_ok=True)
        until(lambda: not guard.alive(), "the orphaned guard's end")
        if not {"executor", "guard"} <= set(names):
            ledger = replayed(rig.engine.state_dir)
            assert ledger is not None and not ledger.open_operations, "open operations are left"
            nothing_naked(rig)
        rig.start_again()
    elif "fork server" in names:
        rig.begun_anew(life)
    well_again(rig)
    return f"trades after {time.monotonic() - began:5.1f} s"


def kill_beside_stopped(rig: Rig, names: Sequence[str]) -> str:
    """SIGKILL of the second while the first is stopped, with one leg filled and the other on its way."""
    began, life = time.monotonic(), rig.engine.describe()["started_wall_ns"]
    first, second = names
    half_done(rig, "gateio_spot")
    pids, pid, before = rig.pids(), pid_of(rig, second), takeovers(rig)
    with stopped(pid_of(rig, first)):
        os.kill(pid, signal.SIGKILL)
        if second == "supervisor":
            rig.engine.stop()
        if {first, second} == {"supervisor", "executor"}:
            _executors_part_ended(rig, before)
        else:
            whole_again(rig)
    if second == "supervisor":
        until(lambda: all(state_of(one) in "ZX" for one in pids), "the end of every process")
        rig.start_again()
    elif second == "fork server":
        rig.begun_anew(life)
    well_again(rig)
    return f"trades after {time.monotonic() - began:5.1f} s"


def _executors_part_ended(rig: Rig, before: int) -> None:
    """Waits for what the guard does in the place of an executor that has died or hangs, with nobody to start it, behind
    its first ``before`` takeovers."""
    guard = LivenessView.attach(rig.instance, "guard", missing_ok=True)

    def ended() -> bool:
        return not guard.alive() or (takeovers(rig) > before and takeover(rig).get("flat") is not None)

    until(ended, "the guard's takeover")
    ledger = replayed(rig.engine.state_dir)
    assert ledger is not None and not ledger.open_operations, "open operations are left"
    nothing_naked(rig)


def no_disk(rig: Rig, names: Sequence[str]) -> str:
    """A full disk with open legs while these processes are killed once each: what is half done ends by itself; hedges
    by the shell, in the midst of it."""
    holds_a_hedge(rig)
    half_done(rig, "gateio_spot")
    with disk_full(rig):
        for name in names:
            rig.kill(name)
        until(lambda: _refused(rig), "no new risk")
        whole_again(rig)
        assert rig.engine.alive() and _flatten(rig), "not flat"
        nothing_naked(rig)
    rig.resume()  # a flatten drains
    well_again(rig)
    return "flat on a full disk"


def _refused(rig: Rig) -> bool:
    reading = rig.reading()
    return reading["state"] in ("halted", "stopped") or reading["opportunities"]["refused"].get("journal_full", 0) > 0


def _flatten(rig: Rig) -> bool:
    run = subprocess.run(
        [sys.executable, "-m", "workers", "flatten", "--instance", rig.instance, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode == 0


def no_files(rig: Rig, names: Sequence[str]) -> str:
    """No descriptor for these processes: trading goes on, or new risk stops; then it goes on."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(no_descriptors(pid_of(rig, name)))
        if not set(names) & set(CONTROL):
            trades_on(rig)
        halted = halt_by_shell(rig, "no descriptors")
    well_again(rig)
    return f"in force {halted.in_force_ms:6.1f}  by the shell {halted.by_shell_ms:6.1f} ms"


Case = Callable[[Rig, Sequence[str]], str]


def cases(what: Sequence[str], *, pairs: bool) -> list[tuple[str, Case, tuple[str, ...]]]:
    """(kind, case, processes) of a run, in order."""

    def sets(names: Sequence[str]) -> list[tuple[str, ...]]:
        return [(name,) for name in names] + (list(combinations(names, 2)) if pairs else [])

    found: list[tuple[str, Case, tuple[str, ...]]] = []
    if "halt" in what:
        found += [("halt beside stopped", halt_while_stopped, names) for names in sets(STOPPED)]
    if "flatten" in what:  # one of executor and guard must be there
        found += [
            ("flatten beside stopped", flatten_while_stopped, names)
            for names in sets(STOPPED)
            if not {"executor", "guard"} <= set(names)
        ]
    if "host" in what:
        found += [("no descriptors", no_files, names) for names in sets(STOPPED)]
        found += [("full disk, killed", no_disk, names) for names in [(), *sets(KILLED[2:])]]
    if "hang" in what:
        found += [("hang", hang_until_ended, names) for names in sets(STOPPED) if names != ("supervisor",)]
    if "kill" in what:
        found += [("kill", kill_in_flight, names) for names in sets(KILLED)]
        if pairs:
            found += [
                ("kill beside stopped", kill_beside_stopped, (first, second))
                for first in KILLED
                for second in KILLED
                if first != second
            ]
    return found


def run_cases(
    rig: Rig,
    wanted: Sequence[tuple[str, Case, tuple[str, ...]]],
    say: Callable[[str], None],
    failures: list[str] | None = None,
) -> list[str]:
    """Every case on one instance; the failures (added to ``failures``), after which the next case goes on where it
    can. ``say`` is called once a case, when it has ended."""
    failures = [] if failures is None else failures
    names = segments_of(rig.instance)
    for kind, case, processes in wanted:
        title = f"{kind:20} {' + '.join(processes) or '-':24}"
        try:
            text = case(rig, processes)
            whole_again(rig)
            logs_bounded(rig)
            memory_bounded(rig)
            assert segments_of(rig.instance) == names, "segments came or went"
            say(f"{title} {text}")
        except (AssertionError, ArbitrageEngineError, OSError) as error:
            failures.append(f"{title} {type(error).__name__}: {error}")
            say(f"FAILED {failures[-1]}")
            with contextlib.suppress(AssertionError, ArbitrageEngineError, OSError):
                if not rig.engine.alive():
                    rig.start_again()
                well_again(rig)
    try:
        is_judged(rig)
    except (AssertionError, ArbitrageEngineError, OSError) as error:
        failures.append(f"at the end: {type(error).__name__}: {error}")
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m tests.campaigns.outlives``; 0 where every case kept its promise."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--what", default=",".join(WHAT), help=f"kinds of cases: {', '.join(WHAT)}")
    parser.add_argument("--only", default="", help="only cases of these processes, by name, separated by commas")
    parser.add_argument("--singles", action="store_true", help="no pairs")
    given = parser.parse_args(arguments)
    wanted = cases(given.what.split(","), pairs=not given.singles)
    if given.only:
        wanted = [row for row in wanted if set(row[2]) <= set(given.only.split(","))]
    config: dict[str, Any] = SMALL
    failures, done, cut = list[str](), list[str](), False

    def say(text: str) -> None:
        done.append(text)
        print(f"{len(done)}/{len(wanted)} {text}", flush=True)

    with cut_by_sigterm():
        try:
            with running(**config) as rig:
                run_cases(rig, wanted, say, failures)
        except KeyboardInterrupt:
            cut = True
        except (AssertionError, ArbitrageEngineError, OSError) as error:
            failures.append(f"the run did not go on: {type(error).__name__}: {error}")
    print(f"{len(done)} of {len(wanted)} cases, {len(failures)} failed", *failures, sep="\n  ")
    goals = goals_of(len(done), len(wanted), failures, HALTS)
    if "halt" not in given.what:
        goals = goals[:1]
    print(verdict("outlives", goals, cut=cut), flush=True)
    return int(cut or not all_met(goals))
