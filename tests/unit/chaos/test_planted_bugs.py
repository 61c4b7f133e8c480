"""Every planted bug is seen by the checker, in a bounded number of schedules."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.chaos.directed import directed
from pipeline.chaos.runner import run
from pipeline.chaos.schedule import draw
from pipeline.model.config import LimitConfig, RiskLimits, VenueLimitConfig
from tests.command_line import assert_contract
from tests.paths import REPO
from tests.planted.__main__ import seen
from tests.planted.engine_bugs import MUTANTS, planted
from tests.planted.rules import BUG_OF_LIMIT, NOT_OF_ENTRIES, RULE_OF
from workers.cli import commands_chaos
from workers.cli.main import main


@pytest.mark.campaign
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_seen_by_its_rule(name: str) -> None:
    schedule, others = seen(name)
    assert schedule, f"not seen by {RULE_OF[name]}, but by {others}"


def test_each_rule_is_the_first_to_see_a_planted_bug() -> None:
    """Each rule that the checker or its runner may name: one that nothing breaks may have gone blind."""
    sources = [*(REPO / "pipeline" / "chaos" / "checker").glob("*.py"), REPO / "pipeline" / "chaos" / "runner.py"]
    rules = {rule for path in sources for rule in re.findall(r'\bfind\(\s*"([^"]+)"', path.read_text())}
    assert len(rules) >= 40 and rules == set(RULE_OF.values())
    assert RULE_OF.keys() == MUTANTS.keys()


def test_each_limit_has_a_planted_bug_that_ignores_it() -> None:
    """A field of the configuration that the checker does not judge would be found by nobody."""
    fields = set(RiskLimits.__struct_fields__)
    scopes = {"per_venue": VenueLimitConfig, "per_asset": LimitConfig, "per_pair": LimitConfig}
    limits = fields - scopes.keys()
    limits |= {f"{scope}.{field}" for scope, kind in scopes.items() for field in kind.__struct_fields__}
    assert BUG_OF_LIMIT.keys() | NOT_OF_ENTRIES.keys() == limits
    assert set(BUG_OF_LIMIT.values()) <= MUTANTS.keys()


def test_a_margin_that_is_called_short_is_seen_and_one_that_is_short_is_not() -> None:
    """By the venue's numbers: how the engine prices its orders is no proof."""
    with planted("every margin is short"):
        found = run(draw(22), first=True)
    assert [one.rule for one in found.violations] == ["collar"]
    for seed in (500882, 600970):  # priced 10 and 15 % away
        assert run(draw(seed)).violations == []


def test_a_repair_that_is_put_off_is_seen_at_its_moment() -> None:
    with planted("repairs are put off"):
        found = run(directed()["broken leg"])
    assert {one.rule for one in found.violations} == {"naked"}


def test_the_command_of_the_planted_bugs_says_how_many_it_has_caught() -> None:
    run_one = [sys.executable, "-m", "tests.planted", "repairs are put off"]
    done = subprocess.run(run_one, cwd=REPO, capture_output=True, text=True, check=True)
    rules = {"repairs are put off": "naked"}
    assert json.loads(done.stdout) == {"caught": 1, "total": 1, "missed": [], "rules": rules}
    assert "1 of 1" in done.stderr


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
