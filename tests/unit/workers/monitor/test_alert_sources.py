"""What becomes an alert: reasons of the one answer, lines of log rings, counters and histograms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.config_monitoring import MonitoringConfig
from pipeline.model.enums import AlertSeverity
from pipeline.trade_state import Effect, Reason
from shm.logring import LogRing
from shm.metrics import Histogram, Metrics, bucket_high, bucket_of
from workers.base import LOG_LEVELS
from workers.monitor.alert_file import BROKEN_NAME, FILE_NAME, LogPosition, read_alerts, set_aside_broken
from workers.monitor.alert_list import Condition
from workers.monitor.conditions import COMPONENTS, component_of, conditions_of, unhealthy_components
from workers.monitor.log_events import LogEvents, alert_of, condition_text
from workers.monitor.meters import WINDOW_NS, Meters, above, percentile_ns
from workers.tradable import account_reasons, feed_reasons, process_reasons

MS = 1_000_000
LINES = LOG_LEVELS


def reason(what: str, effect: Effect = Effect.DEGRADES) -> Reason:
    return Reason(what=what, solve="do it", effect=effect)


# --- reasons ---


def test_reasons_become_conditions_critical_where_nothing_new_is_risked_and_notes_none() -> None:
    reasons = [reason("feed of x: down"), reason("no lease: y", Effect.STOPS), reason("HALTED", Effect.HALTS)]
    found = conditions_of([*reasons, reason("n", Effect.NOTE)])
    assert [(c.source, c.severity, c.text) for c in found] == [
        ("market data", AlertSeverity.WARNING, "feed of x: down"),
        ("risk", AlertSeverity.CRITICAL, "no lease: y"),
        ("risk", AlertSeverity.CRITICAL, "HALTED"),
    ]
    slow = Condition(source="executor", severity=AlertSeverity.WARNING, text="latency is worse")
    assert unhealthy_components([*found, slow]) == {
        "engine": ["latency is worse"],
        "risk": ["no lease: y", "HALTED"],
        "market data": ["feed of x: down"],
    }


def test_every_reason_belongs_to_a_component() -> None:
    rows = {name: {} for name in ("executor", "poller", "feed.mexc")}
    texts = [r.what for r in process_reasons({"state": "ready", "processes": rows}, {}, 0)]
    texts += [r.what for r in feed_reasons({"mexc_spot": {"reachable": False}}, {})]
    texts += [r.what for r in account_reasons({"mexc_spot": 3})]
    found = {text.split(":")[0]: component_of(text) for text in texts}
    assert found["process executor is not running"] == "engine"
    assert found["process poller is not running"] == "balances"
    assert found["process feed.mexc is not running"] == "market data"
    assert found["feed of mexc_spot"] == "market data"
    assert {component_of(t) for t in (*texts, "breaker x: y", "the disk has 1 MB left")} <= set(COMPONENTS)


# --- log rings ---


def test_alerts_errors_and_the_supervisors_warnings_are_alerts_and_nothing_else() -> None:
    cases = [
        ("executor", "warning", "alert: session_down: x", AlertSeverity.WARNING),
        ("executor", "critical", "alert: external: y", AlertSeverity.CRITICAL),
        ("feed.mexc", "error", "z", AlertSeverity.CRITICAL),
        ("feed.mexc", "warning", "books wait for their snapshots", None),
        ("executor", "info", "trade: w", None),
        ("supervisor", "warning", "executor ended (signal SIGKILL)", AlertSeverity.WARNING),
        ("supervisor", "warning", "quarantined mexc_spot X", None),
        ("supervisor", "info", "warm", None),
    ]
    for process, level, text, wanted in cases:
        found = alert_of(process, LINES[level], text)
        assert (None if found is None else found.severity) is wanted, text
        assert found is None or found.text == text.removeprefix("alert: ")
    assert condition_text("breaker: venue.x: 5 faults") == "breaker venue.x: 5 faults"
    assert condition_text("exposure: 7 USD open") is None


def test_lines_are_read_once_also_over_a_restart_and_those_of_a_new_ring_from_its_begin(instance: str) -> None:
    ring, own = LogRing.create(instance, "executor", capacity=256), LogRing.create(instance, "monitor", capacity=256)
    try:
        reader = LogEvents(instance, {})
        ring.text(LINES["critical"], "alert: one: 1")
        own.text(LINES["error"], "target ops: HTTP 500")
        ring.event(7)
        assert [event.text for _, event in reader.poll()] == ["one: 1"]
        assert reader.poll() == []
        positions = reader.positions()
        ring.text(LINES["error"], "two")
        again = LogEvents(instance, positions)
        assert [event.text for _, event in again.poll()] == ["two"]
        gone = LogEvents(instance, {"executor": LogPosition(inode=1, cursor=99), "feed.away": LogPosition(2, 3)})
        assert [event.text for _, event in gone.poll()] == ["one: 1", "two"]
        assert gone.positions()["feed.away"] == LogPosition(2, 3)
        for number in range(600):
            ring.text(LINES["info"], f"line {number}")
        assert gone.poll() == [] and gone.lost > 0
    finally:
        ring.close()
        own.close()


def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    assert read_alerts(tmp_path) is None and not set_aside_broken(tmp_path)
    (tmp_path / FILE_NAME).write_text("{")
    assert read_alerts(tmp_path) is None and set_aside_broken(tmp_path)
    assert (tmp_path / BROKEN_NAME).read_text() == "{" and not (tmp_path / FILE_NAME).exists()


# --- counters and histograms ---


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=50), st.integers(1, 10**10))
def test_percentiles_and_counts_above_agree_with_the_values_themselves(values: list[int], limit: int) -> None:
    histogram = Histogram.private()
    for value in values:
        histogram.record(value)
    counts = histogram.buckets()
    for share in (0.5, 0.9, 0.99):
        exact = sorted(values)[max(1, int(np.ceil(len(values) * share))) - 1]
        assert percentile_ns(counts, share) == bucket_high(bucket_of(exact))
    assert above(counts, limit) == sum(bucket_of(value) > bucket_of(limit) for value in values)


def test_nothing_has_no_percentile() -> None:
    assert percentile_ns(Histogram.private().buckets(), 0.99) == 0


def events_of(found: tuple[list[object], list[object]]) -> list[str]:
    return [event.text for event in found[1]]  # type: ignore[attr-defined]


def test_slow_operations_are_alerts_of_the_look_in_which_they_ended() -> None:
    metrics, meters = Metrics.private("executor"), Meters(MonitoringConfig(slow_cycle_ms=50))
    operation = metrics.histogram("operation")
    metrics.record(operation, 900 * MS)
    assert events_of(meters.look({"executor": metrics}, 0)) == [], "it ended before the first look"
    metrics.record(operation, 49 * MS)
    assert events_of(meters.look({"executor": metrics}, 1)) == []
    metrics.record(operation, 60 * MS)
    metrics.record(operation, 120 * MS)
    (text,) = events_of(meters.look({"executor": metrics}, 2))
    assert text.startswith("2 operations took longer than 50 ms, the longest 120.")
    assert events_of(meters.look({"executor": metrics}, 3)) == []
    fresh = Metrics.private("executor")
    fresh.record(fresh.histogram("operation"), 70 * MS)
    assert events_of(meters.look({"executor": fresh}, 4)) == [], "another segment: counted from here"


def test_rate_limits_and_lost_records_are_alerts_when_they_grow_also_of_a_counter_that_is_new() -> None:
    metrics, meters = Metrics.private("poller"), Meters(MonitoringConfig())
    old = metrics.counter("rate_limit_hits.mexc_spot")
    metrics.set(old, 3)
    assert events_of(meters.look({"poller": metrics}, 0)) == []
    metrics.set(old, 5)
    metrics.set(metrics.counter("rate_limit_hits.gateio_spot"), 1)
    metrics.set(metrics.counter("sweeps.mexc_spot"), 9)
    assert events_of(meters.look({"poller": metrics}, 1)) == [
        "2 requests were refused by the rate limit of mexc_spot",
        "1 requests were refused by the rate limit of gateio_spot",
    ]
    assert events_of(meters.look({"poller": metrics}, 2)) == []


@pytest.mark.parametrize(("later_us", "worse"), [(900, False), (2900, False), (3200, True), (9000, True)])
def test_latency_is_worse_where_the_p99_of_a_minute_is_a_multiple_of_the_one_before(later_us: int, worse: bool) -> None:
    metrics, meters = Metrics.private("executor"), Meters(MonitoringConfig())
    stage = metrics.histogram("tick_to_order")
    for _ in range(300):
        metrics.record(stage, 1000 * 1000)
    look = {"executor": metrics}
    assert meters.look(look, 0) == ([], [])
    for _ in range(30):
        metrics.record(stage, later_us * 1000)
    assert meters.look(look, WINDOW_NS - 1) == ([], []), "the minute is not over"
    conditions, _ = meters.look(look, WINDOW_NS)
    assert bool(conditions) is worse
    assert not worse or conditions[0].text.startswith("latency tick_to_order is worse: p99 ")
    assert meters.look(look, WINDOW_NS + 1)[0] == conditions, "it stands until the next minute has said otherwise"
    assert meters.look(look, 2 * WINDOW_NS + 1)[0] == [], "a minute without values says nothing"


def test_few_values_say_nothing_of_a_p99() -> None:
    metrics, meters = Metrics.private("feed.mexc"), Meters(MonitoringConfig())
    stage = metrics.histogram("feed_frame_ns")
    for _ in range(199):
        metrics.record(stage, 1000)
    meters.look({"feed.mexc": metrics}, 0)
    for _ in range(30):
        metrics.record(stage, 10**9)
    assert meters.look({"feed.mexc": metrics}, WINDOW_NS)[0] == []
