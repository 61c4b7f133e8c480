"""Commands that start something: demo, sim, up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.model.enums import Mode
from workers.cli.options import ConfigPath, Json, config_path
from workers.cli.secret_input import read_passphrase
from workers.control_plane.start import run_instance
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_INTERRUPTED, EXIT_OK
from workers.output import EventLines, emit

Seed = Annotated[int, typer.Option("--seed", help="Seed of the synthetic market.")]
SCENARIOS = (  # that ship; without a look into their folder: help must be quick
    "demo, hard (edges die in 10 ms), four_venues, five_venues, seven_venues; what happens after an entry: "
    "liquidation, funding_turn, drift, foreign_orders; nothing to gain, and no order may be sent: null_flat, "
    "null_below_fees, null_shifted, null_same_ticker, null_closed_wallet"
)
Scenario = Annotated[str, typer.Option("--scenario", help=f"Scenario file (YAML), or one that ships: {SCENARIOS}.")]
ALL_VENUES = "seven_venues"  # the market of `demo` with every venue that is simulated
SECONDS_MAX = 7 * 86400.0


def demo(
    seconds: Annotated[float, typer.Option("--seconds", min=1.0, max=SECONDS_MAX, help="How long to trade.")] = 30.0,
    seed: Seed = 1,
    scenario: Scenario = "demo",
    venues: Annotated[
        str, typer.Option("--venues", metavar="NAME,...", help="Of the market, these venues alone; of seven by itself.")
    ] = "",
    kill: Annotated[
        str,
        typer.Option("--kill", metavar="PROCESS", help="SIGKILL feed, detector or executor in the middle of the run."),
    ] = "",
    hold: Annotated[bool, typer.Option("--hold", help="Keep the venues up until SIGTERM, for other clients.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the state folder for good, not until the next demo.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Record the market of the run too: `arb replay` and `arb books` take it.")
    ] = False,
    json: Json = False,
) -> int:
    """Run the whole engine on simulated exchanges on loopback, and print a reconciled summary.

    The state of the run is kept until the next demo, for `arb why ID`, `arb report --html FILE` and `arb logs`."""
    # Imported here: it loads asyncio and the scenarios.
    from workers.demo.demo import DemoOptions, run_demo
    from workers.demo.summary_text import summary_text

    chosen = tuple(name.strip() for name in venues.split(",") if name.strip())
    if chosen and scenario == "demo":
        scenario = ALL_VENUES
    options = DemoOptions(
        seconds=seconds,
        seed=seed,
        scenario=scenario,
        venues=chosen,
        kill=kill,
        hold=hold,
        json=json,
        keep=keep,
        record=record,
    )
    result = run_demo(options)
    if not (hold and json):  # with --hold the object has been printed already: clients read it while the venues are up
        emit(result.fields, as_json=json, text=summary_text)
    if result.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_OK if result.healthy else EXIT_CHECK_FAILED


def sim(
    config: Annotated[
        Path | None, typer.Option("--config", help="Names the exchanges, and their ports on loopback.")
    ] = None,
    seed: Seed = 1,
    scenario: Scenario = "demo",
    capture: Annotated[
        list[Path] | None, typer.Option("--capture", help="Recorded venues beside the simulated (repeatable).")
    ] = None,
    write_config: Annotated[
        Path | None,
        typer.Option(
            "--write-config", metavar="FILE", help="Write an engine's configuration there, and the keys where it looks."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Run the simulated exchanges alone, in the foreground, until SIGTERM; one JSON line when ready.

    With --write-config FILE an engine trades on them at once: `arb up --config FILE` in another terminal.

    `control` in the JSON line is a URL that answers with what can be asked there, such as the venues' own ledger.
    `curl CONTROL/faults` lists all that can be broken and all that the world can do, with fields, units and an example
    of each: silent streams, rate limits, moved prices, liquidations, funding, money in and out, orders of another
    client. `curl CONTROL/faults -d '{"kind": "move_price", "symbol": "ETH/USDT", "amount": "-30%", "duration_ms":
    60000}'` does one. The same list: docs/reference/faults.md.
    """
    # Imported here: it loads aiohttp.
    from workers.demo.simulator_server import run_simulator

    return run_simulator(config=config, seed=seed, scenario=scenario, captures=capture or [], write_config=write_config)


def up(
    config: ConfigPath = None,
    mode: Annotated[Mode | None, typer.Option("--mode", help="Overrides the configuration's mode.")] = None,
    instance: Annotated[str, typer.Option("--instance", help="Default: engine_name of the configuration.")] = "",
    live_name: Annotated[
        str,
        typer.Option(
            "--i-understand-live-trading", metavar="NAME", help="The instance's name: needed for live mode, real money."
        ),
    ] = "",
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Opens locked keys: asked on a terminal, else a line of stdin.")
    ] = False,
    json: Json = False,
) -> int:
    """Start and supervise an instance in the foreground, until SIGTERM, Ctrl-C or `arb stop`.

    It says READY, and later each change of the answer of `arb status` with the command that solves it; alerts; trades
    of note; and at its stop what stays open at the venues. With --json one object a line: `event` is state, alert or
    trade (lost: so many were not read in time); the last line has `exit`, `error`, `open_hedges` and `positions`.
    """
    code, ended = run_instance(
        str(config_path(config)),
        instance=instance,
        mode="" if mode is None else mode.value,
        live_name=live_name,
        ask_passphrase=read_passphrase if passphrase else None,
        on_event=EventLines().write if json else None,
    )
    if json:
        emit({"exit": code, **ended}, as_json=True, text=str)
    return code


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    for command in (demo, sim, up):
        app.command(name=command.__name__)(command)
