"""Which process gets which CPU where the configuration does not say: for demos.

With enough CPUs each feed, the detector and the executor has its own, and detector and executor spin. With fewer the
feeds share the lower half, detector and executor the upper half, and all park. With one no process is pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SPARE_CPUS = 3  # for the system, the simulators and the processes that only park


def plan_cores(cpus: Sequence[int], feeds: Sequence[str]) -> tuple[dict[str, dict[str, Any]], str]:
    """(``processes`` of the configuration, the plan as text) for the CPUs ``cpus`` and the exchanges ``feeds``."""
    names = [f"feed.{feed}" for feed in feeds]
    count = len(cpus)
    if count < 2:
        return {}, "1 CPU: nothing is pinned, all park"
    if count >= len(names) + 2 + SPARE_CPUS:
        own = list(cpus)[-(len(names) + 2) :]
        plan: dict[str, dict[str, Any]] = {name: {"cpus": [cpu]} for name, cpu in zip(names, own, strict=False)}
        plan["detector"] = {"cpus": [own[-2]], "wait": "spin"}
        plan["executor"] = {"cpus": [own[-1]], "wait": "spin"}
        return plan, f"{count} CPUs: each feed, the detector and the executor has its own; the last two spin"
    lower, upper = list(cpus)[: count // 2], list(cpus)[count // 2 :]
    plan = {name: {"cpus": lower} for name in names}
    plan["detector"] = plan["executor"] = {"cpus": upper}
    text = f"{count} CPUs: feeds on {_set(lower)}, detector and executor on {_set(upper)}; too few to spin, all park"
    return plan, text


def _set(cpus: Sequence[int]) -> str:
    return ",".join(map(str, cpus))
