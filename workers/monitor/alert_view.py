"""The alerts as ``arb alerts`` and the metrics show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from workers.monitor.alert_file import TargetState
from workers.monitor.alert_list import Alert
from workers.tradable import utc


def alert_rows(alerts: Iterable[Alert]) -> list[dict[str, Any]]:
    """One row an alert, oldest first. ``standing`` None: an event, which happened and does not end."""
    return [
        {
            "id": alert.id,
            "severity": str(alert.severity),
            "source": alert.source,
            "what": alert.text,
            "solve": alert.solve,
            "standing": alert.standing,
            "count": alert.count,
            "since": utc(alert.first_wall_ns),
            "last": utc(alert.last_wall_ns),
            "sent": utc(alert.sent_wall_ns),
            "acked_by": alert.acked_by or None,
            "acked": utc(alert.acked_wall_ns),
            "needed": alert.needed,
        }
        for alert in alerts
    ]


def target_rows(targets: Mapping[str, TargetState]) -> dict[str, dict[str, Any]]:
    """How the delivery to each target stands."""
    return {
        name: {
            "waiting": len(state.waiting),
            "sent": state.sent,
            "failed_attempts": state.failed_attempts,
            "dropped": state.dropped,
            "refused": state.refused,
            "last_error": state.last_error or None,
            "last_sent": utc(state.last_sent_wall_ns),
        }
        for name, state in targets.items()
    }


def alerts_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """What stands, a line an alert, for a chat."""
    lines = [
        f"{row['id']} {row['severity']} since {row['since']}: {row['source']}: {row['what']}"
        + (f"; solve: {row['solve']}" if row["solve"] else "")
        for row in rows
        if row["standing"]
    ]
    return "\n".join(lines) or "nothing stands"
