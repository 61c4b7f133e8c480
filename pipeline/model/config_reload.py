"""What may change while an instance runs: thresholds and limits that are read at each use. All else needs a start.

A reload is all or nothing: one path that may not change refuses the whole of it, with every such path named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline.model.config import EngineConfig
from pipeline.model.config_monitoring import shown_value
from pipeline.model.errors import ConfigInvalid

#: Paths that may change; one that ends in "." stands for everything below it.
RELOADABLE = (
    "risk_limits.",
    "canary",
    "canary.",
    "detection.enabled",
    "detection.min_edge_bps",
    "detection.execute_edge_bps",
    "detection.max_age_to_trade_ms",
    "detection.dead_after_ms",
    "detection.max_skew_ms",
    "detection.cooldown_ms",
    "detection.max_notional_usd",
    "detection.no_entries_before_end_h",
    "execution.target_execution_time_ms",
    "execution.unwind_slippage_bps",
    "execution.unwind_max_slippage_bps",
)
Changes = dict[str, tuple[Any, Any]]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {path: leaf for key, item in value.items() for path, leaf in _flat(item, f"{prefix}{key}.").items()}
    return {prefix.removesuffix("."): value}


def reload_changes(running: EngineConfig, wanted: EngineConfig) -> Changes:
    """Dotted path -> (value now, value wanted), None where a table has no such entry.

    Raises ConfigInvalid naming every changed path that needs a restart.
    """
    now, then = _flat(msgspec.to_builtins(running)), _flat(msgspec.to_builtins(wanted))
    changed = {
        path: (now.get(path), then.get(path)) for path in sorted({*now, *then}) if now.get(path) != then.get(path)
    }
    total = (running.risk_limits.total_loss_usd, wanted.risk_limits.total_loss_usd)
    if total[0] != total[1]:  # also where it follows from the day's
        changed["risk_limits.max_total_loss_usd"] = total
    errors = [
        f"{path}: {shown_value(path, old)} -> {shown_value(path, new)} needs a restart"
        for path, (old, new) in changed.items()
        if not any(path == name or (name.endswith(".") and path.startswith(name)) for name in RELOADABLE)
    ]
    if errors:
        raise ConfigInvalid(errors)
    return changed


def changes_text(changes: Changes) -> str:
    """One line for logs."""
    return ", ".join(f"{path} {old} -> {new}" for path, (old, new) in changes.items()) or "nothing changed"
