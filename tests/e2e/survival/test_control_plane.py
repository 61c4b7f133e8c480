"""The control plane outlives everything, and where it does not, nothing naked is left: a directed part of the matrix in
``outlives/``, on whole instances and judged by the venues' own ledger."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal

import msgspec
import pytest

from pipeline.model.enums import ProcessState
from shm.liveness import LivenessView
from shm.pages import HaltPage
from tests.campaigns.outlives.cases import (
    SMALL,
    disk_full,
    hang_until_ended,
    kept,
    kill_beside_stopped,
    nothing_naked,
    pid_of,
    stopped,
    trades_on,
    well_again,
    whole_again,
)
from tests.exhausted import no_descriptors
from tests.worlds.instance_rig import (
    LIVELY,
    SHORT_WINDOWS,
    Rig,
    arb,
    half_done,
    holds_a_hedge,
    is_judged,
    next_pid,
    running,
    segments_of,
    taken_over,
)
from tests.worlds.waiting import until
from workers.credentials import store_credentials
from workers.demo.simulator import keys_of
from workers.halt_file import read_halt
from workers.last_run.half_done import replayed
from workers.recorder.sqlite_ledger import open_reader
from workers.stop_signal import STOP_SIGNAL

pytestmark = [pytest.mark.e2e, pytest.mark.slice]

HANGING = (("supervisor", "guard"), ("fork server",), ("recorder", "poller"))
PROCESSES = ("guard", "executor", "recorder", "poller", "detector", "feed.mexc", "feed.gateio")


def test_a_full_disk_with_open_legs_ends_flat() -> None:
    small = {**SMALL["execution"], "journal_segment_bytes": 128 * 1024}  # full within seconds
    with running(**{**SMALL, "execution": small}) as rig:
        holds_a_hedge(rig)
        half_done(rig, "gateio_spot")
        with disk_full(rig):
            until(
                lambda: rig.reading()["opportunities"]["refused"].get("journal_full", 0) > 0,
                "entries refused for the journal's room",
            )
            before = rig.engine.process_pid("executor")
            whole_again(rig)  # what was half done has ended, and by nobody's command
            assert rig.engine.process_pid("executor") == before, "the reserve of the journal was enough"
            until(lambda: arb("flatten", "--instance", rig.instance).returncode == 0, "flat, if not in one answer")
            nothing_naked(rig)
            assert rig.engine.process_pid("executor") == before, "the reserve of the journal was enough"
            done = arb("halt", "--instance", rig.instance, "--reason", "the disk is full", "--json")
            assert done.returncode == 0 and msgspec.json.decode(done.stdout)["halted"]
            # Where the guard does not answer within 100 ms the command writes itself, whose disk is not full.
            assert "does not answer" in done.stderr or not read_halt(rig.engine.state_dir).halted, "not on the disk"
            rig.kill("guard")
            rig.kill("executor")  # comes back on what room is left, or the guard ends what it leaves
            rig.kill("recorder")
        until(lambda: read_halt(rig.engine.state_dir).halted, "the halt on the disk that has room again")
        well_again(rig)
        is_judged(rig)
        with contextlib.closing(open_reader(rig.engine.state_dir / "ledger.sqlite")) as ledger:
            fills = ledger.execute("SELECT COUNT(*) FROM fills").fetchone()[0]
        assert fills == sum(type(entry.record).__name__ == "FillRecord" for entry in rig.entries())


def _halts(rig: Rig, names: tuple[str, ...]) -> None:
    page = HaltPage.attach(rig.instance)
    reason = f"{' and '.join(names)} hang"
    with stopped(*(pid_of(rig, name) for name in names)):
        done = arb("halt", "--instance", rig.instance, "--reason", reason)
        assert done.returncode == 0 and page.latched, (done.stdout, done.stderr)
    until(lambda: kept(rig, reason), "the halt on the disk")
    page.close()
    well_again(rig)


def _trades_or_halts(rig: Rig) -> None:
    """Children that cannot be started are a storm before long, which halts."""
    before = rig.counter("entries")
    until(lambda: rig.counter("entries") > before or rig.reading()["halted"], "entries, or the halt")


def test_what_hangs_and_what_has_no_descriptors_keeps_nobody_from_a_halt_or_from_trading() -> None:
    with running(processes={"poller": {"cpus": [*os.sched_getaffinity(0), 4093]}}) as rig:
        assert any("4093" in row["what"] for row in rig.reading()["reasons"]), "an absent core is said"
        for names in HANGING:
            _halts(rig, names)
        with contextlib.ExitStack() as stack:
            for name in PROCESSES:
                stack.enter_context(no_descriptors(pid_of(rig, name)))
            trades_on(rig)
        for name in ("supervisor", "fork server"):
            with no_descriptors(pid_of(rig, name)):
                rig.kill("poller")
                until(lambda: rig.engine.process_pid("poller") == 0 or rig.engine.all_ready(), "the end is noticed")
                _trades_or_halts(rig)
            well_again(rig)
        is_judged(rig)


def test_where_the_supervisor_hangs_the_guard_ends_what_a_killed_executor_leaves() -> None:
    with running(guard={"hung_after_ms": 2000}) as rig:
        holds_a_hedge(rig)
        half_done(rig, "gateio_futures")
        with stopped(rig.engine.pid):
            rig.kill("executor")
            ended = taken_over(rig)
            assert "what starts it has stood still" in read_halt(rig.engine.state_dir).reason
            assert ended["flat"] and not ended["left"]
            nothing_naked(rig)
        well_again(rig)
        with stopped(pid_of(rig, "recorder"), pid_of(rig, "poller")):
            before = pid_of(rig, "guard")
            rig.kill("guard")
            next_pid(rig, "guard", before)
        well_again(rig)
        is_judged(rig)


def test_two_that_hang_with_a_leg_alone_leave_nothing_naked() -> None:
    with running() as rig:
        # The first leaves a guard that still says how its takeover ended when the second begins.
        for names in (("executor",), ("supervisor", "executor"), ("executor", "guard"), ("supervisor", "guard")):
            before = pid_of(rig, "executor")
            hang_until_ended(rig, names)
            whole_again(rig)
            assert "executor" not in names or pid_of(rig, "executor") != before, "one that hung trades again"
        is_judged(rig)


def test_where_the_supervisor_is_killed_the_guard_ends_what_an_executor_that_hangs_leaves() -> None:
    """With the windows as given: the proof of an order in flight takes longer than what is left of the guard's time
    where it waits for an executor that stands still to end."""
    with running(execution={}, guard={"hung_after_ms": 2000}) as rig:
        guard = LivenessView.attach(rig.instance, "guard")
        half_done(rig, "gateio_spot")
        with stopped(pid_of(rig, "executor")):
            rig.kill_instance()
            until(lambda: not guard.alive(), "the orphaned guard's end")
            ledger = replayed(rig.engine.state_dir)
            assert ledger is not None and not (ledger.open_operations or ledger.unsettled)
            nothing_naked(rig)
        assert "the executor hangs" in str(read_halt(rig.engine.state_dir))
        rig.start_again()
        well_again(rig)
        is_judged(rig)


@pytest.mark.parametrize(
    "names", [("executor", "guard"), ("guard", "supervisor"), ("executor", "fork server")], ids=" stopped, killed ".join
)
def test_one_that_stands_still_beside_one_that_is_killed_leaves_nothing_naked(names: tuple[str, str]) -> None:
    with running(guard={"hung_after_ms": 2000}) as rig:
        kill_beside_stopped(rig, names)
        whole_again(rig)
        is_judged(rig)


def _ended_by_an_error(rig: Rig) -> bool:
    """Its error, while the supervisor stands still, and what the guard makes of it; False where it came before."""
    executor = LivenessView.attach(rig.instance, "executor")
    with stopped(rig.engine.pid):
        if rig.engine.describe()["processes"]["executor"]["restarts"] or not executor.alive():
            return False
        until(lambda: not executor.alive(), "its end")
        executor.refresh()
        assert executor.state == ProcessState.STARTING, "as good as absent, while it closes its sockets too"
        ended = taken_over(rig)
        assert ended["flat"] and not ended["left"]
        nothing_naked(rig)
    return True


def test_an_executor_that_ends_by_an_error_and_is_not_started_again_leaves_nothing_naked() -> None:
    """It closes its sockets after the error, as at a stop: the guard must not take that for a planned one."""
    crash = {"ARB_CRASH_AT": "first_fill:60,raise"}  # at the 60th fill: the supervisor is to stand still before that
    ended = False
    for _ in range(5):
        with running(environment=crash, guard={"restart_within_ms": 2000}) as rig:
            ended = _ended_by_an_error(rig)
            if ended:
                well_again(rig)
                is_judged(rig)
                break
    assert ended, "the executor has always been sooner than we"


def _killed_half_done(rig: Rig) -> bool:
    """SIGKILL of executor and supervisor with a leg on its way; of the executor alone where we came too late."""
    half_done(rig, "gateio_spot")
    executor = LivenessView.attach(rig.instance, "executor")
    pid = pid_of(rig, "executor")
    with stopped(rig.engine.pid):  # it starts no other executor in between
        os.kill(pid, signal.SIGKILL)
        until(lambda: not executor.alive(), "the executor's end")
        left = replayed(rig.engine.state_dir)
        assert left is not None
        if left.open_operations:
            rig.kill_instance()
            return True
    next_pid(rig, "executor", pid, ready=True)
    return False


def test_where_supervisor_and_executor_are_killed_together_the_guard_ends_what_is_half_done_and_itself() -> None:
    with running() as rig:
        holds_a_hedge(rig)
        guard = LivenessView.attach(rig.instance, "guard")
        until(lambda: _killed_half_done(rig), "a death with a leg on its way")
        until(lambda: not guard.alive(), "the orphaned guard's end")
        ledger = replayed(rig.engine.state_dir)
        assert ledger is not None and not (ledger.open_operations or ledger.unsettled)
        nothing_naked(rig)
        assert "control plane and executor have ended" in str(read_halt(rig.engine.state_dir))
        rig.start_again()
        well_again(rig)
        is_judged(rig)


def test_a_lost_fork_server_begins_anew_and_a_killed_supervisor_leaves_nothing_naked() -> None:
    with running() as rig:
        holds_a_hedge(rig)
        half_done(rig, "gateio_spot")
        rig.kill_fork_server()
        well_again(rig)  # an orphaned executor that could not end it in its 6 s has left it to the guard, which halts
        half_done(rig, "gateio_futures")
        executor, guard = (LivenessView.attach(rig.instance, name) for name in ("executor", "guard"))
        rig.kill_instance()
        until(lambda: not executor.alive(), "the orphaned executor's end")
        until(lambda: not guard.alive(), "the orphaned guard's end, which ends what that had no time for")
        ledger = replayed(rig.engine.state_dir)
        assert ledger is not None and not ledger.open_operations
        nothing_naked(rig)
        rig.start_again()
        os.kill(rig.engine.pid, signal.SIGTERM)  # the next life of a life that began anew is stopped like any other
        is_judged(rig)


def test_a_stop_of_the_one_unit_before_ready_is_the_supervisors() -> None:
    """systemd sends ``KillSignal`` to every process; a recorder that cannot start keeps the instance from READY."""
    rig = Rig(f"g-{secrets.token_hex(4)}", scenario=LIVELY, **SHORT_WINDOWS)
    try:
        (rig.engine.state_dir / "log" / "recorder.log").mkdir()  # which it cannot write
        for exchange, key in keys_of(rig.sim["venues"]).items():
            store_credentials(rig.instance, exchange, key)
        rig.engine.configure(rig.config)
        rows = lambda: rig.engine.describe().get("processes", {})  # noqa: E731
        until(lambda: all(rows().get(name, {}).get("ready") for name in ("executor", "guard")), "an executor that runs")
        pids = [row["pid"] for name, row in rows().items() if row["pid"] and name != "recorder"]
        assert rig.engine.describe()["state"] != "ready"
        for pid in (*pids, rig.fork_server(), rig.engine.pid):
            os.kill(pid, STOP_SIGNAL)
        until(lambda: not rig.engine.alive(), "the supervisor's end")
        assert rig.engine.stop() == 0, "no signal has ended it"
        assert msgspec.json.decode((rig.engine.state_dir / "executor.json").read_bytes())["stopped"]
        assert segments_of(rig.instance) == []
    finally:
        rig.close()
