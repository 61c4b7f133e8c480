"""States of operations, ids, crash points: small tables tested whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pipeline.execution.core_context import BOOT_EPOCH_MAX, Ids
from pipeline.execution.crash_points import POINTS, crash_points
from pipeline.execution.operation_states import BIRTH, NEXT
from pipeline.execution.records import Purpose
from pipeline.model.enums import ArbitrageState
from pipeline.model.errors import OrderExecutionError
from tests.worlds.execution_starts import ready_world


def test_every_state_has_its_steps_and_recovery_is_reachable_from_everywhere() -> None:
    assert set(NEXT) == set(ArbitrageState)
    for state in ArbitrageState:
        if state is not ArbitrageState.RECOVERING:
            assert ArbitrageState.RECOVERING in NEXT[state]
    at = ArbitrageState.IDLE
    for step in BIRTH:
        assert step in NEXT[at]
        at = step
    assert at is ArbitrageState.EXECUTING


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
    assert trail == [*BIRTH, ArbitrageState.COMPLETED]


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
