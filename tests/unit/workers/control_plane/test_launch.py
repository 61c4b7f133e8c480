"""What the child that becomes an instance gets from the program that launches it: a real child, ended at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.model.structs import Credentials
from tests.paths import REPO
from tests.worlds.waiting import until
from workers.control_plane import instances, launch
from workers.control_plane.instances import write_run_file
from workers.control_plane.launch import Launched, LaunchError, compiling_text
from workers.control_plane.preflight import lock_instance
from workers.credentials import OPENED_LINK

HANDED_OVER = "engine_name: yesterday\n"


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the program's shell that would change a configuration."""
    for name, value in (
        ("ARB_MODE", "live"),
        ("ARB_ENGINE_NAME", "other"),
        ("ARB_MAX_POSITION_SIZE_USD", "7"),
        ("ARB_ENABLE_RISK_CHECKS", "false"),
        ("ARB_PROFILE", "prod"),
        ("ARB_TEST_KEPT", "kept"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ARB_CAPTURES", raising=False)


@pytest.fixture
def launched(instance: str, state_dir: Path, shell: None) -> Iterator[Launched]:
    folder = state_dir / instance
    folder.mkdir(mode=0o700)
    (folder / "config.yaml").write_text(HANDED_OVER)
    found = Launched(instance, live_name="somebody", environment={"ARB_CRASH_AT": "sent:1"})
    yield found
    found.stop()


def words(launched: Launched, what: str) -> list[str]:
    """Of ``/proc``: empty for a moment while the child's program is being loaded."""
    path = Path(f"/proc/{launched.pid}/{what}")
    until(lambda: bool(path.read_bytes()), "the child's program")
    return path.read_bytes().decode().split("\0")


def test_the_configuration_of_an_earlier_run_is_not_there_to_start_with(launched: Launched) -> None:
    assert not launched.config_path.exists()


def test_a_start_on_a_running_instance_changes_nothing_of_it(
    instance: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ENDING_S", 0.0)
    lock = lock_instance(instance)
    folder = state_dir / instance
    (folder / "config.yaml").write_text(HANDED_OVER)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(LaunchError, match=f"instance {instance} is running already"):
        Launched(instance)
    assert (folder / "config.yaml").read_text() == HANDED_OVER
    assert sorted(path.name for path in folder.iterdir()) == before
    os.close(lock)


def test_a_start_without_a_venue_is_waited_for_and_said(launched: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits by itself where it has traded: ended for its slowness, nobody would guard what is open."""
    looks, shown = list[dict[str, Any]](), list[str]()
    show = compiling_text(shown.append)

    def write(state: str, reachable: bool) -> None:
        venues = {"v": {"reachable": reachable}}
        write_run_file(launched.state_dir, {"state": state, "pid": launched.pid, "venues": venues})

    def progress(described: dict[str, Any]) -> None:
        looks.append(described)
        show(described)
        if len(looks) == 5:
            write("ready", True)

    now = [time.monotonic()]

    def sleep(_seconds: float) -> None:
        now[0] += 100.0

    monkeypatch.setattr(launch, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    write("starting", False)
    launched.wait_ready(progress)
    assert len(looks) == 6 and shown == ["no venue answers; asked again by itself"]
    write("starting", True)
    with pytest.raises(LaunchError, match="not READY after 120 s"):
        launched.wait_ready()


def test_kernels_that_are_never_compiled_are_named_and_not_waited_for(
    launched: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]
    ends = now[0] + launch.COMPILING_MAX_S + 120.0

    def progress(_described: dict[str, Any]) -> None:
        text = f"55 functions in {now[0]:.0f} s, now detector"  # which tells no progress of its own
        write_run_file(launched.state_dir, {"state": "starting", "pid": launched.pid, "warming": text})

    def sleep(_seconds: float) -> None:
        now[0] += 100.0

    monkeypatch.setattr(launch, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    with pytest.raises(LaunchError, match=r"after 120 s: \{\}, still compiling: 55 functions in .* now detector"):
        launched.wait_ready(progress)
    assert abs(now[0] - ends) <= 200.0


def opened_keys() -> list[str]:
    """Sealed memory that this process holds."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # of the listing itself
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return [link for link in links if link == OPENED_LINK]


@pytest.mark.parametrize("fault", ["runs", "no log"])
def test_a_start_that_fails_leaves_no_opened_keys(
    instance: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(launch, "ENDING_S", 0.0)
    lock = lock_instance(instance) if fault == "runs" else -1
    if fault == "no log":
        (state_dir / instance / "log" / "supervisor.log").mkdir(parents=True)
    assert opened_keys() == []
    with pytest.raises((LaunchError, OSError)):
        Launched(instance, keys={"mexc": Credentials(api_key="k", api_secret="s")})
    assert opened_keys() == []
    if lock >= 0:
        os.close(lock)


def test_variables_of_the_shell_do_not_change_what_is_handed_over(launched: Launched) -> None:
    given = {name: value for name, _, value in (word.partition("=") for word in words(launched, "environ"))}
    found = {name: value for name, value in given.items() if name.startswith("ARB_")}
    found = {name: value for name, value in found.items() if name not in ("ARB_STATE_DIR", "ARB_CACHE_DIR")}
    assert found == {"ARB_PROFILE": "", "ARB_TEST_KEPT": "kept", "ARB_CRASH_AT": "sent:1"}
    assert "ARB_STATE_DIR" in given


def test_live_is_confirmed_by_the_name_that_was_given_and_by_no_other(launched: Launched) -> None:
    arguments = words(launched, "cmdline")
    assert arguments[arguments.index("--i-understand-live-trading") + 1] == "somebody"


def test_a_demo_launches_venues_and_engine_before_it_loads_numba() -> None:
    """Half a second of the start that a user of `arb demo` would wait for besides."""
    code = "import sys, workers.demo.demo; print(sorted({'numpy', 'numba', 'aiohttp', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_who_may_not_open_the_lock_sees_the_file_as_it_stands(
    state_dir: Path, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user of another group: that it may be running is no start that has not come to its first file."""
    folder = state_dir / instance
    folder.mkdir()
    (folder / "lock").write_text("1")
    write_run_file(folder, {"pid": 1, "state": "ready"})
    monkeypatch.setattr(instances, "is_running", lambda name: True)
    opened = Path.read_text

    def refused(path: Path, *args: Any, **more: Any) -> str:
        if path.name == "lock":
            raise PermissionError(path)
        return opened(path, *args, **more)

    monkeypatch.setattr(Path, "read_text", refused)
    assert instances.described(instance) == {"pid": 1, "state": "ready"}
