"""``arb``: the command line. Commands live in ``commands_*.py``; heavy imports happen inside them.

Exit codes: 0 done and healthy, 1 done but a check failed, 2 bad usage or configuration, 3 could not start,
130 interrupted.
"""

from __future__ import annotations

import sys

import typer
from typer.core import TyperGroup

from pipeline.model.errors import ArbitrageEngineError, BadInput, ConfigInvalid
from workers import commands_control, commands_data, commands_run
from workers.output import EXIT_COULD_NOT_START, EXIT_INTERRUPTED, EXIT_USAGE, say, to_json


class _InOrder(TyperGroup):
    """Commands in the order of their definition, not of the alphabet."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(self.commands)


app = typer.Typer(
    name="arb",
    cls=_InOrder,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Arbitrage engine for centralised exchanges. Start with `arb demo`: no keys, no network.",
)
commands_run.register(app)
commands_control.register(app)
commands_data.register(app)


def _refused(error: ArbitrageEngineError, code: int) -> int:
    """An error in words on stderr; with ``--json`` also as the one object on stdout."""
    say(f"arb: {error}")
    if "--json" in sys.argv[1:]:
        errors = error.errors if isinstance(error, ConfigInvalid) else [str(error)]
        done = error.result if isinstance(error, BadInput) else {}  # what went through before a file turned out damaged
        sys.stdout.write(to_json({**done, "error": str(error), "errors": errors, "exit": code}) + "\n")
    return code


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code (``arb`` of the installed script exits with it)."""
    try:
        result = app(args=argv, prog_name="arb", standalone_mode=False)
    except (ConfigInvalid, BadInput) as error:
        return _refused(error, EXIT_USAGE)
    except ArbitrageEngineError as error:
        return _refused(error, EXIT_COULD_NOT_START)
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        say("arb: interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show(file=sys.stderr)
        return EXIT_USAGE
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
