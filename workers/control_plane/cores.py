"""Which process gets which CPU on this host, when the configuration does not say: for demos and first starts.

Plenty of CPUs: each feed, the detector and the executor has one of its own, and the two that wait for nothing spin.
Fewer: feeds share the lower half, detector and executor the upper half, and everybody parks. One: nobody is pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SPARE_CPUS = 3  # for the system, the simulators and the processes that only park


def plan_cores(cpus: Sequence[int], feeds: Sequence[str]) -> tuple[dict[str, dict[str, Any]], str]:
    """(``processes`` of the configuration, the plan in words) for the CPUs that this process may use."""
    names = [f"feed.{feed}" for feed in feeds]
    count = len(cpus)
    if count < 2:
        return {}, "1 CPU: nothing is pinned, everybody parks"
    if count >= len(names) + 2 + SPARE_CPUS:
        own = list(cpus)[-(len(names) + 2) :]
        plan: dict[str, dict[str, Any]] = {name: {"cpus": [cpu]} for name, cpu in zip(names, own, strict=False)}
        plan["detector"] = {"cpus": [own[-2]], "wait": "spin"}
        plan["executor"] = {"cpus": [own[-1]], "wait": "spin"}
        return plan, f"{count} CPUs: each feed, the detector and the executor has its own; the last two spin"
    lower, upper = list(cpus)[: count // 2], list(cpus)[count // 2 :]
    plan = {name: {"cpus": lower} for name in names}
    plan["detector"] = plan["executor"] = {"cpus": upper}
    words = f"{count} CPUs: feeds on {_set(lower)}, detector and executor on {_set(upper)}; too few to spin, all park"
    return plan, words


def _set(cpus: Sequence[int]) -> str:
    return ",".join(map(str, cpus))
