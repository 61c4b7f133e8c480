"""The benches run with tiny counts, so that they cannot rot; their numbers are not looked at."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.__main__ import BENCHES, main, run_all
from bench.books import CAPTURES, FLOORS, TINY_MESSAGES, Floor, Ours, read_input
from bench.cfloor import load
from bench.report import FLOOR, OURS, PEER, Report, Row
from bench.settings import BenchFailed, Settings, captures_path
from pipeline.model.errors import BadInput
from workers.cli import commands_bench
from workers.cli import main as cli

TINY = Settings(size=0, rounds=1)
ALONE = tuple(name for name in BENCHES if name not in ("books", "start"))  # no recordings, no instance
WITH_FLOORS = tuple(name for name in ALONE if name not in ("mexc", "orders"))
PEERS = {"dict.get", "google protobuf", "logging.FileHandler", "numpy", "ccxt market()"}


@pytest.fixture
def captures_dir() -> Path:
    """The folder of recorded messages; without it the test is skipped."""
    path = captures_path()
    if not path.is_dir():
        pytest.skip(f"no recorded messages at {path}; set ARB_CAPTURES to the folder that has them")
    return path


@pytest.mark.parametrize("name", ALONE)
def test_every_bench_runs_and_floors_and_peers_give_the_same_result(name: str) -> None:
    report = run_all(replace(TINY, peers=True), (name,))
    assert not report.skipped
    _rows_agree(report)


@pytest.mark.e2e
@pytest.mark.slice
def test_a_whole_instance_starts_parks_and_is_weighed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    report = run_all(TINY, ("start",))
    _rows_agree(report)
    assert {row.unit for row in report.rows} == {"s", "MB", "%"}
    assert not list(tmp_path.iterdir())


def test_a_row_joins_ours_the_goals_floor_and_the_peers() -> None:
    report = Report()
    for who, role, figure in ((OURS, FLOOR, 20), ("A", FLOOR, 5), ("B", FLOOR, 10), ("other", PEER, 300)):
        row = Row("bench", "case", who, figure="p50", role=role)
        row.add_round(np.array([figure]))
        row.check("same")
        report.rows.append(row)
    (joined,) = msgspec.json.decode(msgspec.json.encode(report.json()))["rows"]
    assert joined == {
        "name": "bench: case",
        "unit": "ns",
        "p50": 20.0,
        "p90": 20.0,
        "p99": 20.0,
        "p999": 20.0,
        "max": 20.0,
        "n": 1,
        "floor_p50": 10.0,
        "ratio_to_floor": 2.0,
        "peers": {"other": {"p50": pytest.approx(300, rel=0.01), "ratio": 15.0}},
        "check": "same",
    }


def test_recorded_books_end_with_the_floors_levels(captures_dir: Path) -> None:
    report = run_all(replace(TINY, captures=captures_dir, peers=True), ("books",))
    if not (captures_dir / CAPTURES[0]).is_file():
        pytest.skip(report.skipped["books"])
    _rows_agree(report)
    assert {row.hist.count for row in report.rows} == {TINY_MESSAGES}


def _rows_agree(report: Report) -> None:
    """Every case has a row of ours, and whoever else measured the same case came to the same result."""
    ours = {row.case: row for row in report.rows if row.who == OURS}
    assert ours
    for row in report.rows:
        assert row.hist.count > 0 and row.result == ours[row.case].result
        assert row.numbers()["p50"] <= row.numbers()["p99"] <= row.numbers()["max"]
    encoded = msgspec.json.decode(msgspec.json.encode(report.json()))
    assert len(encoded["measured"]) == len(report.rows) and len(encoded["rows"]) == len(ours)
    assert {"commit", "cpu", "kernel", "python", "numba"} <= set(encoded["host"])
    assert all(row.case in report.table() for row in report.rows)


@pytest.mark.parametrize("name", WITH_FLOORS)
def test_without_a_compiler_ours_is_still_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = importlib.import_module(f"bench.{name}")
    monkeypatch.setattr(bench, "load", lambda _: None)
    report = run_all(TINY, (name,))
    assert OURS in {row.who for row in report.rows} <= {OURS, *PEERS}


def test_without_captures_the_books_say_what_is_missing(tmp_path: Path) -> None:
    report = run_all(replace(TINY, captures=tmp_path), ("books",))
    assert report.rows == []
    assert str(tmp_path) in report.skipped["books"] and "ARB_CAPTURES" in report.skipped["books"]
    assert "skipped books" in report.table()


def test_a_lost_message_fails_the_books_and_the_floor(captures_dir: Path) -> None:
    path = captures_dir / CAPTURES[0]
    if not path.is_file():
        pytest.skip(f"no {path.name} at {captures_dir}")
    source = read_input(path, 20)
    del source.frames[10]
    with pytest.raises(BenchFailed, match="not applied"):
        Ours(source).whole()
    for name in FLOORS:
        library = load(name)
        if library is not None:
            floor = Floor(library, source)
            with pytest.raises(BenchFailed, match="refused message 10"):
                floor.whole()
            floor.close()


def test_a_result_that_changes_between_rounds_fails() -> None:
    row = Row("b", "c", OURS)
    row.check("1")
    with pytest.raises(BenchFailed, match="from 1 to 2"):
        row.check("2")


def test_the_ratio_is_that_of_the_rounds_medians_per_operation() -> None:
    ours, floor = Row("b", "c", OURS, per=10), Row("b", "c", "C", per=10)
    for samples in ([100, 300], [10_000, 10_000], [200, 200]):
        ours.add_round(np.array(samples))
    floor.add_round(np.array([100, 100]))
    report = Report([ours, floor])
    assert ours.round_ns == 20.0 and report.ratio(floor) == 2.0 and report.ratio(ours) is None
    assert ours.numbers()["max"] == 1000.0


def test_unknown_names_and_one_cpu_for_two_are_bad_usage() -> None:
    for arguments in (["nothing"], ["--cpus", "0"], ["--rounds", "-1"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2


def test_the_hop_refuses_cpus_that_it_may_not_use() -> None:
    with pytest.raises(BenchFailed, match="two different CPUs"):
        run_all(replace(TINY, cpus=(0, 100_000)), ("hop",))


def test_the_command_runs_the_suite_of_the_checkout(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--quick", "--json", "symbols"]) == 0
    reported = msgspec.json.decode(capfd.readouterr().out)
    assert {"in jit, 500 symbols"} <= {row["name"].partition(": ")[2] for row in reported["rows"]}
    assert {"host", "rows"} <= set(reported)
    assert cli.main(["bench", "nothing"]) == 2


def test_without_a_checkout_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_bench, "CHECKOUT", tmp_path)
    with pytest.raises(BadInput, match="wanted a checkout"):
        commands_bench.bench()
    assert cli.main(["bench"]) == 2
