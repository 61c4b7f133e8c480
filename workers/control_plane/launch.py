"""Starts a whole instance as a child process and ends it: shared by demo, replay, ArbitrageEngine and tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import yaml

from pipeline.model.config import ENV_PATHS
from pipeline.model.errors import ArbitrageEngineError
from pipeline.model.structs import Credentials
from workers.control_plane.instances import is_running, run_file
from workers.control_socket import ControlError, ask_supervisor
from workers.credentials import OPENED_VARIABLE, handed_over
from workers.locked_keys import sealed
from workers.output import last_lines
from workers.state_folder import instance_dir, replace_file

#: Without counting the first compilation, which takes as long as the host needs, and while no venue answers.
READY_TIMEOUT_S = 120.0
COMPILING_MAX_S = 900.0  # of the first start ever: a quarter of a minute on two cores that are free
STOP_TIMEOUT_S = 60.0  # of a supervisor that has not said how long its stop may take
ENDING_S = 3.0
POLL_S = 0.02


def compiling_text(show: Callable[[str], object]) -> Callable[[dict[str, Any]], None]:
    """A ``progress`` for :meth:`Launched.wait_ready` that shows how far the first compilation of the kernels is, and
    that no venue answers."""
    shown = ""

    def progress(described: dict[str, Any]) -> None:
        nonlocal shown
        warming = described.get("warming")
        now = f"compiling kernels, the first time only: {warming}" if warming else ""
        if waits_for_venue(described):
            now = "no venue answers; asked again by itself"
        if now and now != shown:
            show(now)
        shown = now

    return progress


def waits_for_venue(described: Mapping[str, Any]) -> bool:
    """Whether an instance starts and none of its venues answers: one that has traded waits then, others end."""
    venues = described.get("venues", {}).values()
    return described.get("state") == "starting" and bool(venues) and not any(row["reachable"] for row in venues)


class LaunchError(ArbitrageEngineError):
    """The instance did not become READY, or ended; the message carries the last lines of its log."""


class Launched:
    """One instance that this process started; ``stop`` ends it, ``clean`` removes what is left of it."""

    def __init__(
        self,
        instance: str,
        *,
        live_name: str = "",
        environment: Mapping[str, str] | None = None,
        keys: Mapping[str, Credentials] | None = None,
    ) -> None:
        """``live_name``: what confirms live mode. ``environment``: variables beside those of this process.

        ``keys``: by exchange, handed over in sealed memory; those of the state folder serve the other exchanges.
        Raises LaunchError where an instance of the name runs: that one keeps its configuration.
        The configuration that :meth:`configure` hands over is whole: ``ARB_*`` variables of this process that set one
        of its values are not passed on, nor is the profile.
        """
        self.instance = instance
        self.state_dir = instance_dir(instance, create=True)
        self.config_path = self.state_dir / "config.yaml"
        self.started_s = time.monotonic()
        arguments = [sys.executable, "-m", "workers.control_plane", "--instance", instance]
        arguments += ["--config", str(self.config_path), "--await-config", "--parent", str(os.getpid())]
        if live_name:
            arguments += ["--i-understand-live-trading", live_name]
        inherited = {name: value for name, value in os.environ.items() if name not in ENV_PATHS}
        inherited["ARB_PROFILE"] = ""
        wait_until_ended(instance)
        self.config_path.unlink(missing_ok=True)  # of an earlier run: the child waits for that of this one
        passed: tuple[int, ...] = ()
        self._log = (self.state_dir / "log" / "supervisor.log").open("ab")
        try:
            passed = (sealed(handed_over(keys)),) if keys else ()  # opened keys: nothing that waits or fails before
            named = {OPENED_VARIABLE: str(passed[0])} if passed else {}
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**inherited, **named, **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches this process only, which stops the instance in order
                pass_fds=passed,
            )
        except BaseException:
            self._log.close()
            raise
        finally:
            for descriptor in passed:
                os.close(descriptor)

    @property
    def pid(self) -> int:
        """Pid of the supervisor."""
        return self._process.pid

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write the configuration; the supervisor has been loading kernels and waits for it."""
        replace_file(self.config_path, yaml.safe_dump(msgspec.to_builtins(dict(config)), sort_keys=False).encode())

    def describe(self) -> dict[str, Any]:
        """The newest ``run.json`` that the supervisor has written; {} before the first."""
        return run_file(self.instance)

    def wait_ready(
        self, progress: Callable[[dict[str, Any]], None] | None = None, timeout_s: float = READY_TIMEOUT_S
    ) -> float:
        """Seconds from the launch to READY. Raises LaunchError when the supervisor ends or time runs out, which is not
        counted while the kernels are compiled for the first time, ``COMPILING_MAX_S`` at most, nor while no venue
        answers: an instance that has traded must not be given up for that, and another ends by itself."""
        began = time.monotonic()
        deadline = began + timeout_s
        while True:
            described = self.describe()
            if progress is not None:
                progress(described)
            ours = described.get("pid") == self.pid
            warming = described.get("warming")
            compiles = warming and time.monotonic() < began + COMPILING_MAX_S
            if compiles or (ours and waits_for_venue(described)):
                deadline = time.monotonic() + timeout_s
            if described.get("state") == "ready" and ours:
                return time.monotonic() - self.started_s
            if self._process.poll() is not None:
                raise LaunchError(
                    f"the instance ended before it was READY, with exit code {self._process.returncode}:\n"
                    f"{self.last_message()}"
                )
            if time.monotonic() > deadline:
                states = {name: row["state"] for name, row in described.get("processes", {}).items()}
                still = f", still compiling: {warming}" if warming else ""
                raise LaunchError(f"not READY after {timeout_s:.0f} s: {states}{still}\n{self.last_message()}")
            time.sleep(POLL_S)

    def all_ready(self) -> bool:
        """Whether every process is READY now."""
        described = self.describe()
        rows = described.get("processes", {})
        return bool(rows) and all(row["ready"] for row in rows.values())

    def last_message(self, lines: int = 12) -> str:
        """The last ``lines`` of the supervisor's log, for an error message."""
        return last_lines(self.state_dir / "log" / "supervisor.log", lines)

    def process_pid(self, process: str) -> int:
        """Pid of a child; 0 while it is down."""
        row = self.describe().get("processes", {}).get(process, {})
        return int(row.get("pid", 0))

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request at the control socket. Raises ControlError."""
        return ask_supervisor(self.instance, request, timeout_s=15.0)

    def kill(self, process: str) -> int:
        """SIGKILL a child; its pid, 0 when it was not running. By pidfd, so that no other process is hit."""
        pid = self.process_pid(process)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                try:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                finally:
                    os.close(descriptor)
        return pid

    def alive(self) -> bool:
        """Whether the supervisor runs."""
        return self._process.poll() is None

    def stop(self) -> int:
        """Stop the instance in order (SIGTERM; killed after the ``stop_bound_s`` of its ``run.json``); the exit
        code of the supervisor."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(self.describe().get("stop_bound_s", STOP_TIMEOUT_S))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()
        return self._process.returncode

    def clean(self, *, keep_state: bool = False) -> list[str]:
        """Remove segments of dead owners and (unless kept) the state folder; returns the removed segments."""
        from shm.segment import cleanup_instance  # numba: a launch does not wait for it

        removed = cleanup_instance(self.instance)
        if not keep_state:
            shutil.rmtree(self.state_dir, ignore_errors=True)
        return removed


def wait_until_ended(instance: str) -> None:
    """Processes of an instance that has just been killed hold its lock for moments: waits for up to ``ENDING_S``.
    Raises LaunchError."""
    deadline = time.monotonic() + ENDING_S
    while is_running(instance):
        if time.monotonic() > deadline:
            raise LaunchError(
                f"instance {instance} is running already, wanted one that is not; nothing of it was changed: "
                f"see `arb status --instance {instance}`"
            )
        time.sleep(POLL_S)


def block_new_risk(launched: Launched) -> None:
    """Ask the guard to block every venue for new risk; open operations go on. No error where it does not answer."""
    with contextlib.suppress(ControlError):
        launched.ask(op="drain", reason="drain")
