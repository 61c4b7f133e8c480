"""The plan of the campaigns, and its table: nothing that a stage says or fails to say gets lost."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from itertools import chain

import pytest

from tests.campaigns.whole import (
    PLANS,
    Ended,
    Found,
    Stage,
    of_code,
    of_fuzz,
    of_json,
    of_pytest,
    run,
    run_group,
    table,
)
from tests.paths import REPO


def stage(name: str, script: str, read: Callable[[str], Found]) -> Stage:
    return Stage(name, [sys.executable, "-c", script], read)


SCHEDULES = json.dumps({"schedules": 5000, "violations": [], "digest": "ab"}, indent=1)


def test_each_stage_has_a_row_with_what_it_ran_and_found() -> None:
    ended: list[Ended] = []
    lanes = [
        [
            stage(
                "schedules",
                f"import sys; print('seed 3: {{', file=sys.stderr); print({SCHEDULES!r})",
                of_json("schedules"),
            ),
            stage("bugs", "print('3 failed, 52 passed in 9.1s'); raise SystemExit(1)", of_pytest),
        ],
        [stage("inputs", "print('200000 inputs in 19 s, 0 findings; branches: x 98 %')", of_fuzz)],
    ]
    run_group(lanes, ended.append)
    rows = {one.stage.name: one.row()[:3] for one in ended}
    assert rows == {
        "schedules": ("schedules", "5,000 schedules", "0"),
        "bugs": ("bugs", "55 tests", "3"),
        "inputs": ("inputs", "200,000 inputs", "0"),
    }
    lines = table(ended, 61.0).splitlines()
    assert lines[0].split() == ["stage", "count", "violations", "seconds"]
    assert lines[-1].split() == ["all", "3", "61"] and len(lines) == 5


def test_the_deaths_of_every_process_are_one_count_and_each_violation_counts() -> None:
    found = {"runs": 4, "kills": {"executor": 3, "feed.mexc": 2}, "violations": [{"seed": 1}, {"seed": 1}]}
    assert of_json("runs", "kills")(json.dumps(found)) == ("4 runs, 5 kills", 2)


def test_a_stage_that_fails_or_says_nothing_is_a_violation() -> None:
    assert run(stage("goals", "raise SystemExit(1)", of_code("3 seeds"))).row()[1:3] == ("3 seeds", "1")
    assert run(stage("silent", "pass", of_fuzz)).row()[1:3] == ("said nothing", "1")
    assert run(stage("goals", "pass", of_code("3 seeds"))).row()[2] == "0"


def number_after(option: str, command: list[str]) -> int:
    return int(command[command.index(option) + 1]) if option in command else 0


def test_the_whole_has_every_seed_once() -> None:
    commands = [list(one.command) for lanes in PLANS["whole"] for lane in lanes for one in lane]
    spans = [one[one.index("--seeds") + 1].split(":") for one in commands if "chaos" in one]
    seeds = [seed for first, last in spans for seed in range(int(first), int(last))]
    assert len(seeds) == len(set(seeds)) == 20_000
    assert sum(number_after("--inputs", one) for one in commands) == 5_000_000
    assert sum(number_after("--count", one) for one in commands if "kills" in one) == 50


def reached(command: Sequence[str], path: str) -> bool:
    """Whether a stage's command runs every marked test of a file; one that selects by name (``-k``) counts for none."""
    words = list(command)
    if "pytest" not in words or "-k" in words:
        return False
    options = words[words.index("pytest") + 1 :]
    ignored = [options[at + 1] for at, word in enumerate(options) if word == "--ignore"]
    given = [word for word in options if "/" in word or (REPO / word).is_dir()]
    inside = [word for word in given if word not in ignored and (path == word or path.startswith(word + "/"))]
    return bool(inside) and not any(path == word or path.startswith(word + "/") for word in ignored)


def marked_with(marker: str) -> list[str]:
    """The files that have tests with this marker."""
    rooms = sorted({path.parent for path in REPO.glob("*/__init__.py")})
    return [
        str(path.relative_to(REPO))
        for room in rooms
        for path in room.rglob("*.py")
        if re.search(rf"mark\.{marker}\b", path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("plan", ["whole", "slice"])
def test_what_the_test_run_leaves_to_the_slice_is_run_by_it_and_by_the_whole(plan: str) -> None:
    commands = [list(one.command) for lanes in PLANS[plan] for lane in lanes for one in lane]
    sliced = [one for one in commands if "-m slice" in " ".join(one)]
    marked = marked_with("slice")
    assert marked and [path for path in marked if not any(reached(one, path) for one in sliced)] == []


def test_every_test_of_the_marker_is_run_by_a_stage() -> None:
    """One outside every stage's folders would be run by no gate, and nothing would say so."""
    stages = [one.command for lanes in chain(*PLANS.values()) for lane in lanes for one in lane]
    commands = [command for command in stages if "-m campaign" in " ".join(command)]
    marked = marked_with("campaign")
    assert {path.split("/")[0] for path in marked} == {"tests", "bench"}
    assert [path for path in marked if not any(reached(command, path) for command in commands)] == []
    assert not any(reached(command, "examples/test_new.py") for command in commands)
    without = [command for command in commands if "--ignore" not in command]
    assert [path for path in marked if not any(reached(command, path) for command in without)], "the stage is needed"
