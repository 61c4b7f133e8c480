"""``arb alerts``: what the monitor has sent, and the acknowledgement of who has looked at it."""

from __future__ import annotations

import os
import time
from typing import Annotated, Any

import typer

from pipeline.model.errors import BadInput
from workers.audit_log import audit, who
from workers.cli.options import Instance, Json
from workers.control_plane.instances import existing, run_file
from workers.control_socket import MONITOR_SOCKET, ControlError, ask
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from workers.output import emit
from workers.state_folder import instance_dir

HOW = "no alerts are kept: `monitoring` is not in the configuration (README.md, Monitoring)"


def alerts(
    instance: Instance = "",
    ack: Annotated[
        str, typer.Option("--ack", metavar="ID|all", help="Acknowledge this alert, or every one: you have seen it.")
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="Also those that are over and acknowledged.")] = False,
    json: Json = False,
) -> int:
    """Show the alerts that stand or that nobody has acknowledged, and how delivery to each target stands. Exit code 1:
    there is one.

    An alert is a condition that stands until it has gone, or an event that happened. `--ack ID` stops its reminders;
    who acknowledged it and when is kept over restarts, and in audit.jsonl. Needs `monitoring` in the configuration.
    """
    from workers.monitor.alert_file import read_alerts  # imported here: they load numba
    from workers.monitor.alert_view import alert_rows, target_rows

    name = existing(instance)
    acknowledged = _acknowledge(name, ack) if ack else []
    state = read_alerts(instance_dir(name))
    if state is None:
        emit({"alerts": [], "targets": {}, "monitoring": False}, as_json=json, text=lambda _: f"{name}: {HOW}")
        return EXIT_OK
    rows = [row for row in alert_rows(state.alerts) if every or row["needed"]]
    fields: dict[str, Any] = {
        "alerts": rows,
        "targets": target_rows(state.targets),
        "acknowledged": acknowledged,
        "dropped": state.dropped,
        "monitoring": True,
        "url": state.url or None,
    }
    emit(fields, as_json=json, text=_text)
    return EXIT_CHECK_FAILED if any(row["needed"] for row in rows) else EXIT_OK


def _acknowledge(name: str, alert_id: str) -> list[str]:
    """Through the monitor, else in the file. Raises BadInput for an id that no alert has."""
    folder = instance_dir(name)
    try:
        reply = ask(folder / MONITOR_SOCKET, {"op": "ack", "id": alert_id})
        return [str(found) for found in reply["acknowledged"]]
    except ControlError:
        row = run_file(name).get("processes", {}).get("monitor", {})
        if row.get("pid") and os.path.exists(f"/proc/{row['pid']}"):
            raise  # it runs, and would write the file again as it knows it
    from workers.monitor.alert_file import read_alerts, write_alerts
    from workers.monitor.alert_list import AlertList

    state = read_alerts(folder)
    if state is None:
        raise BadInput(f"found no alert {alert_id!r}: {HOW}")
    by = who(os.geteuid())
    try:
        changed = AlertList(state.alerts).acknowledge(alert_id, by, time.time_ns())
    except KeyError:
        raise BadInput(f"found no alert {alert_id!r}; `arb alerts` lists them") from None
    write_alerts(folder, state)
    found = [alert.id for alert in changed]
    audit(folder, op="ack", by=by, reason="", alerts=found, where="disk")
    return found


def _text(fields: dict[str, Any]) -> str:
    lines = []
    for row in fields["alerts"]:
        state = {True: "stands", False: "ended", None: "happened"}[row["standing"]]
        times = f", {row['count']} times" if row["count"] > 1 else ""
        by = f", acknowledged by {row['acked_by']}" if row["acked_by"] else ""
        lines.append(f"{row['id']:<6}{row['severity']:<9}{state} since {row['since']}{times}{by}")
        lines.append(f"      {row['source']}: {row['what']}")
        if row["solve"] and row["standing"] is not False:
            lines.append(f"      solve: {row['solve']}")
    if not lines:
        lines = ["no alert stands, and every one is acknowledged (--all shows them)"]
    if fields["url"]:
        lines.append(f"metrics and health: {fields['url']}metrics, {fields['url']}healthz")
    for name, row in fields["targets"].items():
        trouble = f"; not reached: {row['last_error']}" if row["last_error"] else ""
        lost = row["dropped"] + row["refused"]
        lines.append(f"target {name}: {row['sent']} sent, {row['waiting']} wait, {lost} lost{trouble}")
    return "\n".join(lines)


def register(app: typer.Typer) -> None:
    """Add this file's command to ``app``."""
    app.command(name="alerts")(alerts)
