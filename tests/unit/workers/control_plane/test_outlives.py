"""What the control plane does on a host that has nothing left, and around a fork server that hangs or has ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.model.config import EngineConfig, ExecutionConfig
from shm.liveness import Liveness
from tests.exhausted import full_disk, no_descriptors
from tests.worlds.waiting import until
from workers.base import WorkerContext
from workers.control_plane import preflight, started_again
from workers.control_plane.best_effort import BestEffort
from workers.control_plane.children import Child
from workers.control_plane.fork_client import LOOK_MAX_S, SILENT_MAX_S, ForkWatch
from workers.control_plane.instances import write_run_file
from workers.control_plane.preflight import CouldNotStart, await_room, check_room, room_for_start
from workers.control_plane.stopping import stop_group
from workers.executor.earlier_runs import wait_for_room
from workers.state_folder import BESIDE_BYTES, wanted_bytes

SLEEPS = "import sys; print(flush=True); sys.stdin.read()"
REFUSES = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS


def process(code: str = SLEEPS) -> subprocess.Popen[bytes]:
    made = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert made.stdout is not None
    made.stdout.readline()
    return made


def child_of(running: subprocess.Popen[bytes]) -> Child:
    child = Child("feed.x")
    child.want(0.0)
    child.starting(0.0)
    child.spawned(running.pid)
    return child


def test_what_a_full_disk_refuses_is_said_once_and_done_later(tmp_path: Path) -> None:
    said: list[str] = []
    effort = BestEffort(lambda level, text: said.append(f"{level}: {text}"))
    (tmp_path / "run.json").write_text("{}")
    with full_disk():
        for _ in range(3):
            assert not effort("run.json", lambda: write_run_file(tmp_path, {"state": "ready"}))
    assert len(said) == 1 and said[0].startswith("error: run.json: ")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"], "no part of a file stays"
    assert effort("run.json", lambda: write_run_file(tmp_path, {"state": "ready"}))
    assert said[1:] == ["info: run.json: works again"]
    assert b"ready" in (tmp_path / "run.json").read_bytes()
    with no_descriptors():
        assert not effort("run.json", lambda: write_run_file(tmp_path, {"state": "ready"}))


def test_a_bug_is_not_best_effort() -> None:
    with pytest.raises(KeyError):
        BestEffort(lambda level, text: None)("run.json", lambda: {}["x"])


def test_a_start_without_room_is_one_clear_refusal(state_dir: Path) -> None:
    config = EngineConfig(execution=ExecutionConfig(journal_segment_bytes=2**60))
    with pytest.raises(CouldNotStart, match=r"no room in .*: found .* MB free, wanted 1152921504615\.2 MB"):
        check_room(config, "t-room")
    assert not (state_dir / "t-room").exists(), "nothing has been begun"
    check_room(EngineConfig(execution=ExecutionConfig(journal_segment_bytes=16384)), "t-room")


def test_under_systemd_a_start_waits_for_room_and_says_so_once(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five refusals within a minute would be the end of the unit, for good."""
    bytes_wanted, journal = 1 << 40, state_dir / "t-room" / "journal"
    config = EngineConfig(execution=ExecutionConfig(journal_segment_bytes=bytes_wanted))
    monkeypatch.setattr(preflight, "ROOM_LOOK_S", 0.001)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, ThreadPoolExecutor(1) as pool:
        systemd.bind(str(state_dir / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(state_dir / "notify"))
        waits = pool.submit(await_room, config, "t-room")
        for _ in range(3):
            assert systemd.recv(4096).startswith(b"EXTEND_TIMEOUT_USEC=60000000\nSTATUS=waits for the disk: no room in")
        journal.mkdir(parents=True)
        (journal / "spare").touch()
        os.truncate(journal / "spare", bytes_wanted)
        (journal / "spare").rename(journal / "journal-00000001.seg")  # as if there were room for it now
        waits.result()
    assert capsys.readouterr().err.count("waits for room, and then begins by itself") == 1


def test_where_it_would_only_be_started_again_a_start_waits_for_room(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EngineConfig(execution=ExecutionConfig(journal_segment_bytes=2**60))
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with pytest.raises(CouldNotStart, match="no room"):
        room_for_start(config, "t-room")

    class Stopped(Exception):
        """By the container's end."""

    def stopped(_seconds: float) -> None:
        raise Stopped

    monkeypatch.setenv("ARB_AWAIT_ROOM", "1")
    monkeypatch.setattr(preflight.time, "sleep", stopped)
    with pytest.raises(Stopped):
        room_for_start(config, "t-room")
    assert "waits for room, and then begins by itself" in capsys.readouterr().err


def test_an_executor_waits_for_room_and_may_be_stopped_meanwhile(tmp_path: Path, instance: str) -> None:
    context = WorkerContext(
        config=EngineConfig(execution=ExecutionConfig(journal_segment_bytes=2**60)),
        instance=instance,
        process="executor",
        exchange="",
        state_dir=tmp_path,
        restarts=0,
    )
    said: list[str] = []
    context.liveness, context.say = Liveness.create(instance, "executor"), lambda level, text: said.append(text)  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(wait_for_room, context)
        until(lambda: bool(said), "it says that it waits")
        context._stop = True
        os.eventfd_write(context.stop_fd, 1)
        assert not waits.result()
    assert len(said) == 1 and "no room in" in said[0]
    context._stop = False
    context.config = EngineConfig(execution=ExecutionConfig(journal_segment_bytes=16384))
    assert wait_for_room(context)
    context.liveness.close()


def test_a_crashed_instance_starts_on_a_full_disk_and_a_stopped_one_needs_room(tmp_path: Path) -> None:
    segment = tmp_path / "journal" / "journal-00000001.seg"
    assert wanted_bytes(tmp_path, 1 << 26) == (1 << 26) + BESIDE_BYTES
    segment.parent.mkdir()
    segment.touch()
    os.truncate(segment, 4096)  # given back by an orderly stop
    assert wanted_bytes(tmp_path, 1 << 26) == BESIDE_BYTES
    os.truncate(segment, 1 << 26)  # as a crash leaves it
    assert wanted_bytes(tmp_path, 1 << 26) == 0


def test_a_process_of_which_no_descriptor_could_be_made_is_ended_all_the_same() -> None:
    running = process()
    with no_descriptors():
        child = child_of(running)
        assert child.pidfd < 0 and not child.ended()
    child.kill()
    assert running.wait() == -signal.SIGKILL
    assert child.ended()


@pytest.mark.parametrize("code", [SLEEPS, REFUSES])
def test_a_stop_ends_where_the_fork_server_reports_nothing(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.control_plane.stopping.STOP_TIMEOUT_S", 0.0)
    running = [process(code), process(code)]
    os.kill(running[0].pid, signal.SIGSTOP)
    said: list[str] = []
    asyncio.run(
        stop_group([child_of(made) for made in running], lambda level, text: said.append(text), _turn, lambda: False)
    )
    ends = [made.wait() for made in running]
    assert ends[0] == -signal.SIGKILL and all(status < 0 for status in ends)
    assert any("did not stop" in text for text in said)


def test_a_process_that_does_not_end_by_sigkill_is_said_and_the_others_are_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits inside the kernel, as for a disk that does not answer: whoever comes after it in the order stops too."""
    for name in ("STOP_TIMEOUT_S", "KILLED_S"):
        monkeypatch.setattr(f"workers.control_plane.stopping.{name}", 0.0)
    running = process(SLEEPS)
    child = child_of(running)
    monkeypatch.setattr(child, "ended", lambda: False)
    said: list[str] = []
    asyncio.run(stop_group([child], lambda _level, text: said.append(text), _turn, lambda: False))
    assert running.wait() < 0
    assert "did not stop" in said[0] and "inside the kernel" in said[1]


async def _turn() -> None:
    await asyncio.sleep(0)


def test_only_silence_while_the_supervisor_runs_counts() -> None:
    watch = ForkWatch()
    assert not watch.hangs(100.0) and watch.due(100.0) and not watch.due(100.5) and watch.due(101.0)
    assert not watch.hangs(100_000.0), "the host or the supervisor itself stood still"
    watch.answered()
    looks = int(SILENT_MAX_S / LOOK_MAX_S)
    assert not any(watch.hangs(100_000.0 + number * LOOK_MAX_S) for number in range(1, looks + 1))
    assert watch.hangs(100_000.0 + (looks + 1) * LOOK_MAX_S)
    watch.answered()
    assert not watch.hangs(100_000.0 + (looks + 2) * LOOK_MAX_S)


BEGINS_ANEW = """
import asyncio, os, signal
from workers.base import ignore_stop_requests
from workers.control_plane.started_again import BEGUN, start_again

stops = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
if os.environ.get(BEGUN):
    print(*(signal.getsignal(number) == signal.SIG_IGN for number in stops))
else:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ignore_stop_requests(asyncio.new_event_loop())
    ended = os.fork()
    if not ended:
        os._exit(0)
    start_again(ended)
"""


def test_the_next_life_can_be_stopped() -> None:
    first = subprocess.run([sys.executable, "-c", BEGINS_ANEW], capture_output=True, text=True, check=True)
    assert first.stdout.split() == ["False"] * 3, "a process that ignores signals hands that on to what it becomes"


HOLDS_THE_STOP = """
import os, signal
from workers.control_plane.started_again import BEGUN, start_again
from workers.stop_signal import STOP_SIGNAL, take_stop_signal

if os.environ.get(BEGUN):
    os.kill(os.getpid(), STOP_SIGNAL)  # nobody has asked for it yet
    print("waits", flush=True)
    take_stop_signal()
    print("runs on")
else:
    take_stop_signal()
    ended = os.fork()
    if not ended:
        os._exit(0)
    start_again(ended)
"""


def test_a_stop_while_the_next_life_is_loaded_is_taken_by_it() -> None:
    first = subprocess.run([sys.executable, "-c", HOLDS_THE_STOP], capture_output=True, text=True, check=False)
    assert (first.stdout.split(), first.returncode) == (["waits"], -signal.SIGTERM), first.stderr


def test_a_fault_at_every_start_does_not_start_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: begun.append([path, *arguments]))
    monkeypatch.setenv(started_again.BEGUN, "")
    monkeypatch.setenv("ARB_CRASH_AT", "journalled:1")
    monkeypatch.setattr("time.monotonic", lambda: 50.0)
    while started_again.may_start_again(50.0):
        ended = process("print(flush=True)")
        started_again.start_again(ended.pid)
        assert not os.path.exists(f"/proc/{ended.pid}"), "no zombie is left"
    assert len(begun) == started_again.AGAIN_MAX
    assert begun[0] == [sys.executable, sys.executable, *sys.orig_argv[1:]]
    assert "ARB_CRASH_AT" not in os.environ
    assert started_again.may_start_again(50.0 + started_again.WINDOW_S), "long ago does not count"
