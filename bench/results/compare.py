"""Two runs of the suite, each case by its ratio to its floor: what got worse, what got better, beyond the noise.

Figures in ns of two runs say more of the two minutes than of the two commits; a floor ran in the same minutes. A case
is worse where its ratio grew by more than ``SAME`` and no round of the new run is as good as the worst of the old one;
runs of fewer than ``ROUNDS_MIN`` rounds judge nothing.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.report import FLOOR, OURS
from bench.settings import BadFile

SAME = 1.1
ROUNDS_MIN = 3  # of each run: a single round says nothing of the noise
WORSE, BETTER = "WORSE", "better"
NOTHING_JUDGED = f"NOTHING WAS JUDGED: found no case of both runs with a floor and {ROUNDS_MIN} rounds"


class Measured(msgspec.Struct):
    """A row of a report's ``measured``; other fields are left aside."""

    bench: str
    case: str
    who: str
    role: str
    rounds_ns: list[float]


class Host(msgspec.Struct):
    commit: str
    fingerprint: str


class Run(msgspec.Struct):
    """A report's JSON, as ``--out`` writes it."""

    host: Host
    measured: list[Measured]

    def ratios(self) -> dict[str, list[float]]:
        """Case -> ours over its floor, round by round; none where it has no floor."""
        ours = {(row.bench, row.case): row for row in self.measured if row.who == OURS}
        floors = {(row.bench, row.case): row for row in self.measured if row.who != OURS and row.role == FLOOR}
        found = {}
        for (bench, case), row in ours.items():
            floor = floors.get((bench, case))
            if floor is not None and row.rounds_ns and all(floor.rounds_ns):
                found[f"{bench}: {case}"] = [a / b for a, b in zip(row.rounds_ns, floor.rounds_ns, strict=False)]
        return found

    def without_floor(self) -> list[str]:
        """Cases of ours that nothing stands beside: they cannot be compared with another minute's."""
        ours = {f"{row.bench}: {row.case}" for row in self.measured if row.who == OURS}
        return sorted(ours - self.ratios().keys())


def read(path: Path) -> Run:
    """Raises BadFile."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadFile(
            f"{path}: found {error}; wanted the JSON of a run of this suite: arb bench --json > {path.name}"
        ) from None


@dataclass(frozen=True, slots=True)
class Change:
    """One case of both runs."""

    case: str
    old: list[float]
    new: list[float]

    @property
    def factor(self) -> float:
        """The new ratio over the old one, by their medians."""
        return statistics.median(self.new) / statistics.median(self.old)

    @property
    def judged(self) -> bool:
        """Whether both runs have the rounds for it."""
        return min(len(self.old), len(self.new)) >= ROUNDS_MIN

    @property
    def verdict(self) -> str:
        """``WORSE``, ``BETTER``, or "" within the noise."""
        if not self.judged:
            return ""
        if self.factor > SAME and min(self.new) > max(self.old):
            return WORSE
        if self.factor < 1 / SAME and max(self.new) < min(self.old):
            return BETTER
        return ""


def changes(old: Run, new: Run) -> list[Change]:
    """Every case that both have measured beside a floor."""
    before, now = old.ratios(), new.ratios()
    return [Change(case, before[case], now[case]) for case in now if case in before]


def table(old: Run, new: Run, found: list[Change]) -> str:
    """As text: medians of the ratios, their smallest and largest in brackets."""
    lines = [("case", "old", "new", "new/old", "")]
    lines += [(c.case, _shown(c.old), _shown(c.new), f"{c.factor:.2f}", c.verdict) for c in found]
    widths = [max(len(line[k]) for line in lines) for k in range(4)]
    text = ["  ".join([*(c.ljust(w) for c, w in zip(line[:4], widths, strict=True)), line[4]]) for line in lines]
    alone = sorted(new.ratios().keys() ^ old.ratios().keys())
    text += [f"note: only one run has {case}" for case in alone]
    text += [f"note: nothing beside it, not compared: {case}" for case in left_out(old, new)]
    if old.host.fingerprint != new.host.fingerprint:
        text.append(f"note: other hosts: {old.host.fingerprint} and {new.host.fingerprint}")
    if not all(change.judged for change in found):
        text.append(f"note: fewer than {ROUNDS_MIN} rounds in a run: its cases are shown and not judged")
    worse, judged = sum(change.verdict == WORSE for change in found), sum(change.judged for change in found)
    said = f"{worse} of {judged} cases are worse" if judged else NOTHING_JUDGED
    return "\n".join([*text, f"{said}, from {old.host.commit} to {new.host.commit}"])


def left_out(old: Run, new: Run) -> list[str]:
    """Cases that no comparison looks at, because nothing stands beside them in one of the runs."""
    return sorted({*old.without_floor(), *new.without_floor()})


def _shown(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}x [{min(ratios):.2f}-{max(ratios):.2f}]"
