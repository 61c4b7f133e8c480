"""The end of a process and its proof, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from shm.segment import process_start_ticks
from tests.exhausted import no_descriptors
from tests.worlds.waiting import WAIT_S
from workers.guard.fencing import Condemned

WATCHDOG_S = WAIT_S


def child() -> subprocess.Popen[bytes]:
    made = subprocess.Popen([sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert made.stdout is not None
    made.stdout.readline()
    return made


def view(pid: int, start_ticks: int) -> Any:
    return SimpleNamespace(refresh=lambda: None, pid=pid, start_ticks=start_ticks)


def test_a_stopped_process_is_killed_and_proved_dead() -> None:
    process = child()
    os.kill(process.pid, signal.SIGSTOP)
    condemned = Condemned(view(process.pid, process_start_ticks(process.pid)))
    assert condemned.dead(WATCHDOG_S)
    assert process.wait(WATCHDOG_S) == -signal.SIGKILL
    assert condemned.dead()


def test_a_pid_that_is_in_use_again_is_not_hit() -> None:
    process = child()
    condemned = Condemned(view(process.pid, process_start_ticks(process.pid) + 1))
    assert condemned.dead(), "the process that was meant is gone"
    assert process.poll() is None
    process.kill()
    process.wait(WATCHDOG_S)


def test_no_process_is_a_dead_one() -> None:
    assert Condemned(view(0, 0)).dead()


def test_without_descriptors_nobody_is_proved_dead_until_he_is() -> None:
    process = child()
    ticks = process_start_ticks(process.pid)
    with no_descriptors():
        condemned = Condemned(view(process.pid, ticks))
        assert condemned.problem and not condemned.dead()
        assert process.poll() is None
    assert condemned.dead(WATCHDOG_S)
    assert process.wait(WATCHDOG_S) == -signal.SIGKILL
