"""Commands that look at a running instance or steer it: status, top, halt, resume, execute, symbols."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.model.errors import BadInput
from workers.audit_log import audit, who
from workers.cli.closing import ask_running
from workers.cli.halt_command import halt_named
from workers.cli.manual_opportunity import execute_file
from workers.cli.options import Instance, Json
from workers.control_plane.instances import existing, is_running, ledger_path, start_command
from workers.control_socket import GUARD_SOCKET, SUPERVISOR_SOCKET, ControlError, Refused, ask
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from workers.halt_file import NO_REASON
from workers.halting import release_without_guard
from workers.output import emit
from workers.state_folder import instance_dir

Reason = Annotated[
    str, typer.Option("--reason", help="Why (needed); kept in halt.json and shown by status.", show_default=False)
]
ADOPT_TIMEOUT_S = 20.0
SYMBOLS_TIMEOUT_S = 20.0  # adding a symbol asks its venue, for 15 s at most


def status(
    instance: Instance = "",
    refused: Annotated[
        str,
        typer.Option(
            "--refused",
            metavar="BASE/QUOTE|all",
            help="Instead: the executor's refusals by pair (BTC/USDT) and reason.",
        ),
    ] = "",
    json: Json = False,
) -> int:
    """Show whether an instance can trade and why not, with the command that solves it; also after a crash or a stop.

    `state`: ready, degraded (not everywhere), stopped (no new risk) or halted (none until somebody has looked: `arb
    halt`, or what nothing explains); the field `halted` is the latch of `arb halt` alone. Exit code 0: ready; 1: any
    other state.
    Notes (a direction out of inventory, a venue paused by its rate limit) do not count. Then P&L, operations, hedges,
    positions, processes, feeds, refusals (after a stop: of the last run) and latency.

    P&L today: equity now less equity at the day's first reading (UTC; after a lost journal the first of the new one)
    and transfers. Of it, inventory is the move of what was held then, trading is the rest. Realised in all: what
    ended operations and funding earned since the journal began; it stands alone where no mark is known.

    Loss today: what `max_daily_loss_usd` bounds, the one number that trips `daily_loss`. Since 00:00 UTC: what was
    realised, the change of the open hedges' worth at the mids of their books, and what trades of others on the account
    have lost. Open hedges that have gained, and gains by others, do not count. A loss beyond the limit refuses entries
    at once; what of it is not realised trips the breaker after 10 s. A new day begins at 0.

    Why ONE instrument or pair is refused: `arb inspect book VENUE SYMBOL` (may its book be traded now, and why not),
    `arb status --refused BTC/USDT` (the executor's refusals of a pair by reason), `arb inspect journal 50` (the last
    records), `arb why ID` (an operation that did begin).
    """
    from workers.view.status import read_status  # imported here: it loads numba
    from workers.view.status_text import status_text

    if refused:
        from workers.report.refused import ALL, read_refused, refused_text

        path = ledger_path(existing(instance))
        rows = read_refused(path, refused)
        recorded = [] if rows else sorted({row["pair"] for row in read_refused(path, ALL)})
        emit({"refused": rows}, as_json=json, text=lambda fields: refused_text(fields["refused"], refused, recorded))
        return EXIT_OK
    reading = read_status(existing(instance))
    emit(reading, as_json=json, text=status_text)
    return EXIT_OK if reading["state"] == "ready" else EXIT_CHECK_FAILED


def top(
    instance: Instance = "",
    once: Annotated[bool, typer.Option("--once", help="One screen or reading; exit codes as `arb status`.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="One screen, redrawn, without tabs and keys.")] = False,
    json: Json = False,
) -> int:
    """Show a live view of an instance, from shared memory, in any shell.

    Keys: 1 to 7, left and right for the tabs; up, down, page up and page down to scroll; p pauses, r reads now; q
    leaves the view, not the engine. It changes nothing: what decides is a command.
    With --json the fields of `arb status`, one object a line, twice a second until Ctrl-C (exit code 130).
    """
    from workers.view.top import run_top  # imported here: it loads numba

    return run_top(existing(instance), once=once, plain=plain, as_json=json)


def _release(instance: str, reason: str, json: bool) -> int:
    """Release the halt: by the supervisor, else by the guard, else on the disk."""
    name = existing(instance)
    if not reason.strip():
        raise BadInput(NO_REASON)
    reply = _asked(name, {"op": "resume", "reason": reason}) or _released_on_disk(name, reason)
    fields: dict[str, Any] = {"halted": reply["halted"], "reason": reply["reason"], "running": is_running(name)}
    fields |= {"blocking": reply.get("blocking", []), "adopted": []}
    emit(fields, as_json=json, text=lambda r: _latch_text(name, r))
    return EXIT_CHECK_FAILED if fields["blocking"] else EXIT_OK


def _latch_text(name: str, fields: dict[str, Any], *, adopted: bool = False) -> str:
    """The latch, after a resume also what was taken over (``adopted``: that was asked for) and what still stands in the
    way of new risk."""
    if fields["halted"]:
        return f"{name}: HALTED ({fields['reason']})"
    lines = [f"{name}: halt, drain and venue blocks are released ({fields['reason']})"]
    if not fields.get("running", True):
        lines.append(f"  {name} does not run, so nothing trades; `{start_command(name)}` starts it")
    if adopted and not fields["adopted"]:
        lines.append("  nothing to take over was found at the venues: no position, no coin that the journal lacks")
    for row in fields["adopted"]:
        place = f"{row['venue']} {row['symbol']}".rstrip()
        what = "not taken over:" if row["what"] == "left" else f"taken over: {row['what']}"
        lines.append(f"  {what} {row['qty']} {row['base']} on {place}: {row['detail']}")
    for row in fields["blocking"]:
        lines += [f"  still in the way: {row['what']}", f"    solve: {row['solve']}"]
    return "\n".join(lines)


def _asked(instance: str, request: dict[str, Any]) -> dict[str, Any]:
    """The reply of the supervisor or, where it hangs, of the guard; {} where neither answers.

    Raises ControlError where the instance runs: its guard may still hold the halt; Refused where one of them refuses.
    """
    for socket_name in (SUPERVISOR_SOCKET, GUARD_SOCKET):
        try:
            return ask(instance_dir(instance) / socket_name, request)
        except Refused:  # asked again, the guard would release a halt that came meanwhile
            raise
        except ControlError as error:
            last = error
    if is_running(instance):
        raise last
    return {}


def _released_on_disk(instance: str, reason: str) -> dict[str, Any]:
    folder, by = instance_dir(instance), who(os.geteuid())
    release_without_guard(folder, reason, by=by)
    audit(folder, op="resume", by=by, reason=reason, where="disk")
    return {"halted": False, "reason": reason}


def halt(reason: Reason = "", instance: Instance = "", json: Json = False) -> int:
    """Latch the halt: no new risk is taken, exits stay possible. It outlives restarts, until `arb resume`.

    In force at once, also where guard, supervisor or disk hang.
    """
    return halt_named(instance, reason, as_json=json)


def resume(
    reason: Reason = "",
    instance: Instance = "",
    json: Json = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over positions and orders that the journal does not explain.")
    ] = False,
) -> int:
    """Release halt, drain and venue blocks, start again what failed, and say what still stands in the way.

    Nothing else releases them. `blocking` (exit code 1) lists what is left: breakers and held recoveries are decided
    one by one, see `arb breakers` and `arb recoveries`.

    With --adopt, after a lost or older journal or a second engine on the key: positions at the venues become hedges
    again where their coins are found, everything else a baseline; `adopted` lists what was taken over.
    """
    if not adopt:
        return _release(instance, reason, json)
    name = existing(instance)
    if not reason.strip():
        raise BadInput(NO_REASON)
    reply = ask_running(name, {"op": "resume", "adopt": True, "reason": reason}, timeout_s=ADOPT_TIMEOUT_S)
    fields = {key: reply[key] for key in ("halted", "reason", "blocking", "adopted")}
    emit(fields, as_json=json, text=lambda r: _latch_text(name, r, adopted=True))
    return EXIT_CHECK_FAILED if fields["blocking"] else EXIT_OK


def execute(
    file: Annotated[Path, typer.Argument(help="Opportunity as JSON or YAML.")],
    instance: Instance = "",
    json: Json = False,
) -> int:
    """Send one opportunity of your own through the same gate and saga. Exit code 0: completed; 1: it ended otherwise.

    FILE is JSON or YAML in one of two forms; decimals are text or numbers.

    Two or three legs: {"type": "spot_spot", "legs": [{"venue": "mexc_spot", "symbol": "XRPUSDT", "side": "buy",
    "qty": "100", "limit_price": "0.53"}, {"venue": "gateio_spot", "symbol": "XRP_USDT", "side": "sell", "qty": "100",
    "limit_price": "0.52"}]}. Types: spot_spot, spot_futures_hedge, triangular.

    A pair and two venues (fields of ArbitrageOpportunity; others are ignored): {"opportunity_type": "SPOT_SPOT",
    "symbol": "XRP/USDT", "buy_exchange": "mexc_spot", "sell_exchange": "gateio_spot", "buy_price": "0.53",
    "sell_price": "0.52", "max_quantity": "100"}. The pair finds each venue's own symbol; a venue's symbol works
    in either form. Prices are limits, quantities base coin.
    """
    fields = execute_file(file, instance)
    emit(
        fields,
        as_json=json,
        text=lambda f: (
            f"{f['final_state']} in {f['total_execution_time_ms']} ms, realised {f['realized_profit']}"
            + (f" ({f['reason']})" if f.get("reason") else "")
        ),
    )
    return EXIT_OK if fields["final_state"] == "completed" else EXIT_CHECK_FAILED


symbols_app = typer.Typer(help="Instruments of a running instance: list, add, remove.", no_args_is_help=True)


def _symbols(instance: str, **request: str) -> dict[str, Any]:
    return ask_running(existing(instance), {"op": "symbols", **request}, timeout_s=SYMBOLS_TIMEOUT_S)


def _symbol_lines(reply: dict[str, Any]) -> str:
    lines = []
    for row in reply["instruments"]:
        state = "removed" if row["removed"] else row["status"]
        doubt = f"  QUARANTINED: {row['quarantined']}" if row["quarantined"] else ""
        lines.append(f"{row['instrument_id']:>4}  {row['venue']:<18}{row['symbol']:<20}{row['pair']:<16}{state}{doubt}")
    return "\n".join(lines)


@symbols_app.command("list")
def symbols_list(instance: Instance = "", json: Json = False) -> int:
    """List the catalogue of instruments."""
    emit(_symbols(instance, action="list"), as_json=json, text=_symbol_lines)
    return EXIT_OK


@symbols_app.command("add")
def symbols_add(venue: str, symbol: str, instance: Instance = "", json: Json = False) -> int:
    """Add an instrument while the engine runs, e.g. `arb symbols add mexc_spot SOLUSDT`."""
    reply = _symbols(instance, action="add", venue=venue, symbol=symbol)
    emit(reply, as_json=json, text=lambda r: f"instrument {r['instrument_id']}: {r['quarantined'] or 'added'}")
    return EXIT_OK


@symbols_app.command("remove")
def symbols_remove(venue: str, symbol: str, instance: Instance = "", json: Json = False) -> int:
    """Take an instrument out while the engine runs; open positions stay."""
    reply = _symbols(instance, action="remove", venue=venue, symbol=symbol)
    emit(reply, as_json=json, text=lambda r: f"instrument {r['instrument_id']}: removed")
    return EXIT_OK


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    for command in (status, top, halt, resume, execute):
        app.command(name=command.__name__)(command)
    app.add_typer(symbols_app, name="symbols")
