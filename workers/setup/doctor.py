"""``arb doctor``: can this host run the engine, and what would mend what it lacks."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pipeline.model.config import EngineConfig
from workers.setup.checks import Check, State
from workers.setup.host_checks import HostView, host_checks
from workers.setup.key_checks import key_checks
from workers.setup.network_checks import network_checks
from workers.setup.scheduling_checks import scheduling_checks


def run_checks(config: EngineConfig | None, instance: str, *, network: bool) -> list[Check]:
    """Every row. Without a configuration nothing of venues and keys is asked."""
    view = HostView(root=Path("/"), pid=os.getpid())
    rows = host_checks(view, config, instance)
    rows += scheduling_checks(view, config)
    if config is None:
        text = "no configuration was given"
        rows.append(Check("venues and keys", State.UNKNOWN, text, "a configuration", "`arb init`, or --config FILE"))
        return rows
    rows += key_checks(config, instance)
    if network:
        rows += asyncio.run(network_checks(config, instance))
    return rows
