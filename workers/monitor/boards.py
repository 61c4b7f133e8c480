"""Grafana boards, generated out of the one list of metrics: ``python -m workers.monitor.boards FOLDER``.

The overview is chosen by hand, through functions that refuse a metric or a label that is not in the list; the second
board has a panel for every metric of it. ``systemd/grafana/`` has what this writes, and a test compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from workers.monitor.exposition import LATENCY, LATENCY_PERCENTILE
from workers.monitor.metric_list import METRICS

LABELS = {metric.name: metric.labels for metric in METRICS} | {
    f"{LATENCY}_bucket": ("process", "stage"),
    LATENCY_PERCENTILE: ("process", "stage", "percentile"),
}
UNITS = {"seconds": "s", "bytes": "bytes", "ratio": "percentunit", "usd": "currencyUSD"}  # last word -> Grafana's unit
RATE_OVER = "5m"
COLUMNS, WIDE, HIGH = 24, 12, 8  # of Grafana's grid: all, one panel
PANEL_SCHEMA = 39  # of Grafana 10; later ones read it
SOURCE = {"type": "prometheus", "uid": "${source}"}


class Query(NamedTuple):
    """One query of a panel and the name of its lines (``{{label}}``)."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """``kind``: timeseries or stat. ``unit``: Grafana's name of it; "" for a plain number."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"


def selected(name: str, **wanted: str) -> str:
    """The metric of the chosen instances, with these labels (regular expressions). Raises KeyError for a metric or a
    label that is not in the list."""
    known = LABELS[name]
    for label in wanted:
        if label not in known:
            raise KeyError(f"{name} has no label {label}: {', '.join(known)}")
    inside = ['instance=~"$instance"', *(f'{label}=~"{value}"' for label, value in wanted.items())]
    return f"{name}{{{','.join(inside)}}}"


def legend_of(name: str) -> str:
    """``{{instance}}`` and every label of the metric."""
    return " ".join(f"{{{{{label}}}}}" for label in ("instance", *LABELS[name]))


def value(name: str, **wanted: str) -> Query:
    """The metric itself."""
    return Query(selected(name, **wanted), legend_of(name))


def rate(name: str) -> Query:
    """How much a counter grows a second."""
    return Query(f"rate({selected(name)}[{RATE_OVER}])", legend_of(name))


def quantile(share: float, stage: str) -> Query:
    """A share of a stage's latency over the last minutes."""
    inside = f"sum by (instance, stage, le) (rate({selected(f'{LATENCY}_bucket', stage=stage)}[{RATE_OVER}]))"
    return Query(f"histogram_quantile({share:g}, {inside})", f"{{{{instance}}}} {{{{stage}}}} p{share * 100:g}")


STAGES = "tick_to_order|gate|journal|send|ack|fill|receive_to_detect"
OVERVIEW = (
    Panel("Takes new risk", "bool_yes_no", (value("arb_can_trade"),), "stat"),
    Panel("HALTED", "bool_yes_no", (value("arb_halted"),), "stat"),
    Panel("Reasons against new risk", "", (value("arb_reasons"), value("arb_breakers_tripped")), "stat"),
    Panel("Alerts that stand", "", (value("arb_alerts_standing"),), "stat"),
    Panel("Equity", "", (value("arb_equity"),)),
    Panel(
        "P&L today",
        "",
        (value("arb_pnl_today"), value("arb_pnl_today_trading"), value("arb_pnl_today_inventory")),
    ),
    Panel("Operations by outcome", "ops", (rate("arb_operations_total"),)),
    Panel("Opportunities refused by reason", "ops", (rate("arb_opportunities_refused_total"),)),
    Panel("Success and won", "percentunit", (value("arb_operations_success_ratio"), value("arb_operations_won_ratio"))),
    Panel("Open", "", (value("arb_operations_open"), value("arb_hedges_open"), value("arb_positions_open"))),
    Panel("Exposure", "currencyUSD", (value("arb_exposure_usd"),)),
    Panel("Latency, middle", "s", (quantile(0.5, STAGES),)),
    Panel("Latency, 99 of 100", "s", (quantile(0.99, STAGES),)),
    Panel("Books tradable", "", (value("arb_books_tradable"), value("arb_books"))),
    Panel("Oldest book", "s", (value("arb_book_age_seconds_max"),)),
    Panel("Feed messages", "ops", (rate("arb_feed_messages_total"),)),
    Panel("Gaps and resyncs", "ops", (rate("arb_feed_gaps_total"), rate("arb_feed_resyncs_total"))),
    Panel("Rate limits", "ops", (rate("arb_rate_limit_hits_total"),)),
    Panel("Processes ready", "", (value("arb_process_ready"),)),
    Panel("CPU", "percentunit", (rate("arb_process_cpu_seconds_total"),)),
    Panel("Memory", "bytes", (value("arb_process_resident_bytes"),)),
)


def every_metric() -> tuple[Panel, ...]:
    """A panel for each metric of the list, and one for the percentiles."""
    panels = [
        Panel(
            f"{metric.name}: {metric.help}",
            "ops" if metric.kind == "counter" else unit_of(metric.name),
            (rate(metric.name) if metric.kind == "counter" else value(metric.name),),
        )
        for metric in METRICS
    ]
    return (*panels, Panel(LATENCY_PERCENTILE, "s", (value(LATENCY_PERCENTILE),)))


def unit_of(name: str) -> str:
    """Grafana's unit of a gauge, by the unit in its name."""
    return next((unit for word, unit in UNITS.items() if word in name.split("_")), "")


def board(uid: str, title: str, panels: Sequence[Panel]) -> dict[str, Any]:
    """A board as Grafana reads it: two panels a row, four of kind stat; instance and source can be chosen."""
    made: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(panels, 1):
        wide, high = (WIDE // 2, HIGH // 2) if panel.kind == "stat" else (WIDE, HIGH)
        if x + wide > COLUMNS or (made and high != made[-1]["gridPos"]["h"]):
            x, y = 0, y + made[-1]["gridPos"]["h"]
        made.append(_panel(number, panel, {"x": x, "y": y, "w": wide, "h": high}))
        x += wide
    return {
        "uid": uid,
        "title": title,
        "schemaVersion": PANEL_SCHEMA,
        "editable": True,
        "refresh": "5s",
        "time": {"from": "now-1h", "to": "now"},
        "tags": ["arb"],
        "templating": {"list": _variables()},
        "panels": made,
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + n), "expr": query.expr, "legendFormat": query.legend, "datasource": SOURCE}
        for n, query in enumerate(panel.queries)
    ]
    defaults = {"unit": panel.unit} if panel.unit else {}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }


def _variables() -> list[dict[str, Any]]:
    instances = {
        "name": "instance",
        "label": "Instance",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(arb_can_trade, instance)", "refId": "instance"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
    return [{"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}, instances]


def boards() -> dict[str, str]:
    """The files by their name."""
    made = {
        "arb_overview.json": board("arb-overview", "arb: overview", OVERVIEW),
        "arb_every_metric.json": board("arb-every-metric", "arb: every metric", every_metric()),
    }
    return {name: json.dumps(content, indent=1) + "\n" for name, content in made.items()}


def main(arguments: Sequence[str]) -> int:
    """Write the boards into the folder that is named."""
    (folder,) = (Path(name) for name in arguments)
    for name, text in boards().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
