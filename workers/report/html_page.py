"""The report as one HTML file that needs nothing else: tables and inline SVG, no script, nothing from elsewhere."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from pipeline.execution.results.counts import OpenTrips, OperationCounts, share
from pipeline.model.fixedpoint import plain
from workers.executor_file import pnl_text
from workers.report.charts import Line, line_chart, time_label
from workers.report.stages import SHARES, share_name
from workers.report.tables import ROWS_MAX, TABLES, Table

DRAWN_STAGES = ("tick_to_order", "gate", "send", "first_ack", "first_fill")
PARTS = ("edge", "missed", "latency", "slippage", "broken", "marks", "fees", "funding", "total")
STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:1.5rem auto;max-width:76rem;padding:0 1rem;color:#1b1b1b;background:#fff}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
td,th{padding:.15rem .6rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}
svg{width:100%;max-width:60rem;height:auto;display:block;margin:.5rem 0}
svg text{font:11px system-ui,sans-serif}svg text:not([fill],.title){fill:#555}svg .title{font-size:13px;fill:#1b1b1b}
svg .y{text-anchor:end;dominant-baseline:middle}svg .grid{stroke:#e5e5e5}
.bad{color:#fff;background:#a40000;padding:.2rem .5rem}
"""


def report_page(report: Mapping[str, Any], tables: Mapping[str, Table]) -> str:
    """The page of one report (``read_report`` with ``tables`` or ``of_page``)."""
    counts = {name: len(table) for name, table in tables.items()} | {"fills": report["fills"]}
    title = f"arb report: {report['instance']}"
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        _summary(report),
        *_charts(tables),
        *(_section(name, tables[name], counts[name]) for name in TABLES if name not in ("pnl", "equity")),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    )


def _summary(report: Mapping[str, Any]) -> str:
    parts = report["attribution"]
    amounts = ", ".join(f"{plain(value)} {asset}" for asset, value in report["profit"].items()) or "none"
    bad = f'<p class="bad">residual {plain(parts["residual"])}: a record is missing or foreign</p>'
    unknown = f"<p>{len(parts['unknown'])} operations without marks are left out.</p>" if parts["unknown"] else ""
    today = report["today"]
    changes = ", ".join(f"{plain(value)} {asset}" for asset, value in report["pnl"].items()) or "none"
    lines = (
        ("P&L, realised", amounts),
        *([("Today and equity", f"{pnl_text(today)} (as of {today['as_of']})")] if today else []),
        ("Changes of the accounts", changes),
        ("Operations", OperationCounts.of(report["operations"]).text(OpenTrips(**report["open_trips"]))),
        ("Recovery", f"{share(report['recovery_rate'])} of broken legs repaired"),
        ("Largest drawdown of the P&L", plain(report["max_drawdown"])),
        ("Executions", report["fills"]),
    )
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>" for name, value in lines)
    made_of = html_table([{name: parts[name] for name in (*PARTS, "residual")}])
    return f"<table>{rows}</table><h2>Made of</h2>{made_of}{bad if parts['residual'] else ''}{unknown}"


def _charts(tables: Mapping[str, Table]) -> list[str]:
    pnl = [(_seconds(row["at"]), float(row["pnl"])) for row in tables["pnl"]]
    falls = [(_seconds(row["at"]), -float(row["drawdown"])) for row in tables["pnl"]]
    equity = [(_seconds(row["at"]), float(row["equity"])) for row in tables["equity"]]
    stages = [
        Line(row["stage"], [(math.log10(max(row[share_name(s)], 0.1)), s * 100) for s in SHARES])
        for row in tables["latency"]
        if row["stage"] in DRAWN_STAGES
    ]
    return [
        "<h2>Equity, P&amp;L and drawdown</h2>",
        line_chart("Equity at one mark per asset", [Line("equity", equity)], x_label=time_label),
        line_chart("P&L of the span and its drawdown", [Line("P&L", pnl), Line("drawdown", falls)], x_label=time_label),
        "<h2>Latency</h2>",
        line_chart("Share of operations (%) by latency", stages, x_label=lambda power: f"{10**power:.4g} us"),
    ]


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _section(name: str, table: Table, count: int) -> str:
    """``count``: the rows that the whole table has; ``table`` has the newest."""
    text = html.escape(TABLES[name])
    if not table:
        return f"<h2>{text}</h2><p>None.</p>"
    left_out = count - ROWS_MAX
    more = f"<p>The {left_out} rows before these are in --csv and --parquet.</p>" if left_out > 0 else ""
    return f"<h2>{text}</h2>{more}{html_table(table[-ROWS_MAX:])}"


def html_table(table: Sequence[Mapping[str, Any]]) -> str:
    """A table; the columns are those of all rows, in the order in which they first come."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell(row.get(name)))}</td>" for name in columns) + "</tr>" for row in table
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def cell(value: object) -> str:
    """A value as text; nothing for what is not known."""
    if value is None:
        return ""
    return plain(value) if isinstance(value, Decimal) else str(value)
