"""The summary of a demo or replay as text, losses as visible as gains."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pipeline.execution.results.counts import OpenTrips, OperationCounts, share
from pipeline.model.fixedpoint import plain
from pipeline.risk.breakers import solve
from workers.executor_file import amount
from workers.view.status_text import hedge_line

REASONS_MAX = 3
SEE_IT_S = 5  # behind the last thing that a scenario has prepared


def _amounts(sums: Mapping[str, Any]) -> str:
    """By name of the asset, so that what is equal reads alike."""
    rows = sorted(sums.items())
    return ", ".join(f"{plain(Decimal(str(amount)))} {asset}" for asset, amount in rows) or "none"


def _latency_lines(latency: Mapping[str, Any]) -> list[str]:
    lines = []
    total = latency.get("tick_to_order")
    if total:
        lines.append(
            f"tick to order      p50 {total['p50']} us, p99 {total['p99']}, p99.9 {total['p999']}, "
            f"max {total['max']}, n {total['n']}"
        )
    for name, row in sorted(latency.get("stages", {}).items()):
        lines.append(f"  {name:<34} p50 {row['p50']:>9} p99 {row['p99']:>9} max {row['max']:>10} n {row['n']}")
    return lines


def _hedge(row: Mapping[str, Any]) -> str:
    """A hedge as `arb hedges` shows it; by the journal alone where the executor has not said more of it."""
    if "hedge_id" in row:
        return hedge_line(row)
    entry = f"entered at {row['entry_spot_price']}/{row['entry_futures_price']}"
    return f"{row['qty']} {row['base']}: {row['spot_side']} {row['spot']} against {row['futures']}, {entry}"


def _flat(fields: Mapping[str, Any]) -> str:
    """Whether the exposure of each asset is at its target; open hedges cancel out and are no exposure."""
    count = len(fields["open_hedges"])
    hedges = f"{count} open hedge{'s' if count > 1 else ''} (held for what leaving will bring; the run ended before)"
    if not fields["flat"]:
        return f"NO, beside {hedges}" if count else "NO"
    return f"yes but for {hedges}" if count else "yes"


def _others(external: Mapping[str, Any]) -> list[str]:
    """What others did to the accounts, and what they hold there by it: no orders of ours."""
    parts = [f"{count} fills by {cause} (in the changes)" for cause, count in external.get("fills", {}).items()]
    parts += [f"they hold {_amounts(external['held_by_others'])} of it"] if external.get("held_by_others") else []
    parts += [f"money in and out {_amounts(external['money'])} (not in the changes)"] if external.get("money") else []
    return [f"others             {'; '.join(parts)}"] if parts else []


def _funding(funding: Mapping[str, Any]) -> list[str]:
    """What was paid and received, and what the venues have booked that was not read in the time there was."""
    unread = f"; {funding['unread']} MORE were not read before the end" if funding.get("unread") else ""
    if not funding.get("payments") and not unread:
        return []
    amounts = f", {_amounts(funding['amounts'])} (in the changes)" if funding.get("amounts") else ""
    return [f"funding            {funding.get('payments', 0)} payments{amounts}{unread}"]


def _scenario(fields: Mapping[str, Any]) -> list[str]:
    """That a run was too short for what its scenario has prepared."""
    lasts_s = fields.get("scenario_lasts_s") or 0
    if lasts_s <= fields["seconds"]:
        return []
    return [f"scenario           goes on for {lasts_s:g} s: --seconds {lasts_s + SEE_IT_S:.0f} shows all of it"]


def _engine(fields: Mapping[str, Any]) -> list[str]:
    """What kept the engine from trading when the time was over, as ``arb status`` said it; a halt often explains why a
    run did little."""
    state = fields.get("engine_state") or {}
    if state.get("state", "ready") == "ready":
        return []
    what = [f"  {row['what']}; {row['solve']}" for row in state["reasons"][:REASONS_MAX]]
    more = len(state["reasons"]) - REASONS_MAX
    return [
        f"engine             {state['state']} at the end of the run:",
        *what,
        *([f"  and {more} more"] * (more > 0)),
    ]


def _verdict(fields: Mapping[str, Any]) -> list[str]:
    """How the run's own check ended; each reason of exit code 1."""
    lines = [f"VIOLATION {violation['invariant']}: {violation['text']}" for violation in fields["violations"]]
    if not lines and fields["pnl"]["equal"]:
        lines = ["reconciled         no violation: engine and venues agree to the last decimal"]
    if fields["operations"]["unresolved"]:
        lines.append(f"FAILED: {fields['operations']['unresolved']} operations did not end before the stop")
    if fields.get("expect_no_orders"):
        orders = fields["orders"]
        what = f"FAILED: {orders} orders were sent" if orders else "null market        no order was sent"
        lines.append(f"{what}: nothing in this market is worth one")
    return lines


