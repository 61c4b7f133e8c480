"""How long each stage of an operation took, out of its stamps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: stage name -> the stage that it follows; latencies are shown between them
STAGES = (
    ("detect", "trigger_recv"),
    ("dequeued", "detect"),
    ("gate", "dequeued"),
    ("journal", "gate"),
    ("send", "journal"),
    ("first_ack", "send"),
    ("last_ack", "send"),
    ("first_fill", "send"),
    ("last_fill", "send"),
)
#: Shares of the operations at which a distribution is tabled and drawn.
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)


def stage_times(operation: Mapping[str, Any]) -> dict[str, float]:
    """Microseconds from each stage to the one it follows, where both have a stamp."""
    stamps: dict[str, int] = {
        "trigger_recv": operation["trigger_recv_mono_ns"] or 0,
        "detect": operation["detect_mono_ns"] or 0,
        "dequeued": operation["dequeued_mono_ns"] or 0,
        "gate": operation["gate_mono_ns"] or 0,
        **{name: value for name, value in (operation["stamps"] or {}).items() if value},
    }
    times = {
        name: round((stamps[name] - stamps[before]) / 1000, 1)
        for name, before in STAGES
        if stamps.get(name) and stamps.get(before)
    }
    if stamps.get("send") and stamps.get("trigger_recv"):
        times["tick_to_order"] = round((stamps["send"] - stamps["trigger_recv"]) / 1000, 1)
    return times


def latency_rows(operations: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each stage's distribution: ``stage``, ``n`` and microseconds at each of :data:`SHARES` (``p50``, ...), as whole
    observations (the smallest that at least the share does not exceed)."""
    found: dict[str, list[float]] = {}
    for operation in operations:
        for stage, took_us in stage_times(operation).items():
            found.setdefault(stage, []).append(took_us)
    return [
        {"stage": stage, "n": len(times), **{share_name(s): at_share(sorted(times), s) for s in SHARES}}
        for stage, times in sorted(found.items())
    ]


def share_name(share: float) -> str:
    """0.5 -> p50, 0.999 -> p99.9."""
    return f"p{share * 100:g}"


def at_share(ordered: Sequence[float], share: float) -> float:
    """The smallest of ``ordered`` (ascending, not empty) that at least ``share`` of all do not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
