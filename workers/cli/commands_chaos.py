"""``arb chaos``, ``arb kills``: seeded faults on virtual time, and of real processes, judged record by record."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from pipeline.model.errors import ArbitrageEngineError, BadInput
from workers.cli.options import Json
from workers.cli.version import CHECKOUT
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from workers.output import emit, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.chaos.schedule import Schedule  # not imported at a start: it loads numba

SHOWN_MAX = 20  # schedules whose violations are shown as text
SAID_BEFORE = ("runs", "kills", "points", "violations", "recovery_ms", "orphans")  # said in lines of their own


def chaos(
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="A:B", help="Random schedules of 3-12 faults each, of these; B excluded.")
    ] = "1:101",
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Then plant bugs in the engine: each must be caught. Needs a checkout.")
    ] = False,
    crashes: Annotated[
        int, typer.Option("--crashes", min=-1, help="Deaths at actions of directed schedules; -1 = all, and pairs.")
    ] = 0,
    directed: Annotated[bool, typer.Option("--directed", help="The directed schedules as well.")] = False,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="FILE", help="Only the schedule in this file.")
    ] = None,
    json: Json = False,
) -> int:
    """Hurt the engine on virtual time and check every record against the venues' ledger; no network, no keys.

    The first schedule and every hundredth are played twice: `trace_equal` says whether each gave the same records.
    Exit code 1: a rule was broken, a trace differs, or a planted bug was not caught.
    """
    from pipeline.chaos.campaign import (  # imported here: they load numba
        campaign,
        crash_schedules,
        directed_schedules,
        random_schedules,
    )

    span = _seeds(seeds)
    if mutants and not (CHECKOUT / "tests" / "planted" / "__main__.py").is_file():
        raise BadInput(
            f"--mutants: found no tests/planted in {CHECKOUT}, wanted a checkout; run scripts/install in one and its "
            ".venv/bin/arb chaos --mutants"
        )
    deaths: Iterator[Schedule] = iter(())
    if replay is not None:
        chosen = iter([_schedule(replay)])
    else:
        if not (span or directed or crashes or mutants):
            raise BadInput(f"--seeds: found {seeds!r}, which is no seed, wanted some, e.g. `arb chaos --seeds 1:101`")
        chosen = random_schedules(span)
        if crashes:
            deaths = iter(crash_schedules(crashes, span.start))
        if directed:
            chosen = itertools.chain(directed_schedules(), chosen)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    found = campaign(chosen, deaths, say)
    used_s = time.process_time() - began_cpu_s
    found["per_second_of_cpu"] = round(found["schedules"] / used_s, 1) if used_s else 0.0
    found["mutants"] = _mutants() if mutants else None
    found["seconds"] = round(time.monotonic() - began_s, 3)
    emit(found, as_json=json, text=_text)
    missed = mutants and found["mutants"]["caught"] < found["mutants"]["total"]
    return EXIT_CHECK_FAILED if found["violations"] or not found["trace_equal"] or missed else EXIT_OK


def _seeds(text: str) -> range:
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise BadInput(f"--seeds: found {text!r}, wanted A:B, B excluded, e.g. `arb chaos --seeds 1:101`")
    return range(int(first), int(last))


def _mutants() -> dict[str, Any]:
    """``caught``, ``total`` and the names that were ``missed``. The bugs are the tests', hence another process."""
    run = [sys.executable, "-m", "tests.planted"]
    done = subprocess.run(run, cwd=CHECKOUT, stdout=subprocess.PIPE, check=False)
    try:
        return msgspec.json.decode(done.stdout, type=dict[str, Any])
    except msgspec.DecodeError:
        raise ArbitrageEngineError(
            f"--mutants: found exit code {done.returncode} and no result, wanted one; "
            f"`cd {CHECKOUT} && {sys.executable} -m tests.planted` shows why"
        ) from None


def _schedule(path: Path) -> Schedule:
    from pipeline.chaos.schedule import read

    try:
        return read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path}: {error}; wanted the line that a violation prints as `shrunk` or `schedule`; arb chaos --json"
        ) from error


def _text(found: dict[str, Any]) -> str:
    lines = [
        f"{found['schedules']} schedules, {found['crash_points']} of them deaths, {len(found['violations'])} "
        f"violations; {found['operations']} operations, {found['orders']} orders, {found['fills']} fills, "
        f"{found['lives']} lives of the executor, {found['events']} events",
        f"trace {found['digest'][:32]}, the same when played again: {'yes' if found['trace_equal'] else 'NO'}; "
        f"{found['seconds']} s, {found['per_second_of_cpu']} schedules a second of CPU",
    ]
    if found["mutants"] is not None:
        missed = "".join(f"; not caught: {name}" for name in found["mutants"]["missed"])
        lines.append(f"{found['mutants']['caught']} of {found['mutants']['total']} planted bugs caught{missed}")
    of_schedules = itertools.groupby(found["violations"], key=lambda row: (row["seed"], row["name"], row["schedule"]))
    for (seed, name, schedule), group in itertools.islice(of_schedules, SHOWN_MAX):
        rows = list(group)
        lines.append(f"seed {seed} {name}".rstrip() + ":")
        lines += [f"  {one['invariant']}: {one['text']}" for one in rows[:5]]
        lines.append(f"  shrunk: {rows[0]['shrunk'] or schedule}")
    return "\n".join(lines)


def kills(
    count: Annotated[int, typer.Option("--count", min=1, help="Instances, each killed several times.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first one; the others follow.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Instances side by side.")] = 2,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="FOLDER", help="Put the tape of each broken run there.")
    ] = None,
    json: Json = False,
) -> int:
    """Kill, stop and delay processes of real instances on simulated venues; check every record.

    `kills` counts deaths by process, `points` the named points at which one was hit; `recovery_ms` is the time from an
    end to READY. Exit code 1: a rule was broken, or a process outlived its instance.
    """
    from workers.kills.campaign import campaign  # imported here: it loads numba

    if keep is not None and not keep.is_dir():
        raise BadInput(f"--keep: found {keep}, wanted a folder that exists; mkdir {keep}")
    found = campaign(count, seed, jobs, keep, say)
    emit(found, as_json=json, text=_kills_text)
    return EXIT_CHECK_FAILED if found["violations"] else EXIT_OK


def _kills_text(found: dict[str, Any]) -> str:
    kills = ", ".join(f"{number} {process}" for process, number in found["kills"].items()) or "none"
    lines = [
        f"{found['runs']} runs, {len(found['violations'])} violations; {found['points']} named points, "
        f"{found['orphans']} orphans; deaths: {kills}"
    ]
    for kind, times in found["recovery_ms"].items():
        if times["n"]:
            lines.append(f"{kind} READY again: p50 {times['p50']} ms, p99 {times['p99']}, max {times['max']}")
    lines.append(", ".join(f"{value} {name}" for name, value in found.items() if name not in SAID_BEFORE))
    for seed, group in itertools.groupby(found["violations"], key=lambda row: row["seed"]):
        rows = list(group)
        lines.append(f"seed {seed}; again: arb kills --count 1 --seed {seed}")
        lines += [f"  {one['invariant']}: {one['text']}" for one in rows[:8]]
        lines += [f"    {step}" for step in rows[0]["plan"]]
    return "\n".join(lines)


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    app.command(name="chaos")(chaos)
    app.command(name="kills")(kills)
