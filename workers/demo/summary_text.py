"""The summary of a demo or replay as text, losses as visible as gains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.execution.results.counts import share
from pipeline.risk.breakers import solve
from workers.executor_file import amount
from workers.view.status_text import hedge_line


def _amounts(sums: Mapping[str, Any]) -> str:
    return ", ".join(f"{amount} {asset}" for asset, amount in sums.items()) or "none"


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


def _others(external: Mapping[str, Any]) -> list[str]:
    """What others did to the accounts, and what they hold there by it: no orders of ours."""
    parts = [f"{count} fills by {cause}" for cause, count in external.get("fills", {}).items()]
    parts += [f"money {_amounts(external['money'])}"] if external.get("money") else []
    parts += [f"they hold {_amounts(external['held_by_others'])}"] if external.get("held_by_others") else []
    return [f"others             {'; '.join(parts)} (in the changes)"] if parts else []


def summary_text(fields: Mapping[str, Any]) -> str:
    """The whole summary as text."""
    operations, pnl, found = fields["operations"], fields["pnl"], fields["opportunities"]
    terms = fields.get("terms", {})
    fees = ", ".join(f"{venue} {bps} bps" for venue, bps in terms.get("taker_fee_bps", {}).items())
    worth = pnl["numeraire"]
    equity = f"; equity {amount(worth['equity'])} {worth['asset']}" if worth.get("equity") is not None else ""
    daily = (
        f", today {amount(worth['daily'])} with the moves of what was held," if worth.get("daily") is not None else ""
    )
    lines = [
        f"P&L {worth['value']} {worth['asset']}{equity}{daily} at {worth['rates']}, open hedges at "
        "their mark (a simulated market: no statement about real ones)",
        f"{fields['seconds']} s on {', '.join(fields['venues'])}: {fields['instruments']} instruments, "
        f"{fields['messages']} messages, {fields['books_published']} books, {fields['gaps']} gaps, "
        f"{fields['resyncs']} resyncs",
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
        f"round trips        {operations['won']} won, {operations['lost']} lost, win rate {share(fields['win_rate'])}",
        f"dislocations       {fields['dislocations']['offered']} offered, "
        f"{fields['dislocations']['captured']} captured ({share(fields['captured_share'])})",
        f"orders             {fields['orders']}, fills {fields['fills']}",
        f"changes, engine    {_amounts(pnl['engine'])}",
        f"changes, venues    {_amounts(pnl['venue'])}  ({'equal' if pnl['equal'] else 'NOT EQUAL'})",
        *(
            [f"funding            {funding['payments']} payments, {_amounts(funding['amounts'])} (in the changes)"]
            if (funding := fields.get("funding", {})).get("payments")
            else []
        ),
        *_others(fields.get("external", {})),
        *(f"breaker            {name}: {reason}; {solve(name)}" for name, reason in fields.get("breakers", {}).items()),
        f"flat               {'yes' if fields['flat'] else 'NO'}; dust {_amounts(fields['dust'])}; "
        f"{len(fields['open_hedges'])} open hedges",
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
    for violation in fields["violations"]:
        lines.append(f"VIOLATION {violation['invariant']}: {violation['text']}")
    if not fields["violations"]:
        lines.append("reconciled         no violation: engine and venues agree to the last decimal")
    return "\n".join(lines)
