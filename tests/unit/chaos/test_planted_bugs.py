"""Every planted bug is seen by the checker, in a bounded number of schedules."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.chaos.directed import directed
from pipeline.chaos.runner import run
from tests.command_line import assert_contract
from tests.paths import REPO
from tests.planted.__main__ import seen
from tests.planted.engine_bugs import MUTANTS, planted
from workers.cli import commands_chaos
from workers.cli.main import main


@pytest.mark.campaign
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_seen(name: str) -> None:
    assert seen(name)


def test_a_repair_that_is_put_off_is_seen_at_its_moment() -> None:
    with planted("repairs are put off"):
        found = run(directed()["broken leg"])
    assert {one.rule for one in found.violations} == {"naked"}


def test_the_command_of_the_planted_bugs_says_how_many_it_has_caught() -> None:
    run_one = [sys.executable, "-m", "tests.planted", "repairs are put off"]
    done = subprocess.run(run_one, cwd=REPO, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"caught": 1, "total": 1, "missed": []} and "1 of 1" in done.stderr


def checkout_of(folder: Path, script: str) -> Path:
    (folder / "tests" / "planted").mkdir(parents=True)
    for package in (folder / "tests", folder / "tests" / "planted"):
        (package / "__init__.py").touch()
    (folder / "tests" / "planted" / "__main__.py").write_text(script)
    return folder


@pytest.mark.parametrize(
    ("script", "code", "mutants"),
    [
        ('print(\'{"caught": 2, "total": 2, "missed": []}\')', 0, 2),
        ('print(\'{"caught": 1, "total": 2, "missed": ["a"]}\')', 1, 1),
        ("raise SystemExit(1)", 3, None),
    ],
)
def test_chaos_tells_which_planted_bugs_were_caught(
    script: str,
    code: int,
    mutants: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(commands_chaos, "CHECKOUT", checkout_of(tmp_path, script))
    assert main(["chaos", "--seeds", "1:1", "--mutants", "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    if mutants is None:
        assert "tests.planted" in found["error"]
    else:
        assert_contract("chaos", found)
        assert found["mutants"]["caught"] == mutants


def test_without_a_checkout_no_bug_is_planted_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands_chaos, "CHECKOUT", tmp_path)
    assert main(["chaos", "--seeds", "1:2", "--mutants"]) == 2
    assert "wanted a checkout" in capsys.readouterr().err


def test_at_least_forty_bugs_are_planted_and_each_is_taken_out_again() -> None:
    assert len(MUTANTS) >= 40
    for name, patches in MUTANTS.items():
        before = [owner.__dict__[attribute] for owner, attribute, _ in patches]
        with planted(name):
            now = [owner.__dict__[attribute] for owner, attribute, _ in patches]
            assert all(new is not old for new, old in zip(now, before, strict=True))
        assert [owner.__dict__[attribute] for owner, attribute, _ in patches] == before
