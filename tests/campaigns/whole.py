"""The campaigns one after the other, and a table of them at the end: what ran, how much of it, what it found, how long.

    python -m tests.campaigns.whole [whole|slice|processes|orders|long [MINUTES]]

Lanes of a group run side by side, the stages of a lane and the groups one after the other. What takes two cores is
alone, and what measures times of real processes is as well. The lanes are as long as each other by the seconds that
each stage takes on two quiet cores of 2026. The whole has a bound, of 80 minutes or of ``MINUTES``: what it is for
comes first, and a stage that would end behind the bound is not begun; the table says so. How fast this host is, by some
schedules, is said first, and how long the plan takes by that. Each stage's own words are printed when it has ended.
Exit code 1 where a stage has found something or did not run, or where less was done than the plan is for: the last line
names each goal.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.chaos.directed import directed
from tests.paths import REPO
from tests.planted.engine_bugs import MUTANTS
from workers.kills.verdict import Goal, all_met, verdict

PYTHON = sys.executable
ARB = [PYTHON, "-m", "workers"]
Found = tuple[Mapping[str, int], int]  # how much ran, by what it is; how much was wrong with it


@dataclass(frozen=True)
class Stage:
    """``read``: what the output says. ``seconds``: what it takes on two quiet cores of 2026 beside its neighbour."""

    name: str
    command: Sequence[str]
    read: Callable[[str], Found]
    seconds: int = 0


@dataclass(frozen=True)
class Ended:
    """A stage that has run, or was not begun (``cut``: why). ``said``: on its error output."""

    stage: Stage
    code: int
    seconds: float
    output: str
    said: str
    cut: str = ""

    def counts(self) -> Mapping[str, int]:
        """How much ran, by what it is."""
        try:
            return self.stage.read(self.output)[0]
        except (ValueError, KeyError):
            return {}

    def row(self) -> tuple[str, str, str, str]:
        """Of the table."""
        if self.cut:
            return self.stage.name, self.cut, "1", "0"
        try:
            counts, wrong = self.stage.read(self.output)
            count = ", ".join(f"{number:,} {name}" for name, number in counts.items())
        except (ValueError, KeyError):
            count, wrong = "said nothing", 1
        if self.code and not wrong:
            wrong = 1
        return self.stage.name, count, str(wrong), f"{self.seconds:.0f}"


def of_json(*names: str) -> Callable[[str], Found]:
    """Reads the JSON object that a command of ours prints: ``names`` are its counts, one by one or by a kind."""

    def read(output: str) -> Found:
        found = json.loads(output)
        counts = {name: sum(found[name].values()) if isinstance(found[name], dict) else found[name] for name in names}
        return {name.replace("_", " "): count for name, count in counts.items()}, len(found["violations"])

    return read


def of_pytest(what: str = "tests") -> Callable[[str], Found]:
    """Reads pytest's last line."""

    def read(output: str) -> Found:
        sums = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|errors)\b", output)}
        if not sums:
            raise ValueError(output[-200:])
        return {what: sum(sums.values())}, sum(sums.values()) - sums.get("passed", 0)

    return read


def of_fuzz(output: str) -> Found:
    """Reads the last line of the hostile inputs."""
    found = re.search(r"(\d+) inputs in \d+ s, (\d+) findings", output)
    if found is None:
        raise ValueError(output[-200:])
    return {"inputs": int(found[1])}, int(found[2])


def of_verdict(output: str) -> Found:
    """Reads the line of goals that a long measurement ends with: what is missed and what was not seen is wrong."""
    found = re.search(r"^VERDICT .*?: (?:cut, )?(\d+) of (\d+) goals met;", output, re.MULTILINE)
    if found is None:
        raise ValueError(output[-200:])
    met, goals = int(found[1]), int(found[2])
    return {"goals": goals}, goals - met


def of_code(seeds: int) -> Callable[[str], Found]:
    """A command whose exit code says everything, of so many seeds."""
    return lambda output: ({"seeds": seeds}, 0)


def some(seed: int, count: int = 5000) -> Stage:
    """So many random schedules on virtual time from a seed on."""
    command = [*ARB, "chaos", "--seeds", f"{seed}:{seed + count}", "--json"]
    read = of_json("schedules", "orders", "fills", "lives")
    return Stage(f"schedules from {seed} on", command, read, int(count / SCHEDULES_PER_S))


def deaths() -> Stage:
    """The directed schedules, a death at every step of some of them, and pairs of deaths."""
    command = [*ARB, "chaos", "--seeds", "1:1", "--directed", "--crashes", "-1", "--json"]
    return Stage("directed, every death", command, of_json("crash_points", "orders", "fills", "lives"), 125)


