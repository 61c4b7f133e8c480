"""What every process does the same way: context, credentials, exit codes, the notify protocol, signals."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import socket
from pathlib import Path

import pytest

from pipeline.model.config import EngineConfig
from pipeline.model.config_load import config_from_mapping
from pipeline.model.enums import ProcessState
from pipeline.model.errors import ConfigInvalid, VenueUnavailable
from pipeline.model.structs import Credentials
from shm.liveness import LivenessView
from workers.base import Notifier, WorkerContext, start_worker
from workers.credentials import load_credentials, store_credentials
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_CRASHED, EXIT_OK, EXIT_USAGE

CONFIG = config_from_mapping({"engine_name": "t-x", "mode": "sim", "processes": {"detector": {"cpus": [0], "nice": 1}}})


def in_child(instance: str, body: object, process: str = "detector", config: EngineConfig = CONFIG) -> int:
    """Exit status of ``start_worker`` in a process of its own (negative = signal)."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = start_worker(body, config=config, instance=instance, process=process)  # type: ignore[arg-type]
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.fixture
def notify(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """A listening notify socket that is in the environment."""
    name = f"@arb-test-{os.getpid()}-{os.urandom(4).hex()}"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind("\0" + name[1:])
    server.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    return server


def heard(server: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(server.recv(4096).decode())
        except BlockingIOError:
            return found


def test_a_clean_life_tells_ready_status_and_stopping(instance: str, state_dir: Path, notify: socket.socket) -> None:
    def body(ctx: WorkerContext) -> None:
        ctx.ready("8 of 8 books")
        ctx.progress()
        ctx.request_stop()
        assert ctx.stop_requested()

    assert in_child(instance, body) == EXIT_OK
    assert heard(notify) == ["READY=1\nSTATUS=8 of 8 books", "STOPPING=1"]
    view = LivenessView.attach(instance, "detector")
    assert view.state == ProcessState.STOPPED
    assert not view.alive()


@pytest.mark.parametrize(
    ("error", "ready", "code"),
    [
        (ConfigInvalid(["x: y"]), False, EXIT_USAGE),
        (VenueUnavailable("nobody there"), False, EXIT_COULD_NOT_START),
        (VenueUnavailable("nobody there"), True, EXIT_CRASHED),
        (ValueError("a bug"), False, EXIT_CRASHED),
    ],
)
def test_exit_codes_say_whether_starting_again_can_help(
    instance: str, state_dir: Path, notify: socket.socket, error: Exception, ready: bool, code: int
) -> None:
    def body(ctx: WorkerContext) -> None:
        if ready:
            ctx.ready()
        raise error

    assert in_child(instance, body) == code
    assert heard(notify)[-1].startswith("STATUS=")


def test_a_second_process_of_the_same_name_is_refused(instance: str, state_dir: Path) -> None:
    codes: list[int] = []

    def body(ctx: WorkerContext) -> None:
        codes.append(in_child(instance, lambda inner: None))
        assert codes == [EXIT_COULD_NOT_START]

    assert in_child(instance, body) == EXIT_OK


def test_sigterm_asks_and_the_kernel_insists(instance: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import workers.base

    def obeys(ctx: WorkerContext) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while not ctx.stop_requested():
            pass
        signal.setitimer(signal.ITIMER_REAL, 0)

    def refuses(ctx: WorkerContext) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            pass

    assert in_child(instance, obeys) == EXIT_OK
    monkeypatch.setattr(workers.base, "STOP_GRACE_S", 0.05)
    assert in_child(instance, refuses) == -signal.SIGALRM


def test_pinning_and_core_dumps_are_read_back(instance: str, state_dir: Path) -> None:
    def body(ctx: WorkerContext) -> None:
        import ctypes

        assert os.sched_getaffinity(0) == {0}
        assert os.getpriority(os.PRIO_PROCESS, 0) >= 1
        assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE

    assert in_child(instance, body) == EXIT_OK


def test_a_crash_leaves_no_core(
    instance: str, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the limits of its shell allow: keys are in memory."""
    monkeypatch.chdir(tmp_path)  # where the kernel would write it
    limit = resource.getrlimit(resource.RLIMIT_CORE)[1]

    def crashes(ctx: WorkerContext) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    pid = os.fork()
    if pid == 0:
        faulthandler.disable()  # it would say where
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
        start_worker(crashes, config=CONFIG, instance=instance, process="detector")
        os._exit(99)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGSEGV and not os.WCOREDUMP(status) and not list(tmp_path.glob("*core*"))


def test_a_process_that_starts_on_fewer_cpus_serves_only_when_it_is_ready(instance: str, state_dir: Path) -> None:
    """Its start may take seconds without a beat: one that serves would be ended for that."""
    config = config_from_mapping({"engine_name": "t-x", "mode": "sim", "processes": {"executor": {"cpus": [0, 4093]}}})

    def body(ctx: WorkerContext) -> None:
        view = LivenessView.attach(instance, "executor")
        assert view.state == ProcessState.WARMING
        ctx.recovered("an account answers again")
        assert view.state == ProcessState.WARMING
        ctx.ready()
        ctx.degraded("a venue is down")
        assert view.state == ProcessState.DEGRADED
        ctx.recovered("the venue is back")
        assert view.state == ProcessState.READY

    assert in_child(instance, body, "executor", config) == EXIT_OK


def test_watchdog_pings_come_with_progress_only(
    instance: str, state_dir: Path, notify: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000")

    def body(ctx: WorkerContext) -> None:
        for _ in range(3):
            ctx._beat_at_ns = ctx._watchdog_at_ns = 0
            ctx.progress()

    assert in_child(instance, body) == EXIT_OK
    assert heard(notify).count("WATCHDOG=1") == 3


def test_words_with_control_characters_are_escaped(
    instance: str, state_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def body(ctx: WorkerContext) -> None:
        ctx.say("warning", "evil\r\n\x1b[31msymbol")

    assert in_child(instance, body) == EXIT_OK
    assert capfd.readouterr().err == "detector: warning: evil\\r\\n\\x1b[31msymbol\n"


def test_keys_are_private_files_or_refused(state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Credentials(api_key="k", api_secret="canary", uid="7")
    assert load_credentials(CONFIG, "mexc", instance="t-k") is None
    path = store_credentials("t-k", "mexc", key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_credentials(CONFIG, "mexc", instance="t-k") == key
    path.chmod(0o640)
    with pytest.raises(ConfigInvalid, match="0600"):
        load_credentials(CONFIG, "mexc", instance="t-k")
    path.chmod(0o600)
    path.write_text('{"api_key": "canary"')
    with pytest.raises(ConfigInvalid) as caught:
        load_credentials(CONFIG, "mexc", instance="t-k")
    assert "canary" not in str(caught.value)
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "mexc.json").write_text('{"api_key": "s", "api_secret": "t"}')
    (folder / "mexc.json").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    found = load_credentials(CONFIG, "mexc", instance="t-k")
    assert found is not None and found.api_key == "s"
    assert "canary" not in repr(key)


def test_notifier_without_a_socket_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    unheard = [Notifier(), Notifier("/nonexistent/notify")]
    assert [notifier.send("READY=1") for notifier in unheard] == [None, None]  # neither raises nor waits
