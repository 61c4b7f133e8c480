"""``/metrics``: the list of metrics and the latency histograms of a reading, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.model.units import NS_PER_S
from shm.metrics import Histogram, Metrics, bucket_of
from workers.monitor.metric_list import METRICS, Reading

#: Bounds of the buckets that are served, in ns: 1, 2, 5 a decade from 1 us to 10 s.
BOUNDS_NS = (*(step * 10**power for power in range(3, 10) for step in (1, 2, 5)), 10**10)
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
LATENCY = "arb_latency_seconds"
LATENCY_PERCENTILE = "arb_latency_percentile_seconds"


def cumulative(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """((upper bound in s, values at or below it) for each bound, their sum in s). A value lies in the first bound that
    is not below its bucket: at most 0.8 % of itself too low."""
    counts = np.cumsum(histogram.buckets())
    found = [(f"{bound / NS_PER_S:g}", float(counts[int(bucket_of(bound))])) for bound in BOUNDS_NS]
    return [*found, ("+Inf", float(counts[-1]))], histogram.sum / NS_PER_S


class ReadingCollector(Collector):
    """One reading as Prometheus' client wants it. ``metrics``: the segments of the latency histograms."""

    def __init__(self, reading: Reading, metrics: Mapping[str, Metrics]) -> None:
        self._reading = reading
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Every family, those of the list first."""
        for metric in METRICS:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.samples(self._reading):
                family.add_metric(labels, value)
            yield family
        latency = HistogramMetricFamily(LATENCY, "How long each stage took.", labels=("process", "stage"))
        percentiles = GaugeMetricFamily(
            LATENCY_PERCENTILE,
            "Percentiles of each stage since its process's memory was made.",
            labels=("process", "stage", "percentile"),
        )
        for process, found in self._metrics.items():
            for stage, histogram in found.histograms().items():
                if not histogram.count:
                    continue
                buckets, total_s = cumulative(histogram)
                latency.add_metric((process, stage), buckets=buckets, sum_value=total_s)
                for share, value_ns in zip(PERCENTILES, histogram.percentiles(list(PERCENTILES)), strict=True):
                    percentiles.add_metric((process, stage, f"{share:g}"), value_ns / NS_PER_S)
        yield latency
        yield percentiles


def metrics_text(reading: Reading, metrics: Mapping[str, Metrics]) -> bytes:
    """The whole of ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(ReadingCollector(reading, metrics))
    return generate_latest(registry)
