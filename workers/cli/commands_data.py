"""Commands over captures, the ledger and the configuration: books, replay, why, report, config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.model.config_load import load_config
from pipeline.model.config_notes import config_notes
from pipeline.model.errors import BadInput
from workers.cli.closing import ask_running
from workers.cli.config_view import config_lines, config_values
from workers.cli.options import ConfigPath, Instance, Json, config_path
from workers.control_plane.instances import existing
from workers.control_plane.preflight import check_mode
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_INTERRUPTED, EXIT_OK
from workers.output import emit, say

Captures = Annotated[list[Path], typer.Argument(metavar="CAPTURE...", help="Recorded files; Gate.io: their prefix.")]
Fees = Annotated[str, typer.Option("--fees", help="zero, standard, or a file of instrument rows.")]
MinEdge = Annotated[float, typer.Option("--min-edge-bps", help="An episode begins above this.")]


def _lines(fields: dict[str, Any]) -> str:
    return "\n".join(f"{key:<16}{value}" for key, value in fields.items())


def books(
    captures: Captures,
    out: Annotated[Path | None, typer.Option("--out", help="One JSON line per applied depth message.")] = None,
    json: Json = False,
) -> int:
    """Build books from recorded frames with the engine's own codecs, sequencers and books.

    Exit code 1: a book is not whole at the end - no snapshot reaches its updates (bookless), or a gap was not healed by
    a later snapshot (broken) -, a state was crossed or contradicted by its ticker (its row is marked), or nothing was
    applied. Gaps that were healed are counted and are no error, nor are rows whose best price lies beyond what the
    snapshot knew (marked beyond_horizon).
    """
    from pipeline.book.recording.capture_books import run_books  # imported here: it loads numba
    from pipeline.exchanges.factory import feed_codec

    fields = run_books(captures, feed_codec, out)
    bookless, broken = (", ".join(map(str, fields[name])) for name in ("bookless", "broken"))  # type: ignore[call-overload]
    if bookless:
        say(f"arb: no snapshot of the recording reaches the updates of {bookless}: no book")
    if broken:
        say(f"arb: no later snapshot of the recording heals the gap of {broken}: no book from there on")
    doubted = fields["crossed"] or fields["contradicted"]
    if doubted:
        say(
            f"arb: {fields['crossed']} states are crossed and {fields['contradicted']} contradicted by their tickers: "
            "the recording is not whole, or not of what it seems; --out marks their rows"
        )
    emit(fields, as_json=json, text=_lines)
    return EXIT_OK if fields["applied"] and not (bookless or broken or doubted) else EXIT_CHECK_FAILED


def replay(
    captures: Captures,
    exact: Annotated[bool, typer.Option("--exact", help="Recorded time, one process, deterministic.")] = False,
    speed: Annotated[str, typer.Option("--speed", help="Factor of the recorded pace, or max.")] = "1",
    fees: Fees = "standard",
    min_edge_bps: MinEdge = 0.0,
    out: Annotated[Path | None, typer.Option("--out", help="With --exact: one JSON line per opportunity.")] = None,
    json: Json = False,
) -> int:
    """Run recorded frames through the whole engine: over real sockets, or (--exact) in recorded time.

    Edge after fees, of quote paid: bid x (1 - s) x (1 - r) / (ask x (1 + q)) - 1, with s the seller's taker fee and the
    buyer's as r where it is taken in base (a spot buy on Gate.io), else as q. --fees standard: the row's listed fee.
    """
    if exact:
        from pipeline.replay import run_exact  # imported here: it loads numba

        fields = run_exact(captures, fees, min_edge_bps, out)
        emit(fields, as_json=json, text=_lines)
        return EXIT_OK
    if out is not None:
        raise BadInput("--out: found without --exact, which alone writes opportunities; add --exact")
    # Imported here: it loads numba and aiohttp.
    from workers.demo.replay_live import ReplayOptions, run_replay
    from workers.demo.summary_text import summary_text

    result = run_replay(ReplayOptions(captures=captures, speed=speed, fees=fees, min_edge_bps=min_edge_bps, json=json))
    emit(result.fields, as_json=json, text=summary_text)
    if result.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_OK if result.healthy else EXIT_CHECK_FAILED


def why(
    operation: Annotated[str, typer.Argument(metavar="ID", help="Operation id, or the opportunity's number.")],
    instance: Instance = "",
    json: Json = False,
) -> int:
    """Show all of one operation: books, edges, gate, orders, fills, times."""
    from workers.cli.why import read_trail, trail_text  # imported here: it loads numpy

    emit(read_trail(existing(instance), operation), as_json=json, text=trail_text)
    return EXIT_OK


def report(
    since: Annotated[str, typer.Option("--since", help="ISO time or a span like 90m, 24h, 7d.")] = "",
    by: Annotated[str, typer.Option("--by", help="Also one row per run, day or operation.")] = "",
    instance: Instance = "",
    json: Json = False,
) -> int:
    """Sum up the SQLite ledger: P&L in its parts (edge + missed + latency + slippage + broken + marks - fees +
    funding; the residual is 0, or a record is missing), success, recovery, expected and realised edge."""
    from workers.cli.report import read_report, report_text  # imported here: it loads numpy

    if by not in ("", *REPORT_BY):
        raise BadInput(f"--by: found {by!r}, wanted one of {', '.join(REPORT_BY)}")
    emit(read_report(existing(instance), since, by), as_json=json, text=report_text)
    return EXIT_OK


REPORT_BY = ("run", "day", "operation")
config_app = typer.Typer(help="Configuration: check it, or show each value with its origin.", no_args_is_help=True)
ConfigInstance = Annotated[str, typer.Option("--instance", help="Whose keys; default: engine_name.")]


@config_app.command("check")
def config_check(config: ConfigPath = None, instance: ConfigInstance = "", json: Json = False) -> int:
    """Read the configuration as a start would, keys included; every error is listed with its path (exit code 2).

    `notes` are lines about values that are allowed and probably not meant.
    """
    path = config_path(config)
    loaded = load_config(path)
    check_mode(loaded, instance or loaded.instance, live_confirmed=True)  # the flag belongs to `arb up`
    fields = {
        "valid": True,
        "config": str(path),
        "mode": str(loaded.mode),
        "venues": [v.name for v in loaded.venues],
        "notes": config_notes(loaded),
    }
    emit(fields, as_json=json, text=checked_text)
    return EXIT_OK


def checked_text(fields: dict[str, Any]) -> str:
    """A valid configuration in one line, and a line for each note."""
    first = f"{fields['config']}: valid, mode {fields['mode']}, {', '.join(fields['venues'])}"
    return "\n".join([first, *fields["notes"]])


@config_app.command("show")
def config_show(config: ConfigPath = None, json: Json = False) -> int:
    """Show every value with its origin: default, file, .env, environment."""
    emit(config_values(config_path(config)), as_json=json, text=config_lines)
    return EXIT_OK


@config_app.command("reload")
def config_reload(instance: Instance = "", json: Json = False) -> int:
    """Take in changed thresholds and limits while the engine runs, as SIGHUP does: all of them, or none."""
    reply = ask_running(existing(instance), {"op": "reload"})
    rows = [f"{path}: {row['from']} -> {row['to']}" for path, row in reply["changed"].items()]
    emit(reply, as_json=json, text=lambda r: "\n".join(rows) or "nothing changed")
    return EXIT_OK


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    for command in (books, replay, why, report):
        app.command(name=command.__name__)(command)
    app.add_typer(config_app, name="config")
