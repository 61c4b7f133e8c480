"""The command line of ``arb``. Commands stand in ``commands_*.py``, exit codes in ``workers/exit_codes.py``."""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipeline.exchanges.transport.shared_budgets import join
from pipeline.model.errors import ArbitrageEngineError, BadInput, ConfigInvalid
from workers.cli import (
    commands_alerts,
    commands_bench,
    commands_chaos,
    commands_config,
    commands_control,
    commands_data,
    commands_dialect,
    commands_inspect,
    commands_keys,
    commands_run,
    commands_setup,
    commands_trading,
)
from workers.cli.version import engine_version
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from workers.output import OutputLost, drop_stdout, say, to_json, write


class _Interrupted(Exception):
    """Ctrl-C: typer would turn it into a plain exit code, which a command that ended in order may return as well."""


class _EndedEarly(Exception):
    """EOFError of a command: typer would take it for Ctrl-D at a question, and end as after Ctrl-C."""


class _InOrder(TyperGroup):
    """Commands in the order of their definition, not of the alphabet."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _Interrupted from None
        except EOFError as error:
            raise _EndedEarly(str(error)) from error

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


def _version(wanted: bool) -> None:
    if wanted:
        write(f"arb {engine_version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print `arb VERSION` and end.")
    ] = False,
) -> None:
    """Arbitrage engine for centralised exchanges. Start with `arb demo`: no keys, no network."""


commands_run.register(app)
commands_setup.register(app)
commands_keys.register(app)
commands_control.register(app)
commands_trading.register(app)
commands_alerts.register(app)
commands_data.register(app)
commands_config.register()
commands_inspect.register(app)
commands_bench.register(app)
commands_chaos.register(app)
commands_dialect.register(app)


def _refused(error: ArbitrageEngineError, code: int, arguments: list[str]) -> int:
    """Report an error as text on stderr, with ``--json`` also as the one object on stdout; the exit code."""
    say(f"arb: {error}")
    errors = error.errors if isinstance(error, ConfigInvalid) else [str(error)]
    done = error.result if isinstance(error, BadInput) else {}  # what was read before the damage in a file
    _error_object({**done, "error": str(error), "errors": errors, "exit": code}, arguments)
    return code


def _interrupted(arguments: list[str]) -> int:
    say("arb: interrupted")
    _error_object({"error": "interrupted", "errors": ["interrupted"], "exit": EXIT_INTERRUPTED}, arguments)
    return EXIT_INTERRUPTED


def _error_object(fields: dict[str, Any], arguments: list[str]) -> None:
    if "--json" in arguments:
        with contextlib.suppress(OutputLost):  # reported on stderr; the exit code is the first error's
            write(to_json(fields))


def run(argv: list[str] | None) -> int:
    """Run one command; returns the exit code."""
    budgets = join("cli", "arb")  # a command that asks venues uses the budgets of the instances that run
    try:
        return _run(argv)
    finally:
        budgets.leave()


def _run(argv: list[str] | None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    try:
        result = app(args=argv, prog_name="arb", standalone_mode=False)
    except (ConfigInvalid, BadInput) as error:
        return _refused(error, EXIT_USAGE, arguments)
    except ArbitrageEngineError as error:
        return _refused(error, EXIT_COULD_NOT_START, arguments)
    except typer.Exit as error:
        return error.exit_code
    except (_Interrupted, KeyboardInterrupt, typer.Abort):
        return _interrupted(arguments)
    except _EndedEarly as error:
        traceback.print_exception(error.__cause__)
        text = f"a file or a connection ended too early: {error or 'no more is known'}"
        return _refused(ArbitrageEngineError(text), EXIT_COULD_NOT_START, arguments)
    except BrokenPipeError:
        drop_stdout()  # the reader (``| head``) has ended
        return EXIT_OK
    except OSError as error:  # a folder that cannot be written, a disk that is full
        where = f" {error.filename}; ARB_STATE_DIR chooses where the state is kept" if error.filename else ""
        text = f"{error.strerror or error}{where}"
        return _refused(ArbitrageEngineError(text), EXIT_COULD_NOT_START, arguments)
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show(file=sys.stderr)
        text = str(error.format_message()) if hasattr(error, "format_message") else str(error)
        context = getattr(error, "ctx", None)
        text += f" See `{context.command_path if context else 'arb'} --help`."
        _error_object({"error": text, "errors": [text], "exit": EXIT_USAGE}, arguments)
        return EXIT_USAGE
    return result if isinstance(result, int) else 0
