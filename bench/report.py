"""Rows of measurements, the table, the JSON: what was measured, on what, with which result.

A row's values go through the engine's own histogram (``shm.metrics``: buckets at most 0.8 % wide, max exact). A sample
may span several operations (``per``); then percentiles are those of the means over ``per`` operations, and say so.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np

from bench.settings import REPO, BenchFailed
from shm.atomics import mono_ns
from shm.jit import njit
from shm.layout import HIST_SUB, HISTOGRAM
from shm.metrics import Histogram, bucket_high, hist_record_at
from shm.words import Words

PERCENTILES = [50.0, 90.0, 99.0, 99.9]
OURS = "ours"
FLOOR, PEER = "floor", "peer"  # what a row beside ours is: a lower bound, or what users would pick
CLOCK_PAIRS = 10_000
CPU_FLAGS = {"avx2", "avx512f", "sha_ni", "aes", "constant_tsc", "hypervisor"}  # that kernels and floors are made for
_HEAD = ("bench", "case", "who", "unit", "n", "per", "p50", "p90", "p99", "p99.9", "max", "round", "ours/", "result")


@njit
def record_all(hist: Words, samples: Words) -> None:
    """Every sample (ns) into the histogram at word 0 of ``hist``."""
    for value in samples:
        hist_record_at(hist, 0, value)


@njit
def clock_pairs(samples: Words) -> None:
    """The clock's own cost in jit: two reads with nothing between."""
    for k in range(len(samples)):
        start = mono_ns()
        samples[k] = mono_ns() - start


def clock_note() -> str:
    """What a pair of clock reads costs; it is inside every sample."""
    jitted = np.zeros(CLOCK_PAIRS, dtype=np.int64)
    clock_pairs(jitted)
    clock = time.monotonic_ns
    plain = []
    for _ in range(CLOCK_PAIRS):
        start = clock()
        plain.append(clock() - start)
    return f"two clock reads, inside every sample: {np.mean(jitted):.0f} ns in jit, {np.mean(plain):.0f} ns from Python"


@dataclass(slots=True)
class Row:
    """One implementation in one case.

    ``rounds_ns``: one figure a round, ns per operation; ``figure`` says which (``mean``, ``mean CPU``,
    ``p50``). Ratios are made of their medians. Where ``unit`` is not ns, a sample is a whole number of ``unit / per``.
    ``role``: what a row is beside ours; where a case has several floors, the last one is the goal's.
    """

    bench: str
    case: str
    who: str
    per: int = 1
    result: str = ""
    words: Words = field(default_factory=lambda: np.zeros(HISTOGRAM.WORDS, dtype=np.int64))
    figure: str = "mean"
    unit: str = "ns"
    role: str = FLOOR
    rounds_ns: list[float] = field(default_factory=list)

    def add(self, samples: Words) -> None:
        """Samples of one round, int64 of shape (n,), ns each (over ``per`` operations)."""
        record_all(self.words, samples)

    def add_round(self, samples: Words) -> None:
        """:meth:`add`, where the samples (int64 of shape (n,)) also give the round's figure."""
        self.add(samples)
        figure = np.median(samples) if self.figure == "p50" else samples.mean()
        self.rounds_ns.append(float(figure) / self.per)

    @property
    def hist(self) -> Histogram:
        """All samples of all rounds."""
        return Histogram(self.words, 0)

    def check(self, result: str) -> None:
        """Every round must give the same result."""
        if self.result and self.result != result:
            raise BenchFailed(f"{self.bench} {self.case} {self.who}: result changed from {self.result} to {result}")
        self.result = result

    @property
    def round_ns(self) -> float:
        """Median of the rounds' figures, ns per operation."""
        return statistics.median(self.rounds_ns) if self.rounds_ns else 0.0

    def numbers(self) -> dict[str, float]:
        """ns per operation."""
        found = [value / self.per for value in self.hist.percentiles(PERCENTILES)]
        return {**{f"p{p:g}": v for p, v in zip(PERCENTILES, found, strict=True)}, "max": self.hist.max / self.per}


