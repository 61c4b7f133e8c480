"""Which processes do not run on the CPUs that the configuration gives them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pipeline.trade_state import Effect, Reason


def pinning_reasons(described: Mapping[str, Any]) -> list[Reason]:
    """Processes that do not run on the CPUs that ``processes.*.cpus`` names, because the host lacks or denies some."""
    found = []
    for name, row in described.get("processes", {}).items():
        wanted, running_on = set(row.get("cpus", ())), allowed_cpus(int(row.get("pid") or 0))
        if wanted and running_on and set(running_on) != wanted:
            what = f"process {name} is not pinned as configured: CPUs {sorted(wanted)} wanted, running on {running_on}"
            solve = "name CPUs of this host in processes.*.cpus (nproc; lscpu -e), then start again"
            found.append(Reason(what=what, solve=solve, effect=Effect.DEGRADES))
    return found


def allowed_cpus(pid: int) -> list[int] | None:
    """CPUs that a process may run on; None when it has ended."""
    try:
        return sorted(os.sched_getaffinity(pid)) if pid > 0 else None
    except ProcessLookupError:
        return None
