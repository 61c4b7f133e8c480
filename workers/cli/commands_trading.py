"""Commands about what is held and what stands in the way: positions, hedges, balance, breakers, recoveries, close,
flatten, stop.

Reading works from the executor's socket, else from what it last published, else from the journal. Deciding needs a
running executor; who asked, when and why stands in the journal and in ``audit.jsonl``.
"""

from __future__ import annotations

import contextlib
import time
from decimal import Decimal
from shlex import quote
from typing import Annotated, Any

import msgspec
import typer

from pipeline.model.errors import BadInput
from workers.cli.closing import EXECUTOR_SOCKET, ask_executor, close_hedges
from workers.cli.options import Instance, Json
from workers.control_plane.instances import described, existing, is_running, run_file, stopped_by_systemd
from workers.control_plane.left_open import flat_line, is_dust, not_ours_text, unwatched_lines
from workers.control_socket import GUARD_SOCKET, ControlError, ask, ask_supervisor
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from workers.halt_file import Block, read_halt, write_halt
from workers.output import emit, say
from workers.state_folder import instance_dir

STOP_TIMEOUT_S = 90.0  # of a supervisor that has not said how long its stop may take
POLL_S = 0.1
STOP_DRAIN = "arb stop --flatten"  # how the reason of a stop's own drain begins
NOT_SENT = "not_sent"  # OrderState.NOT_SENT in rows of orders
Why = Annotated[str, typer.Option("--reason", help="Why; kept in the journal and in audit.jsonl.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the orders, send none.")]


def _read(instance: str, operation: str) -> tuple[str, dict[str, Any]]:
    """(instance, reply of its executor), or what it last published where it does not answer."""
    name = existing(instance)
    with contextlib.suppress(ControlError):
        return name, {**ask(instance_dir(name) / EXECUTOR_SOCKET, {"op": operation}), "live": True}
    from workers.view.status import read_status  # imported here: it loads numba

    reading = read_status(name)
    fields: dict[str, Any] = {what: reading[what] for what in ("hedges", "positions", "breakers", "recoveries")}
    said = f"the executor of {name} does not answer" if is_running(name) else f"{name} is stopped"
    say(f"arb: {said}; as of {reading['as_of'] or 'an unknown time'}")
    return name, {
        **fields,
        "balances": _balance_rows(reading),
        "proposals": [],
        "live": False,
        "unknown_now": is_running(name),  # after a stop its last word holds; of a dead executor it may be old
        "as_of": reading["as_of"],
    }


def _balance_rows(reading: dict[str, Any]) -> list[dict[str, Any]]:
    """Balances of the account page, or the executor's last word, as rows of ``arb balance``."""
    rows = [
        {"venue": venue, "asset": asset, "total": row["free"] + row["locked"], "free": row["free"], "reserved": None}
        for venue, assets in reading["balances"].items()
        for asset, row in assets.items()
        if row["free"] or row["locked"]
    ]
    from workers.executor_file import read_executor_state

    state = read_executor_state(instance_dir(reading["instance"]))
    return rows or ([] if state is None else state.balances)


