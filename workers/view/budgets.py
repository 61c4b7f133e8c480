"""What is left of the venues' request budgets, over all processes and instances of this user."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.exchanges.transport.spend import spent_of


def budgets(instance: str) -> dict[str, dict[str, dict[str, Any]]]:
    """By venue (what markets share: by exchange) and bucket: ``limit``, ``window_s``, ``used``, ``left``, ``silent_s``.

    An exchange's ``all`` has no limit: it tells for how long it asked for silence, at whichever of its hosts. Empty
    while nothing has asked."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    now_ns = time.monotonic_ns()
    for row in spent_of(instance, now_ns):
        venue, _, bucket = row.label.partition(" ")
        one = {
            "limit": row.limit or None,
            "window_s": round(row.window_s, 1),
            "used": row.used,
            "left": max(0, row.limit - row.used) if row.limit else None,
            "silent_s": round(max(0, row.silent_until_ns - now_ns) / 1e9, 1),
        }
        other = found.setdefault(venue, {}).get(bucket)  # of another host or account: the one that is worse off
        if other is None or (one["silent_s"], one["used"]) > (other["silent_s"], other["used"]):
            found[venue][bucket] = one
    return found


def budget_lines(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Sequence[str]:
    """A line for each venue: what is left of the buckets that are in use, and silences."""
    lines = []
    for venue, buckets in found.items():
        parts = []
        for bucket, row in buckets.items():
            if row["silent_s"]:
                parts.append(f"{bucket} SILENT for {row['silent_s']:.0f} s")
            elif row["used"]:
                parts.append(f"{bucket} {row['left']} of {row['limit']} in {row['window_s']:g} s")
        if parts:
            lines.append(f"requests left     {venue}: {', '.join(parts)}")
    return lines
