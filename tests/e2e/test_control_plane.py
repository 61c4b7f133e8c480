"""The control plane outlives everything, and where it does not, nothing naked is left: whole instances without disk,
without descriptors, with any of their processes stopped or killed, judged by the venues' own ledger."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from functools import partial

import msgspec
import pytest

from pipeline.execution.journal.guard_journal import whole_journal
from shm.liveness import LivenessView
from shm.pages import HaltPage
from tests.exhausted import no_descriptors
from tests.worlds.instance_rig import (
    SHORT_WINDOWS,
    Rig,
    arb,
    exposure,
    half_done,
    holds_a_hedge,
    is_judged,
    running,
    taken_over,
)
from tests.worlds.waiting import until
from workers.demo.summary import JournalTotals
from workers.halt_file import read_halt
from workers.recorder.sqlite_ledger import open_reader
from workers.tradable import replayed

pytestmark = pytest.mark.e2e

PROCESSES = ("guard", "executor", "recorder", "poller", "detector", "feed.mexc", "feed.gateio")


@contextlib.contextmanager
def disk_full(rig: Rig) -> Iterator[None]:
    """No process of the instance, and none that it starts, gets a byte of any disk."""
    limit = resource.RLIMIT_FSIZE
    for pid in rig.pids():
        resource.prlimit(pid, limit, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for pid in rig.pids():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def trades_on(rig: Rig) -> None:
    before = rig.counter("entries")
    until(lambda: rig.counter("entries") > before, "entries")


def kept(rig: Rig, reason: str) -> bool:
    """Whether the disk has the halt."""
    return read_halt(rig.engine.state_dir).reason == reason


def nothing_naked(rig: Rig) -> None:
    """The venues' ledger holds what the journals say that is held: hedges, and remainders below every minimum."""
    known = JournalTotals(list(whole_journal(rig.engine.state_dir)))
    assert exposure(rig) == known.targets("USDT")


def test_a_full_disk_with_open_legs_ends_flat() -> None:
    small = {**SHORT_WINDOWS["execution"], "journal_segment_bytes": 256 * 1024}
    with running(execution=small) as rig:
        holds_a_hedge(rig)
        half_done(rig, "gateio_spot")
        with disk_full(rig):
            until(
                lambda: rig.reading()["opportunities"]["refused"].get("journal_full", 0) > 0,
                "entries refused for the journal's room",
            )
            assert rig.engine.alive()
            before = rig.engine.process_pid("executor")
            done = arb("flatten", "--instance", rig.instance, "--json")
            assert done.returncode == 0 and msgspec.json.decode(done.stdout)["flat"], (done.stdout, done.stderr)
            nothing_naked(rig)
            assert rig.engine.process_pid("executor") == before, "the reserve of the journal was enough"
            done = arb("halt", "--instance", rig.instance, "--reason", "the disk is full", "--json")
            assert done.returncode == 0 and msgspec.json.decode(done.stdout)["halted"]
            assert not read_halt(rig.engine.state_dir).halted, "not on the disk"
            rig.kill("guard")
            rig.kill("executor")  # comes back on what room is left, or the guard ends what it leaves
            rig.kill("recorder")
        until(lambda: read_halt(rig.engine.state_dir).halted, "the halt on the disk that has room again")
        rig.resume()
        until(rig.engine.all_ready, "every process READY")
        rig.resume()
        trades_on(rig)
        is_judged(rig)
        with contextlib.closing(open_reader(rig.engine.state_dir / "ledger.sqlite")) as ledger:
            fills = ledger.execute("SELECT COUNT(*) FROM fills").fetchone()[0]
        assert fills == sum(type(entry.record).__name__ == "FillRecord" for entry in rig.entries())


def test_a_halt_by_the_shell_is_in_force_whatever_hangs_and_no_process_needs_descriptors() -> None:
    with running(processes={"poller": {"cpus": [*os.sched_getaffinity(0), 4093]}}) as rig:
        assert any("4093" in row["what"] for row in rig.reading()["reasons"]), "an absent core is said"
        for names in (("supervisor",), ("guard",), ("supervisor", "guard"), ("recorder", "poller"), ("fork server",)):
            until(rig.all_ready, "READY and no halt")
            page = HaltPage.attach(rig.instance)
            others = {"supervisor": rig.engine.pid, "fork server": rig.fork_server()}
            with stopped(*(others.get(name) or rig.engine.process_pid(name) for name in names)):
                done = arb("halt", "--instance", rig.instance, "--reason", f"{names} hang")
                assert done.returncode == 0 and page.latched, (done.stdout, done.stderr)
            until(partial(kept, rig, f"{names} hang"), "the halt on the disk")
            rig.resume()
        for name in PROCESSES:
            with no_descriptors(rig.engine.process_pid(name)):
                trades_on(rig)
        for pid in (rig.engine.pid, rig.fork_server()):
            with no_descriptors(pid):
                rig.kill("poller")
                until(lambda: rig.engine.process_pid("poller") == 0 or rig.engine.all_ready(), "the end is noticed")
                trades_on(rig)
            until(rig.engine.all_ready, "READY again")
        is_judged(rig)


def test_where_the_supervisor_hangs_the_guard_ends_what_a_killed_executor_leaves() -> None:
    with running(guard={"restart_within_ms": 2000}) as rig:
        holds_a_hedge(rig)
        half_done(rig, "gateio_futures")
        with stopped(rig.engine.pid):
            rig.kill("executor")
            ended = taken_over(rig)
            assert ended["flat"] and not ended["left"]
            nothing_naked(rig)
        until(rig.engine.all_ready, "every process READY")
        rig.resume()
        trades_on(rig)
        with stopped(rig.engine.process_pid("recorder"), rig.engine.process_pid("poller")):
            rig.kill("guard")
            until(lambda: rig.engine.process_pid("guard") != 0, "the guard again")
        until(rig.all_ready, "every process READY")
        trades_on(rig)
        is_judged(rig)


def test_a_lost_fork_server_begins_anew_and_a_killed_supervisor_leaves_nothing_naked() -> None:
    with running() as rig:
        holds_a_hedge(rig)
        half_done(rig, "gateio_spot")
        rig.kill_fork_server()
        trades_on(rig)
        begun = rig.engine.describe()["started_wall_ns"]
        os.kill(rig.fork_server(), signal.SIGSTOP)
        rig.begun_anew(begun)
        trades_on(rig)
        half_done(rig, "gateio_futures")
        executor = LivenessView.attach(rig.instance, "executor")
        rig.kill_instance()
        until(lambda: not executor.alive(), "the orphaned executor's end")
        ledger = replayed(rig.engine.state_dir)
        assert ledger is not None and not ledger.open_operations
        nothing_naked(rig)
        rig.start_again()
        trades_on(rig)
        is_judged(rig)
