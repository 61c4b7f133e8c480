"""The goals of the suite, next to its figures: which are met on this host, which are missed, which nothing measures.

A goal is a ratio to a floor, or to what users would pick, of one run; only where nothing stands beside a case is it a
number of ns, s, MB or per cent. What a floor makes impossible on a host is missed there, and shown as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from bench.report import OURS, Report, Row


@dataclass(frozen=True, slots=True)
class Goal:
    """``case``: a pattern. ``beside``: whose figure divides ours; "" = ours alone, in its unit. At most ``bound`` times
    it and ``plus_ns`` more; ``faster``: ours takes at most the ``bound``-th part of it."""

    bench: str
    case: str
    beside: str
    bound: float
    plus_ns: float = 0.0
    faster: bool = False

    def wanted(self, unit: str) -> str:
        """In words."""
        if not self.beside:
            return f"at most {self.bound:g} {unit}".rstrip()
        if self.faster:
            return f"at least {self.bound:g}x faster than {self.beside}"
        more = f" and {self.plus_ns:g} ns" if self.plus_ns else ""
        return f"at most {self.bound:g}x {self.beside}{more}"


GOALS = (
    Goal("books", "*", "C floor B", 1.3, plus_ns=200.0),
    Goal("books", "*", "ccxt.pro", 15.0, faster=True),
    Goal("mexc", "*", "google protobuf", 9.0, faster=True),
    Goal("hop", "round trip, 64 B", "C slot ring", 1.1),
    Goal("hop", "*Python at one end", "C slot ring", 2.0),
    Goal("hop", "*Python at one end", "multiprocessing.Pipe", 60.0, faster=True),
    Goal("hop", "*Python at one end", "multiprocessing.SimpleQueue", 60.0, faster=True),
    Goal("detection", "check, *", "C", 1.2),
    Goal("detection", "check, *lines dirty", "", 120.0),
    Goal("scan", "*", "C", 1.5),
    Goal("scan", "*", "numpy", 25.0, faster=True),
    Goal("orders", "whole, *", "two writes", 2.0),
    Goal("orders", "whole, *, TLS", "two SSL_write", 1.3),
    Goal("log", "record, in jit", "", 10.0),
    Goal("log", "record, from Python", "", 250.0),
    Goal("log", "record, from Python", "logging.FileHandler", 30.0, faster=True),
    Goal("symbols", "from Python, *", "", 60.0),
    Goal("symbols", "*", "ccxt market()", 5.0, faster=True),
    Goal("start", "warm start, to READY", "", 2.0),
    Goal("start", "first start ever, to READY", "", 15.0),
    Goal("start", "memory of feed.*", "", 30.0),
    Goal("start", "parked pipeline, *", "", 2.0),
)

#: Goals that no bench measures, and what is missing.
NOT_MEASURED = {
    "parse and book, eight frames and more in one call": "a bench that reads batches",
    "receive, parse and book at line rate, plain and TLS": "sockets in front of the books bench",
    "MEXC push at most 1.5x C": "a C floor beside the mexc bench",
    "tick to order, wire to wire": "a venue process in C that stamps both ends",
    "20 venues x 1000 messages/s without drop or backlog": "a bench of load and overload",
    "time per message flat to 500 instruments and 20 venues": "many symbols in the books bench",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One goal in one case. ``met`` None: nothing was measured."""

    name: str
    wanted: str
    found: str
    met: bool | None


def judged(report: Report) -> list[Outcome]:
    """Every goal of the benches that ran, in the order of the list, then the goals that no bench measures."""
    ran = {row.bench for row in report.rows} | report.skipped.keys()
    found = [outcome for goal in GOALS if goal.bench in ran for outcome in _outcomes(goal, report)]
    return found + [Outcome(name, "", f"wants {what}", None) for name, what in NOT_MEASURED.items()]


def _outcomes(goal: Goal, report: Report) -> list[Outcome]:
    cases = [
        row
        for row in report.rows
        if row.bench == goal.bench and row.who == OURS and row.rounds_ns and fnmatchcase(row.case, goal.case)
    ]
    if not goal.beside and cases:
        return [_outcome(goal, ours, None) for ours in cases]
    rows = {(row.bench, row.case, row.who): row for row in report.rows if row.rounds_ns}
    pairs = [(ours, rows.get((ours.bench, ours.case, goal.beside))) for ours in cases]
    measured = [_outcome(goal, ours, beside) for ours, beside in pairs if beside is not None]
    if measured:
        return measured
    why = report.skipped.get(goal.bench, "not in this run" + (": --peers" if goal.faster else ""))
    return [Outcome(f"{goal.bench}: {goal.case}", goal.wanted(""), why, None)]


def _outcome(goal: Goal, ours: Row, beside: Row | None) -> Outcome:
    name, wanted, figure = f"{ours.bench}: {ours.case}", goal.wanted(ours.unit), ours.round_ns
    if beside is None:
        return Outcome(name, wanted, f"{figure:.3g} {ours.unit}", figure <= goal.bound)
    if goal.faster:
        times = beside.round_ns / figure
        return Outcome(name, wanted, f"{times:.3g}x", times >= goal.bound)
    found = f"{figure / beside.round_ns:.3g}x"
    if goal.plus_ns:
        found += f" ({figure:.0f} ns, at most {goal.bound * beside.round_ns + goal.plus_ns:.0f})"
    return Outcome(name, wanted, found, figure <= goal.bound * beside.round_ns + goal.plus_ns)


_WORDS = {True: "met", False: "MISSED", None: "not measured"}


def table(outcomes: list[Outcome]) -> str:
    """As text, a line a goal."""
    lines = [(_WORDS[o.met], o.name, o.found, o.wanted) for o in outcomes]
    widths = [max(len(line[k]) for line in lines) for k in range(3)]
    shown = ["  ".join([*(c.ljust(w) for c, w in zip(line[:3], widths, strict=True)), line[3]]) for line in lines]
    missed = sum(o.met is False for o in outcomes)
    return "\n".join([*shown, f"{missed} goals missed, {sum(o.met is True for o in outcomes)} met"])


def missed(outcomes: list[Outcome]) -> bool:
    """Whether any measured goal is not met."""
    return any(outcome.met is False for outcome in outcomes)


def none_judged(outcomes: list[Outcome]) -> bool:
    """Whether no goal was measured at all: such a run says nothing."""
    return all(outcome.met is None for outcome in outcomes)
