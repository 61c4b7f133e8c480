"""The fork server: children by message, exits by pidfd, nothing outlives its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from pipeline.model.config_load import config_from_mapping
from tests.exhausted import no_descriptors
from tests.paths import REPO
from workers.base import WorkerContext
from workers.control_plane.fork_server import start_fork_server
from workers.control_plane.process_modules import PROCESS_MODULES
from workers.control_plane.warming import BAR_CHARACTERS, FUNCTIONS_ABOUT, cache_is_cold, note_warm, progress_text

WAIT_S = 240.0


def module(name: str, run: Any, warm: Any = None) -> None:
    made = ModuleType(f"workers.{name}")
    made.run = run  # type: ignore[attr-defined]
    if warm is not None:
        made.warm = warm  # type: ignore[attr-defined]
    sys.modules[f"workers.{name}"] = made
    PROCESS_MODULES[name] = f"workers.{name}"


class Nest:
    """A fork server and the supervisor's end of its channel."""

    def __init__(self, folder: Path, instance: str) -> None:
        self.folder, self.instance = folder, instance
        self.pid, self.channel = start_fork_server()
        self.channel.settimeout(WAIT_S)

    def tell(self, **message: Any) -> None:
        self.channel.send(msgspec.json.encode(message))

    def hear(self) -> dict[str, Any]:
        return msgspec.json.decode(self.channel.recv(65536))

    def until(self, event: str) -> dict[str, Any]:
        while (message := self.hear())["event"] != event:
            pass
        return message

    def spawn(self, process: str, **env: str) -> int:
        self.tell(
            op="spawn", process=process, exchange="", instance=self.instance, restarts=3, env=env,
            log=str(self.folder / "log.txt"),
        )  # fmt: skip
        return int(self.until("spawned")["pid"])


@pytest.fixture
def nest(tmp_path: Path, instance: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nest]:
    def counts(ctx: WorkerContext) -> None:
        (tmp_path / "seen").write_text(f"{ctx.restarts} {os.environ.get('CHILD_WORD')} {ctx.process}")

    def raises(ctx: WorkerContext) -> None:
        raise ValueError("a bug")

    def sleeps(ctx: WorkerContext) -> None:
        signal.pause()

    def configured(ctx: WorkerContext) -> None:
        (tmp_path / "loss").write_text(f"{ctx.config.risk_limits.max_daily_loss_usd} {ctx.config.mode}")

    module("testcounts", counts)
    module("testconfigured", configured)
    module("testraises", raises)
    module("testsleeps", sleeps)
    module("testwarm", counts, warm=lambda dialects: (tmp_path / "warm").write_text(",".join(dialects)))
    config = tmp_path / "config.yaml"
    config.write_text("engine_name: t-x\nmode: sim\n")
    made = Nest(tmp_path, instance)
    made.tell(op="config", path=str(config))
    yield made
    made.channel.close()
    os.waitpid(made.pid, 0)
    for name in ("testcounts", "testconfigured", "testraises", "testsleeps", "testwarm"):
        sys.modules.pop(f"workers.{name}", None)
        PROCESS_MODULES.pop(name, None)


def test_children_run_with_their_own_environment_and_report_their_end(nest: Nest, tmp_path: Path) -> None:
    pid = nest.spawn("testcounts", CHILD_WORD="hello")
    ended = nest.until("exited")
    assert (ended["pid"], ended["process"], ended["status"]) == (pid, "testcounts", 0)
    assert (tmp_path / "seen").read_text() == "3 hello testcounts"


def test_crash_and_kill_are_told_apart_and_logged(nest: Nest, tmp_path: Path) -> None:
    nest.spawn("testraises")
    assert nest.until("exited")["status"] == 1
    assert "a bug" in (tmp_path / "log.txt").read_text()
    os.kill(nest.spawn("testsleeps"), signal.SIGKILL)
    assert nest.until("exited")["status"] == -signal.SIGKILL


def test_what_forks_the_fork_server_has_loaded_no_numpy() -> None:
    """Its BLAS starts a thread pool, and a fork copies only the calling thread."""
    code = "import sys, workers.control_plane.start; print(sorted({'numpy', 'numba', 'aiohttp'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_modules_are_warmed_once(nest: Nest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nest.tell(op="warm", modules=["testwarm"], dialects=["mexc", "gateio"], last=True)
    assert nest.until("warm") == {"event": "warm"}
    assert (tmp_path / "warm").read_text() == "mexc,gateio"
    (tmp_path / "warm").unlink()
    nest.tell(op="warm", modules=["testwarm"], dialects=["mexc", "gateio"], last=True)
    nest.until("warm")
    assert not (tmp_path / "warm").exists()


