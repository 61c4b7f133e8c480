"""Counters and histograms: exact counts, percentiles within the stated error, readable after a crash."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.errors import SegmentMissing, ShmError
from shm.layout import COUNTER_CAPACITY, HIST_BUCKETS, HIST_MAX_BITS, HIST_SUB_BITS
from shm.metrics import Histogram, Metrics, MetricsViews, bucket_high, bucket_of
from tests.naive.shm import NaiveHistogram, naive_bucket
from tests.stress.support import fork

VALUES = st.one_of(st.integers(-5, 5000), st.integers(0, 2**40 - 1), st.integers(0, 2**63 - 1))
RELATIVE_ERROR = 2.0**-HIST_SUB_BITS
PERCENTILES = [0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0]


@given(VALUES)
@settings(deadline=None)
def test_bucket_is_the_twins_and_holds_its_value_within_the_error(value: int) -> None:
    bucket = int(bucket_of(value))
    assert bucket == naive_bucket(value, HIST_SUB_BITS, HIST_MAX_BITS) < HIST_BUCKETS
    if 0 <= value < 2**HIST_MAX_BITS:
        high = int(bucket_high(bucket))
        assert value <= high <= value * (1 + RELATIVE_ERROR)
        assert int(bucket_of(high)) == bucket and int(bucket_of(high + 1)) == min(bucket + 1, HIST_BUCKETS - 1)


def test_every_bucket_is_reached_by_its_own_highest_value() -> None:
    highs = [int(bucket_high(b)) for b in range(HIST_BUCKETS)]
    assert [int(bucket_of(h)) for h in highs] == list(range(HIST_BUCKETS))
    assert highs[:257] == [*range(256), 257] and highs[-1] == 2**HIST_MAX_BITS - 1


@given(st.lists(VALUES, min_size=1, max_size=200))
@settings(deadline=None)
def test_histogram_agrees_with_its_exact_twin(values: list[int]) -> None:
    ours, naive = Histogram.private(), NaiveHistogram()
    for value in values:
        ours.record(value)
        naive.record(value)
    assert (ours.count, ours.min, ours.max) == (len(values), min(naive.values), max(naive.values))
    if sum(naive.values) < 2**63:
        assert ours.sum == sum(naive.values)
    for p in PERCENTILES:
        exact, found = naive.percentile(p), ours.percentiles([p])[0]
        if int(bucket_of(exact)) < HIST_BUCKETS - 1:
            assert exact <= found <= exact * (1 + RELATIVE_ERROR)
        else:
            assert found == ours.max
    assert ours.percentiles([100.0])[0] == ours.max


def test_histogram_agrees_with_hdrhistogram() -> None:
    hdrh = pytest.importorskip("hdrh.histogram")
    oracle = hdrh.HdrHistogram(1, 2**40, 4)
    ours = Histogram.private()
    values = np.random.default_rng(7).lognormal(8.5, 2.0, 20_000).astype(np.int64) + 1
    for value in values.tolist():
        oracle.record_value(value)
        ours.record(value)
    assert ours.count == oracle.get_total_count() == len(values)
    for p in PERCENTILES[1:]:
        theirs, found = oracle.get_value_at_percentile(p), ours.percentiles([p])[0]
        assert abs(found - theirs) <= (RELATIVE_ERROR + 1e-4) * theirs, (p, found, theirs)


def test_counters_and_gauges_by_label() -> None:
    metrics = Metrics.private()
    a, b = metrics.counter("a", "first"), metrics.counter("b")
    metrics.inc(a)
    metrics.inc(a, 41)
    metrics.set(b, -3)
    assert metrics.counter("a", "again") == a
    assert metrics.counters() == {"a": 42, "b": -3} and metrics.docs() == {"a": "first", "b": ""}
    assert metrics.value("a") == 42 and metrics.value("nobody") == 0


def test_counter_wraps_at_64_bits() -> None:
    metrics = Metrics.private()
    index = metrics.counter("a")
    metrics.set(index, 2**63 - 1)
    metrics.inc(index, 2)
    assert metrics.value("a") == -(2**63) + 1


def test_reader_sees_names_and_values_also_after_the_writer_was_killed(instance: str) -> None:
    def writer() -> None:
        metrics = Metrics.create(instance, "feed.x")
        metrics.inc(metrics.counter("frames", "frames received"), 5)
        latency = metrics.histogram("hop_ns", "publish to read")
        for value in (10, 20, 30):
            metrics.record(latency, value)
        os.kill(os.getpid(), 9)

    assert fork(writer).wait() == -9
    found = Metrics.attach_all(instance)
    assert list(found) == ["feed.x"]
    metrics = found["feed.x"]
    assert metrics.counters() == {"frames": 5} and metrics.docs() == {"frames": "frames received"}
    view = metrics.histograms()["hop_ns"]
    assert (view.count, view.min, view.max, view.mean, view.percentiles([50])[0], view.doc) == (
        3,
        10,
        30,
        20.0,
        20,
        "publish to read",
    )


def test_restarted_process_goes_on_with_its_counters_and_readers_see_new_names(instance: str) -> None:
    first = Metrics.create(instance, "x")
    first.inc(first.counter("a"), 5)
    reader = Metrics.attach(instance, "x")
    first.close()
    again = Metrics.create(instance, "x")
    again.inc(again.counter("b"))
    again.inc(again.counter("a"))
    assert reader.counters() == {"a": 6, "b": 1} and reader.value("b") == 1
    again.close()


def test_views_attach_once_and_anew_where_the_segment_was_replaced(instance: str) -> None:
    views = MetricsViews(instance)
    assert views.counters("x") == {}
    first = Metrics.create(instance, "x")
    first.inc(first.counter("a"), 5)
    assert views.counters("x") == {"a": 5}
    known = views._attached["x"]
    first.inc(first.counter("b"), 2)
    assert views.counters("x") == {"a": 5, "b": 2} and views._attached["x"] is known
    first.segment.unlink()
    first.close()
    assert views.counters("x") == {}, "what is gone is not shown"
    second = Metrics.create(instance, "x")
    second.inc(second.counter("c"))
    assert views.counters("x") == {"c": 1}
    views.close()
    second.close()


def test_metrics_of_a_process_that_never_ran_are_missing(instance: str) -> None:
    with pytest.raises(SegmentMissing):
        Metrics.attach(instance, "x")
    assert Metrics.attach_all(instance) == {}


def test_labels_must_fit_and_capacity_is_bounded() -> None:
    metrics = Metrics.private()
    for label in ("", "x" * 49, "é" * 25, "a\0b"):
        with pytest.raises(ShmError, match="label"):
            metrics.counter(label)
    assert metrics.counter("é" * 24) == 0
    for k in range(1, COUNTER_CAPACITY):
        assert metrics.counter(f"c{k}") == k
    with pytest.raises(ShmError, match="no room"):
        metrics.counter("one too many")
    assert metrics.histogram("h") == 0, "histograms have names of their own"


def test_empty_and_reset_histograms_say_zero() -> None:
    hist = Histogram.private()
    assert (hist.count, hist.min, hist.max, hist.mean, hist.percentiles([99])[0]) == (0, 0, 0, 0.0, 0)
    hist.record(7)
    hist.reset()
    assert hist.percentiles([50.0, 100.0]) == [0, 0] and not hist.buckets().any()
