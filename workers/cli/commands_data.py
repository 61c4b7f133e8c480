"""Commands over captures, the ledger, the logs and the configuration: books, replay, why, report, logs, config."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pipeline.model.config_load import load_config
from pipeline.model.config_notes import config_notes
from pipeline.model.enums import Mode
from pipeline.model.errors import BadInput
from workers.base import set_undumpable
from workers.cli.closing import ask_running
from workers.cli.config_view import config_lines, config_values
from workers.cli.options import ConfigPath, Instance, Json, config_path
from workers.cli.setup_text import table
from workers.control_plane.instances import existing, instance_of, is_running
from workers.control_plane.preflight import check_mode
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_INTERRUPTED, EXIT_OK
from workers.live_rules import at_stake, live_warnings
from workers.output import emit, say, to_json, write
from workers.setup.readiness import before_live
from workers.state_folder import instance_dir

Captures = Annotated[list[Path], typer.Argument(metavar="CAPTURE...", help="Recorded files, or the prefix of several.")]
Fees = Annotated[str, typer.Option("--fees", help="zero, standard, or a file of instrument rows.")]
MinEdge = Annotated[float, typer.Option("--min-edge-bps", help="An episode begins above this.")]
LOG_POLL_S = 0.25
LOG_LINES = 50
LOG_LINES_MAX = 1_000_000


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
    from pipeline.exchanges.factory import feed_codec, recording_shapes

    fields = run_books(captures, feed_codec, recording_shapes(), out)
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
    detector: Annotated[
        bool, typer.Option("--detector", help="Of an own recording: the live detector on what it read, bit for bit.")
    ] = False,
    speed: Annotated[str, typer.Option("--speed", help="Factor of the recorded pace, or max.")] = "1",
    fees: Fees = "standard",
    min_edge_bps: MinEdge = 0.0,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --exact or --detector: one JSON line per opportunity.")
    ] = None,
    latency_ms: Annotated[
        str, typer.Option("--latency-ms", metavar="L,...", help="With --exact: what opportunities are worth so later.")
    ] = "",
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=A:B:STEP",
            help="With --exact: a run for each value of fees (bps), min_edge_bps or max_usd (repeatable).",
        ),
    ] = None,
    max_usd: Annotated[
        float | None, typer.Option("--max-usd", min=0.01, help="With --latency-ms or --sweep: the notional cap.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="With --latency-ms or --sweep: picture and table."),
    ] = None,
    json: Json = False,
) -> int:
    """Run recorded frames through the whole engine: over real sockets, or (--exact) in recorded time.

    With --latency-ms each opportunity is valued again so many milliseconds later, on the books of then; with --sweep
    the recording is run once for each value. One row a combination: found, executable, profit in USD.

    CAPTURE may be an own recording (`recording.market`, `arb demo --record`): its folder, a source's or one piece. With
    --detector exit code 1: a record is not the live one, or something was not recorded.

    Edge after fees, of quote paid: bid x (1 - s) x (1 - r) / (ask x (1 + q)) - 1, with s the seller's taker fee and the
    buyer's as r where it is taken in base (a spot buy on Gate.io), else as q. --fees standard: the row's listed fee.
    """
    if detector:
        from pipeline.replay_inputs import run_inputs  # imported here: it loads numba

        if len(captures) != 1 or exact:
            raise BadInput("--detector: wanted one recording (market/ of an instance's state folder) and no --exact")
        fields = run_inputs(captures[0], out)
        emit(fields, as_json=json, text=_lines)
        return EXIT_OK if fields["exact"] else EXIT_CHECK_FAILED
    if latency_ms or sweep:
        if not exact:
            raise BadInput("--latency-ms, --sweep: found without --exact, wanted it: they count in recorded time")
        return _what_if(captures, fees, min_edge_bps, max_usd, latency_ms or "0", sweep or [], html, json=json)
    if max_usd is not None or html is not None:
        raise BadInput("--max-usd, --html: found without --latency-ms and --sweep, wanted one of them")
    if exact:
        from pipeline.replay import run_exact  # imported here: it loads numba

        fields = run_exact(captures, fees, min_edge_bps, out)
        emit(fields, as_json=json, text=_lines)
        return EXIT_OK
    if out is not None:
        raise BadInput("--out: found without --exact, which alone writes opportunities; add --exact")
    # Imported here: it loads numba and aiohttp.
    from pipeline.book.recording.pieces import is_recording
    from workers.demo.replay_live import ReplayOptions, run_replay
    from workers.demo.summary_text import summary_text

    own = next((path for path in captures if is_recording(path)), None)
    if own is not None:
        raise BadInput(
            f"{own}: found an own recording, wanted captures to be served over sockets; add --exact or --detector"
        )
    result = run_replay(ReplayOptions(captures=captures, speed=speed, fees=fees, min_edge_bps=min_edge_bps, json=json))
    emit(result.fields, as_json=json, text=summary_text)
    if result.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_OK if result.healthy else EXIT_CHECK_FAILED


def _what_if(
    captures: list[Path],
    fees: str,
    min_edge_bps: float,
    max_usd: float | None,
    latency_ms: str,
    sweep: list[str],
    html: Path | None,
    *,
    json: bool,
) -> int:
    """The same recording under other fees, thresholds, sizes and latencies."""
    from pipeline.replay_sweep import parse_latencies, parse_sweep, run_sweep  # imported here: it loads numba
    from workers.report.what_if import what_if_page, what_if_text

    swept, latencies = parse_sweep(sweep), parse_latencies(latency_ms)
    rows = run_sweep(
        captures, fees=fees, min_edge_bps=f"{min_edge_bps:g}", max_usd=max_usd, swept=swept, latencies_ms=latencies
    )
    fields: dict[str, Any] = {"what_if": [msgspec.structs.asdict(row) for row in rows]}
    if html is not None:
        html.write_text(what_if_page(rows, list(swept), ", ".join(map(str, captures))), encoding="utf-8")
        fields["html"] = str(html)
    emit(fields, as_json=json, text=lambda _: what_if_text(rows))
    return EXIT_OK


def why(
    operation: Annotated[
        str, typer.Argument(metavar="ID", help="Operation id or its beginning, or the opportunity's number.")
    ],
    instance: Instance = "",
    json: Json = False,
) -> int:
    """Show all of one operation: books, edges, gate, orders, fills, times. Of an opportunity that was refused, by its
    number (`arb status --refused all`): the books as they were, and the gate's verdict."""
    from workers.cli.why import read_trail, trail_text  # imported here: it loads numpy

    emit(read_trail(existing(instance), operation), as_json=json, text=trail_text)
    return EXIT_OK


