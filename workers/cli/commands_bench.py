"""``arb bench``: the latency suite, which lives beside this room in a checkout and is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.model.errors import BadInput

CHECKOUT = Path(__file__).resolve().parents[2]


def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Of the suite; none = all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Everything in about a minute.")] = False,
    peers: Annotated[bool, typer.Option("--peers", help="Beside what else is installed and does the same.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> int:
    """The latency suite: each row with its C floor, alternating in one run."""
    if not (CHECKOUT / "bench" / "__main__.py").is_file():
        raise BadInput(
            f"arb bench needs a checkout: there is no bench/ in {CHECKOUT}; run it from one (scripts/install)"
        )
    chosen = {"--quick": quick, "--peers": peers, "--json": json}
    arguments = [*(name for name, wanted in chosen.items() if wanted), *(names or [])]
    environment = dict(os.environ)
    if captures := environment.get("ARB_CAPTURES"):
        environment["ARB_CAPTURES"] = str(Path(captures).absolute())
    run = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(run, cwd=CHECKOUT, env=environment, check=False).returncode


def register(app: typer.Typer) -> None:
    """Add this file's command to ``app``."""
    app.command(name="bench")(bench)
