"""The page of the monitor: an instance at a glance, read-only. HTML made here, a style sheet of its own, no script.

The browser asks again by itself (``meta refresh``); nothing on the page can be pressed but the links to ``/metrics``,
``/healthz`` and ``/status``. Everything shown is escaped, and comes from what ``arb status`` shows and from the ledger:
neither has a key or a URL of a target.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from workers.executor_file import pnl_text
from workers.report.charts import Line, line_chart, time_label
from workers.report.html_page import html_table
from workers.report.recent import Recent
from workers.view.status_text import MODE_WORDS, hedge_line, position_line, short, shown_state

REFRESH_S = 2
BOOKS_MAX = 80
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:0 0 3rem;color:#1b1b1b;background:#fff}
main,header{padding:.4rem 1rem;max-width:90rem;margin:auto}
header p{margin:0;padding:.3rem .8rem;font-weight:700;font-size:1.1rem;display:inline-block}
.live{background:#a40000;color:#fff}.paper,.sim{background:#e4eefb;color:#123a6b}
.halted{background:#000;color:#ffd400;font-size:1.6rem}.stopped{background:#6b3d00;color:#fff}
.degraded{background:#ffd98a;color:#402600}.ready{background:#dff2e1;color:#124d1a}
h2{font-size:1rem;margin:1.2rem 0 .2rem}ul{margin:.2rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
td,th{padding:.1rem .6rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}
svg{width:100%;max-width:60rem;height:auto;display:block}
svg text{font:11px system-ui,sans-serif}svg text:not([fill],.title){fill:#555}svg .title{font-size:13px;fill:#1b1b1b}
svg .y{text-anchor:end;dominant-baseline:middle}svg .grid{stroke:#e5e5e5}
footer{color:#555;padding:.4rem 1rem;max-width:90rem;margin:auto}
"""


def page_html(reading: Mapping[str, Any], recent: Recent, wall_ns: int) -> str:
    """The page of one reading (``arb status``, with ``alerts``), the ledger's newest rows, made at ``wall_ns``."""
    state, mode = shown_state(reading), str(reading["mode"] or "")
    head = " ".join(word for word in ("HALTED" if reading["halted"] else state, mode.upper()) if word)
    title = f"{head}: {reading['instance']}"
    body = [
        _banner(reading, state, mode),
        "<main>",
        _lists(reading),
        f"<h2>Money</h2><p>{html.escape(_squeezed(pnl_text(reading['pnl'])))}</p>",
        line_chart(
            "Equity of the last day, at one mark per asset", [Line("equity", recent.equity)], x_label=time_label
        ),
        _table("Trades, the newest first", [_trade(row) for row in recent.trades]),
        _items("Open hedges", [hedge_line(row) for row in reading["hedges"]]),
        _items("Positions", [position_line(row) for row in reading["positions"]]),
        _table("Refused opportunities by reason", _refused(reading["opportunities"])),
        _table("Refused last by the executor", recent.refusals),
        _books(reading["books"]),
        _table("Latency, us", _latency(reading["latency_us"])),
        _table("Processes", _processes(reading["processes"])),
        "</main>",
    ]
    made = datetime.fromtimestamp(wall_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    links = " ".join(f'<a href="{path}">{path}</a>' for path in ("/status", "/healthz", "/metrics"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="refresh" content="{REFRESH_S}"><link rel="stylesheet" href="/style.css">'
        f"<title>{html.escape(title)}</title></head><body>{''.join(body)}"
        f"<footer>Read {made}, again every {REFRESH_S} s. Read-only. {links}</footer></body></html>\n"
    )


def _banner(reading: Mapping[str, Any], state: str, mode: str) -> str:
    """Instance, mode and state, in words and colours; a halt before everything else."""
    parts = []
    if reading["halted"]:
        reason = html.escape(str(reading["halt_reason"] or "no reason is known"))
        parts.append(f'<p class="halted">HALTED: {reason}</p>')
    words = MODE_WORDS.get(mode, "mode not known")
    parts.append(f'<p class="{html.escape(mode or "stopped")}">{html.escape(words)}</p>')
    known = state if state in ("ready", "degraded", "halted") else "stopped"
    parts.append(f'<p class="{known}">{html.escape(str(reading["instance"]))}: {html.escape(state)}</p>')
    return f"<header>{''.join(parts)}</header>"


def _lists(reading: Mapping[str, Any]) -> str:
    """What keeps new risk away and what solves it, notes, and the alerts that stand."""
    reasons, notes = (
        [f"{row['what']} - solve: {row['solve']}" for row in reading[name]] for name in ("reasons", "notes")
    )
    alerts = [f"{row['severity']}: {row['what']}" for row in reading.get("alerts", []) if row["standing"]]
    parts = [
        _items("What keeps new risk away", reasons) if reasons else "",
        _items("Notes", notes) if notes else "",
        _items("Alerts that stand", alerts) if alerts else "",
    ]
    return "".join(parts)


def _items(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return f"<h2>{html.escape(title)}</h2><p>None.</p>"
    rows = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<h2>{html.escape(title)} ({len(lines)})</h2><ul>{rows}</ul>"


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    return f"<h2>{html.escape(title)}</h2>{html_table(rows) if rows else '<p>None.</p>'}"


def _trade(row: Mapping[str, Any]) -> dict[str, Any]:
    bps = {name: None if row[name] is None else round(row[name], 2) for name in ("expected_bps", "realised_bps")}
    return {**row, "pnl": None if row["pnl"] is None else row["pnl"].quantize(Decimal("0.0001")), **bps}


def _refused(opportunities: Mapping[str, Any]) -> list[dict[str, Any]]:
    counts = sorted(opportunities["refused"].items(), key=lambda item: -item[1])
    first = [{"reason": f"({name})", "count": opportunities[name]} for name in ("detected", "taken", "open")]
    return [*first, *({"reason": reason, "count": count} for reason, count in counts)]


def _books(books: Sequence[Mapping[str, Any]]) -> str:
    """Those that cannot be traded on come first."""
    ordered = sorted(books, key=lambda row: (bool(row["tradable"]), row["venue"], row["symbol"]))
    rows = [
        {
            "book": f"{row['venue']} {row['symbol']}",
            **{name: short(row[name]) for name in ("bid_qty", "bid", "ask", "ask_qty")},
            "proved_ms_ago": row["age_ms"],
            "tradable": "yes" if row["tradable"] else "NO",
        }
        for row in ordered[:BOOKS_MAX]
    ]
    good = sum(bool(row["tradable"]) for row in books)
    return _table(f"Books: {good} of {len(books)} tradable", rows)


def _latency(latency: Mapping[str, Any]) -> list[dict[str, Any]]:
    stages = {"tick_to_order": latency["tick_to_order"], **latency["stages"]}
    return [{"stage": name, **row} for name, row in stages.items() if row is not None]


def _processes(processes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = ("state", "pid", "cpu", "beat_age_ms", "restarts")
    return [{"process": name, **{field: row[field] for field in names}} for name, row in processes.items()]


def _squeezed(line: str) -> str:
    return " ".join(line.split())