def _decide(instance: str, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """One request to the executor. Raises ControlError where none runs: nothing is decided then."""
    name = existing(instance)
    return name, ask_executor(name, request)


def positions(instance: Instance = "", json: Json = False) -> int:
    """Show the open futures positions: entry, mark, unrealised P&L, funding and age of the hedges on each, distance to
    liquidation, what of it is not ours; also after a stop."""
    from workers.view.status_text import position_line

    _, reply = _read(instance, "positions")
    rows = "\n".join(position_line(row) for row in reply["positions"])
    emit(reply, as_json=json, text=lambda _: rows or "no open position")
    return EXIT_OK


def hedges(instance: Instance = "", json: Json = False) -> int:
    """Show the open hedges: entry, age, marks, P&L, funding, distance to liquidation, stress; also after a stop.

    The first word of a line is the hedge's ID: `arb close ID` closes it, `arb close --all` every one.
    """
    from workers.executor_file import read_executor_state
    from workers.view.status_text import exposure_line, hedge_line, hedge_total_line

    name, reply = _read(instance, "hedges")
    state = read_executor_state(instance_dir(name))
    reply["stress"] = None if state is None or state.pnl is None else state.pnl.get("stress")
    rows = [hedge_line(row) for row in reply["hedges"]] or ["no open hedge"]
    rows.append(hedge_total_line(reply["hedges"]))
    rows.append(exposure_line({"pnl": None if state is None else state.pnl}))
    emit(reply, as_json=json, text=lambda _: "\n".join(row for row in rows if row))
    return EXIT_OK


def balance(
    instance: Instance = "",
    release: Annotated[str, typer.Option("--release", metavar="NAME", help="End what is set aside as NAME.")] = "",
    reason: Why = "",
    json: Json = False,
) -> int:
    """Show the balances per venue and coin: free, reserved, target, drift, time to empty; and transfers that would pay.

    What a script keeps from new orders (`reserve_balance`) is listed by its name; --release NAME ends it, with a line
    in audit.jsonl.
    """
    from workers.view.status_text import balance_line, proposal_line

    head = ""
    if release:
        _decide(instance, {"op": "release", "name": release, "reason": reason})
        head = f"{release}: released\n"
    _, reply = _read(instance, "balances")

    def text(fields: dict[str, Any]) -> str:
        heads = f"{'total':>24}{'free':>24}{'reserved':>16}{'target':>16}{'drift':>16}{'empty in':>10}"
        lines = [f"{'venue':<18}{'coin':<10}{heads}"]
        lines += [balance_line(row) for row in fields["balances"]]
        lines += [
            f"kept: {kept['amount']} {kept['asset']} at {kept['venue']} until `arb balance --release {quote(name)}`"
            for name, kept in fields.get("set_aside", {}).items()
        ]
        lines += [proposal_line(row) for row in fields["proposals"]]
        lines += [f"not proposed: {text}" for text in fields.get("blocked", ())]
        return head + "\n".join(lines)

    emit(reply, as_json=json, text=text)
    return EXIT_OK


def breakers(
    instance: Instance = "",
    rearm: Annotated[str, typer.Option("--rearm", metavar="NAME", help="Re-arm this breaker (needs --reason).")] = "",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Re-arm it also where its reason still stands: it may trip again at once.")
    ] = False,
    dry_run: DryRun = False,
    reason: Why = "",
    json: Json = False,
) -> int:
    """Show the tripped breakers and what solves each, or re-arm one: first mend its reason, then `arb breakers --rearm
    NAME --reason "why"`. Exit code 1: one is still tripped.

    `venue.V` and `fee.V.SYMBOL` stop their venue or instrument only, every other one stops all new risk. Exits stay
    possible. A loss that is still beyond its limit, and a fee that is still dearer than the one that is counted with
    (a re-arm would cost a trade to find that again), are refused with what solves them; --anyway says that you know
    better, as where the account pays the dear fee no more. Re-arming `recovery_hold` lets every recovery that waits for
    an operator go on: --dry-run shows the orders that they would send first.
    """
    head = ""
    _wants_a_decision(dry_run, rearm)
    if anyway and not rearm:
        raise BadInput("found --anyway alone, wanted the breaker to re-arm with it; add --rearm NAME")
    if rearm:
        if not dry_run and not reason.strip():
            raise BadInput('found no reason, wanted one to be kept in the journal; add --reason "why"')
        _, reply = _decide(
            instance, {"op": "rearm", "name": rearm, "reason": reason, "dry_run": dry_run, "anyway": anyway}
        )
        head = _repair_lines(reply) if dry_run else f"{reply.get('rearmed', rearm)}: re-armed\n"
        head += f"it may trip again: {reply['trips_again']}\n" if reply.get("trips_again") else ""
    else:
        _, reply = _read(instance, "breakers")
    reply["breakers"] = [_breaker(row) for row in reply["breakers"]]
    emit(reply, as_json=json, text=lambda r: head + _breaker_lines(r["breakers"]) + _unknown_now(r))
    return EXIT_CHECK_FAILED if reply["breakers"] or reply.get("unknown_now") else EXIT_OK


