"""States of operations, ids, crash points: small tables tested whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.execution.core_context import BOOT_EPOCH_MAX, Ids
from pipeline.execution.crash_points import POINTS, crash_points, of_life
from pipeline.execution.ledger import Ledger
from pipeline.execution.operation_states import NEXT, ORIGIN, STEPS, state_diagram
from pipeline.execution.records import OperationRecord, OperationStateRecord, Purpose
from pipeline.model.enums import ArbitrageState
from pipeline.model.errors import OrderExecutionError
from tests.paths import REPO
from tests.worlds.execution_starts import ready_world, trade
from tests.worlds.execution_world import Faults

README = REPO / "pipeline" / "execution" / "README.md"
PERSISTING = {state for state in ArbitrageState if state.persists}


def test_the_table_speaks_of_resting_states_only_and_recovery_is_reachable_from_everywhere() -> None:
    assert {state for step in STEPS for state in (step.before, step.after)} == PERSISTING == set(NEXT)
    assert len({(step.before, step.after) for step in STEPS}) == len(STEPS)
    for state in PERSISTING - {ArbitrageState.RECOVERING}:
        assert ArbitrageState.RECOVERING in NEXT[state]


def test_the_origin_leads_from_idle_into_the_machine() -> None:
    assert ORIGIN[0].before is ArbitrageState.IDLE and ORIGIN[-1].after is ArbitrageState.EXECUTING
    assert all(first.after is second.before for first, second in pairwise(ORIGIN))
    assert {step.before for step in ORIGIN} == set(ArbitrageState) - PERSISTING


def test_the_readmes_diagram_is_drawn_from_the_table() -> None:
    assert f"```mermaid\n{state_diagram()}\n```" in README.read_text()


def test_operations_rest_in_the_tables_states_and_take_every_step_of_it_but_the_callers() -> None:
    """Storms and kills, watched after every event: the states are those that rest, the steps those of the table."""
    rested: set[ArbitrageState] = set()
    taken: set[tuple[ArbitrageState, ArbitrageState]] = set()
    for seed in range(13, 33):  # late evidence reopens something in 4 of them
        rng = random.Random(seed)
        world = ready_world(seed, Faults.storm(rng))
        for _ in range(8):
            world.crash_after = rng.randint(0, 60)
            trade(world, 2, rng)
            rested |= {operation.state for operation in world.core.ledger.operations.values()}
        world.calm()
        records = [entry.record for entry in world.entries]
        taken |= {(r.from_state, r.to_state) for r in records if isinstance(r, OperationStateRecord)}
    origin = {(step.before, step.after) for step in ORIGIN}
    assert rested == PERSISTING
    assert taken - origin == {(s.before, s.after) for s in STEPS} - {
        (ArbitrageState.RECOVERING, ArbitrageState.EXECUTING)
    }


def test_an_operation_killed_before_its_origin_was_written_is_found_executing() -> None:
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    ledger = Ledger()
    for entry in world.entries:
        ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
        if isinstance(entry.record, OperationRecord):
            break
    (operation,) = ledger.operations.values()
    assert operation.state is ArbitrageState.EXECUTING


def test_a_step_that_the_table_does_not_have_is_an_error_and_leaves_no_trace() -> None:
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(100)
    operation = next(iter(world.core.ledger.operations.values()))
    records = world.core.ledger.records
    with pytest.raises(OrderExecutionError):
        world.core.states.transition_state(operation, ArbitrageState.EXECUTING, "no way back")
    assert operation.state is ArbitrageState.COMPLETED and world.core.ledger.records == records
    trail = [step.to_state for _, step in world.core.states.audit_trail(operation.operation_id)]
    assert trail == [*(step.after for step in ORIGIN), ArbitrageState.COMPLETED]


def test_only_an_entry_adds_risk() -> None:
    assert [purpose for purpose in Purpose if purpose.adds_risk] == [Purpose.ENTRY]


def test_ids_fit_every_venue_up_to_the_last_epoch() -> None:
    ids = Ids(BOOT_EPOCH_MAX)
    made = [ids.next() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(text.isalnum() and text.islower() and len(text) <= 28 for text in made)
    with pytest.raises(ValueError, match="boot epoch"):
        Ids(0)


def test_crash_points_kill_at_the_nth_passing_only() -> None:
    code = (
        "from pipeline.execution.crash_points import crash_points\n"
        "point = crash_points('sent:3')\n"
        "for _ in range(2): point('sent'); point('journalled')\n"
        "print('alive', flush=True)\n"
        "point('sent')\n"
        "print('never', flush=True)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=os.getcwd(), check=False)
    assert (found.returncode, found.stdout) == (-signal.SIGKILL, "alive\n")


def test_crash_points_are_a_no_op_when_unset_and_refuse_unknown_names() -> None:
    for name in POINTS:
        crash_points("")(name)
    with pytest.raises(ValueError, match="no crash point"):
        crash_points("nowhere:1")
    for wrong in ("sent:1,halt", "sent:0", "sent:1,life=x", "sent:1,sleep", "launch_first,stop", "launch_second,raise"):
        with pytest.raises(ValueError, match="wanted"):
            crash_points(wrong)


def test_a_point_that_acts_leaves_its_name_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARB_CRASH_MARKS", str(tmp_path / "marks"))
    point = crash_points("sent:2,sleep=1;judged:1,sleep=1;dequeued:3,sleep=1")
    for name in ("sent", "judged", "sent", "dequeued", "sent"):
        point(name)
    assert (tmp_path / "marks").read_text().split() == ["judged", "sent"]


def test_a_crash_point_can_be_an_error_instead_of_a_kill() -> None:
    point = crash_points("sent:2,raise")
    point("sent")
    with pytest.raises(RuntimeError, match="sent:2"):
        point("sent")
    point("sent")


def test_a_crash_point_can_be_a_pause_and_of_a_later_life() -> None:
    spec = "sent:2,life=2,sleep=1;guard_lease,stop;journalled:3"
    assert of_life(spec, 1) == "guard_lease:1,stop;journalled:3"
    assert of_life(spec, 2) == "sent:2,sleep=1"
    assert of_life(spec, 3) == of_life("", 1) == ""
    point = crash_points(of_life(spec, 2))
    for _ in range(3):
        point("sent")  # sleeps once, and goes on
    crash_points("sent,life=2")("sent")  # this is the first life


def test_a_crash_point_can_stop_the_process_until_it_is_woken() -> None:
    code = (
        "from pipeline.execution.crash_points import crash_points\n"
        "crash_points('sent,stop')('sent')\n"
        "print('woken', flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.kill(child.pid, signal.SIGCONT)
    assert child.communicate()[0] == "woken\n"
