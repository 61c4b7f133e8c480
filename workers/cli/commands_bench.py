"""``arb bench``: the latency suite of a checkout; the installed package does not contain it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.model.errors import BadInput
from workers.cli.options import Json
from workers.cli.version import CHECKOUT


def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Benches to run; none = all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Everything in about a minute.")] = False,
    peers: Annotated[bool, typer.Option("--peers", help="Beside other installed libraries that do the same.")] = False,
    goals: Annotated[bool, typer.Option("--goals", help="The goals next to the figures.")] = False,
    profile: Annotated[str, typer.Option("--profile", metavar="NAME", help="Where this bench's time goes.")] = "",
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option("--compare", metavar="OLD NEW", help="The --json output of two runs.")
    ] = None,
    json: Json = False,
) -> int:
    """Run the latency suite: each row beside its C floor, alternating in one run. Exit code 1: a result is wrong, a
    goal is missed (--goals), a case got worse (--compare); 2: no goal was measured, no case could be compared."""
    if not (CHECKOUT / "bench" / "__main__.py").is_file():
        raise BadInput(
            f"found no bench/ in {CHECKOUT}, wanted a checkout; run scripts/install in one and its .venv/bin/arb bench"
        )
    chosen = {"--quick": quick, "--peers": peers, "--goals": goals, "--json": json}
    arguments = [*(name for name, wanted in chosen.items() if wanted), *(names or [])]
    if profile:
        arguments += ["--profile", profile]
    if compare is not None:
        arguments += ["--compare", *(str(path.absolute()) for path in compare)]
    environment = dict(os.environ)
    if captures := environment.get("ARB_CAPTURES"):
        environment["ARB_CAPTURES"] = str(Path(captures).absolute())
    run = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(run, cwd=CHECKOUT, env=environment, check=False).returncode


def register(app: typer.Typer) -> None:
    """Add this file's command to ``app``."""
    app.command(name="bench")(bench)
