"""The plan of the campaigns, and its table: nothing that a stage says or fails to say gets lost."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import pytest

from tests.campaigns import whole
from tests.campaigns.kills import enough
from tests.campaigns.whole import (
    ASKED,
    BOUND_S,
    PLANS,
    Ended,
    Found,
    Stage,
    goals_of,
    main,
    of_code,
    of_fuzz,
    of_json,
    of_pytest,
    of_verdict,
    planned_s,
    run,
    run_group,
    table,
)
from tests.paths import REPO
from tests.planted.engine_bugs import MUTANTS
from workers.kills.run import Outcome
from workers.kills.verdict import Goal, all_met, verdict


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
            stage("bugs", "print('3 failed, 52 passed in 9.1s'); raise SystemExit(1)", of_pytest("planted bugs")),
        ],
        [stage("inputs", "print('200000 inputs in 19 s, 0 findings; branches: x 98 %')", of_fuzz)],
    ]
    run_group(lanes, ended.append)
    rows = {one.stage.name: one.row()[:3] for one in ended}
    assert rows == {
        "schedules": ("schedules", "5,000 schedules", "0"),
        "bugs": ("bugs", "55 planted bugs", "3"),
        "inputs": ("inputs", "200,000 inputs", "0"),
    }
    lines = table(ended, 61.0).splitlines()
    assert lines[0].split() == ["stage", "count", "violations", "seconds"]
    assert lines[-1].split() == ["all", "3", "61"] and len(lines) == 5


def test_the_deaths_of_every_process_are_one_count_and_each_violation_counts() -> None:
    found = {"runs": 4, "kills": {"executor": 3, "feed.mexc": 2}, "violations": [{"seed": 1}, {"seed": 1}]}
    assert of_json("runs", "kills")(json.dumps(found)) == ({"runs": 4, "kills": 5}, 2)


def test_a_stage_that_fails_or_says_nothing_is_a_violation() -> None:
    assert run(stage("goals", "raise SystemExit(1)", of_code(3))).row()[1:3] == ("3 seeds", "1")
    assert run(stage("silent", "pass", of_fuzz)).row()[1:3] == ("said nothing", "1")
    assert run(stage("goals", "pass", of_code(3))).row()[2] == "0"


def test_each_goal_that_is_missed_or_not_seen_is_a_violation() -> None:
    goals = [Goal("flat", True, "yes"), Goal("uptime", False, "40 %"), Goal("READY", False, "")]
    said = f"a table\n{verdict('soak', goals)}\n"
    assert of_verdict(said) == ({"goals": 3}, 2)
    assert of_verdict(verdict("soak", goals[:1], cut=True)) == ({"goals": 1}, 0)
    assert run(stage("goals", f"print({said!r}); raise SystemExit(1)", of_verdict)).row()[1:3] == ("3 goals", "2")
    assert run(stage("cut", f"print({verdict('x', [])!r}); raise SystemExit(1)", of_verdict)).row()[2] == "1"
    assert run(stage("silent", "pass", of_verdict)).row()[1:3] == ("said nothing", "1")


def campaigns() -> set[str]:
    """The modules of ``tests/campaigns`` that are commands."""
    folder = REPO / "tests" / "campaigns"
    alone = {path.stem for path in folder.glob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")}
    folders = {path.parent.name for path in folder.glob("*/__main__.py")}
    return {f"tests.campaigns.{name}" for name in (alone | folders) - {"whole"}}


def test_no_campaign_is_left_to_somebody_who_thinks_of_it() -> None:
    """The matrix in pairs, a soak of half an hour, a million operations: each is a stage of a nightly plan."""
    commands = [list(one.command) for lanes in chain(*PLANS.values()) for lane in lanes for one in lane]
    modules = {word for command in commands for word in command}
    assert {"tests.campaigns.soak", "tests.campaigns.outlives", "tests.campaigns.recovery"} <= campaigns()
    assert sorted(campaigns() - modules) == []
    long = {command[2]: command for lanes in PLANS["long"] for lane in lanes for command in [list(lane[0].command)]}
    assert number_after("--minutes", long["tests.campaigns.soak"]) == 30
    assert number_after("--operations", long["bench.growth"]) == 1_000_000
    assert "--singles" not in long["tests.campaigns.outlives"]
    assert all(len(lanes) == 1 for lanes in PLANS["long"]), "what measures times of real processes is alone"


def number_after(option: str, command: list[str]) -> int:
    return int(command[command.index(option) + 1]) if option in command else 0


def test_the_whole_has_every_seed_once() -> None:
    commands = [list(one.command) for lanes in PLANS["whole"] for lane in lanes for one in lane]
    spans = [one[one.index("--seeds") + 1].split(":") for one in commands if "chaos" in one]
    seeds = [seed for first, last in spans for seed in range(int(first), int(last))]
    assert len(seeds) == len(set(seeds)) == 20_000
    assert sum(number_after("--inputs", one) for one in commands) == 5_000_000
    assert sum(number_after("--count", one) for one in commands if "kills" in one) == 60
    assert not [stage.name for lanes in PLANS["whole"] for lane in lanes for stage in lane if not stage.seconds]
    assert planned_s("whole") < BOUND_S["whole"], "on two quiet cores nothing is left out"
    margin = [one for one in commands if "bench.margin_storm" in one]
    rows = re.findall(r'^    "([^"]+)": \(Storm', (REPO / "bench" / "margin_storm.py").read_text(), re.MULTILINE)
    assert len(rows) == 6 and sorted(word for one in margin for word in one if word in rows) == sorted(rows)


def test_a_million_orders_are_a_plan_of_their_own_behind_the_seeds_of_the_whole() -> None:
    commands = [list(one.command) for lanes in PLANS["orders"] for lane in lanes for one in lane]
    spans = sorted(tuple(map(int, one[one.index("--seeds") + 1].split(":"))) for one in commands)
    assert spans[0][0] == 20_001 and all(one[1] == other[0] for one, other in pairwise(spans))
    assert (spans[-1][1] - 20_001) * 12.8 > ASKED["orders"]["orders"] == 1_000_000


def test_the_slice_plays_seeds_until_twenty_processes_have_died_and_no_more_than_twelve() -> None:
    """Whether a moment comes in which one is killed depends on the host; that there are enough does not."""

    def dying(seeds: range, deaths: int) -> list[Outcome]:
        return [Outcome(seed, [], deaths=Counter({"executor": deaths})) for seed in reversed(seeds)]

    assert [one.seed for one in enough(lambda seeds: dying(seeds, 9), 20, 100)] == [100, 101, 102, 103]
    assert len(enough(lambda seeds: dying(seeds, 4), 20, 1)) == 8
    assert len(enough(lambda seeds: dying(seeds, 0), 20, 1)) == 12
    broken = [Outcome(1, [], [("run", "never READY")])]
    assert enough(lambda seeds: broken, 20, 1) == broken, "one that is broken says enough"
    assert ASKED["slice"]["kills"] == 20


def test_what_a_plan_is_for_is_a_goal_and_what_was_left_out_misses_it() -> None:
    ended = [
        run(stage("a", f"print({SCHEDULES!r})", of_json("schedules"))),
        run(stage("b", "print('87 passed in 9 s')", of_pytest("planted bugs"))),
    ]
    goals = {goal.name: goal for goal in goals_of("whole", ended, 4_000.0, 4_800)}
    assert not goals["20,000 schedules"].met and goals["20,000 schedules"].found == "5,000"
    assert goals["300 kills"].found == "" and not all_met(list(goals.values()))
    assert goals["80 minutes"].met and not goals_of("whole", ended, 4_900.0, 4_800)[-1].met
    bugs = Goal(f"{len(MUTANTS)} planted bugs", len(MUTANTS) <= 87, "87")
    assert goals[bugs.name] == bugs
    asked = ASKED["whole"]
    every = [run(stage("all", f"print({json.dumps({**asked, 'violations': []})!r})", of_json(*asked)))]
    assert all_met(goals_of("whole", every, 4_000.0, 4_800)) and goals_of("long", every, 9e9, None) == []


def test_a_bound_that_a_stage_does_not_fit_into_leaves_it_out_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = Stage("short", [sys.executable, "-c", "print('5 inputs in 1 s, 0 findings')"], of_fuzz, 2)
    monkeypatch.setattr(whole, "PLANS", {"some": [[[Stage("long", ["false"], of_fuzz, 100)], [short]]]})
    monkeypatch.setattr(whole, "ASKED", {"some": {"inputs": 5}})
    monkeypatch.setattr(whole, "pace", lambda: 1.0)
    monkeypatch.setattr(sys, "argv", ["whole", "some", "1"])
    assert main() == 1
    said = capsys.readouterr()
    assert "NOT RUN: takes 100 s, " in said.out and "VERDICT some: 2 of 2 goals met" in said.out
    assert "about 2 minutes; what would end behind 1 is not begun" in said.err


@pytest.mark.parametrize("words", [["weekly"], ["whole", "soon"], ["whole", "0"]])
def test_a_plan_or_minutes_that_are_none_are_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["whole", *words])
    assert main() == 2
    assert f"found {' '.join(words)}, wanted one of whole, slice" in capsys.readouterr().err


def test_a_stage_that_would_end_behind_the_bound_is_not_begun_and_says_so() -> None:
    ended: list[Ended] = []
    long, short = stage("long", "raise SystemExit(3)", of_fuzz), stage("short", "print('1 passed')", of_pytest())
    run_group([[long, short]], ended.append, lambda one: "NOT RUN: 5 s are left" * (one is long))
    assert ended[0].row() == ("long", "NOT RUN: 5 s are left", "1", "0")
    assert ended[1].row()[1:3] == ("1 tests", "0") and ended[0].counts() == {}


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
