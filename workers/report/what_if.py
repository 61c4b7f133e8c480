"""The table and the picture of a sweep: what other fees, thresholds, sizes and latencies are worth."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import msgspec

from pipeline.replay_sweep import Row
from workers.report.charts import Line, line_chart, number_label
from workers.report.html_page import STYLE, html_table

LINES_MAX = 6  # of one picture: as many as there are colours


def what_if_text(rows: Sequence[Row]) -> str:
    """The table for a terminal."""
    names = ("fees", "edge bps", "cap USD", "ms", "found", "alive", "profit USD", "share")
    lines = ["".join(f"{name:>12}" for name in names)]
    for row in rows:
        cells = (row.fees, row.min_edge_bps, row.max_usd or "-", f"{row.latency_ms:g}", row.found, row.executable)
        shown = (*cells, f"{row.profit_usd:.2f}", f"{row.share:.1%}")
        lines.append("".join(f"{cell!s:>12}" for cell in shown))
    return "\n".join(lines)


def what_if_page(rows: Sequence[Row], swept: Sequence[str], of: str) -> str:
    """One HTML file: the profit over the latency, or over what was swept, and the table. ``of``: the recording."""
    title = f"arb replay: what a millisecond is worth, {of}" if len(_latencies(rows)) > 1 else f"arb replay: {of}"
    pictures = []
    if len(_latencies(rows)) > 1:
        pictures.append(
            line_chart(
                "Profit (USD) by latency",
                _lines(rows, lambda row: row.latency_ms, lambda row: _named(row, swept)),
                x_label=lambda value: f"{value:g} ms",
            )
        )
    for key in swept:
        pictures.append(_by_key(rows, key, [other for other in swept if other != key]))
    table = html_table([msgspec.structs.asdict(row) for row in rows])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
        f"{''.join(pictures)}<h2>Every combination</h2>{table}</body></html>\n"
    )


def _by_key(rows: Sequence[Row], key: str, others: Sequence[str]) -> str:
    lines = _lines(rows, lambda row: float(getattr(row, key)), lambda row: _named(row, others, ms=True))
    return line_chart(f"Profit (USD) by {key}", lines, x_label=number_label)


def _latencies(rows: Sequence[Row]) -> set[float]:
    return {row.latency_ms for row in rows}


def _named(row: Row, keys: Sequence[str], *, ms: bool = False) -> str:
    parts = [f"{key} {getattr(row, key)}" for key in keys]
    return ", ".join([*parts, f"{row.latency_ms:g} ms"] if ms else parts) or "profit"


def _lines(rows: Sequence[Row], x: Callable[[Row], float], name: Callable[[Row], str]) -> list[Line]:
    """A line for each name, at most ``LINES_MAX`` of them, spread over all."""
    by_name: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        by_name.setdefault(name(row), []).append((x(row), row.profit_usd))
    names = list(by_name)
    if len(names) > LINES_MAX:
        names = [names[number * (len(names) - 1) // (LINES_MAX - 1)] for number in range(LINES_MAX)]
    return [Line(each, sorted(by_name[each])) for each in names]
