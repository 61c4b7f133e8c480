"""Commands for those who add an exchange: a skeleton of its two folders, and the conformance suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.model.dialects import add_root, dialect_names, facts_of
from pipeline.model.errors import BadInput
from workers.cli.options import Json
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from workers.output import emit, say

if TYPE_CHECKING:
    from pipeline.conformance.suite import Outcome  # not imported at a start: it loads numba

dialect_app = typer.Typer(
    help="Dialects of exchanges: list, begin a new one, check one (docs/adding-a-venue.md).", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the dialect: its two folders are called so.")]
Root = Annotated[
    Path | None, typer.Option("--root", metavar="PATH", help="Folder of dialects from outside (as `dialects`).")
]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="CHECK", help="This check; may be repeated.")]


@dialect_app.command("list")
def dialect_list(root: Root = None, json: Json = False) -> int:
    """List the dialects, their markets and whether orders can be placed."""
    if root is not None:
        add_root(root)
    rows = {
        name: {"title": facts_of(name).title, "markets": list(facts_of(name).markets), "trade": facts_of(name).trade}
        for name in dialect_names()
    }
    emit({"dialects": rows}, as_json=json, text=_rows)
    return EXIT_OK


def _rows(fields: dict[str, Any]) -> str:
    return "\n".join(
        f"{name:<12}{', '.join(row['markets']):<16}{'orders' if row['trade'] else 'books alone'}"
        for name, row in fields["dialects"].items()
    )


@dialect_app.command("new")
def dialect_new(name: Name, root: Root = None, json: Json = False) -> int:
    """Begin a dialect: both folders with a file for every part, below the product's own folder or below --root."""
    from pipeline.conformance.skeleton import write_skeleton  # imported here: it loads numba

    written = write_skeleton(name, root)
    emit({"written": [str(path) for path in written]}, as_json=json, text=lambda fields: "\n".join(fields["written"]))
    where = f" --root {root}" if root is not None else ""
    say(f"arb: next: docs/adding-a-venue.md, phase 1, and `arb dialect check {name}{where} --only parts`")
    return EXIT_OK


@dialect_app.command("check")
def dialect_check(
    name: Name,
    only: Only = None,
    root: Root = None,
    json: Json = False,
) -> int:
    """Run the conformance suite of a dialect against its own simulated venue (exit code 1: something fails)."""
    from pipeline.conformance.suite import check_names, run_suite  # imported here: it loads numba

    if root is not None:
        add_root(root)
    known = {check for _, check in check_names(name)}
    unknown = [check for check in only or () if check not in known]
    if unknown:
        raise BadInput(f"--only: found {unknown[0]!r}, wanted one of {', '.join(sorted(known))}")

    def tell(outcome: Outcome) -> None:
        state = f"fails: {outcome.said}" if outcome.said else "passes"
        say(f"arb: {outcome.phase}: {outcome.market}: {outcome.check}: {state}")

    checks = [
        {"name": row.check, "phase": row.phase, "market": row.market, "state": _state(row), "found": row.said}
        for row in run_suite(name, tell, only or ())
    ]
    fields = {"dialect": name, "trade": facts_of(name).trade, "checks": checks}
    emit(fields, as_json=json, text=_checked_text)
    return EXIT_CHECK_FAILED if any(row["state"] == "fail" for row in checks) else EXIT_OK


def _state(outcome: Outcome) -> str:
    """As in the rows of `arb doctor`."""
    return "fail" if outcome.said else "ok"


def _checked_text(fields: dict[str, Any]) -> str:
    failed = sum(row["state"] == "fail" for row in fields["checks"])
    return f"{fields['dialect']}: {len(fields['checks']) - failed} checks pass, {failed} fail"


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    app.add_typer(dialect_app, name="dialect")
