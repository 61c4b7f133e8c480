"""``arb chaos``, ``arb kills``: seeded faults on virtual time, and of real processes, judged record by record."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.model.errors import BadInput
from workers.cli.options import Json
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from workers.output import emit, say


def chaos(
    schedules: Annotated[int, typer.Option("--schedules", min=0, help="Random schedules of 3-12 faults each.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first one; the others follow.")] = 1,
    crashes: Annotated[
        int, typer.Option("--crashes", min=-1, help="Deaths at actions of directed schedules; -1 = all, and pairs.")
    ] = 0,
    directed: Annotated[bool, typer.Option("--directed", help="The directed schedules as well.")] = False,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="FILE", help="Only the schedule in this file.")
    ] = None,
    json: Json = False,
) -> int:
    """Hurt the engine on virtual time and check every record against the venues' ledger; no network, no keys."""
    from pipeline.chaos.campaign import (  # imported here: they load numba
        campaign,
        crash_schedules,
        directed_schedules,
        random_schedules,
    )

    if replay is not None:
        chosen = iter([_schedule(replay)])
    else:
        chosen = random_schedules(schedules, seed)
        if directed:
            chosen = itertools.chain(directed_schedules(), chosen)
        if crashes:
            chosen = itertools.chain(chosen, crash_schedules(crashes, seed))
    began_s = time.process_time()
    found = campaign(chosen, say)
    used_s = time.process_time() - began_s
    found["per_second_of_cpu"] = round(found["schedules"] / used_s, 1) if used_s else 0.0
    emit(found, as_json=json, text=_text)
    return EXIT_CHECK_FAILED if found["broken"] else EXIT_OK


def _schedule(path: Path) -> Any:
    from pipeline.chaos.schedule import read

    try:
        return read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path}: {error}; wanted the line that a failure prints as `shrunk` or `schedule`; arb chaos --json"
        ) from error


def _text(found: dict[str, Any]) -> str:
    lines = [
        f"{found['schedules']} schedules, {found['broken']} broken; {found['operations']} operations, "
        f"{found['orders']} orders, {found['fills']} fills, {found['lives']} lives of the executor",
        f"trace {found['digest'][:32]}; {found['per_second_of_cpu']} schedules a second of CPU",
    ]
    for failure in found["failures"]:
        lines.append(f"seed {failure['seed']} {failure['name']}".rstrip() + ":")
        lines += [f"  {one['rule']}: {one['text']}" for one in failure["violations"][:5]]
        lines.append(f"  shrunk: {failure['shrunk']}")
    return "\n".join(lines)


def kills(
    runs: Annotated[int, typer.Option("--runs", min=1, help="Instances, each killed several times.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first one; the others follow.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Instances side by side.")] = 2,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="FOLDER", help="Put the tape of each broken run there.")
    ] = None,
    json: Json = False,
) -> int:
    """Kill, stop and delay processes of real instances on simulated venues; check every record."""
    from workers.kills.campaign import campaign  # imported here: it loads numba

    if keep is not None and not keep.is_dir():
        raise BadInput(f"--keep: found {keep}, wanted a folder that exists; mkdir {keep}")
    found = campaign(runs, seed, jobs, keep, say)
    emit(found, as_json=json, text=_kills_text)
    return EXIT_CHECK_FAILED if found["broken"] else EXIT_OK


def _kills_text(found: dict[str, Any]) -> str:
    counted = ", ".join(
        f"{value} {name}" for name, value in found.items() if name not in ("runs", "broken", "failures")
    )
    lines = [f"{found['runs']} runs, {found['broken']} broken; {counted}"]
    for failure in found["failures"]:
        lines.append(f"seed {failure['seed']}; again: arb kills --runs 1 --seed {failure['seed']}")
        lines += [f"  {one['rule']}: {one['text']}" for one in failure["violations"][:8]]
        lines += [f"    {step}" for step in failure["plan"]]
    return "\n".join(lines)


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    app.command(name="chaos")(chaos)
    app.command(name="kills")(kills)