def kills(count: int, seed: int, jobs: int) -> Stage:
    """Deaths of real processes."""
    command = [*ARB, "kills", "--count", str(count), "--seed", str(seed), "--jobs", str(jobs), "--json"]
    read = of_json("runs", "kills", "points", "orders")
    return Stage("deaths of real processes", command, read, 30 * count // jobs)


def some_kills() -> Stage:
    """Twenty of them, judged by what does not depend on how fast the host is."""
    command = [PYTHON, "-m", "tests.campaigns.kills"]
    return Stage("twenty deaths of real processes", command, of_json("runs", "kills", "points", "orders"), 80)


def pytest(name: str, *arguments: str, marker: str = "campaign", what: str = "tests", seconds: int = 0) -> Stage:
    """Tests of a marker, each on the next free worker."""
    workers = ["-n", "logical", "--maxprocesses", "2", "--dist", "worksteal"]
    command = [PYTHON, "-m", "pytest", *workers, "-m", marker, *arguments]
    return Stage(name, command, of_pytest(what), seconds)


def broken_instances() -> Stage:
    """The tests of instances that ``scripts/test`` leaves to the campaigns."""
    return pytest("whole instances", "tests/e2e", "bench", marker="slice", seconds=360)


def fuzz(inputs: int, seed: int) -> Stage:
    """Hostile inputs."""
    command = [PYTHON, "-m", "tests.campaigns.fuzz", "--inputs", str(inputs), "--seed", str(seed)]
    return Stage(f"hostile inputs, seed {seed}", command, of_fuzz, inputs // 12_500)


def module(name: str, seeds: int, seconds: int, path: str, *arguments: str) -> Stage:
    """A command that says by its exit code whether its goals are met."""
    return Stage(name, [PYTHON, "-m", path, *arguments], of_code(seeds), seconds)


def judged(name: str, seconds: int, path: str, *arguments: str) -> Stage:
    """A command that names each of its goals in its last line."""
    return Stage(name, [PYTHON, "-m", path, *arguments], of_verdict, seconds)


def storms(*rows: str) -> Stage:
    """Rows of the margin storms on virtual time."""
    options = [word for row in rows for word in ("--row", row)]
    return module(f"margin storms, {len(rows)} rows", 200, 280 * len(rows), "bench.margin_storm", *options)


VIRTUAL = "tests/unit/chaos"
SCHEDULES_PER_S = 8.4  # of one of two quiet cores of 2026
PARTS = 20  # of the slice's schedules, and of its deaths: one test each
PROBE = 40  # schedules by which a host is measured


Lane = list[Stage]
PLANS: dict[str, list[list[Lane]]] = {
    "whole": [
        [
            [some(1), some(5_001), fuzz(5_000_000, 1)],
            [
                deaths(),
                some(10_001),
                some(15_001),
                module("rules of exits", 20, 45, "bench.economics"),
                module("rules of inventory", 5, 200, "bench.inventory"),
            ],
        ],
        [[pytest("planted bugs", "-k", "planted", VIRTUAL, what="planted bugs", seconds=200)]],
        [[kills(60, 1, 3)]],
        [[broken_instances()]],
        [[judged("recovery times, 3 rounds", 300, "tests.campaigns.recovery", "--rounds", "3")]],
        [[module("margin storms, real", 3, 600, "tests.campaigns.storms", "1:4")]],  # of each of two rows
        [
            [storms("3x 10/15/5 fast", "3x 15/20/5 fast", "3x 15/20/5 slow")],
            [storms("10x +25% 20/25/7 fast", "10x +25% 20/25/7 slow", "3x no watch slow")],
        ],
    ],
    "slice": [
        [[pytest("schedules, deaths, planted bugs", VIRTUAL, what="tests on virtual time")]],
        [[fuzz(100_000, 1)], [fuzz(100_000, 2)]],
        [[broken_instances()]],
        [[some_kills()]],
    ],
    "processes": [
        [[pytest("whole instances, rules of money", "--ignore", VIRTUAL, "tests", "bench")]],
        [[kills(5, 100, 2)]],
    ],
    "orders": [
        [[some(seed, 10_000) for seed in range(begin, begin + 40_000, 10_000)] for begin in (20_001, 60_001)],
    ],
    "long": [
        [[judged("what outlives what, pairs", 6_700, "tests.campaigns.outlives")]],
        [[judged("soak, 30 minutes", 1_900, "tests.campaigns.soak", "--minutes", "30")]],
        [[judged("a million operations", 1_400, "bench.growth", "--operations", "1000000")]],
        [[judged("recovery times, 20 rounds", 4_800, "tests.campaigns.recovery")]],
    ],
}
BOUND_S = {"whole": 4_800}  # plan -> within which it ends on two quiet cores
#: Plan -> what it is for: how much of what there must have been at least.
ASKED: dict[str, dict[str, int]] = {
    "whole": {
        "schedules": 20_000,
        "crash points": 1_500,
        "kills": 300,
        "planted bugs": len(MUTANTS),
        "inputs": 5_000_000,
    },
    "slice": {"tests on virtual time": len(MUTANTS) + len(directed()) + 2 * PARTS, "inputs": 200_000, "kills": 20},
    "processes": {"kills": 20},
    "orders": {"orders": 1_000_000},
}


def goals_of(plan: str, ended: Sequence[Ended], seconds: float, bound_s: int | None) -> list[Goal]:
    """What the plan is for, and how much of it was done, by what the stages say; and its bound, where it has one."""
    done = Counter[str]()
    for one in ended:
        done.update(one.counts())
    goals = [
        Goal(f"{least:,} {what}", done[what] >= least, f"{done[what]:,}" * (what in done))
        for what, least in ASKED.get(plan, {}).items()
    ]
    if bound_s:
        goals.append(Goal(f"{bound_s // 60} minutes", seconds <= bound_s, f"{seconds / 60:.0f}"))
    return goals


def planned_s(plan: str) -> int:
    """How long a plan takes on two quiet cores of 2026."""
    return sum(max(sum(stage.seconds for stage in lane) for lane in lanes) for lanes in PLANS[plan])


def pace() -> float:
    """How much longer this host takes than two quiet cores of 2026: by some schedules beside others, less what a
    command takes that plays one."""
    took_s: list[float] = []
    for count in (1, 1, 1 + PROBE):  # the first one may have to compile
        began_s = time.monotonic()
        run_group([[some(1, count)], [some(5_001, count)]], lambda one: None)
        took_s.append(time.monotonic() - began_s)
    return max(1.0, (took_s[2] - took_s[1]) * SCHEDULES_PER_S / PROBE)


def run(stage: Stage) -> Ended:
    """Runs it to its end."""
    began_s = time.monotonic()
    done = subprocess.run(stage.command, cwd=REPO, capture_output=True, text=True)
    return Ended(stage, done.returncode, time.monotonic() - began_s, done.stdout, done.stderr)


def run_group(
    lanes: Sequence[Lane], tell: Callable[[Ended], None], cut: Callable[[Stage], str] = lambda stage: ""
) -> None:
    """Lanes side by side; ``tell`` is called with each stage that has ended, by one thread at a time. ``cut``: why a
    stage is not begun, "" for one that is."""
    turn = threading.Lock()

    def walk(lane: Lane) -> None:
        for stage in lane:
            why = cut(stage)
            ended = Ended(stage, 1, 0.0, "", "", why) if why else run(stage)
            with turn:
                tell(ended)

    threads = [threading.Thread(target=walk, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def table(ended: Sequence[Ended], seconds: float) -> str:
    """Stage, count, violations, seconds."""
    rows = [("stage", "count", "violations", "seconds"), *(one.row() for one in ended)]
    rows.append(("all", "", str(sum(int(row[2]) for row in rows[1:])), f"{seconds:.0f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}" for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    """See the module's text."""
    name = sys.argv[1] if len(sys.argv) > 1 else "whole"
    minutes = sys.argv[2] if len(sys.argv) > 2 else ""
    if name not in PLANS or not (minutes or "1").isdecimal() or minutes == "0":
        sys.stderr.write(f"found {' '.join(sys.argv[1:])}, wanted one of {', '.join(PLANS)}, and minutes or nothing\n")
        return 2
    began_s, ended = time.monotonic(), list[Ended]()
    bound_s = int(minutes) * 60 if minutes else BOUND_S.get(name)
    slow = pace() if bound_s else 1.0
    if bound_s:
        sys.stderr.write(
            f"{SCHEDULES_PER_S / slow:.1f} schedules a second and core: about {planned_s(name) * slow / 60:.0f} "
            f"minutes; what would end behind {bound_s // 60} is not begun\n"
        )

    def cut(stage: Stage) -> str:
        left_s = (bound_s or 0) - (time.monotonic() - began_s)
        if not bound_s or stage.seconds * slow <= left_s:
            return ""
        return f"NOT RUN: takes {stage.seconds * slow:.0f} s, {max(0.0, left_s):.0f} s are left of {bound_s}"

    def tell(one: Ended) -> None:
        ended.append(one)
        sys.stdout.write(f"=== {one.stage.name}\n{one.said}{one.output.rstrip() or one.cut}\n")
        sys.stdout.flush()

    for lanes in PLANS[name]:
        sys.stderr.write(f"{time.monotonic() - began_s:5.0f} s: {'; '.join(lane[0].name for lane in lanes)}\n")
        run_group(lanes, tell, cut)
    seconds = time.monotonic() - began_s
    goals = goals_of(name, ended, seconds, bound_s)
    sys.stdout.write("\n" + table(ended, seconds) + "\n" + verdict(name, goals) + "\n")
    return int(any(one.row()[2] != "0" for one in ended) or not all_met(goals))


if __name__ == "__main__":
    sys.exit(main())