def report(
    since: Annotated[str, typer.Option("--since", help="ISO time (UTC) or a span like 90m, 24h, 7d.")] = "",
    by: Annotated[str, typer.Option("--by", help="Also one row per run, day, pair, venue, operation or leg.")] = "",
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="One page with charts and tables.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="DIR", help="Every table as a CSV file.")] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="DIR", help="Every table as a Parquet file; needs pyarrow.")
    ] = None,
    instance: Instance = "",
    json: Json = False,
) -> int:
    """Sum up the SQLite ledger: P&L in its parts (edge + missed + latency + slippage + broken + marks - fees +
    funding; the residual is 0, or a record is missing), success, recovery, expected and realised edge.

    Files of --html, --csv and --parquet are replaced; the JSON names them under `files`."""
    from workers.cli.report import read_report, report_text  # imported here: it loads numpy
    from workers.report.files import check_parquet, written
    from workers.report.parts import REPORT_BY

    if by not in ("", *REPORT_BY):
        raise BadInput(f"--by: found {by!r}, wanted one of {', '.join(REPORT_BY)}")
    if parquet is not None:
        check_parquet()
    to_files = any(path is not None for path in (html, csv, parquet))
    of_page = csv is None and parquet is None
    fields = read_report(existing(instance), since, by, tables=to_files, of_page=of_page)
    if to_files:
        fields["files"] = written(fields, fields.pop("tables"), html=html, csv_folder=csv, parquet_folder=parquet)
    emit(fields, as_json=json, text=report_text)
    return EXIT_OK


def canary(
    since: Annotated[str, typer.Option("--since", help="ISO time (UTC) or a span like 90m, 24h, 7d.")] = "",
    instance: Instance = "",
    json: Json = False,
) -> int:
    """What real orders met on each instrument beside what the engine counts on: fees, least sizes, answers, refusals.

    For the first days with real money: section `canary` of the configuration keeps the limits small. Exit code 0: every
    instrument was compared, and is as expected; 1: a doubt should be understood before a limit is widened, or nothing
    was compared yet. What is expected is known while the instance runs."""
    from workers.cli.report import open_ledger  # imported here: it loads numpy
    from workers.report.canary import canary_fields, canary_text
    from workers.report.times import since_wall_ns

    name, start = existing(instance), since_wall_ns(since, command="arb canary")
    listed = ask_running(name, {"op": "symbols", "action": "list"})["instruments"] if is_running(name) else []
    with open_ledger(name) as db:
        fields = canary_fields(db, listed, start)
    emit(fields, as_json=json, text=canary_text)
    return EXIT_OK if fields["as_expected"] else EXIT_CHECK_FAILED


