"""The live view for a terminal of few rows: state, refusals and money first, the rest as far as there is room."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from workers.executor_file import amount
from workers.view.status_text import pnl_line, short, shown_state

ROWS_MIN = 12
FULL_ROWS = 48  # from here on the tables of ``live_view`` have room
PNL_ROWS, REASON_ROWS = 2, 4
WHY_ROWS, ORDER_ROWS, PROCESS_ROWS, POSITION_ROWS, HEDGE_ROWS, FEED_ROWS = 2, 2, 2, 3, 3, 5


def _wrapped(label: str, text: str, width: int, rows: int) -> list[str]:
    """``text`` behind ``label`` in at most ``rows`` lines; what does not fit is marked."""
    indent = " " * 10
    text = text or "none"
    return textwrap.wrap(
        text, width, initial_indent=f"{label:<10}", subsequent_indent=indent, max_lines=rows, placeholder=" ..."
    )


def _processes(reading: Mapping[str, Any], width: int) -> list[str]:
    bad: list[str] = []
    good: list[str] = []
    for name, row in reading["processes"].items():
        beat = "-" if row["beat_age_ms"] is None else f"{row['beat_age_ms']:.0f}"
        restarts = f" {row['restarts']} restarts" if row["restarts"] else ""
        state = "" if row["ready"] else f"{row['state'].upper()} "
        (good if row["ready"] else bad).append(f"{name} {state}{beat}{restarts}")
    return _wrapped("beat ms", ", ".join([*bad, *good]), width, PROCESS_ROWS)


def _feeds(reading: Mapping[str, Any]) -> list[str]:
    lines = []
    for venue, row in reading["feeds"].items():
        counts = [f"{name} {row[name]}" for name in ("messages", "gaps", "resyncs", "books_whole") if name in row]
        up = "" if row.get("connected", 1) else "NOT CONNECTED, "
        lines.append(f"{venue:<18}{up}{', '.join(counts) or 'no feed'}")
    if len(lines) > FEED_ROWS:
        lines[FEED_ROWS - 1 :] = [f"and {len(lines) - FEED_ROWS + 1} more venues"]
    return lines


def _money(reading: Mapping[str, Any], width: int) -> tuple[int, list[str]]:
    """(how many of the lines are the P&L's, P&L, positions and balances)."""
    orders = reading["orders"]
    pnl = pnl_line(reading).partition(" ")[2].strip().removeprefix("today").strip()
    pnl += f"; exposure {orders.get('exposure_usd', 0)} USD"
    pnl += f", {orders.get('open_operations', 0)} operations and {orders.get('open_hedges', 0)} hedges open"
    held = [
        f"{row['venue']} {row['symbol']} {short(row['qty'])} @ {short(row['entry_price'])}"
        for row in reading["positions"]
    ]
    earned = _wrapped("P&L", pnl, width, PNL_ROWS)
    lines = [*earned, *_wrapped("positions", "; ".join(held), width, POSITION_ROWS)]
    hedged = "; ".join(_hedge(row) for row in reading["hedges"])
    lines += _wrapped("hedges", hedged, width, HEDGE_ROWS) if hedged else []
    for venue, assets in reading["balances"].items():
        free = [f"{asset} {row['free']:f}" for asset, row in assets.items() if row["free"] or row["locked"]]
        lines.append(f"{venue}: free " + (", ".join(free) or "none"))
    return len(earned), lines


def _hedge(row: Mapping[str, Any]) -> str:
    """An open hedge in few words; the whole of it: `arb hedges`."""
    parts = [
        f"{short(row['qty'])} {row['base']} @ {short(row['entry_spot_price'])}/{short(row['entry_futures_price'])}"
    ]
    if row.get("age_s") is not None:
        parts.append(f"{row['age_s']:.0f} s")
    if row.get("futures_mark") is not None:
        parts.append(f"mark {short(row['futures_mark'])}")
    money = (("P&L", row.get("unrealised")), ("funding", row.get("funding")))
    parts += [f"{name} {amount(value)}" for name, value in money if value is not None]
    if row.get("liquidation_distance_pct") is not None:
        parts.append(f"{row['liquidation_distance_pct']} % to liquidation")
    return ", ".join(parts)


def _latencies(reading: Mapping[str, Any]) -> list[str]:
    total = reading["latency_us"]["tick_to_order"]
    rows = {"tick_to_order": total} if total else {}
    rows |= reading["latency_us"]["stages"]
    lines = [f"{'latency, us':<34}{'p50':>9}{'p99':>10}{'max':>10}{'n':>8}"]
    lines += [f"{name:<34}{row['p50']:>9}{row['p99']:>10}{row['max']:>10}{row['n']:>8}" for name, row in rows.items()]
    return lines if rows else ["latency     nothing measured yet"]


def small_screen(reading: Mapping[str, Any], headline: str, width: int, height: int) -> list[str]:
    """At most ``height - 1`` lines of at most ``width`` characters: state, refusals, money and latency always."""
    state = f"{reading['instance']}  {str(reading['mode'] or '').upper()}  {shown_state(reading).upper()}  {headline}"
    return [state[:width], *small_lines(reading, width, max(ROWS_MIN, height - 1) - 1)]


def small_lines(reading: Mapping[str, Any], width: int, room: int) -> list[str]:
    """As :func:`small_screen`, in at most ``room`` lines, without the first one."""
    found = reading["opportunities"]
    refused = sorted(found["refused"].items(), key=lambda item: -item[1])
    why = f"{found['detected']} episodes, {reading['orders'].get('entries', 0)} entered; why not: "
    counted = ", ".join(f"{name} {count}" for name, count in reading["orders"].items() if count)
    stopped = "; ".join(f"{row['what']} -> {row['solve']}" for row in reading["reasons"])
    (pnl_rows, money), latency = _money(reading, width), _latencies(reading)
    first = [
        *(_wrapped("why", stopped, width, REASON_ROWS) if stopped else []),
        *money[:pnl_rows],
        *_processes(reading, width),
        *_feeds(reading),
        *_wrapped("found", why + (", ".join(f"{name} {count}" for name, count in refused) or "none"), width, WHY_ROWS),
        *_wrapped("executor", counted, width, ORDER_ROWS),
        *money[pnl_rows:],
    ]
    lines = first[: room - 2]  # two rows of latency at least
    lines += latency[: room - len(lines)]
    return [line[:width] for line in lines]
