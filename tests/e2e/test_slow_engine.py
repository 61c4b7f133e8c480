"""The simulated market pays for speed: our engine takes most dislocations, one that is 4 s slower takes few.

Dislocations live ten times as long as in the demo, so that a slow or busy machine is a small part of their life.

The slowed engine is ours in everything but its pace: the executor waits before it judges an opportunity, and counts it
as detected later by the same time, so that the market and not our own bound on age says what is left of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.demo.demo import DemoOptions, run_demo

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]

SECONDS = 12.0
SLOW_MS = 4000
FAST_MIN = 0.4
LONG_LIVES = "extends: demo\nname: long_lives\ndislocations: {half_life_ms: 500, life_max_ms: 15000}\n"
SEEDS = (1, 2, 3)  # some 30 dislocations a run: where chance or a busy host decided, runs are added up


def taken(
    slow_ms: int, seeds: tuple[int, ...], scenario: Path, monkeypatch: pytest.MonkeyPatch, *, enough: float
) -> tuple[float, int]:
    """(share of the offered dislocations that was captured, operations completed); ends early above ``enough``."""
    monkeypatch.setenv("ARB_TEST_SLOW_MS", str(slow_ms))
    offered = captured = completed = 0
    for seed in seeds:
        result = run_demo(DemoOptions(seconds=SECONDS, seed=seed, scenario=str(scenario), quiet=True))
        assert result.healthy, result.fields["violations"]  # slow or fast: reconciled to the last decimal
        offered += result.fields["dislocations"]["offered"]
        captured += result.fields["dislocations"]["captured"]
        completed += result.fields["operations"]["completed"]
        if captured > enough * offered:
            break
    assert offered >= 2 * SECONDS * 0.5  # about three a second
    return captured / offered, completed


def test_a_fast_engine_takes_most_dislocations_and_a_slow_one_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = tmp_path / "long_lives.yaml"
    scenario.write_text(LONG_LIVES, encoding="utf-8")
    fast, fast_completed = taken(0, SEEDS, scenario, monkeypatch, enough=0.5)
    slow, slow_completed = taken(SLOW_MS, SEEDS[:1], scenario, monkeypatch, enough=0.0)
    assert fast > FAST_MIN
    assert slow < 0.3
    assert slow < fast / 2
    assert slow_completed < fast_completed