def archive(
    recording: Annotated[
        Path | None,
        typer.Argument(metavar="[RECORDING]", help="Own recording; default: market/ of the instance's state folder."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the Parquet files go.")] = Path("archive"),
    instance: Instance = "",
    json: Json = False,
) -> int:
    """Write an own recording (`recording.market`) as Parquet, by venue and date: every frame as it came, and the books'
    tops. Needs pyarrow.

    What is there already is not written again, and the newest piece of a running instance waits: run it every hour, and
    the recording may keep its quota. Nothing is removed. Exit code 1: a piece cannot be read (it is named); the others
    are written."""
    from workers.report.archive import archive as write_archive  # imported here: it loads numba
    from workers.report.archive import archive_text

    source = instance_dir(existing(instance)) / "market" if recording is None else recording
    owner = instance_of(source) or instance
    fields = write_archive(source, out, keeps_writing=bool(owner) and is_running(owner))
    emit(fields, as_json=json, text=archive_text)
    return EXIT_CHECK_FAILED if fields["failed"] else EXIT_OK


def logs(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is added, until Ctrl-C.")] = False,
    lines: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--lines",
            min=0,
            max=LOG_LINES_MAX,
            help=f"How many of the newest; {LOG_LINES}, with --since or --until all.",
        ),
    ] = None,
    since: Annotated[str, typer.Option("--since", help="From an ISO time (UTC) on, or a span like 90m, 24h.")] = "",
    until: Annotated[str, typer.Option("--until", help="To an ISO time (UTC), or a span back from now.")] = "",
    level: Annotated[str, typer.Option("--level", help="Of at least: debug, info, warning, error, critical.")] = "",
    process: Annotated[str, typer.Option("--process", help="Of one process, e.g. executor; feed: all feeds.")] = "",
    instance: Instance = "",
    json: Json = False,
) -> int:
    """Show the newest of what every process of an instance said, in order; also after a crash or a stop.

    With -f over restarts of the instance and rotations of the file; with --json then one object a line, and the last
    one says that it was interrupted (exit code 130)."""
    from workers.control_plane.instances import existing
    from workers.report.times import since_wall_ns
    from workers.view.log_lines import LEVELS, LogTail, line_text, log_file, wanted

    if level and level not in LEVELS:
        raise BadInput(f"--level: found {level!r}, wanted one of {', '.join(LEVELS)}")
    name = existing(instance)
    span = [since_wall_ns(text, option, "arb logs") for text, option in ((since, "--since"), (until, "--until"))]
    is_wanted = wanted(level, process, *span)
    count = lines if lines is not None else LOG_LINES_MAX if any(span) else LOG_LINES
    tail = LogTail(log_file(name))
    try:
        rows = tail.newest(count, is_wanted)
        if not follow:
            fields = {"instance": name, "lines": rows}
            emit(fields, as_json=json, text=lambda _: "\n".join(map(line_text, rows)) or f"{name}: nothing is logged")
            return EXIT_OK
        while all(write(to_json(row) if json else line_text(row)) for row in rows):
            time.sleep(LOG_POLL_S)
            rows = [row for row in tail.poll() if is_wanted(row)]
        return EXIT_OK  # its reader (``| head``) has ended
    finally:
        tail.close()


config_app = typer.Typer(
    help="Configuration: check, show, compare, reload; a schema for editors.", no_args_is_help=True
)
ConfigInstance = Annotated[str, typer.Option("--instance", help="Whose keys; default: engine_name.")]


@config_app.command("check")
def config_check(
    config: ConfigPath = None,
    instance: ConfigInstance = "",
    online: Annotated[
        bool, typer.Option("--online", help="Also ask the venues: symbols; with keys, in any mode: accounts.")
    ] = False,
    json: Json = False,
) -> int:
    """Read the configuration as a start would, keys included; every error is listed with its path (exit code 2).

    `notes` are lines about values that are allowed and probably not meant. `before_live` is what live mode would
    refuse, keys included. With --online the venues are asked, and what they contradict is exit code 1.
    """
    set_undumpable()
    path = config_path(config)
    loaded = load_config(path)
    name = instance or loaded.instance
    check_mode(loaded, name, live_name=name)  # the confirmation belongs to `arb up`
    fields: dict[str, Any] = {
        "valid": True,
        "config": str(path),
        "mode": str(loaded.mode),
        "venues": [v.name for v in loaded.venues],
        "books_alone": [v.name for v in loaded.venues if not v.trade],
        "notes": [*config_notes(loaded), *live_warnings(loaded)],
        "before_live": [] if loaded.mode is Mode.LIVE else before_live(loaded, name),
        "at_stake": at_stake(loaded) if loaded.trading_venues else [],
    }
    if online:
        from workers.setup.online import check_online  # imported here: it loads aiohttp

        fields["online"] = check_online(loaded, name)
    emit(fields, as_json=json, text=checked_text)
    return EXIT_CHECK_FAILED if any(row["state"] == "fail" for row in fields.get("online", [])) else EXIT_OK


def checked_text(fields: dict[str, Any]) -> str:
    """A valid configuration in one line, and a line for each note."""
    alone = f" (books alone: {', '.join(fields['books_alone'])})" if fields["books_alone"] else ""
    first = f"{fields['config']}: valid, mode {fields['mode']}, {', '.join(fields['venues'])}{alone}"
    before = [f"before live: {line}" for line in fields["before_live"]]
    live = fields["mode"] == Mode.LIVE
    stake = [line if live else f"before live: at stake: {line}" for line in fields["at_stake"]]
    rows = [(row["state"], row["name"], row["found"], row["fix"]) for row in fields.get("online", [])]
    return "\n".join([first, *fields["notes"], *before, *stake, *([table(rows)] if rows else [])])


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
    for command in (books, replay, archive, why, report, canary, logs):
        app.command(name=command.__name__)(command)
    app.add_typer(config_app, name="config")
