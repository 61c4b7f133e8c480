"""Goals next to figures, two runs against each other, histograms as text, the profile."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

from bench.__main__ import BENCHES, main
from bench.report import FLOOR, OURS, PEER, Report, Row, hgrm
from bench.results import compare, goals
from bench.results.compare import BETTER, WORSE, Run, changes
from bench.results.goals import GOALS, judged
from bench.settings import BadFile
from workers.cli import main as cli


def row(bench: str, case: str, who: str, *rounds: int, role: str = FLOOR) -> Row:
    made = Row(bench, case, who, figure="p50", role=role)
    for figure in rounds:
        made.add_round(np.array([figure], dtype=np.int64))
    return made


def found(report: Report) -> dict[str, bool | None]:
    return {f"{o.name}, {o.wanted}": o.met for o in judged(report) if o.wanted}


def test_a_goal_is_met_missed_or_not_measured() -> None:
    report = Report(
        [
            row("books", "BTC", OURS, 900),
            row("books", "BTC", "C floor A", 100),
            row("books", "BTC", "C floor B", 500),
            row("hop", "round trip, 64 B", OURS, 112),
            row("hop", "round trip, 64 B", "C slot ring", 100),
            row("log", "record, from Python", OURS, 249),
            row("log", "record, from Python", "logging.FileHandler", 7000, role=PEER),
        ]
    )
    assert found(report) == {
        "books: BTC, at most 1.3x C floor B and 200 ns": False,
        "books: *, at least 15x faster than ccxt.pro": None,
        "hop: round trip, 64 B, at most 1.1x C slot ring": False,
        "hop: *Python at one end, at most 2x C slot ring": None,
        "hop: *Python at one end, at least 60x faster than multiprocessing.Pipe": None,
        "hop: *Python at one end, at least 60x faster than multiprocessing.SimpleQueue": None,
        "log: record, in jit, at most 10": None,
        "log: record, from Python, at most 250 ns": True,
        "log: record, from Python, at least 30x faster than logging.FileHandler": False,
    }
    assert goals.missed(judged(report))
    report.rows[0] = row("books", "BTC", OURS, 850)
    assert found(report)["books: BTC, at most 1.3x C floor B and 200 ns"]
    assert "2 goals missed, 2 met" in goals.table(judged(report))


def test_every_goal_is_of_a_bench_that_there_is() -> None:
    assert {goal.bench for goal in GOALS} <= set(BENCHES)


def test_the_exit_code_of_a_run_with_goals_is_that_of_its_goals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.json"
    for bound, code in ((1e9, 0), (0.0, 1)):
        monkeypatch.setattr(goals, "GOALS", (goals.Goal("log", "record, in jit", "", bound),))
        assert main(["--tiny", "--goals", "--out", str(out), "log"]) == code
        reported = msgspec.json.decode(out.read_bytes())["goals"]
        assert reported[0]["met"] is (code == 0) and reported[-1]["met"] is None
        assert ("MISSED" in capfd.readouterr().out) is (code == 1)


def test_a_run_in_which_no_goal_was_measured_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.json"
    monkeypatch.setattr(goals, "GOALS", (goals.Goal("log", "a case that is gone", "", 1e9),))
    assert main(["--tiny", "--goals", "--out", str(out), "log"]) == 2
    first = msgspec.json.decode(out.read_bytes())["goals"][0]
    assert (first["name"], first["met"]) == ("log: a case that is gone", None)
    assert "no goal was measured" in capfd.readouterr().err


# --- two runs ---


def run_of(**cases: list[float]) -> Run:
    measured = []
    for case, ratios in cases.items():
        measured.append(compare.Measured("b", case, OURS, FLOOR, [100 * ratio for ratio in ratios]))
        measured.append(compare.Measured("b", case, "A", FLOOR, [1.0] * len(ratios)))
        measured.append(compare.Measured("b", case, "B", FLOOR, [100.0] * len(ratios)))
        measured.append(compare.Measured("b", case, "other", PEER, [7.0] * len(ratios)))
    return Run(compare.Host("c", "f"), measured)


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ([2.0, 2.1, 1.9], [2.4, 2.3, 2.5], WORSE),
        ([2.0, 2.1, 1.9], [2.05, 2.3, 2.5], ""),  # a round as good as the worst of before
        ([2.0, 2.1, 1.9], [2.15, 2.18, 2.16], ""),  # less than a tenth
        ([2.0, 2.1, 1.9], [1.7, 1.6, 1.8], BETTER),
        ([2.0], [9.0], ""),
        ([2.0, 2.1, 1.9], [9.0, 9.0], ""),
    ],
)
def test_a_case_is_worse_where_its_ratio_to_the_goals_floor_grew_beyond_the_noise(
    old: list[float], new: list[float], verdict: str
) -> None:
    (change,) = changes(run_of(x=old, gone=old), run_of(x=new, fresh=new))
    assert (change.case, change.verdict) == ("b: x", verdict)
    assert (change.old, change.new) == (pytest.approx(old), pytest.approx(new))


def test_two_runs_of_the_suite_are_compared_by_their_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, slower = tmp_path / "old.json", tmp_path / "new.json"
    assert main(["--tiny", "--rounds", "3", "--out", str(path), "symbols"]) == 0
    reported = msgspec.json.decode(path.read_bytes())
    assert cli.main(["bench", "--compare", str(path), str(path)]) == 0
    for measured in reported["measured"]:
        if measured["who"] == OURS:
            measured["rounds_ns"] = [10 * ns for ns in measured["rounds_ns"]]
    reported["host"]["fingerprint"] = "another"
    slower.write_bytes(msgspec.json.encode(reported))
    capfd.readouterr()
    assert main(["--compare", str(path), str(slower)]) == 1
    shown = capfd.readouterr().out
    assert WORSE in shown and "other hosts" in shown
    assert main(["--compare", str(path), str(slower), "--json"]) == 1
    rows = msgspec.json.decode(capfd.readouterr().out)["changes"]
    assert {row["verdict"] for row in rows} == {WORSE}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (run_of(x=[2.0, 2.0, 2.0]), run_of(y=[2.0, 2.0, 2.0])),
        (run_of(x=[2.0]), run_of(x=[2.0])),
        (Run(compare.Host("c", "f"), []), Run(compare.Host("c", "f"), [])),
    ],
)
def test_two_runs_without_a_case_that_can_be_judged_are_no_success(
    old: Run, new: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = tmp_path / "old.json", tmp_path / "new.json"
    for path, run in zip(paths, (old, new), strict=True):
        path.write_bytes(msgspec.json.encode(run))
    assert main(["--compare", *map(str, paths)]) == 2
    assert "NOTHING WAS JUDGED" in capfd.readouterr().out


def test_a_case_without_a_floor_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, run = tmp_path / "run.json", run_of(x=[2.0, 2.0, 2.0])
    run.measured.append(compare.Measured("start", "warm start, to READY", OURS, FLOOR, [1.0, 1.0, 1.0]))
    path.write_bytes(msgspec.json.encode(run))
    assert main(["--compare", str(path), str(path)]) == 0
    shown = capfd.readouterr().out
    assert "not compared: start: warm start, to READY" in shown and "0 of 1 cases are worse" in shown
    assert main(["--compare", str(path), str(path), "--json"]) == 0
    assert msgspec.json.decode(capfd.readouterr().out)["left_out"] == ["start: warm start, to READY"]


def test_a_file_that_is_no_run_says_what_makes_one(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    for text in ("no json", '{"rows": []}', None):
        if text is not None:
            path.write_text(text)
        else:
            path.unlink()
        with pytest.raises(BadFile, match=r"old\.json: found .*; wanted the JSON of a run .* arb bench --json"):
            compare.read(path)
    with pytest.raises(SystemExit) as ended:
        main(["--compare", str(path), str(path)])
    assert ended.value.code == 2


# --- histograms and profile ---


def test_a_histograms_text_has_the_percentiles_of_the_values() -> None:
    values = np.concatenate([np.arange(1, 1001), [5_000_000]]) * 10
    made, wanted = Row("b", "c", OURS, per=10), HdrHistogram(1, 10**9, 3)
    made.add(values)
    for value in values:
        wanted.record_value(int(value))
    lines = [line.split() for line in hgrm(made).splitlines() if line and not line.startswith("#")][1:]
    assert int(lines[-1][2]) == 1001 and float(lines[-1][0]) == 5_000_000 and float(lines[-1][1]) == 1.0
    for value, percentile, *_ in lines:
        assert 10 * float(value) == pytest.approx(wanted.get_value_at_percentile(100 * float(percentile)), rel=0.01)
    assert "Total count    =         1001]" in hgrm(made)


def test_histograms_are_written_a_file_a_row_and_the_profile_names_functions(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--tiny", "--profile", "log", "--hgrm", str(tmp_path / "made")]) == 0
    assert "bench/log.py" in capfd.readouterr().out
    assert "log.record_in_jit.ours.hgrm" in {path.name for path in (tmp_path / "made").iterdir()}