def summary_text(fields: Mapping[str, Any]) -> str:
    """The whole summary as text."""
    operations, pnl, found = fields["operations"], fields["pnl"], fields["opportunities"]
    terms, counts = fields.get("terms", {}), OperationCounts.of(operations)
    fees = ", ".join(f"{venue} {bps} bps" for venue, bps in terms.get("taker_fee_bps", {}).items())
    worth = pnl["numeraire"]
    equity = f"; equity {amount(worth['equity'])} {worth['asset']}" if worth.get("equity") is not None else ""
    daily = (
        f", today {amount(worth['daily'])} with the moves of what was held," if worth.get("daily") is not None else ""
    )
    lines = [
        f"P&L {plain(Decimal(str(worth['value'])))} {worth['asset']}{equity}{daily} at {worth['rates']}, open hedges "
        "at their mark (a simulated market: no statement about real ones)",
        f"{fields['seconds']} s on {', '.join(fields['venues'])}: {fields['instruments']} instruments, "
        f"{fields['messages']} messages, {fields['books_published']} books, {fields['gaps']} gaps, "
        f"{fields['resyncs']} resyncs",
        *_scenario(fields),
        *_engine(fields),
        f"terms              simulated market; minimum margin {terms.get('min_profit_margin_bps')} bps; "
        f"taker fees {fees}",
        f"opportunities      {found['detected']} episodes, {found['taken']} taken; refused "
        + (", ".join(f"{name} {count}" for name, count in found["refused"].items()) or "none")
        + (f"; {found['open']} still open" if found.get("open") else ""),
        f"operations         {operations['total']} ({operations['entries']} entries, {operations['exits']} hedge "
        f"exits): "
        f"{operations['completed']} completed, {operations['failed']} failed, "
        f"{operations['recovered']} recovered, {operations['unresolved']} unresolved; success "
        f"{share(fields.get('success_rate'))}",
        f"round trips        {counts.trips_text(OpenTrips.of(fields['open_hedges']))}",
        f"dislocations       {fields['dislocations']['offered']} offered, "
        f"{fields['dislocations']['captured']} captured ({share(fields['captured_share'])})",
        f"orders             {fields['orders']}, fills {fields['fills']}",
        f"changes, engine    {_amounts(pnl['engine'])}",
        f"changes, venues    {_amounts(pnl['venue'])}  ({'equal' if pnl['equal'] else 'NOT EQUAL'})",
        *_funding(fields.get("funding", {})),
        *_others(fields.get("external", {})),
        *(
            f"breaker            {name}: {reason}; {solve(name, reason)}"
            for name, reason in fields.get("breakers", {}).items()
        ),
        f"flat               {_flat(fields)}; dust {_amounts(fields['dust'])}",
    ]
    lines.extend(f"  hedge {_hedge(row)}" for row in fields["open_hedges"])
    for row in fields.get("losing_operations", []):
        lines.append(
            f"  lost {row['pnl_numeraire']} in {row['operation_id']} ({row['outcome']}): edge {row['edge_detect_bps']} "
            f"bps seen, {row['edge_fill_bps']} bps got; {row['reason']}"
        )
    if fields.get("killed"):
        killed = fields["killed"]
        lines.append(
            f"killed             {killed['process']} ({killed['at']}), READY after {killed.get('recovery_ms')} ms"
        )
        if "operation_id" in killed:
            lines.append(
                f"  {killed['operation_id']}: filled {killed['filled_leg']}, in flight {killed['leg_in_flight']}: "
                f"{killed.get('outcome', 'open')}, {killed.get('pnl_numeraire')} ({killed.get('reason')})"
            )
    lines.extend(_latency_lines(fields["latency_us"]))
    lines.extend(_verdict(fields))
    return "\n".join(lines)
