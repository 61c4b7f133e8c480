"""The simulated exchanges as a child process, seen from its parent: start, control endpoint, stop."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib import error as url_error
from urllib import request as url_request

import msgspec

from pipeline.model.errors import ArbitrageEngineError
from pipeline.model.structs import Credentials
from workers.output import last_lines

READY_TIMEOUT_S = 60.0


class SimulatorError(ArbitrageEngineError):
    """The simulated exchanges did not start, or ended before they were asked to."""


class SimulatorProcess:
    """The simulated exchanges in a child process; it ends with its parent."""

    def __init__(
        self,
        *,
        seed: int,
        scenario: str,
        captures: Sequence[Path] = (),
        speed: str = "1",
        waits: bool = False,
        venues: Sequence[str] = (),
        log: Path,
    ) -> None:
        """``waits``: the scenario's timed faults and its paths count from a POST of ``/begin``, not from the start.
        ``venues``: of the scenario, these alone; () = all."""
        arguments = [sys.executable, "-m", "workers.demo.simulator_server", "--parent", str(os.getpid())]
        arguments += ["--seed", str(seed), "--scenario", scenario, "--speed", speed]
        arguments += ["--waits"] if waits else []
        arguments += ["--venues", ",".join(venues)] if venues else []
        for capture in captures:
            arguments += ["--capture", str(capture)]
        self._log_path = log
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        self.fields: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """Pid of the child."""
        return self._process.pid

    def wait_ready(self) -> dict[str, Any]:
        """What the child printed when it was ready. Raises SimulatorError with the last lines of its log."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if select.select([self._process.stdout], [], [], 0.2)[0]:
                line = self._process.stdout.readline()
                if line:
                    self.fields = msgspec.json.decode(line, type=dict[str, Any])
                    return self.fields
            if self._process.poll() is not None:
                break
        raise SimulatorError(f"the simulated exchanges did not start, see {self._log_path}:\n{self.last_message()}")

    def last_message(self) -> str:
        """The last lines of the simulator's log, for an error message."""
        return last_lines(self._log_path, 8)

    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process.poll() is None

    def clear_faults(self) -> None:
        """Remove every fault rule. Raises SimulatorError."""
        self.control("/faults", method="DELETE")

    def control(self, path: str, body: bytes | None = None, timeout_s: float = 30.0, *, method: str = "") -> Any:
        """JSON of ``GET control + path`` (POST with a body; ``method``: another). Raises SimulatorError."""
        url = self.fields["control"].rstrip("/") + path
        call = url_request.Request(url, data=body, method=method or ("GET" if body is None else "POST"))
        try:
            with url_request.urlopen(call, timeout=timeout_s) as reply:
                return msgspec.json.decode(reply.read())
        except url_error.HTTPError as refused:
            with refused:
                said = refused.read().decode(errors="replace")
            raise SimulatorError(f"the simulator's control endpoint {url} refuses {body!r}: {said}") from None
        except (url_error.URLError, TimeoutError, OSError, msgspec.DecodeError) as problem:
            raise SimulatorError(f"the simulator's control endpoint {url} does not answer: {problem}") from None

    def stop(self) -> int:
        """End the child (SIGTERM, killed after 10 s); its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10.0)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
        return self._process.returncode


def keys_of(venues: dict[str, dict[str, Any]]) -> dict[str, Credentials]:
    """One key per exchange, from what the venues printed."""
    return {
        name.rpartition("_")[0]: Credentials(
            api_key=row["api_key"], api_secret=row["api_secret"], uid=row.get("uid", "")
        )
        for name, row in venues.items()
        if row.get("api_key")
    }
