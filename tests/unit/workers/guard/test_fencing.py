"""The end of a process and its proof, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shm.segment import process_start_ticks
from tests.exhausted import no_descriptors
from tests.worlds.guard.life import born
from tests.worlds.waiting import WAIT_S, until
from workers.guard.fencing import Condemned, ended_but_for_the_kernel
from workers.guard.keeper import RETRY_NS
from workers.guard.taking_over import TakingOver
from workers.halt_file import read_halt

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


def test_a_process_is_ended_before_the_disk_has_the_fence(instance: str, state_dir: Path) -> None:
    process = child()
    os.kill(process.pid, signal.SIGSTOP)
    context, page, guard = born(instance, state_dir)
    executor = view(process.pid, process_start_ticks(process.pid))
    taking_over = TakingOver(context, guard.keeper, executor)  # type: ignore[arg-type]
    blocked = state_dir / f"halt.{os.getpid()}.tmp"
    os.mkfifo(blocked)  # a disk that hangs: whoever opens it for writing waits
    begun = threading.Thread(target=taking_over.begin, args=("it hangs", None))
    begun.start()
    assert process.wait(WATCHDOG_S) == -signal.SIGKILL
    assert page.fenced and page.latched, "nobody else starts to send"
    begun.join(WATCHDOG_S)
    assert not begun.is_alive() and read_halt(state_dir).fence is None, "the guard goes on without the disk"
    os.close(os.open(blocked, os.O_RDONLY))
    until(lambda: not guard.keeper._disk.hangs, "the end of the write that hung")
    guard.keeper.save_halt(time.monotonic_ns() + RETRY_NS)
    until(lambda: read_halt(state_dir).fence is not None, "the fence on the disk")
    kept = read_halt(state_dir).fence
    assert kept is not None and kept.reason == "it hangs"
    page.close()


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


def tasks(folder: Path, pid: int, *rows: tuple[int, str, int]) -> Path:
    """``/proc`` with the threads (id, state, pending signals) of a process that began at tick 77, as the kernel writes
    them."""
    for number, state, pending in rows:
        task = folder / str(pid) / "task" / str(number)
        task.mkdir(parents=True)
        (task / "stat").write_text(f"{number} (a) b) {state} " + "1 " * 18 + "77 0 0")
        (task / "status").write_text(f"Name:\ta) b\nSigQ:\t0/1\nSigPnd:\t{pending:016x}\nShdPnd:\t{KILL:016x}\n")
    return folder


KILL = 1 << (signal.SIGKILL - 1)


@pytest.mark.parametrize(
    ("rows", "ended"),
    [
        ([(5, "Z", 0), (6, "D", KILL), (7, "Z", 0)], True),
        ([(5, "Z", 0), (6, "D", 0)], False),  # SIGKILL has not reached it yet
        ([(5, "Z", 0), (6, "R", KILL)], False),
        ([(5, "D", KILL), (6, "D", KILL)], False),  # in the middle of a send, for all that can be seen
        ([(5, "R", KILL)], False),
        ([(6, "D", KILL)], False),
        ([], False),
    ],
)
def test_threads_that_a_dead_disk_holds_inside_the_kernel_keep_nobody_from_proof(
    tmp_path: Path, rows: list[tuple[int, str, int]], ended: bool
) -> None:
    proc = tasks(tmp_path, 5, *rows)
    assert ended_but_for_the_kernel(5, 77, proc) is ended
    assert not ended_but_for_the_kernel(5, 78, proc), "the pid is in use again"


def test_a_process_whose_main_thread_alone_has_ended_is_not_dead() -> None:
    code = """
        import ctypes, sys, threading
        threading.Thread(target=sys.stdin.read).start()
        print(flush=True)
        ctypes.CDLL(None).pthread_exit(None)
        """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    ticks = process_start_ticks(process.pid)
    stat = Path(f"/proc/{process.pid}/stat")
    until(lambda: ") Z " in stat.read_text(), "the end of the main thread")
    assert not ended_but_for_the_kernel(process.pid, ticks), "another one sleeps and goes on"
    process.kill()
    process.wait(WATCHDOG_S)
    assert not ended_but_for_the_kernel(process.pid, ticks), "nothing is seen of it: the pidfd says it"
