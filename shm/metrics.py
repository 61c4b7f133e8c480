"""Counters and latency histograms of one process, readable by any process, also after a crash.

A metrics segment describes itself: names, help texts and values lie side by side, so that a reader needs nothing but
the segment. One thread writes. Values survive a restart of the process (same build): ``counter("x")`` finds the
counter of that label again.

Histograms are log-linear: values below 256 ns are exact, above each power of two has 128 buckets; a percentile is the
highest value of its bucket, so that it is never below the true one and at most 2^-7 (0.8 %) above it. Values of 2^40 ns
(18 min) and more fall into the last bucket; count, sum, min and max are exact.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np

from shm.atomics import clz64, load_acquire, load_relaxed, store_relaxed, store_release, wrap_add
from shm.errors import SegmentMissing, ShmError
from shm.jit import njit
from shm.layout import (
    COUNTER_CAPACITY,
    HIST_BUCKETS,
    HIST_MAX_BITS,
    HIST_SUB,
    HIST_SUB_BITS,
    HISTOGRAM,
    HISTOGRAM_CAPACITY,
    METRIC_DOC_WORDS,
    METRIC_LABEL_WORDS,
    METRIC_NAME,
    METRICS,
)
from shm.segment import Segment, list_segments, segment_name
from shm.words import Words, pack_text, unpack_text

_WHAT = "metrics."
_LAST_VALUE = 2**HIST_MAX_BITS - 1


@njit
def inc(words: Words, off: int, index: int, n: int) -> None:
    """Adds ``n`` to counter ``index`` (one writer: a load and a store, no locked instruction)."""
    at = off + METRICS.counters + index
    store_relaxed(words, at, wrap_add(load_relaxed(words, at), n))


@njit
def set_gauge(words: Words, off: int, index: int, value: int) -> None:
    """Sets counter ``index`` to ``value`` (a gauge is a counter that goes both ways)."""
    store_relaxed(words, off + METRICS.counters + index, value)


@njit
def get_counter(words: Words, off: int, index: int) -> int:
    """Value of counter ``index``."""
    return load_relaxed(words, off + METRICS.counters + index)


@njit
def bucket_of(value_ns: int) -> int:
    """Bucket of a value; negative values count as 0, values beyond the range as the greatest in it."""
    value = min(max(value_ns, 0), _LAST_VALUE)
    octave = 63 - clz64(value | HIST_SUB) - HIST_SUB_BITS
    bucket: int = (octave << HIST_SUB_BITS) + (value >> octave)
    return bucket


@njit
def bucket_high(bucket: int) -> int:
    """The highest value that falls into ``bucket``."""
    octave = max((bucket >> HIST_SUB_BITS) - 1, 0)
    high: int = ((bucket - (octave << HIST_SUB_BITS) + 1) << octave) - 1
    return high


@njit
def hist_record_at(words: Words, at: int, value_ns: int) -> None:
    """Records into the HISTOGRAM that begins at word ``at`` (a negative value as 0). One writer alone."""
    value = max(value_ns, 0)
    count = load_relaxed(words, at + HISTOGRAM.count)
    bucket = at + HISTOGRAM.buckets + bucket_of(value)
    store_relaxed(words, bucket, load_relaxed(words, bucket) + 1)
    store_relaxed(words, at + HISTOGRAM.sum_ns, wrap_add(load_relaxed(words, at + HISTOGRAM.sum_ns), value))
    if count == 0 or value < load_relaxed(words, at + HISTOGRAM.min_ns):
        store_relaxed(words, at + HISTOGRAM.min_ns, value)
    if value > load_relaxed(words, at + HISTOGRAM.max_ns):
        store_relaxed(words, at + HISTOGRAM.max_ns, value)
    store_release(words, at + HISTOGRAM.count, count + 1)  # SYNC hist.count: release; pairs with Histogram.count


@njit
def hist_record(words: Words, off: int, hist_index: int, value_ns: int) -> None:
    """Records ``value_ns`` into histogram ``hist_index`` of the METRICS at word ``off`` (a negative value as 0)."""
    hist_record_at(words, off + METRICS.hists + hist_index * HISTOGRAM.WORDS, value_ns)


class Histogram:
    """A reader's view of one histogram; ``HISTOGRAM.WORDS`` zeros are an empty one (see :meth:`private`)."""

    def __init__(self, words: Words, at: int, label: str = "", doc: str = "") -> None:
        self._words = words
        self._at = at
        self.label = label
        self.doc = doc

    @classmethod
    def private(cls, label: str = "") -> Histogram:
        """An empty histogram in this process's own memory."""
        return cls(np.zeros(HISTOGRAM.WORDS, np.int64), 0, label)

    def record(self, value_ns: int) -> None:
        """One value in ns more, a negative one as 0. Writer only."""
        hist_record_at(self._words, self._at, value_ns)

    def _get(self, field: int) -> int:
        return int(load_relaxed(self._words, self._at + field))

    @property
    def count(self) -> int:
        """Values so far. Taken while another process writes, the sum and the buckets may be ahead of it."""
        # SYNC hist.count: acquire; pairs with hist_record_at
        return int(load_acquire(self._words, self._at + HISTOGRAM.count))

    @property
    def sum(self) -> int:
        """Sum of all values, ns; wraps at 2^63."""
        return self._get(HISTOGRAM.sum_ns)

    @property
    def min(self) -> int:
        """Exact smallest value, ns; 0 where empty."""
        return self._get(HISTOGRAM.min_ns)

    @property
    def max(self) -> int:
        """Exact largest value, ns; 0 where empty."""
        return self._get(HISTOGRAM.max_ns)

    @property
    def mean(self) -> float:
        """Mean in ns; 0 where empty."""
        return self.sum / self.count if self.count else 0.0

    def buckets(self) -> Words:
        """A copy of the bucket counts, shape (HIST_BUCKETS,)."""
        start = self._at + HISTOGRAM.buckets
        return self._words[start : start + HIST_BUCKETS].copy()

    def percentiles(self, wanted: list[float]) -> list[int]:
        """For each p the value in ns at or below which p per cent of the values lie (rank ceil(p/100 * n), at least 1),
        all of one consistent copy.

        Not below the exact one and at most 2^-7 above it (the last bucket answers the greatest value); 0 where empty.
        """
        counts = np.cumsum(self.buckets())
        total = int(counts[-1])
        if total == 0:
            return [0] * len(wanted)
        # exact: 99.9 % of 20000 is rank 19980, in floats it would be 19981
        ranks = [max(1, ceil(Fraction(str(p)) * total / 100)) for p in wanted]
        found = [int(np.searchsorted(counts, min(rank, total))) for rank in ranks]
        top = self.max
        return [top if b == HIST_BUCKETS - 1 else min(int(bucket_high(b)), top) for b in found]

    def reset(self) -> None:
        """Writer only."""
        self._words[self._at : self._at + HISTOGRAM.WORDS] = 0


