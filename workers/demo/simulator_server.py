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

from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.errors import ArbitrageEngineError, ConfigInvalid
from pipeline.sim.scenarios.specs import Scenario, load_scenario
from pipeline.sim.server import SimExchangeServer, serve_until_stopped
from workers.base import die_with_parent
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from workers.output import say, to_json, write

LOOPBACK = ("127.0.0.1", "localhost")


def run_simulator(
    *, config: Path | None, seed: int, scenario: str, captures: Sequence[Path], speed: str = "1", waits: bool = False
) -> int:
    """Serve until SIGTERM; one JSON line on stdout when every port listens. Returns the exit code.

    ``config``: an engine's configuration; only the exchanges that it names are served, on the ports of its loopback
    URLs. Recorded venues stand beside the scenario's; with no scenario ("") alone. ``waits``: the scenario's timed
    faults count from a POST of ``/begin`` to the control URL. Raises ConfigInvalid, BadInput, and ArbitrageEngineError
    for a port in use.
    """
    chosen = load_scenario(scenario) if scenario or not captures else None
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
        write(to_json({**fields, "engine_config": server.engine_config()}))

    with asyncio.Runner() as runner:
        runner.run(serve_until_stopped(server, on_ready))
    return EXIT_INTERRUPTED if interrupted else EXIT_OK


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
    venues = {f"{exchange}_{market}" for exchange, spec in kept.items() for market in spec.venues}
    pairs = {
        pair: msgspec.structs.replace(
            spec, listings={venue: listing for venue, listing in spec.listings.items() if venue in venues}
        )
        for pair, spec in scenario.pairs.items()
    }
    return msgspec.structs.replace(scenario, exchanges=kept, pairs=pairs)


def main(argv: list[str] | None = None) -> int:
    """``python -m workers.demo.simulator_server``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.demo.simulator_server")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenario", default="demo")
    parser.add_argument("--capture", type=Path, action="append", default=[])
    parser.add_argument("--speed", default="1")
    parser.add_argument("--waits", action="store_true")
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
            waits=arguments.waits,
        )
    except ConfigInvalid as error:
        say(str(error))
        return EXIT_USAGE
    except ArbitrageEngineError as error:
        say(f"error: {error}")
        return EXIT_COULD_NOT_START


if __name__ == "__main__":
    sys.exit(main())
