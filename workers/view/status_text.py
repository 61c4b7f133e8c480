"""One reading of an instance as text: the answer and the money first, then what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from pipeline.execution.results.counts import OpenTrips, OperationCounts
from pipeline.model.enums import Mode
from pipeline.model.fixedpoint import plain
from pipeline.trade_state import with_solve
from workers.control_plane.left_open import is_dust, not_ours_text
from workers.executor_file import amount, pnl_text
from workers.view.budgets import budget_lines

REASONS_MAX = 12
SHORT = Context(prec=10)
#: What the mode means for money, in words that no colour replaces.
MODE_WORDS: Mapping[str, str] = {
    Mode.LIVE: "LIVE - real money",
    Mode.PAPER: "PAPER - real books, no real money",
    Mode.SIM: "SIMULATED - no real money",
}


def short(value: object) -> str:
    """A price or quantity as text with at most ten digits; ``-`` where there is none."""
    try:
        return plain(+Decimal(str(value)).normalize(SHORT))
    except InvalidOperation:
        return "-"


def shown_state(reading: Mapping[str, Any]) -> str:
    """The state as people read it: what is not up yet is starting, what ends is stopping, and only then stopped."""
    under_way = reading["phase"] in ("starting", "stopping") and reading["state"] == "stopped"
    return str(reading["phase"] if under_way else reading["state"])


def answer_lines(reading: Mapping[str, Any]) -> list[str]:
    """State, and every reason and note with the command that solves it."""
    halted = "  HALTED" if reading["halted"] else ""
    mode = f", mode {reading['mode']}" if reading["mode"] else ""
    lines = [f"{reading['instance']}: {shown_state(reading)}{halted}{mode}"]
    for row in reading["reasons"][:REASONS_MAX]:
        lines += reason_lines(row)
    if len(reading["reasons"]) > REASONS_MAX:
        lines.append(f"  and {len(reading['reasons']) - REASONS_MAX} more reasons (--json)")
    lines += [f"  {note_line(row)}" for row in reading["notes"][:REASONS_MAX]]
    return lines


def reason_lines(row: Mapping[str, Any]) -> list[str]:
    """One reason, and what solves it."""
    since = f" (since {row['since']})" if row["since"] else ""
    return [f"  {row['what']}{since}", f"    solve: {row['solve']}"]


def note_line(row: Mapping[str, Any]) -> str:
    """One note, and what solves it."""
    return f"note: {with_solve(row['what'], row['solve'])}"


def pnl_line(reading: Mapping[str, Any]) -> str:
    """The day's P&L and equity in the numeraire."""
    return pnl_text(reading["pnl"])


def loss_line(reading: Mapping[str, Any]) -> str:
    """The losses that trip breakers, beside the most that each may be; "" where they are not known."""
    risk = reading.get("risk") or {}
    if risk.get("day_loss_usd") is None:
        return ""
    day, total = (amount(max(Decimal(0), Decimal(str(risk[name])))) for name in ("day_loss_usd", "total_loss_usd"))
    return (
        f"loss today        {day} USD, at most {short(risk['max_daily_loss_usd'])}; below the highest P&L of all days "
        f"{total} USD, at most {short(risk['max_total_loss_usd'])}"
    )


def exposure_line(reading: Mapping[str, Any]) -> str:
    """What our trading moved: what of it stands alone, what stands against each other (open hedges, and coins that
    were bought at one venue and sold at another, which no hedge lists), and what it loses under stress; "" where it is
    not known."""
    pnl = reading["pnl"] or {}
    if pnl.get("stress") is None:
        return ""
    asset = pnl["asset"]
    return (
        f"exposure          net {amount(pnl['net'])} {asset}; {amount(pnl['hedged'])} {asset} stand against each other "
        "(open hedges, and coins that trades have moved between venues); under stress (prices 10 % against it, the "
        f"basis by its 99 % move) {amount(pnl['stress'])} {asset} are lost"
    )


def change_line(reading: Mapping[str, Any]) -> str:
    """Changes of the accounts per asset by our trading; "" where they are not known."""
    changes = [f"{short(value)} {asset}" for asset, value in (reading.get("changes") or {}).items()]
    return f"changes           {', '.join(changes)} (all accounts, by our trading)" if changes else ""


