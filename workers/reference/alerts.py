"""The pages of alerts and metrics: breakers, what keeps new risk away, what is sent, Prometheus' rules."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pipeline.core
import pipeline.execution
import pipeline.recovery
import pipeline.risk
from pipeline import trade_state
from pipeline.model.enums import AlertSeverity
from pipeline.risk.breakers import MEANINGS, solve, stops_everything
from pipeline.trade_state import Effect
from workers import tradable
from workers.control_plane import cores
from workers.monitor import meters, watch
from workers.monitor.metric_list import METRICS
from workers.reference.markdown import cell, code, page, table
from workers.reference.source_text import HOLE, Call, calls

REASONS_IN = (trade_state, tradable, cores)
MONITOR_IN = (meters, watch)
EFFECTS = {
    Effect.NOTE.name: "note",
    Effect.DEGRADES.name: "degraded",
    Effect.STOPS.name: "stopped",
    Effect.HALTS.name: "halted",
}
#: What the core's ``alert(severity, ...)`` means by its number.
SEVERITIES = {str(severity.rank): severity.value for severity in AlertSeverity}
#: Reasons whose text is made elsewhere, by their function and the begin of what solves them.
MADE_ELSEWHERE = {
    ("executor_reasons", "arb recoveries --approve"): f"order {HOLE}: no trace of it at its venue, yet balances moved",
    ("_notes", "it ends by itself; `arb symbols"): f"an order on {HOLE} was refused, and its row is read anew",
    ("_notes", HOLE): f"the switch of a coin for fees at {HOLE} is not as configured",
    (
        "_notes",
        "buy the coin",
    ): f"{HOLE} for fees, the next orders take more: fees count undiscounted until then",
    ("_notes", "it ends by itself when both"): f"{HOLE} spot-futures pairs take no entry: their basis is not known yet",
    ("reasons", "arb balance; move"): f"no direction of any pair is covered by balances: {HOLE}",
    ("reasons", "arb balance"): f"{HOLE}: too little {HOLE} to buy or sell, or less is free than inventory.alarms says",
    ("process_reasons", HOLE): f"process {HOLE} has failed, does not run, hangs or is not READY: {HOLE}",
}
INTRODUCTION = (
    f"`{HOLE}` stands for what is known when it happens. Where alerts go, and how: section `monitoring` of the "
    "[configuration](configuration.md). What has been sent: `arb alerts`."
)


def core_modules() -> list[ModuleType]:
    """Modules of the execution core, which trip breakers and raise alerts."""
    load = importlib.import_module
    return [
        pipeline.core,
        *(load(f"pipeline.execution.{name}") for name in _below(pipeline.execution)),
        *(load(f"pipeline.risk.{name}") for name in _below(pipeline.risk)),
        *(load(f"pipeline.recovery.{name}") for name in _below(pipeline.recovery)),
    ]


def _below(package: ModuleType) -> list[str]:
    """Dotted names of the modules below a package, without its own."""
    prefix = f"{package.__name__}."
    found = pkgutil.walk_packages(package.__path__, prefix)
    return [module.name.removeprefix(prefix) for module in found]


def reasons() -> list[Call]:
    """Every reason of the one answer that the source gives."""
    return calls(REASONS_IN, "Reason", ())


def core_alerts() -> list[Call]:
    """Every alert that the execution core raises; those of ``_alert`` are warnings."""
    modules = core_modules()
    warnings = calls(modules, "_alert", ("code", "text"))
    found = [call._replace(arguments={"severity": "1", **call.arguments}) for call in warnings]
    return calls(modules, "alert", ("severity", "code", "text")) + found


def _reason_rows() -> Iterator[tuple[str, str, str]]:
    for call in reasons():
        what, effect = call.arguments["what"], call.arguments["effect"]
        if what.strip(f"{HOLE} :") == "":
            places = (text for place, text in MADE_ELSEWHERE.items() if _is_of(call, *place))
            what = next(places, HOLE)
        states = " or ".join(EFFECTS[one] for one in effect.split(" / ") if one in EFFECTS) or "by what it concerns"
        yield cell(what), cell(states), cell(call.arguments["solve"])


def _is_of(call: Call, function: str, solve_: str) -> bool:
    return call.function == function and call.arguments["solve"].startswith(solve_)


def _alert_rows() -> Iterator[tuple[str, str, str]]:
    """One for each code: its severities, and those of its texts that say something by themselves."""
    severities: dict[str, dict[str, None]] = {}
    texts: dict[str, dict[str, None]] = {}
    for call in core_alerts():
        name, text = call.arguments["code"], call.arguments["text"]
        if call.function == "trip" or name == HOLE:  # breakers have a table of their own
            continue
        known = [SEVERITIES[one] for one in call.arguments["severity"].split(" / ") if one in SEVERITIES]
        severities.setdefault(name, {}).update(dict.fromkeys(known))
        texts.setdefault(name, {}).update({text: None} if any(map(str.isalpha, text)) else {})
    for name, found in severities.items():
        yield code(name), cell(", ".join(found)), "<br>".join(map(cell, texts[name]))


def _monitor_rows() -> Iterator[tuple[str, str, str]]:
    for call in calls(MONITOR_IN, "Condition", ()):
        severity = " or ".join(one.lower() for one in call.arguments["severity"].split(" / "))
        yield cell(call.arguments["text"]), cell(severity), cell(call.arguments.get("solve", ""))


def alerts_page(rules: dict[str, Any]) -> str:
    """The page, as Markdown. ``rules``: the content of ``systemd/prometheus/arb.rules.yaml``."""
    tripped = (
        (code(name), "everything" if stops_everything(name) else "that alone", cell(means), cell(solve(name)))
        for name, means in MEANINGS.items()
    )
    alerting = (
        (
            code(rule["alert"]),
            rule["labels"]["severity"],
            code(rule["expr"]),
            rule.get("for", ""),
            cell(rule["annotations"]["description"]),
        )
        for group in rules["groups"]
        for rule in group["rules"]
        if "alert" in rule
    )
    return page(
        "Alerts",
        INTRODUCTION,
        "## Breakers\n\nA tripped breaker is a critical alert, and stays tripped until an operator re-arms it.",
        table(("breaker", "stops", "tripped when", "what solves it"), tripped),
        "## Reasons\n\nWhy an instance takes no new risk, or not everywhere: the words of `arb status`, `arb top`, "
        "`arb up`, of systemd's STATUS and of alerts. A note keeps nothing away and is not sent.",
        table(("reason", "state", "what solves it"), _reason_rows()),
        "## Alerts of the executor",
        table(("code", "severity", "text"), _alert_rows()),
        "## Alerts of the monitor",
        table(("text", "severity", "what solves it"), _monitor_rows()),
        "## Rules for Prometheus\n\nFor who has an Alertmanager: `systemd/prometheus/arb.rules.yaml`.",
        table(("alert", "severity", "expression", "for", "what to do"), alerting),
    )


def metrics_page() -> str:
    """The page of what ``/metrics`` serves, as Markdown."""
    rows = (
        (code(metric.name), metric.kind, ", ".join(map(code, metric.labels)), cell(metric.help)) for metric in METRICS
    )
    return page(
        "Metrics",
        "`http://127.0.0.1:9464/metrics` (`monitoring.port`), in Prometheus' text format. Grafana's boards: "
        "`systemd/grafana/`.",
        table(("metric", "kind", "labels", "means"), rows),
    )
