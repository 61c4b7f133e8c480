"""Alerts out of counters and histograms: slow operations, latency that is worse than before, rate limits, lost records.

Each look compares a segment's values with those of the look before; a segment that began anew (another build, a cleaned
instance) has smaller ones, and then counts from here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.model.config_monitoring import MonitoringConfig
from pipeline.model.enums import AlertSeverity
from pipeline.model.units import NS_PER_MS
from shm.metrics import Metrics, bucket_high, bucket_of
from shm.words import Words
from workers.monitor.alert_list import Condition

WINDOW_NS = 60_000_000_000  # over which a latency is judged
WINDOW_VALUES_MIN = 20  # fewer say nothing of a p99
BEFORE_VALUES_MIN = 200
PERCENTILE = 0.99
#: Process kind and histogram whose p99 is watched: what stands between a frame and an order.
WATCHED = (
    ("feed", "feed_frame_ns"),
    ("detector", "receive_to_detect"),
    ("executor", "tick_to_order"),
    ("executor", "ack"),
)
OPERATION = ("executor", "operation")
#: Counters of which every increase is an alert: how their label begins -> what is said.
COUNTED = {
    "rate_limit_hits.": "requests were refused by the rate limit of",
    "opportunities_lost": "opportunities were overwritten before the recorder had read them",
    "log_slots_lost": "slots of log rings were overwritten before the recorder had read them",
    "recording_dropped": "messages of the market found no room in the recording's ring: that span is not whole",
}


def percentile_ns(counts: Words, share: float) -> int:
    """The value at or below which ``share`` of ``counts`` (int64[HIST_BUCKETS]) lie, ns; 0 where there are none."""
    total = np.cumsum(counts)
    if not total[-1]:
        return 0
    return int(bucket_high(int(np.searchsorted(total, max(1, int(np.ceil(total[-1] * share)))))))


def above(counts: Words, limit_ns: int) -> int:
    """How many values lie in buckets wholly above ``limit_ns``."""
    return int(counts[int(bucket_of(limit_ns)) + 1 :].sum())


class Meters:
    """Looks at the metrics of all processes. ``slow``: conditions of the last finished windows."""

    def __init__(self, config: MonitoringConfig) -> None:
        self._slow_ns = config.slow_cycle_ms * NS_PER_MS
        self._factor = float(config.latency_factor)
        self._operations: Words | None = None
        self._counters: dict[tuple[str, str], int] = {}
        self._looked_at: set[str] = set()  # processes; a counter that appears later begins at 0
        self._before: dict[tuple[str, str], tuple[int, Words]] = {}  # window's begin (mono ns), buckets then
        self._worse: dict[tuple[str, str], Condition] = {}

    def look(self, metrics: Mapping[str, Metrics], now_mono_ns: int) -> tuple[list[Condition], list[Condition]]:
        """(conditions, events) as they follow from the values now."""
        events = [*self._slow_operations(metrics), *self._counted(metrics)]
        for process, found in metrics.items():
            kind = process.split(".", 1)[0]
            histograms = found.histograms()
            for label in (label for of, label in WATCHED if of == kind and label in histograms):
                self._judge((process, label), histograms[label].buckets(), now_mono_ns)
        return list(self._worse.values()), events

    def _slow_operations(self, metrics: Mapping[str, Metrics]) -> list[Condition]:
        process, label = OPERATION
        histogram = metrics[process].histograms().get(label) if process in metrics else None
        if histogram is None:
            return []
        now, before = histogram.buckets(), self._operations
        self._operations = now
        if before is None or ((fresh := now - before) < 0).any():
            return []
        slow = above(fresh, self._slow_ns)
        if not slow:
            return []
        longest_ms = int(bucket_high(int(np.flatnonzero(fresh)[-1]))) / NS_PER_MS
        text = f"{slow} operations took longer than {self._slow_ns // NS_PER_MS} ms, the longest {longest_ms:.1f} ms"
        return [Condition(source="executor", severity=AlertSeverity.WARNING, text=text, solve="arb why ID; arb status")]

    def _counted(self, metrics: Mapping[str, Metrics]) -> list[Condition]:
        found = []
        for process, of_process in metrics.items():
            first_look = process not in self._looked_at
            self._looked_at.add(process)
            for label, value in of_process.counters().items():
                text = next((text for begin, text in COUNTED.items() if label.startswith(begin)), None)
                if text is None:
                    continue
                before = self._counters.get((process, label), value if first_look else 0)
                self._counters[process, label] = value
                if value <= before:
                    continue
                what = f"{value - before} {text} {label.partition('.')[2]}".rstrip()
                found.append(Condition(source=process, severity=AlertSeverity.WARNING, text=what, solve="arb status"))
        return found

    def _judge(self, name: tuple[str, str], now: Words, now_mono_ns: int) -> None:
        """Once a window: compare its p99 with the p99 of everything before it."""
        began_ns, before = self._before.get(name, (0, now))
        window = now - before
        if name not in self._before or (window < 0).any():
            self._before[name] = now_mono_ns, now
            self._worse.pop(name, None)
            return
        if now_mono_ns - began_ns < WINDOW_NS:
            return
        self._before[name] = now_mono_ns, now
        self._worse.pop(name, None)
        if int(window.sum()) < WINDOW_VALUES_MIN or int(before.sum()) < BEFORE_VALUES_MIN:
            return
        was_ns, is_ns = percentile_ns(before, PERCENTILE), percentile_ns(window, PERCENTILE)
        if is_ns > self._factor * was_ns:
            process, label = name
            text = (
                f"latency {label} is worse: p99 {is_ns / 1000:.1f} us in the last minute, {was_ns / 1000:.1f} us before"
            )
            self._worse[name] = Condition(
                source=process, severity=AlertSeverity.WARNING, text=text, solve="arb status; load of the host"
            )