def hedge_line(row: Mapping[str, Any]) -> str:
    """One open hedge: its side, entry, marks, result, the next funding stamp, and when it leaves."""
    spot, futures = ("long", "short") if row.get("spot_side", "buy") == "buy" else ("short", "long")
    legs = f"{row['spot_venue']} {row['spot_symbol']}, {futures} {row['futures_venue']} {row['futures_symbol']}"
    entry = f", entered at {short(row['entry_spot_price'])}/{short(row['entry_futures_price'])}"
    if row.get("spot_mark") is not None and row.get("futures_mark") is not None:
        entry += f", marks {short(row['spot_mark'])}/{short(row['futures_mark'])}"
    mark = f", unrealised {amount(row['unrealised'])}" if row.get("unrealised") is not None else ""
    why = f"  MUST LEAVE: {row['leaving_because']}" if row.get("leaving_because") else ""
    why += f"  NOT CLOSED: {row['not_closed']}" if row.get("not_closed") else ""
    held = f"{row['hedge_id']}  {spot} {short(row['qty'])} {row['base']} {legs}"
    return f"{held}{entry}{mark}{_funding_and_age(row)}{_leaves(row)}{_away(row)}{why}"


def _leaves(row: Mapping[str, Any]) -> str:
    """The next funding stamp with its rate, and the basis at which the hedge leaves; what is not known is left out."""
    stamp, rate = row.get("next_stamp_s"), row.get("next_rate_bps")
    basis, leaves = row.get("basis_bps"), row.get("leaves_at_bps")
    text = ""
    if stamp is not None:
        text += f", next funding in {_until(float(stamp))}"
        text += f" at {short(rate)} bps" if rate is not None else ""
    if basis is not None and leaves is not None:
        text += f", basis {short(basis)} bps, leaves at {short(leaves)}"
    return text