class Metrics:
    """All counters and histograms of one process; created by it, attached by anybody."""

    def __init__(self, process: str, segment: Segment) -> None:
        self.process = process
        self.segment = segment
        self.words = segment.words
        self._counters: dict[str, int] = {}
        self._hists: dict[str, int] = {}
        self._read_names()

    @classmethod
    def create(cls, instance: str, process: str) -> Metrics:
        """Creates or takes over ``metrics.<process>``; raises as ``Segment.create``."""
        name = segment_name(instance, _WHAT + process)
        segment = Segment.create(name, size_words=METRICS.END, kind=METRICS.KIND, instance=instance)
        segment.set_ready()
        return cls(process, segment)

    @classmethod
    def attach(cls, instance: str, process: str) -> Metrics:
        """Read-only; raises SegmentMissing, SegmentMismatch. Also works after the process is dead."""
        segment = Segment.attach(segment_name(instance, _WHAT + process), kind=METRICS.KIND, instance=instance)
        return cls(process, segment)

    @classmethod
    def attach_all(cls, instance: str) -> dict[str, Metrics]:
        """Every process's metrics by name; what is being created or removed meanwhile is left out."""
        prefix = segment_name(instance, _WHAT + "x")[:-1]
        found: dict[str, Metrics] = {}
        for name in list_segments(instance):
            if name.startswith(prefix):
                try:
                    found[name[len(prefix) :]] = cls.attach(instance, name[len(prefix) :])
                except SegmentMissing:
                    continue
        return found

    @classmethod
    def private(cls, process: str = "private") -> Metrics:
        """Metrics in this process's own memory (replay, tests): nothing is shared, nothing is left behind."""
        segment = Segment("", np.zeros(METRICS.END, np.int64), lock_fd=-1, inode=0, taken_over=False)
        return cls(process, segment)

    def counter(self, label: str, doc: str = "") -> int:
        """Index of the counter named ``label`` (at most 48 bytes), made if new. Writer only; not on the hot path."""
        return self._named(label, doc, self._counters, METRICS.counter_count, METRICS.counter_names, COUNTER_CAPACITY)

    def histogram(self, label: str, doc: str = "") -> int:
        """Index of the histogram named ``label``, made if new. Writer only."""
        return self._named(label, doc, self._hists, METRICS.hist_count, METRICS.hist_names, HISTOGRAM_CAPACITY)

    def _named(self, label: str, doc: str, known: dict[str, int], count_off: int, names_off: int, capacity: int) -> int:
        found = known.get(label)
        if found is not None:
            return found
        if not label or len(label.encode()) > METRIC_LABEL_WORDS * 8 or "\0" in label:
            raise ShmError(f"a label has 1 to {METRIC_LABEL_WORDS * 8} bytes: {label!r}")
        index = int(load_relaxed(self.words, count_off))
        if index >= capacity:
            raise ShmError(f"no room for {label!r}: all {capacity} names are taken")
        at = names_off + index * METRIC_NAME.WORDS
        self.words[at : at + METRIC_LABEL_WORDS] = pack_text(label, METRIC_LABEL_WORDS)
        self.words[at + METRIC_LABEL_WORDS : at + METRIC_NAME.WORDS] = pack_text(doc, METRIC_DOC_WORDS)
        store_release(self.words, count_off, index + 1)  # SYNC metrics.count: release; pairs with _read_names
        known[label] = index
        return index

    def _read_names(self) -> None:
        for known, count_off, names_off, capacity in (
            (self._counters, METRICS.counter_count, METRICS.counter_names, COUNTER_CAPACITY),
            (self._hists, METRICS.hist_count, METRICS.hist_names, HISTOGRAM_CAPACITY),
        ):
            count = min(int(load_acquire(self.words, count_off)), capacity)  # SYNC metrics.count: acquire
            for index in range(len(known), count):
                at = names_off + index * METRIC_NAME.WORDS
                known[unpack_text(self.words[at : at + METRIC_LABEL_WORDS])] = index

    def _doc(self, names_off: int, index: int) -> str:
        at = names_off + index * METRIC_NAME.WORDS
        return unpack_text(self.words[at + METRIC_LABEL_WORDS : at + METRIC_NAME.WORDS])

    def inc(self, index: int, n: int = 1) -> None:
        """Adds ``n`` to the counter whose index :meth:`counter` gave. Writer only; the index is not checked."""
        inc(self.words, 0, index, n)

    def set(self, index: int, value: int) -> None:
        """Sets the counter of that index, as a gauge is set. Writer only; the index is not checked."""
        set_gauge(self.words, 0, index, value)

    def record(self, hist_index: int, value_ns: int) -> None:
        """Records into the histogram whose index :meth:`histogram` gave. Writer only; the index is not checked."""
        hist_record(self.words, 0, hist_index, value_ns)

    def value(self, label: str) -> int:
        """Current value; 0 for a label that does not exist (yet)."""
        self._read_names()
        index = self._counters.get(label)
        return 0 if index is None else int(get_counter(self.words, 0, index))

    def counters(self) -> dict[str, int]:
        """All counters by label."""
        self._read_names()
        values = self.words[METRICS.counters : METRICS.counters + len(self._counters)].tolist()
        return {label: values[index] for label, index in self._counters.items()}

    def histograms(self) -> dict[str, Histogram]:
        """Views of all histograms by label."""
        self._read_names()
        return {
            label: Histogram(
                self.words, METRICS.hists + index * HISTOGRAM.WORDS, label, self._doc(METRICS.hist_names, index)
            )
            for label, index in self._hists.items()
        }

    def docs(self) -> dict[str, str]:
        """Help text by counter label."""
        self._read_names()
        return {label: self._doc(METRICS.counter_names, index) for label, index in self._counters.items()}

    def close(self) -> None:
        """Gives up the ownership, if it is ours; values stay for readers and for the next life of the process."""
        self.segment.close()


class MetricsViews:
    """Metrics of an instance's processes for who looks again and again: attached once, and anew where replaced."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._attached: dict[str, Metrics] = {}

    def counters(self, process: str) -> dict[str, int]:
        """All counters of a process by label; {} where it has none that can be read."""
        known = self._attached.get(process)
        if known is None or not known.segment.is_current():
            if known is not None:
                del self._attached[process]
                known.close()
            try:
                known = self._attached[process] = Metrics.attach(self._instance, process)
            except ShmError:  # not there yet, or being replaced: the next look finds it
                return {}
        return known.counters()

    def close(self) -> None:
        """Release what is attached."""
        while self._attached:
            self._attached.popitem()[1].close()