@dataclass(slots=True)
class Report:
    """All rows of a run, and what was left out."""

    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def ratio(self, row: Row) -> float | None:
        """Ours over ``row`` in its case, by their rounds; None for ours itself."""
        if row.who == OURS or row.round_ns <= 0:
            return None
        ours = next((r for r in self.rows if (r.bench, r.case, r.who) == (row.bench, row.case, OURS)), None)
        return ours.round_ns / row.round_ns if ours is not None else None

    def table(self) -> str:
        """The rows as text, per operation."""
        lines = [_HEAD, *(self._cells(row) for row in self.rows)]
        widths = [max(len(line[k]) for line in lines) for k in range(len(_HEAD))]
        text = [
            "  ".join(c.ljust(w) if k < 4 else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
            for line in lines
        ]
        text += [f"skipped {name}: {why}" for name, why in self.skipped.items()]
        return "\n".join([*text, *(f"note: {note}" for note in self.notes)])

    def _cells(self, row: Row) -> tuple[str, ...]:
        ratio = self.ratio(row)
        shown = [_ns(value) for value in row.numbers().values()]
        tail = (_ns(row.round_ns), f"{ratio:.2f}x" if ratio is not None else "", row.result)
        return (row.bench, row.case, row.who, row.unit, str(row.hist.count), str(row.per), *shown, *tail)

    def json(self) -> dict[str, object]:
        """Everything, with the host."""
        measured = [
            {
                "bench": row.bench,
                "case": row.case,
                "who": row.who,
                "role": row.role,
                "n": row.hist.count,
                "operations_per_sample": row.per,
                "ns": row.numbers(),
                "round_figure": row.figure,
                "round_ns": row.round_ns,
                "rounds_ns": row.rounds_ns,
                "unit": row.unit,
                "ours_over_this": self.ratio(row),
                "result": row.result,
            }
            for row in self.rows
        ]
        rows = [self._joined(row) for row in self.rows if row.who == OURS]
        return {"host": host(), "rows": rows, "measured": measured, "skipped": self.skipped, "notes": self.notes}

    def _joined(self, ours: Row) -> dict[str, object]:
        """One case: ours, the floor that its goal is set against, the peers. Ratios by the rounds' figures."""
        beside = [row for row in self.rows if (row.bench, row.case) == (ours.bench, ours.case) and row.who != OURS]
        floor = next((row for row in reversed(beside) if row.role == FLOOR), None)
        numbers = ours.numbers()
        ratio = self.ratio(floor) if floor is not None else None
        peers = {
            row.who: {"p50": row.numbers()["p50"], "ratio": None if not (r := self.ratio(row)) else 1 / r}
            for row in beside
            if row.role == PEER
        }
        return {
            "name": f"{ours.bench}: {ours.case}",
            "unit": ours.unit,
            "p50": numbers["p50"],
            "p90": numbers["p90"],
            "p99": numbers["p99"],
            "p999": numbers["p99.9"],
            "max": numbers["max"],
            "n": ours.hist.count,
            "floor_p50": None if floor is None else floor.numbers()["p50"],
            "ratio_to_floor": ratio,
            "peers": peers,
            "check": ours.result,
        }


def hgrm(row: Row) -> str:
    """A row's histogram in the text form of HdrHistogram, which its plotters read; values per operation."""
    counts = row.hist.buckets()
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    total, seen, mean, squares = row.hist.count, 0, row.hist.mean / row.per, 0.0
    for bucket in np.flatnonzero(counts):
        count = int(counts[bucket])
        seen += count
        value, part = min(int(bucket_high(int(bucket))), row.hist.max) / row.per, seen / total
        squares += count * (value - mean) ** 2
        tail = f"{1 / (1 - part):>14.2f}" if seen < total else ""
        lines.append(f"{value:>12.3f} {part:>14.12f} {seen:>10} {tail}".rstrip())
    spread = math.sqrt(squares / max(1, total))
    lines.append(f"#[Mean    = {mean:>12.3f}, StdDeviation   = {spread:>12.3f}]")
    lines.append(f"#[Max     = {row.hist.max / row.per:>12.3f}, Total count    = {total:>12}]")
    return "\n".join([*lines, f"#[Buckets = {len(counts):>12}, SubBuckets     = {HIST_SUB:>12}]", ""])


def _ns(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _first_line(path: str, prefix: str = "") -> str:
    try:
        lines: Iterable[str] = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() if prefix else line for line in lines if line.startswith(prefix)), "")


def commit() -> str:
    """The checkout's commit, ``+`` behind it where files that can run differ from it."""
    try:
        run = ["git", "-C", str(REPO)]
        head = subprocess.run([*run, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        paths = ["--", "shm", "pipeline", "bench"]
        dirty = subprocess.run([*run, "status", "--porcelain", *paths], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if dirty.stdout.strip() else "")


def host() -> dict[str, object]:
    """What the numbers depend on. ``fingerprint``: the same where figures of two runs may be compared at all."""
    flags = set(_first_line("/proc/cpuinfo", "flags").split())
    same = {
        "cpu": _first_line("/proc/cpuinfo", "model name"),
        "cpu_flags": sorted(flags & CPU_FLAGS),
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "numba": metadata.version("numba"),
        "numpy": metadata.version("numpy"),
    }
    return {
        "commit": commit(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load_average": list(os.getloadavg()),
        **same,
        "fingerprint": hashlib.blake2b(repr(same).encode(), digest_size=4).hexdigest(),
    }