def test_a_refused_configuration_is_told(nest: Nest, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("nonsense: 1\n")
    nest.tell(op="config", path=str(bad))
    assert "nonsense" in nest.until("failed")["text"]


@pytest.fixture
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile of one's own, and a variable, over every configuration that is loaded."""
    (tmp_path / "config.staging.yaml").write_text("risk_limits: {max_daily_loss_usd: 70}\n")
    monkeypatch.setenv("ARB_PROFILE", "staging")
    monkeypatch.setenv("ARB_MODE", "paper")


def test_an_accepted_configuration_is_taken_as_it_is(staging: None, nest: Nest, tmp_path: Path) -> None:
    """It has profile and environment in it: laid over once more they are looked for beside it, or undo it."""
    nest.spawn("testconfigured")
    nest.until("exited")
    assert (tmp_path / "loss").read_text() == "70 paper"
    accepted = config_from_mapping({"engine_name": "t-x", "mode": "sim", "risk_limits": {"max_daily_loss_usd": 9}})
    (tmp_path / "reload.json").write_bytes(msgspec.json.encode(accepted))
    nest.tell(op="accepted", path=str(tmp_path / "reload.json"))
    nest.tell(op="ping")
    assert nest.hear() == {"event": "pong"}, "nothing is refused"
    nest.spawn("testconfigured")
    nest.until("exited")
    assert (tmp_path / "loss").read_text() == "9 sim"


def test_an_accepted_configuration_that_cannot_be_read_leaves_the_one_before(nest: Nest, tmp_path: Path) -> None:
    (tmp_path / "reload.json").write_text("nonsense")
    nest.tell(op="accepted", path=str(tmp_path / "reload.json"))
    assert "reload.json" in nest.until("not taken")["text"]
    nest.spawn("testconfigured")
    nest.until("exited")
    assert (tmp_path / "loss").read_text() == "5000 sim"


def test_without_descriptors_a_child_is_not_started_and_the_fork_server_lives(nest: Nest, tmp_path: Path) -> None:
    nest.tell(op="ping")
    assert nest.until("pong") == {"event": "pong"}
    with no_descriptors(nest.pid):
        pid = nest.spawn("testcounts")
        ended = nest.until("exited")
    # Whoever is first: the fork server ends it, it finds that it cannot open its own log, or a library of it gives up.
    assert ended["pid"] == pid and ended["status"] != 0
    assert not (tmp_path / "seen").exists(), "its body never ran"
    nest.spawn("testcounts")
    assert nest.until("exited")["status"] == 0


def test_no_child_outlives_the_fork_server(nest: Nest) -> None:
    pid = nest.spawn("testsleeps")
    pidfd = os.pidfd_open(pid)
    os.kill(nest.pid, signal.SIGKILL)
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(WAIT_S * 1000), "the child is still there"
    os.close(pidfd)
    assert nest.channel.recv(10) == b""


def test_the_channel_end_ends_the_fork_server() -> None:
    pid, channel = start_fork_server()
    assert isinstance(channel, socket.socket)
    channel.close()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_cache_is_warm_for_the_dialects_that_were_compiled_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first start that was broken off left files in the cache: it is still cold, and compiled side by side."""
    from shm import jit

    monkeypatch.setattr(jit, "JIT_DISABLED", False)
    monkeypatch.setenv("ARB_CACHE_DIR", str(tmp_path))
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "half.code").touch()
    assert cache_is_cold([]) and cache_is_cold(["mexc"])
    note_warm(["gateio", "mexc"])
    assert not cache_is_cold([]) and not cache_is_cold(["gateio", "mexc"])
    assert cache_is_cold(["binance", "mexc"])
    monkeypatch.setattr(jit, "JIT_DISABLED", True)
    assert not cache_is_cold(["binance", "mexc"])


def test_the_bar_grows_with_each_function_and_is_never_full_before_the_end() -> None:
    bars = [progress_text(count, 3.0, "feed").partition("]")[0] for count in range(2 * FUNCTIONS_ABOUT)]
    assert bars[0].count("#") == 0 and bars == sorted(bars, key=lambda bar: bar.count("#"))
    assert len({bar.count("#") for bar in bars}) == BAR_CHARACTERS and "." in bars[-1]
    half = f"[{'#' * 12}{'.' * 12}] 200 of about 400 functions after 3 s, now feed"
    assert progress_text(FUNCTIONS_ABOUT // 2, 3.4, "feed") == half


WARMS = """
import json, sys
from workers.control_plane.fork_server import start_fork_server
from workers.control_plane.process_modules import PROCESS_MODULES
_, channel = start_fork_server()
channel.send(b'{"op": "warm", "modules": [], "dialects": [], "last": true}')
while (message := json.loads(channel.recv(65536)))["event"] != "warm":
    print(json.dumps(message))
"""


def warmed_with(cache: Path) -> tuple[list[str], int]:
    """What a new fork server says of the cache while it loads the shared kernels; how many it says it has compiled,
    helpers first: where there are none it names some of them."""
    environment = {**os.environ, "ARB_CACHE_DIR": str(cache), "PYTHONPATH": str(REPO)}
    run = [sys.executable, "-c", WARMS]
    done = subprocess.run(run, env=environment, cwd=REPO, capture_output=True, text=True, check=True, timeout=250)
    assert done.stderr == ""
    heard = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    said = [message["text"] for message in heard if message["event"] == "cache"]
    counts = [
        int(message["text"].split("] ")[1].split(" of about ")[0]) for message in heard if "of about" in str(message)
    ]
    assert counts == sorted(counts), "the bar moves forward alone"
    return said, counts[-1] if counts else sum(message["event"] == "warming" for message in heard)


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"), reason="nothing is compiled")
def test_damaged_machine_code_is_compiled_again_counted_and_said(tmp_path: Path) -> None:
    said, compiled = warmed_with(tmp_path)
    files = sorted((tmp_path / "kernels").rglob("*.code"))
    assert said == [] and 10 < len(files) < compiled < FUNCTIONS_ABOUT, "the functions below a kernel move the bar too"
    assert warmed_with(tmp_path) == ([], 0)
    for number, path in enumerate(files):
        os.truncate(path, path.stat().st_size * number // len(files))
    (first, total), compiling = warmed_with(tmp_path)
    assert first.startswith("1 damaged file, compiled again: ")
    assert total == f"{len(files)} damaged files in all, compiled again"
    assert compiling
    assert warmed_with(tmp_path) == ([], 0)


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"), reason="nothing is compiled")
def test_a_cache_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (sentence,), compiling = warmed_with(tmp_path / "file")
    assert "cannot be used" in sentence and compiling