def _until(seconds: float) -> str:
    """A time to come: seconds where a minute would round it away."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def hedge_total_line(rows: Sequence[Mapping[str, Any]]) -> str:
    """Unrealised P&L and funding of all open hedges together, per quote coin; "" for fewer than two."""
    if len(rows) < 2:
        return ""
    sums: dict[str, list[Decimal]] = {}
    unmarked = 0
    for row in rows:
        total = sums.setdefault(str(row.get("quote", "")), [Decimal(0), Decimal(0)])
        total[1] += Decimal(str(row.get("funding") or 0))
        if row.get("unrealised") is None:
            unmarked += 1
        else:
            total[0] += Decimal(str(row["unrealised"]))
    money = "; ".join(f"unrealised {amount(a)} {quote}, funding {amount(b)} {quote}" for quote, (a, b) in sums.items())
    return f"total of {len(rows)} hedges: {money}" + (f" ({unmarked} without marks left out)" if unmarked else "")


def position_line(row: Mapping[str, Any]) -> str:
    """One futures position."""
    mark = f", mark {short(row['mark_price'])}" if row.get("mark_price") else ""
    mark += f", unrealised {amount(row['unrealised'])}" if mark and row.get("unrealised") is not None else ""
    foreign = f"  NOT OURS: {short(row['foreign_qty'])} of it" if Decimal(str(row.get("foreign_qty") or 0)) else ""
    held = f"{row['venue']} {row['symbol']} {short(row['qty'])} at {short(row['entry_price'])}"
    if is_dust(row):
        foreign = "  of no open hedge: closed ones have left it, or an operation is open"
    return f"{held}{mark}{_funding_and_age(row)}{_away(row)}{foreign}"


def _funding_and_age(row: Mapping[str, Any]) -> str:
    funding = f", funding {amount(row['funding'])}" if row.get("funding") is not None else ""
    return funding + (f", open for {row['age_s']:.0f} s" if row.get("age_s") is not None else "")


def _away(row: Mapping[str, Any]) -> str:
    """Where a contract is liquidated, and how far its mark is from there."""
    percent = row.get("liquidation_distance_pct")
    return "" if percent is None else f", liquidated at {short(row['liquidation_price'])}, {percent} % of the mark away"


def balance_line(row: Mapping[str, Any]) -> str:
    """One row of ``arb balance``."""
    seconds = row.get("time_to_empty_s")
    target, drift = ("-" if row.get(name) is None else short(row[name]) for name in ("target", "drift"))
    empty = "-" if seconds is None else f"{seconds / 60:.0f} min"
    low = f"  below its alarm, {short(row.get('alarm_below'))}" if row.get("low") else ""
    return (
        f"{row['venue']:<18}{row['asset']:<10}{row['total']!s:>24}{row['free']!s:>24}{row['reserved'] or '0'!s:>16}"
        f"{target:>16}{drift:>16}{empty:>10}{low}"
    )


def proposal_line(row: Mapping[str, Any]) -> str:
    """One transfer that would pay."""
    network = f" by {row['network']}" if row["network"] else ""
    cost = (
        "an unknown cost (no list of the venues and no inventory.transfers names it)"
        if row["cost"] is None
        else f"{short(row['cost'])}"
    )
    return (
        f"send {short(row['qty'])} {row['coin']} from {row['from']} to {row['to']}{network}, {row['minutes']} min: "
        f"costs {cost}, worth {short(row['worth'])}"
    )


def short_text(reading: Mapping[str, Any]) -> str:
    """A reading as what fits a message: can it trade, money, what is held."""
    return "\n".join(_first_lines(reading))


def _first_lines(reading: Mapping[str, Any]) -> list[str]:
    lines = [*answer_lines(reading), pnl_line(reading)]
    lines += [line for line in (loss_line(reading), exposure_line(reading), change_line(reading)) if line]
    lines.append(f"operations        {OperationCounts.of(reading['operations']).text(OpenTrips.of(reading['hedges']))}")
    lines += [f"hedge             {hedge_line(row)}" for row in reading["hedges"]]
    lines += [f"position          {position_line(row)}" for row in reading["positions"]]
    foreign = not_ours_text((), reading["foreign_coins"])
    return lines + ([f"coins             {foreign}"] if foreign else [])


def status_text(reading: dict[str, Any]) -> str:
    """A reading as one screen of text."""
    lines = _first_lines(reading)
    if reading["as_of"] and reading["phase"] == "down":
        lines.append(f"as of             {reading['as_of']} (nothing is watched since)")
    lines.append(f"{'process':<18}{'pid':>8} {'cpu':>4} {'cpus':<8}{'beat ms':>9} {'state':<10}restarts")
    for name, row in reading["processes"].items():
        cpus = ",".join(map(str, row["cpus"] or [])) + ("" if row["cpus_wanted"] else " (any)")
        beat = "-" if row["beat_age_ms"] is None else f"{row['beat_age_ms']:.0f}"
        parked = " parked" if row["parked"] else ""
        cpu, pid = "-" if row["cpu"] is None else row["cpu"], row["pid"] or "-"
        lines.append(f"{name:<18}{pid:>8} {cpu!s:>4} {cpus:<8}{beat:>9} {row['state']:<10}{row['restarts']}{parked}")
    for name, row in reading["feeds"].items():
        numbers = [f"{key} {value}" for key, value in row.items() if type(value) is int and value]
        if row.get("reachable") is False and not (row.get("connected") and row.get("books_whole")):
            numbers.insert(0, "UNREACHABLE")
        lines.append(f"{name:<18}{', '.join(numbers) or '-'}")
    lines += budget_lines(reading["budgets"])
    found = reading["opportunities"]
    last = "of the last run: " if reading["phase"] == "down" else ""
    lines.append(
        f"opportunities     {last}detected {found['detected']}, taken {found['taken']}, refused {found['refused']}, "
        f"open {found['open']}"
    )
    counted = ", ".join(f"{name} {value}" for name, value in reading["orders"].items() if value)
    lines.append(f"executor          {counted or 'nothing yet'}")
    total = reading["latency_us"]["tick_to_order"]
    if total:
        lines.append(
            f"tick to order us  p50 {total['p50']}, p99 {total['p99']}, p99.9 {total['p999']}, "
            f"max {total['max']}, n {total['n']}"
        )
    return "\n".join(lines)
