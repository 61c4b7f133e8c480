"""The simulated exchanges as a process of their own: ``arb sim``, and what a demo starts beside the engine."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

from pipeline.model.errors import ArbitrageEngineError, ConfigInvalid
from workers.base import die_with_parent
from workers.cli.output import EXIT_COULD_NOT_START, EXIT_INTERRUPTED, EXIT_USAGE, say, to_json, write

if TYPE_CHECKING:
    from pipeline.model.config import EngineConfig
    from pipeline.sim.scenarios.specs import Scenario

LOOPBACK = ("127.0.0.1", "localhost")
READY_TIMEOUT_S = 60.0


class SimulatorError(ArbitrageEngineError):
    """The simulated exchanges did not start, or ended before they were asked to."""


def run_simulator(*, config: Path | None, seed: int, scenario: str, captures: Sequence[Path], speed: str = "1") -> int:
    """Serve until SIGTERM; one JSON line on stdout when every port listens. Returns the exit code.

    ``config``: an engine's configuration; only the exchanges that it names are served, on the ports of its loopback
    URLs. Recorded venues stand beside the scenario's; with no scenario ("") alone. Raises ConfigInvalid, BadInput, and
    ArbitrageEngineError for a port in use.
    """
    import asyncio

    from pipeline.model.config_load import load_config
    from pipeline.sim.scenarios.specs import load_scenario
    from pipeline.sim.server import SimExchangeServer, serve_until_stopped

    chosen = load_scenario(scenario) if scenario or not captures else None
    ports: dict[str, int] = {}
    if config is not None:
        configured = load_config(config)
        ports = configured_ports(configured)
        if chosen is not None:
            chosen = _only_configured(chosen, configured, recorded=bool(captures))
    factor: Literal["max"] | float = "max" if speed == "max" else float(speed)
    server = SimExchangeServer(chosen, seed, captures, speed=factor, ports=ports)

    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        signal.raise_signal(signal.SIGTERM)  # the same orderly stop; only the exit code says who asked

    def on_ready(fields: dict[str, Any]) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
        for name, venue in fields["venues"].items():
            market = (
                "recorded, market data only" if venue["source"] == "recorded" else f"synthetic ({fields['scenario']})"
            )
            say(f"arb sim: {name}: {market}, {len(venue['symbols'])} symbols, {venue['rest']}")
        write(to_json({**fields, "engine_config": server.engine_config()}))

    with asyncio.Runner() as runner:
        runner.run(serve_until_stopped(server, on_ready))
    return EXIT_INTERRUPTED if interrupted else 0


def configured_ports(config: EngineConfig) -> dict[str, int]:
    """Exchange -> the port of its URLs on loopback (elsewhere: a free one serves it). Raises ConfigInvalid."""
    ports: dict[str, int] = {}
    errors = []
    for name, exchange in config.exchanges.items():
        urls = [
            urlsplit(url)
            for market in exchange.markets.values()
            for url in (market.rest, market.ws, market.ws_private, market.ws_api)
        ]
        found = sorted({url.port for url in urls if url.hostname in LOOPBACK and url.port})
        if len(found) > 1:
            errors.append(f"exchanges.{name}: found ports {', '.join(map(str, found))}; a simulated exchange has one")
        ports.update(dict.fromkeys([name], found[0]) if found else {})
    if len(set(ports.values())) < len(ports):
        errors.append(f"exchanges: found one port for two exchanges: {ports}")
    if errors:
        raise ConfigInvalid(errors)
    return ports


def _only_configured(scenario: Scenario, config: EngineConfig, *, recorded: bool) -> Scenario | None:
    """The scenario without the exchanges that the configuration does not name (nor their listings); None where it
    names none of them but recordings stand beside."""
    named = set(config.exchanges)
    kept = {name: spec for name, spec in scenario.exchanges.items() if name in named}
    if not kept and recorded:
        return None
    if not kept:
        known = ", ".join(scenario.exchanges)
        raise ConfigInvalid([f"exchanges: none of {', '.join(sorted(named))} is simulated; the scenario has {known}"])
    venues = {f"{exchange}_{market}" for exchange, spec in kept.items() for market in spec.venues}
    pairs = {
        pair: msgspec.structs.replace(
            spec, listings={venue: listing for venue, listing in spec.listings.items() if venue in venues}
        )
        for pair, spec in scenario.pairs.items()
    }
    return msgspec.structs.replace(scenario, exchanges=kept, pairs=pairs)


class SimulatorProcess:
    """The simulated exchanges in a child process; it ends with its parent."""

    def __init__(self, *, seed: int, scenario: str, captures: Sequence[Path] = (), speed: str = "1", log: Path) -> None:
        arguments = [sys.executable, "-m", "workers.demo.simulator", "--parent", str(os.getpid())]
        arguments += ["--seed", str(seed), "--scenario", scenario, "--speed", speed]
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
        return self._process.pid

    def wait_ready(self) -> dict[str, Any]:
        """The ready line. Raises SimulatorError with the child's last words."""
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
        raise SimulatorError(f"the simulated exchanges did not start:\n{self.last_message()}")

    def last_message(self) -> str:
        """The end of what the simulator said, for an error message."""
        try:
            return "\n".join(self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
        except OSError:
            return ""

    def alive(self) -> bool:
        return self._process.poll() is None

    def control(self, path: str, body: bytes | None = None, timeout_s: float = 30.0) -> Any:
        """JSON of ``GET control + path`` (POST with a body). Raises SimulatorError."""
        from urllib import error, request

        url = self.fields["control"].rstrip("/") + path
        call = request.Request(url, data=body, method="GET" if body is None else "POST")
        try:
            with request.urlopen(call, timeout=timeout_s) as reply:
                return msgspec.json.decode(reply.read())
        except (error.URLError, TimeoutError, OSError, msgspec.DecodeError) as problem:
            raise SimulatorError(f"the simulator's control endpoint {url} does not answer: {problem}") from None

    def stop(self) -> int:
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


def main(argv: list[str] | None = None) -> int:
    """``python -m workers.demo.simulator``: the child's side."""
    parser = argparse.ArgumentParser(prog="python -m workers.demo.simulator")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenario", default="demo")
    parser.add_argument("--capture", type=Path, action="append", default=[])
    parser.add_argument("--speed", default="1")
    parser.add_argument("--parent", type=int, default=0)
    arguments = parser.parse_args(argv)
    if arguments.parent:
        die_with_parent(signal.SIGTERM, arguments.parent)
    try:
        return run_simulator(
            config=None,
            seed=arguments.seed,
            scenario=arguments.scenario,
            captures=arguments.capture,
            speed=arguments.speed,
        )
    except ConfigInvalid as error:
        say(str(error))
        return EXIT_USAGE
    except ArbitrageEngineError as error:
        say(f"error: {error}")
        return EXIT_COULD_NOT_START


if __name__ == "__main__":
    sys.exit(main())
