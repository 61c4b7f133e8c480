"""The campaigns one after the other, and a table of them at the end: what ran, how much of it, what it found, how long.

    python -m tests.campaigns.whole [whole|slice|processes]

Lanes of a group run side by side, the stages of a lane and the groups one after the other. What takes two cores is
alone, and what measures times of real processes is as well. The lanes are as long as each other by the seconds of CPU
that each stage took on two cores of 2026 (beside it); the whole takes about an hour there. Each stage's own words are
printed when it has ended. Exit code 1 where a stage has found something or did not run.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.paths import REPO

PYTHON = sys.executable
ARB = [PYTHON, "-m", "workers"]
Found = tuple[str, int]  # how much ran, in words; how much was wrong with it


@dataclass(frozen=True)
class Stage:
    """``read``: what the output says."""

    name: str
    command: Sequence[str]
    read: Callable[[str], Found]


@dataclass(frozen=True)
class Ended:
    """A stage that has run. ``said``: on its error output."""

    stage: Stage
    code: int
    seconds: float
    output: str
    said: str

    def row(self) -> tuple[str, str, str, str]:
        """Of the table."""
        try:
            count, wrong = self.stage.read(self.output)
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
        return ", ".join(f"{count:,} {name}" for name, count in counts.items()), len(found["violations"])

    return read


def of_pytest(output: str) -> Found:
    """Reads pytest's last line."""
    sums = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|errors)\b", output)}
    if not sums:
        raise ValueError(output[-200:])
    return f"{sum(sums.values()):,} tests", sum(sums.values()) - sums.get("passed", 0)


def of_fuzz(output: str) -> Found:
    """Reads the last line of the hostile inputs."""
    found = re.search(r"(\d+) inputs in \d+ s, (\d+) findings", output)
    if found is None:
        raise ValueError(output[-200:])
    return f"{int(found[1]):,} inputs", int(found[2])


def of_code(what: str) -> Callable[[str], Found]:
    """A command whose exit code says everything."""
    return lambda output: (what, 0)


def chaos(name: str, *arguments: str) -> Stage:
    """Schedules on virtual time."""
    return Stage(name, [*ARB, "chaos", *arguments, "--json"], of_json("schedules", "orders", "fills", "lives"))


def kills(count: int, seed: int, jobs: int) -> Stage:
    """Deaths of real processes."""
    command = [*ARB, "kills", "--count", str(count), "--seed", str(seed), "--jobs", str(jobs), "--json"]
    return Stage("deaths of real processes", command, of_json("runs", "kills", "points", "orders"))


def pytest(name: str, *arguments: str, marker: str = "campaign") -> Stage:
    """Tests of a marker, each on the next free worker."""
    workers = ["-n", "logical", "--maxprocesses", "2", "--dist", "worksteal"]
    command = [PYTHON, "-m", "pytest", *workers, "-m", marker, *arguments]
    return Stage(name, command, of_pytest)


def broken_instances() -> Stage:
    """The tests of instances that ``scripts/test`` leaves to the campaigns."""
    return pytest("whole instances", "tests/e2e", "bench", marker="slice")


def fuzz(inputs: int, seed: int) -> Stage:
    """Hostile inputs."""
    command = [PYTHON, "-m", "tests.campaigns.fuzz", "--inputs", str(inputs), "--seed", str(seed)]
    return Stage(f"hostile inputs, seed {seed}", command, of_fuzz)


def module(name: str, what: str, path: str, *arguments: str) -> Stage:
    """A command that says by its exit code whether its goals are met."""
    return Stage(name, [PYTHON, "-m", path, *arguments], of_code(what))


VIRTUAL = "tests/unit/chaos"


def some(seed: int, *more: str) -> Stage:
    """5,000 random schedules from a seed on: 600 s."""
    return chaos(f"schedules from {seed} on", "--seeds", f"{seed}:{seed + 5000}", *more)


Lane = list[Stage]
PLANS: dict[str, list[list[Lane]]] = {
    "whole": [
        [
            [
                some(1),
                module("margin storms, virtual", "200 seeds a row", "bench.margin_storm"),  # 1,690 s
            ],
            [
                chaos("directed, every death", "--seeds", "1:1", "--directed", "--crashes", "-1"),  # 125 s
                *(some(seed) for seed in (5_001, 10_001, 15_001)),
                fuzz(5_000_000, 1),  # 400 s
                module("rules of exits", "20 seeds", "bench.economics"),  # 45 s
                module("rules of inventory", "5 seeds", "bench.inventory"),  # 5 s
            ],
        ],
        [[pytest("planted bugs", "-k", "planted", VIRTUAL)]],
        [[broken_instances()]],
        [[kills(50, 1, 3)]],  # 30 s a run
        [[module("recovery times", "3 rounds", "tests.campaigns.recovery", "--rounds", "3")]],
        [[module("margin storms, real", "3 seeds", "tests.campaigns.storms", "1:4")]],  # 90 s a seed
    ],
    "slice": [
        [[pytest("schedules, deaths, planted bugs", VIRTUAL)]],
        [[fuzz(100_000, 1)], [fuzz(100_000, 2)]],
        [[broken_instances()]],
    ],
    "processes": [
        [[pytest("whole instances, rules of money", "--ignore", VIRTUAL, "tests", "bench")]],
        [[kills(4, 100, 2)]],
    ],
}


def run(stage: Stage) -> Ended:
    """Runs it to its end."""
    began_s = time.monotonic()
    done = subprocess.run(stage.command, cwd=REPO, capture_output=True, text=True)
    return Ended(stage, done.returncode, time.monotonic() - began_s, done.stdout, done.stderr)


def run_group(lanes: Sequence[Lane], tell: Callable[[Ended], None]) -> None:
    """Lanes side by side; ``tell`` is called with each stage that has ended, by one thread at a time."""
    turn = threading.Lock()

    def walk(lane: Lane) -> None:
        for stage in lane:
            ended = run(stage)
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
    if name not in PLANS:
        sys.stderr.write(f"found {name}, wanted one of {', '.join(PLANS)}\n")
        return 2
    began_s, ended = time.monotonic(), list[Ended]()

    def tell(one: Ended) -> None:
        ended.append(one)
        sys.stdout.write(f"=== {one.stage.name}\n{one.said}{one.output.rstrip()}\n")
        sys.stdout.flush()

    for lanes in PLANS[name]:
        sys.stderr.write(f"{time.monotonic() - began_s:5.0f} s: {'; '.join(lane[0].name for lane in lanes)}\n")
        run_group(lanes, tell)
    sys.stdout.write("\n" + table(ended, time.monotonic() - began_s) + "\n")
    return int(any(one.row()[2] != "0" for one in ended))


if __name__ == "__main__":
    sys.exit(main())
