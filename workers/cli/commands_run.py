"""Commands that start something: demo, sim, up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.model.enums import Mode
from workers.cli.output import EXIT_INTERRUPTED, emit

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the synthetic market.")]
Scenario = Annotated[str, typer.Option("--scenario", help="Scenario file (YAML), or the name of one that ships.")]
SECONDS_MAX = 7 * 86400.0


def demo(
    seconds: Annotated[float, typer.Option("--seconds", min=1.0, max=SECONDS_MAX, help="How long to trade.")] = 30.0,
    seed: Seed = 1,
    scenario: Scenario = "demo",
    kill: Annotated[str, typer.Option("--kill", metavar="PROCESS", help="Kill -9 feed, detector or executor.")] = "",
    hold: Annotated[bool, typer.Option("--hold", help="Keep the venues up until SIGTERM, for other clients.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the state folder, for arb why and arb report.")] = False,
    json: Json = False,
) -> int:
    """Simulated exchanges on loopback, the whole engine as real processes, and a reconciled summary."""
    from workers.demo.demo import DemoOptions, run_demo
    from workers.demo.summary_text import summary_text

    options = DemoOptions(seconds=seconds, seed=seed, scenario=scenario, kill=kill, hold=hold, json=json, keep=keep)
    result = run_demo(options)
    if not (hold and json):  # with --hold the object is out already: clients wait for it while the venues stay up
        emit(result.fields, as_json=json, words=summary_text)
    return EXIT_INTERRUPTED if result.interrupted else int(not result.healthy)


def sim(
    config: Annotated[
        Path | None, typer.Option("--config", help="Names the exchanges, and their ports on loopback.")
    ] = None,
    seed: Seed = 1,
    scenario: Scenario = "demo",
    capture: Annotated[
        list[Path] | None, typer.Option("--capture", help="Recorded venues beside the simulated (repeatable).")
    ] = None,
    json: Json = False,
) -> int:
    """The simulated exchanges alone, in the foreground, until SIGTERM; one JSON line when ready."""
    from workers.demo.simulator import run_simulator

    return run_simulator(config=config, seed=seed, scenario=scenario, captures=capture or [])


def up(
    config: Annotated[Path | None, typer.Option("--config", help="Default: $ARB_CONFIG, else ./config.yaml.")] = None,
    mode: Annotated[Mode | None, typer.Option("--mode", help="Overrides the configuration's mode.")] = None,
    instance: Annotated[str, typer.Option("--instance", help="Default: engine_name of the configuration.")] = "",
    confirmed: Annotated[
        bool, typer.Option("--i-understand-live-trading", help="Needed for live mode: it trades real money.")
    ] = False,
    json: Json = False,
) -> int:
    """Start and supervise all processes, in the foreground, until SIGTERM or Ctrl-C."""
    from workers.control_plane.supervisor import run_instance

    path = config or (Path(os.environ["ARB_CONFIG"]) if os.environ.get("ARB_CONFIG") else Path("config.yaml"))
    code, failure = run_instance(
        str(path), instance=instance, mode="" if mode is None else mode.value, live_confirmed=confirmed
    )
    if json:
        emit({"exit": code, "error": failure}, as_json=True, words=str)
    return code


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    for command in (demo, sim, up):
        app.command(name=command.__name__)(command)
