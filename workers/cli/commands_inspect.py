"""``arb inspect``: shared memory and journal of an instance by the names of their fields."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.model.errors import BadInput
from workers.control_socket import ControlError
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from workers.output import emit, say

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")]
Instance = Annotated[str, typer.Option("--instance", help="Default: the only running one.")]
What = Annotated[
    list[str],
    typer.Argument(
        metavar="WHAT",
        help="SEGMENT, page NAME, book VENUE SYMBOL, queue NAME, or journal [N] (last N records, default 10).",
    ),
]


def inspect(what: What, instance: Instance = "", json: Json = False) -> int:
    """Shared memory or journal of a living or crashed instance, by field names with units.

    Exit code 1: the book that was asked for has not been published, or is torn.
    """
    from workers.control_plane.instances import existing, is_running, resolve, start_command
    from workers.view.inspect import inspect as read
    from workers.view.inspect import inspect_text, segments
    from workers.view.status import trust_owner

    try:
        name = existing(instance)
    except BadInput:
        name = resolve(instance)
        if not segments(name):
            raise
    trust_owner(name)
    if what[0] in ("book", "page", "queue") and not segments(name) and not is_running(name):
        raise ControlError(
            f"{name} does not run, and a stop in order leaves no shared memory; `arb inspect journal` and `arb status` "
            f"show what it left, `{start_command(name)}` starts it"
        )
    result = read(name, what)
    emit(result, as_json=json, text=inspect_text)
    if result.get("readable") is False:
        say(f"arb: no readable book of {' '.join(what[1:])} in shared memory")
        return EXIT_CHECK_FAILED
    return EXIT_OK


def register(app: typer.Typer) -> None:
    """Add this file's command to ``app``."""
    app.command(name="inspect")(inspect)
