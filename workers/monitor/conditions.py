"""What is wrong now, out of the one answer: a condition for each of its reasons, and the unhealthy components.

Components are those of a trading engine that is looked after: engine (processes, disk), risk (halt, breakers,
recoveries, limits), balances (accounts, margin), market data (feeds).
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.model.enums import AlertSeverity
from pipeline.trade_state import Effect, Reason
from workers.monitor.alert_list import Condition

COMPONENTS = ("engine", "risk", "balances", "market data")
#: How a reason begins -> its component; every other one is the engine's.
_COMPONENT_OF = (
    ("HALTED", "risk"),
    ("fenced", "risk"),
    ("draining", "risk"),
    ("breaker ", "risk"),
    ("recovery ", "risk"),
    ("reducing", "risk"),
    ("no lease", "risk"),
    ("margin of ", "balances"),
    ("account of ", "balances"),
    ("no direction of any pair", "balances"),
    ("venue ", "engine"),
    ("feed of ", "market data"),
    ("no feed works", "market data"),
    ("process feed.", "market data"),
    ("process poller", "balances"),
)


def component_of(what: str) -> str:
    """The component that a reason's text is about."""
    return next((component for begin, component in _COMPONENT_OF if what.startswith(begin)), "engine")


def conditions_of(reasons: Iterable[Reason]) -> list[Condition]:
    """A condition for each reason that keeps new risk away, critical where it does so everywhere."""
    return [
        Condition(
            source=component_of(reason.what),
            severity=AlertSeverity.WARNING if reason.effect is Effect.DEGRADES else AlertSeverity.CRITICAL,
            text=reason.what,
            solve=reason.solve,
        )
        for reason in reasons
        if reason.effect > Effect.NOTE
    ]


def unhealthy_components(conditions: Iterable[Condition]) -> dict[str, list[str]]:
    """Component -> what is wrong with it; components without a fault are left out. A condition of a process is the
    engine's."""
    found: dict[str, list[str]] = {component: [] for component in COMPONENTS}
    for condition in conditions:
        found[condition.source if condition.source in found else "engine"].append(condition.text)
    return {component: texts for component, texts in found.items() if texts}
