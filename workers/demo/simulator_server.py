"""The simulated exchanges in the foreground: ``arb sim``, and the child process of a demo."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import yaml

from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.errors import ArbitrageEngineError, ConfigInvalid
from pipeline.sim.scenarios.specs import Scenario, load_scenario
from pipeline.sim.server import SimExchangeServer, serve_until_stopped
from workers.base import die_with_parent
from workers.credentials import store_credentials
from workers.demo.simulator import keys_of
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from workers.output import say, to_json, write
from workers.state_folder import replace_file

LOOPBACK = ("127.0.0.1", "localhost")


WRITTEN_HERE = "# Written by `arb sim`, which replaces this file at its next start.\n"


def run_simulator(
    *,
    config: Path | None,
    seed: int,
    scenario: str,
    captures: Sequence[Path],
    speed: str = "1",
    waits: bool = False,
    write_config: Path | None = None,
    venues: Sequence[str] = (),
) -> int:
    """Serve until SIGTERM; one JSON line on stdout when every port listens. Returns the exit code.

    ``config``: an engine's configuration; only the exchanges that it names are served, on the ports of its loopback
    URLs. Recorded venues stand beside the scenario's; with no scenario ("") alone. ``waits``: the scenario's timed
    faults and its paths count from a POST of ``/begin`` to the control URL. ``venues``: of the scenario, these alone;
    () = all. ``write_config``: the engine's configuration goes there and the keys into its state folder. Raises
    ConfigInvalid, BadInput, and ArbitrageEngineError for a port in use.
    """
    if write_config is not None:
        _check_replaceable(write_config)
    chosen = load_scenario(scenario) if scenario or not captures else None
    if chosen is not None and venues:
        chosen = chosen.only(venues)
    ports: dict[str, int] = {}
    if config is not None:
        configured = load_config(config)
        ports = configured_ports(configured)
        if chosen is not None:
            chosen = _only_configured(chosen, configured, recorded=bool(captures))
    factor: Literal["max"] | float = "max" if speed == "max" else float(speed)
    server = SimExchangeServer(chosen, seed, captures, speed=factor, ports=ports, waits=waits)

    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        signal.raise_signal(signal.SIGTERM)  # the same orderly stop with another exit code

    def on_ready(fields: dict[str, Any]) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
        for name, venue in fields["venues"].items():
            market = (
                "recorded, market data only" if venue["source"] == "recorded" else f"synthetic ({fields['scenario']})"
            )
            say(f"arb sim: {name}: {market}, {len(venue['symbols'])} symbols, {venue['rest']}")
        control = fields["control"]
        asked = f"curl {control} says what can be asked, curl {control}/faults what can be done"
        say(f"arb sim: control: {control}: {asked}")
        if write_config is not None:
            hand_over(write_config, server.engine_config(), fields["venues"])
            say(f"arb sim: its configuration and keys are written; arb up --config {write_config}")
        write(to_json({**fields, "engine_config": server.engine_config()}))

    with asyncio.Runner() as runner:
        runner.run(serve_until_stopped(server, on_ready))
    return EXIT_INTERRUPTED if interrupted else EXIT_OK


def _check_replaceable(path: Path) -> None:
    """Raises ConfigInvalid where a file stands that ``arb sim`` has not written."""
    try:
        written_here = path.read_text(errors="replace").startswith(WRITTEN_HERE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigInvalid([f"--write-config: found {path}: {error.strerror}, wanted a file to write"]) from None
    if not written_here:
        raise ConfigInvalid(
            [f"--write-config: found a file of somebody else at {path}, wanted a new one; give another name"]
        )


def hand_over(path: Path, engine_config: dict[str, Any], venues: dict[str, dict[str, Any]]) -> None:
    """Write the configuration of an engine on these venues, and their keys into that engine's state folder."""
    for exchange, key in keys_of(venues).items():
        store_credentials(engine_config["engine_name"], exchange, key)
    text = yaml.safe_dump(msgspec.to_builtins(engine_config), sort_keys=False)
    replace_file(path, (WRITTEN_HERE + text).encode())


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
            ports_found = ", ".join(map(str, found))
            errors.append(f"exchanges.{name}: found ports {ports_found}, wanted one; give all its URLs the same port")
        ports.update(dict.fromkeys([name], found[0]) if found else {})
    if len(set(ports.values())) < len(ports):
        errors.append(f"exchanges: found one port for two exchanges, wanted one each: {ports}; change the URLs")
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
        found = ", ".join(sorted(named))
        raise ConfigInvalid([f"exchanges: found {found}, wanted at least one that the scenario simulates: {known}"])
    return scenario.only([f"{exchange}_{market}" for exchange, spec in kept.items() for market in spec.venues])


def main(argv: list[str] | None = None) -> int:
    """``python -m workers.demo.simulator_server``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.demo.simulator_server")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenario", default="demo")
    parser.add_argument("--capture", type=Path, action="append", default=[])
    parser.add_argument("--speed", default="1")
    parser.add_argument("--waits", action="store_true")
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--venues", default="")
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
            waits=arguments.waits,
            venues=[name for name in arguments.venues.split(",") if name],
        )
    except ConfigInvalid as error:
        say(str(error))
        return EXIT_USAGE
    except ArbitrageEngineError as error:
        say(f"error: {error}")
        return EXIT_COULD_NOT_START


if __name__ == "__main__":
    sys.exit(main())
