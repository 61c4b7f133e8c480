"""Is a quantity level per operation? Over samples of several lives, with an honest error.

A life is one process from its start to its end: each has its own height, all share the slope. It is the median of the
slopes of all pairs of samples of one life (Theil and Sen): memory goes up in steps, and one of 2 MB (the first pages of
an edge that a feed has seen) is a steep line to least squares, while a leak goes on. Neighbouring samples are alike, so
that they count as fewer than they are: the error is widened by the residuals' correlation.

What a soak judges, and why so:

* Memory is ``RssAnon``. Processes are forked from a warmed parent: a page that one of them writes to (a reference count
  is enough) is unshared from the parent and in its USS from then on, which is no growth (a level detector's USS went
  from 9.8 to 13.7 MB in two minutes, 3.3 MB of it in one step, its anonymous pages by 0.07 MB). Pages of segments and
  of the journal are of fixed size and shared.
* A life counts after ``WARM_S``. Kills end early enough for a last life of each process that is much longer.
* An operation stays in memory for a while after it has ended, in the executor and in the recorder (whose fold writes
  checkpoints): twenty minutes, here ``HELD_S``, so that a run sees them leave. Their memory is fitted to the operations
  that they hold (by least squares) and to all that ever were.
* A slope that is not steeper than its bound only because its error is large proves nothing: it fails, as does a
  process of a run of ``JUDGED_S`` or more that no slope judges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
SAMPLES_MIN = 6  # of a life that counts
WARM_S = 120.0  # of a life that does not count: books, pools and buffers, the first of everything
JUDGED_S = 900.0  # a run that long has a life of each process to judge
HOLDS_OPERATIONS = ("executor", "recorder")
HELD_S = 240.0  # how long an ended operation stays in memory here
BYTES_PER_OPERATION = 400.0  # 600 MB after a million operations, less what a process weighs
LEVEL_BYTES_PER_OPERATION = 50.0  # of a process that holds nothing an operation, where it goes on:
TOUCHED_BYTES = 2e6  # pages of preallocated arrays that are written for the first time come to an end
HELD_BYTES = 40_000.0  # while in memory: measured are 15,000 without faults, and twice the records with them
DESCRIPTORS_PER_OPERATION = 0.001
SEGMENT_BYTES_PER_OPERATION = 1.0


@dataclass(frozen=True, slots=True)
class Slope:
    """``value`` +- ``error`` (one standard error) per unit of its regressor, by ``samples`` of ``lives``; ``span``: of
    the regressor, what the longest one has seen."""

    value: float
    error: float
    samples: int
    lives: int
    span: float = 0.0

    @property
    def least(self) -> float:
        """What it is at least: two errors are its due."""
        return self.value - 2 * self.error

    def at_most(self, bound: float) -> bool:
        """Whether it is not proved to be more than ``bound``."""
        return self.least <= bound

    def tells(self, bound: float) -> bool:
        """Whether the samples could have proved a slope of twice ``bound``: its error is small enough."""
        return 2 * self.error <= bound


def slopes(lives: Sequence[tuple[Matrix, Matrix]]) -> list[Slope] | None:
    """Slopes of a quantity, one per regressor: of the first by the pairs, of others by least squares. ``lives``:
    (regressors [samples, k], quantity [samples]) of each life.

    None where the samples cannot tell: too few of them, or regressors that move alone or alike.
    """
    kept = [(x, y) for x, y in lives if len(y) >= SAMPLES_MIN]
    if not kept:
        return None
    x = np.concatenate([part - part.mean(axis=0) for part, _ in kept])
    y = np.concatenate([part - part.mean() for _, part in kept])
    samples, count = x.shape
    freedom = samples - len(kept) - count
    scale = np.sqrt((x * x).sum(axis=0))
    if freedom < 1 or not scale.all():
        return None
    square = (x / scale).T @ (x / scale)
    if np.linalg.cond(square) > 1e4:
        return None
    inverse = np.linalg.inv(square)
    found = inverse @ ((x / scale).T @ y)
    rests = y - (x / scale) @ found
    variance = float(rests @ rests) / freedom
    alike = _neighbours(rests, [len(part) for _, part in kept])
    errors = np.sqrt(np.diag(inverse) * variance * (1 + alike) / (1 - alike))
    squares = [
        Slope(float(value / unit), float(error / unit), samples, len(kept))
        for value, error, unit in zip(found, errors, scale, strict=True)
    ]
    others = np.array([slope.value for slope in squares[1:]])
    first = _by_pairs([(part[:, 0], values - part[:, 1:] @ others) for part, values in kept])
    return None if first is None else [first, *squares[1:]]


def _by_pairs(lives: Sequence[tuple[Matrix, Matrix]]) -> Slope | None:
    """The median slope of all pairs of samples of one life, and its standard error by the ranks (P. K. Sen, Estimates
    of the regression coefficient based on Kendall's tau, 1968). None where nothing moves."""
    pairs: list[Matrix] = []
    spread = 0.0
    for x, y in lives:
        i, j = np.triu_indices(len(x), 1)
        moved = x[j] != x[i]
        pairs.append((y[j] - y[i])[moved] / (x[j] - x[i])[moved])
        spread += len(x) * (len(x) - 1) * (2 * len(x) + 5) / 18
    ordered = np.sort(np.concatenate(pairs))
    if not len(ordered):
        return None
    value = float(np.median(ordered))
    rests = np.concatenate([y - value * x - np.median(y - value * x) for x, y in lives])
    alike = _neighbours(rests, [len(x) for x, _ in lives])
    half = min(len(ordered) - 1, np.sqrt(spread * (1 + alike) / (1 - alike))) / 2
    middle = (len(ordered) - 1) / 2
    low, high = ordered[int(np.floor(middle - half))], ordered[int(np.ceil(middle + half))]
    span = max(float(x.max() - x.min()) for x, _ in lives)
    return Slope(value, float(high - low) / 2, len(rests), len(lives), span)


def _neighbours(rests: Matrix, lengths: list[int]) -> float:
    """Correlation of a residual with the one before it in the same life, 0 to 0.95."""
    total, at = 0.0, 0
    for length in lengths:
        part = rests[at : at + length]
        total += float(part[1:] @ part[:-1])
        at += length
    power = float(rests @ rests)
    return min(0.95, max(0.0, total / power)) if power else 0.0


# --- samples of an instance ---


@dataclass(slots=True)
class Sample:
    """Resources of the instance at one moment. ``processes``: name -> (pid, bytes of its own, descriptors)."""

    at_s: float
    operations: int
    processes: dict[str, tuple[int, int, int]]
    segments: int
    segment_bytes: int


def own_bytes(pid: int) -> int:
    """Anonymous memory of a process, shared with the process that it was forked from or not. Raises OSError."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0  # it is a zombie


MEMORY, HELD, DESCRIPTORS = "bytes an operation", "bytes an operation in memory", "descriptors an operation"
SEGMENTS, SEGMENT_BYTES = "segments an operation", "bytes of segments an operation"
BOUNDS = {
    MEMORY: BYTES_PER_OPERATION,
    HELD: HELD_BYTES,
    DESCRIPTORS: DESCRIPTORS_PER_OPERATION,
    SEGMENTS: DESCRIPTORS_PER_OPERATION,
    SEGMENT_BYTES: SEGMENT_BYTES_PER_OPERATION,
}


def too_steep(key: tuple[str, str], slope: Slope) -> str:
    """Why a slope is not as it must be, or ""."""
    (process, what), bound = key, BOUNDS[key[1]]
    found = f"{process}: {slope.value:.5f} +- {slope.error:.5f} {what}"
    if not slope.at_most(bound):
        return f"{found}, wanted at most {bound}"
    grown, holds_nothing = slope.least * slope.span, what == MEMORY and process not in HOLDS_OPERATIONS
    if holds_nothing and grown > TOUCHED_BYTES and not slope.at_most(LEVEL_BYTES_PER_OPERATION):
        more = f"{grown / 1e6:.1f} MB in one life"
        return f"{found}, {more}: wanted at most {LEVEL_BYTES_PER_OPERATION}, as it holds nothing an operation"
    hidden = what in (MEMORY, HELD) and not slope.tells(bound)
    return f"{found}: too uncertain to see {bound}; run longer" if hidden else ""


def unjudged(samples: list[Sample], levels: dict[tuple[str, str], Slope], seconds: float) -> list[str]:
    """Processes of a long run whose memory no slope judges: none of their lives was long enough."""
    names = sorted({name for sample in samples for name in sample.processes}) if seconds >= JUDGED_S else []
    return [f"{name}: no life was long enough to judge its memory" for name in names if (name, MEMORY) not in levels]


def levels_of(samples: list[Sample]) -> dict[tuple[str, str], Slope]:
    """Slopes of every process's memory and descriptors and of the segments; those that the samples can tell."""
    held = _held(samples)
    lives: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, sample in enumerate(samples):
        for name, (pid, _, _) in sample.processes.items():
            lives[name][pid].append(number)
    found: dict[tuple[str, str], Slope] = {}
    for name, by_pid in lives.items():
        rows = []
        for pid, numbers in by_pid.items():
            warm_s = samples[numbers[0]].at_s + WARM_S
            kept = [number for number in numbers if samples[number].at_s >= warm_s]
            if len(kept) >= SAMPLES_MIN:
                rows.append((pid, kept))
        _fit_process(found, name, samples, held, [kept for _, kept in rows])
    total = np.array([[float(s.operations)] for s in samples])
    for what, values in (
        (SEGMENTS, [float(s.segments) for s in samples]),
        (SEGMENT_BYTES, [float(s.segment_bytes) for s in samples]),
    ):
        fitted = slopes([(total, np.array(values))]) if samples else None
        if fitted is not None:
            found["instance", what] = fitted[0]
    return found


def _fit_process(
    found: dict[tuple[str, str], Slope], name: str, samples: list[Sample], held: list[float], lives: list[list[int]]
) -> None:
    """Adds the slopes of one process; ``lives``: numbers of the samples of each."""

    def parts(columns: Callable[[int], list[float]], value: int) -> Slopes:
        return slopes(
            [
                (
                    np.array([columns(i) for i in life]),
                    np.array([float(samples[i].processes[name][value]) for i in life]),
                )
                for life in lives
            ]
        )

    total: Callable[[int], list[float]] = lambda i: [float(samples[i].operations)]  # noqa: E731
    descriptors = parts(total, 2)
    if descriptors is not None:
        found[name, DESCRIPTORS] = descriptors[0]
    if name not in HOLDS_OPERATIONS:
        memory = parts(total, 1)
        if memory is not None:
            found[name, MEMORY] = memory[0]
        return
    both = parts(lambda i: [float(samples[i].operations), held[i]], 1)
    if both is not None:
        found[name, MEMORY], found[name, HELD] = both
    else:
        alone = parts(lambda i: [held[i]], 1)
        if alone is not None:
            found[name, HELD] = alone[0]


Slopes = list[Slope] | None


def _held(samples: list[Sample]) -> list[float]:
    """Operations that are in memory at each sample: those of the last ``HELD_S``."""
    times = [s.at_s for s in samples]
    counts = [float(s.operations) for s in samples]
    return [
        count - float(np.interp(at_s - HELD_S, times, counts, left=0.0))
        for at_s, count in zip(times, counts, strict=True)
    ]