def _breaker(row: dict[str, Any]) -> dict[str, Any]:
    """As shown: ``since`` is UTC, None where it is not known, as of the reasons of `arb status`."""
    from workers.tradable import utc

    since = utc(int(row.get("since_wall_ns") or 0))
    return {"name": row["name"], "since": since, "reason": row["reason"], "solve": row["solve"]}


def _breaker_lines(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        lines.append(f"{row['name']}: {row['reason']}" + (f" (since {row['since']})" if row["since"] else ""))
        lines.append(f"  solve: {row['solve']}")
    return "\n".join(lines) or "no breaker is tripped"


def recoveries(
    instance: Instance = "",
    approve: Annotated[
        str, typer.Option("--approve", metavar="ID", help="Let this recovery go on (its beginning is enough).")
    ] = "",
    cancel: Annotated[str, typer.Option("--cancel", metavar="ID", help="Take it over: you repair it yourself.")] = "",
    dry_run: DryRun = False,
    reason: Why = "",
    json: Json = False,
) -> int:
    """Show the recoveries that are not over, with their IDs, or decide about one. Exit code 1: one waits for you.

    A held recovery has tried every venue within the bounded price. --approve lets its repairs begin again (--dry-run
    shows the first order), and says of the unknown orders that its reason names that they never executed; --cancel
    leaves the exposure to you (it stays counted): orders by hand on the operation's own instruments repair it, and it
    ends when nothing stands alone; --approve hands it back. The breaker `recovery_hold` is re-armed when none waits any
    more, by whatever they ended.
    """
    if approve and cancel:
        raise BadInput("found --approve and --cancel, wanted one of them")
    head, wanted = "", approve or cancel
    _wants_a_decision(dry_run, wanted)
    if wanted:
        request = {"op": "approve" if approve else "cancel", "id": _recovery_id(instance, wanted), "reason": reason}
        _, reply = _decide(instance, {**request, "dry_run": dry_run})
        head = _repair_lines(reply) if dry_run else ""
    else:
        _, reply = _read(instance, "recoveries")

    def text(fields: dict[str, Any]) -> str:
        lines = "\n".join(_recovery_lines(row) for row in fields["recoveries"]) or "no recovery is open"
        return head + lines + _unknown_now(fields)

    emit(reply, as_json=json, text=text)
    waits = any(row.get("requires_manual_approval", row["state"] == "waiting_approval") for row in reply["recoveries"])
    return EXIT_CHECK_FAILED if waits or reply.get("unknown_now") else EXIT_OK


def _wants_a_decision(dry_run: bool, decision: str) -> None:
    if dry_run and not decision:
        raise BadInput("found --dry-run alone, wanted what would be decided: --rearm NAME, --approve ID or --cancel ID")


def _repair_lines(fields: dict[str, Any]) -> str:
    """What a decision would send: the first order of each recovery that it lets go on."""
    lines = [] if fields["repairs"] else ["nothing was decided; it sends no order by itself"]
    for row in fields["repairs"]:
        lines += [f"recovery {row['recovery_id']}: {_order_line(order, dry_run=True)}" for order in row["orders"]]
        lines += [f"recovery {row['recovery_id']}: no order now: {row['reason']}"] if row["reason"] else []
    return "\n".join(lines) + "\n"


def _recovery_id(instance: str, wanted: str) -> str:
    """The one open recovery that is meant by its id or its beginning; ``wanted`` itself where none begins so, which the
    executor refuses. Raises BadInput where several do."""
    _, reply = _read(instance, "recoveries")
    known = [row["recovery_id"] for row in reply["recoveries"]]
    found = [name for name in known if name == wanted] or [name for name in known if name.startswith(wanted)]
    if len(found) > 1:
        raise BadInput(f"found {len(found)} recoveries that begin with {wanted!r}, wanted one: {', '.join(found)}")
    return found[0] if found else wanted


def _unknown_now(fields: dict[str, Any]) -> str:
    """That a reading is the last one of an executor that does not answer; "" for one that is true now."""
    if not fields.get("unknown_now"):
        return ""
    return (
        f"\nas of {fields['as_of'] or 'an unknown time'}; UNKNOWN now: the executor does not answer, see `arb status`"
    )


def _recovery_lines(row: dict[str, Any]) -> str:
    unmatched = ", ".join(f"{amount} {asset}" for asset, amount in row.get("unmatched", {}).items())
    what = f"{row['recovery_id']} {row.get('pair', '')} {row['state']}: {row['reason']}"
    if unmatched:
        what += f"; unmatched {unmatched}"
    if row.get("requires_manual_approval", row["state"] == "waiting_approval"):
        first = f"{row['first']}; then " if row.get("first") else ""
        what += f"\n  solve: {first}arb recoveries --approve {row['recovery_id']} (or --cancel {row['recovery_id']})"
    return what


def _order_line(row: dict[str, Any], *, dry_run: bool) -> str:
    from workers.executor_file import amount
    from workers.view.status_text import short

    state = f": {row['state']}, filled {row['filled']}" if "state" in row else ""
    if Decimal(str(row.get("filled") or 0)) and row.get("average_price") is not None:
        filled, price = Decimal(str(row["filled"])), Decimal(str(row["average_price"]))
        state += f" at {short(price)}, {amount(filled * price)} in all"
    at = f" {row['venue']} {row['symbol']} {row['side']} {row['qty']} at {row['limit_price']} or better"
    return ("would send" if dry_run else "sent") + at + state


def _order_lines(fields: dict[str, Any]) -> list[str]:
    """Orders that were sent (or would be), each with its hedge; those that were never sent only by their number."""
    unsent = [row for row in fields["orders"] if row.get("state") == NOT_SENT]
    sent = [row for row in fields["orders"] if row.get("state") != NOT_SENT]
    lines = [f"hedge {row['hedge_id']}: {_order_line(row, dry_run=fields['dry_run'])}" for row in sent]
    return lines + ([f"{len(unsent)} orders were not sent and tried again"] if unsent else [])


def _closed_text(fields: dict[str, Any]) -> str:
    """Orders, and each hedge that stays open with the reason."""
    lines = _order_lines(fields)
    for row in fields["hedges"]:
        if row["closed"] and not fields["dry_run"]:
            lines.append(f"hedge {row['hedge_id']} is closed; `arb why {row['hedge_id']}` shows its round trip")
        if not row["closed"] and not (fields["dry_run"] and not row["reason"]):
            lines.append(f"hedge {row['hedge_id']} stays open with {row['left']}: {row['reason'] or 'not filled yet'}")
        if row.get("goes_on"):
            lines.append(f"  it is tried on {row['goes_on']}; `arb status` says what keeps it")
    lines += [_recovery_lines(row) for row in fields["recoveries"]]
    lines += [_repair_lines(fields).strip()] if fields.get("repairs") else []
    positions = fields.get("positions", [])
    coins = fields.get("foreign_coins", [])
    lines.append(flat_line(flat=fields["flat"], hedges=len(fields["open_hedges"]), positions=positions, coins=coins))
    return "\n".join(lines)


def close(
    hedge: Annotated[str, typer.Argument(metavar="[ID]", help="Id of the hedge (its beginning is enough).")] = "",
    every: Annotated[bool, typer.Option("--all", help="Every open hedge.")] = False,
    dry_run: DryRun = False,
    reason: Why = "",
    instance: Instance = "",
    json: Json = False,
) -> int:
    """Close one hedge or all, at a bounded price, profit or not; what cannot be closed says why. See `arb hedges`.

    Passes under halt and breakers. Its prices are bounded by detection.hedge.exit.forced_slippage_bps (10, 20, 50 bps
    of the best ones, each for 5 s). What books or balances do not allow now is tried again for a minute, or until the
    widest of these was tried: `arb status` says what keeps it, and an alert when it is given up. Where no executor is
    READY the guard closes. Exit code 1: something stays open. New hedges may be entered meanwhile; `arb flatten` stops
    new risk first.
    """
    if bool(hedge) == every:
        found = "an ID and --all" if every else "neither an ID nor --all"
        raise BadInput(f"found {found}, wanted one of them; `arb hedges` lists the IDs")
    request = {"op": "close", "id": hedge, "all": every, "dry_run": dry_run, "reason": reason}
    reply = close_hedges(existing(instance), request)
    emit(reply, as_json=json, text=_closed_text)
    done = all(row["closed"] or (dry_run and not row["reason"]) for row in reply["hedges"])
    return EXIT_OK if done else EXIT_CHECK_FAILED


def flatten(dry_run: DryRun = False, reason: Why = "", instance: Instance = "", json: Json = False) -> int:
    """Take no new risk, close every hedge, cancel what rests, let held repairs go on: everything to its target.

    At the bounded prices of `arb close`, under halt and breakers; `--dry-run` shows the orders first. New risk stays
    away until `arb resume --reason R` (`drained`: the guard has taken that in). Exit code 1: something of ours stays
    open, and the output says what and why. Positions and coins that no hedge of ours holds (others' orders, what an
    adoption found) are not touched: they are listed as `not ours` (`foreign_qty`), and exit 0. Coins that were
    deposited or withdrawn (`moved_qty`) are only told: there is nothing to close.
    """
    name = existing(instance)
    undrained = "" if dry_run else _drained(name, reason or "arb flatten")
    reply = close_hedges(name, {"op": "flatten", "dry_run": dry_run, "reason": reason})
    off = f"\n{undrained or 'new risk stays off until `arb resume --reason R`'}"
    off = "" if dry_run else off
    reply["drained"] = not (dry_run or undrained)
    emit(reply, as_json=json, text=lambda r: _closed_text(r) + off)
    ready = all(not row["reason"] for row in reply["hedges"])
    return EXIT_OK if reply["flat"] or (dry_run and ready) else EXIT_CHECK_FAILED


def stop(
    flat: Annotated[bool, typer.Option("--flatten", help="Close every hedge first, as `arb flatten` does.")] = False,
    dry_run: DryRun = False,
    reason: Why = "",
    instance: Instance = "",
    json: Json = False,
) -> int:
    """Stop the instance in order and say what stays open at the venues; with --flatten close it first.

    No new risk is taken, open operations are ended, then every process stops; hedges stay open unless --flatten closes
    them. Exit code 1: something stays open: `arb hedges` and `arb positions` still show it, nobody watches it, and
    the next start goes on where it stopped: `arb status` names its command.
    """
    name = existing(instance)
    if not is_running(name):
        raise ControlError(f"{name} does not run; see `arb status --instance {name}`")
    if described(name).get("units") and not dry_run:  # before anything is closed: the supervisor refuses the stop
        raise ControlError(stopped_by_systemd(name))
    closed: dict[str, Any] = {"orders": [], "hedges": [], "recoveries": []}
    if flat:
        closed = _flattened(name, dry_run=dry_run, reason=reason)
    if not dry_run:
        shown = set(run_file(name).get("notes", ()))
        ask_supervisor(name, {"op": "stop", "reason": reason or "arb stop"})
        bound_s = float(described(name).get("stop_bound_s", STOP_TIMEOUT_S))
        deadline = time.monotonic() + bound_s
        while is_running(name) and time.monotonic() < deadline:
            for line in run_file(name).get("notes", ()):  # what is waited for
                if line not in shown and not line.startswith("info"):
                    shown.add(line)
                    say(f"arb: {line}")
            time.sleep(POLL_S)
        if is_running(name):
            raise ControlError(f"{name} has not stopped after {bound_s:.0f} s; see `arb status`")
        _end_stop_drain(name)
    from workers.last_run.journal_rows import half_done_text  # imported here: they load numba
    from workers.view.status import read_status

    reading = read_status(name)
    left = {what: reading[what] for what in ("hedges", "positions", "recoveries")}
    half_done = half_done_text(reading["open_operations"], reading["unsettled_orders"])
    held = [row for row in left["positions"] if not is_dust(row)]
    fields = {
        "stopped": not is_running(name),
        "dry_run": dry_run,
        "orders": closed["orders"],
        "not_closed": [row for row in closed["hedges"] if row["reason"]],
        "open_hedges": left["hedges"],
        "positions": left["positions"],
        "foreign_coins": reading["foreign_coins"],
        "recoveries": left["recoveries"],
        "open_operations": reading["open_operations"],
        "unsettled_orders": reading["unsettled_orders"],
        "flat": not (left["hedges"] or held or left["recoveries"] or half_done),
    }
    emit(fields, as_json=json, text=_stopped_text)
    return EXIT_OK if fields["flat"] or dry_run else EXIT_CHECK_FAILED


def _drained(name: str, reason: str) -> str:
    """Ask the guard to keep new risk away; why it is not known to be away, or "" where the guard has taken it in.

    A guard that is dead grants no lease, one that is only late or cannot write goes on granting it.
    """
    try:
        ask(instance_dir(name) / GUARD_SOCKET, {"op": "drain", "reason": reason})
    except ControlError as error:
        return f"and new risk may still be taken (drain: {error}); `arb halt --reason R` keeps it away at once"
    return ""


def _of_stop(drain: Block | None) -> bool:
    """Whether a stop has drained, this one or an earlier one that did not end."""
    return drain is not None and drain.reason.startswith(STOP_DRAIN)


def _end_stop_drain(name: str) -> None:
    """A stop's own drain must not outlive it: the next start takes new risk again. Somebody else's stays."""
    found = read_halt(instance_dir(name))
    if _of_stop(found.drain):
        write_halt(instance_dir(name), msgspec.structs.replace(found, drain=None))


def _flattened(name: str, *, dry_run: bool, reason: str) -> dict[str, Any]:
    drain = read_halt(instance_dir(name)).drain
    undrained = ""
    if not dry_run and (drain is None or _of_stop(drain)):  # somebody else's does the same, and goes on after this
        undrained = _drained(name, f"{STOP_DRAIN}: {reason}" if reason else STOP_DRAIN)
    try:
        request = {"op": "flatten", "dry_run": dry_run, "reason": reason or "arb stop --flatten", "planned": True}
        return close_hedges(name, request)
    except ControlError as error:
        if dry_run:
            raise
        raise ControlError(
            f"{error}; nothing was stopped, {undrained or 'and no new risk is taken'}: `arb hedges` shows what is "
            "open, `arb stop --flatten` closes it and stops, `arb stop` stops now and leaves it open"
        ) from None


def _stopped_text(fields: dict[str, Any]) -> str:
    from workers.last_run.journal_rows import half_done_text
    from workers.view.status_text import hedge_line, position_line

    lines = ["stopped" if fields["stopped"] else "still running"]
    lines += _order_lines(fields)
    lines += [f"not closed: hedge {row['hedge_id']}: {row['reason']}" for row in fields["not_closed"]]
    lines += [f"stays open: hedge {hedge_line(row)}" for row in fields["open_hedges"]]
    lines += [
        f"{'left by closed hedges' if fields['flat'] else 'stays open'}: position {position_line(row)}"
        for row in fields["positions"]
    ]
    half_done = half_done_text(fields["open_operations"], fields["unsettled_orders"])
    lines += [f"stays open: {half_done}"] if half_done else []
    lines += [_recovery_lines(row) for row in fields["recoveries"]]
    coins = fields["foreign_coins"]
    if fields["flat"]:
        foreign = not_ours_text((), coins)
        lines.append(f"nothing of ours stays open; {foreign}" if foreign else "nothing stays open")
    elif fields["stopped"]:
        lines += unwatched_lines(fields["open_hedges"], fields["positions"], coins, half_done=bool(half_done))
    return "\n".join(lines)


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    for command in (positions, hedges, balance, breakers, recoveries, close, flatten, stop):
        app.command(name=command.__name__)(command)
