"""The simulated market pays for speed: our engine takes most dislocations, one that is 200 ms slower takes few.

The slowed engine is ours in everything but its pace: the executor waits before it judges an opportunity, and counts it
as detected later by the same time, so that the market and not our own bound on age says what is left of it.
"""

from __future__ import annotations

import pytest

from workers.demo.demo import DemoOptions, run_demo

pytestmark = pytest.mark.e2e

SECONDS = 12.0
SLOW_MS = 200
FAST_MIN = 0.4  # 0.6 on two free CPUs; venues and engine share them, and a neighbour on the host costs milliseconds
SEEDS = (1, 2, 3)  # some 30 dislocations a run: where chance or a busy host decided, runs are added up


def taken(slow_ms: int, seeds: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, *, enough: float) -> tuple[float, int]:
    """(share of the offered dislocations that was captured, operations completed); ends early above ``enough``."""
    monkeypatch.setenv("ARB_TEST_SLOW_MS", str(slow_ms))
    offered = captured = completed = 0
    for seed in seeds:
        result = run_demo(DemoOptions(seconds=SECONDS, seed=seed, quiet=True))
        assert result.healthy, result.fields["violations"]  # slow or fast: reconciled to the last decimal
        offered += result.fields["dislocations"]["offered"]
        captured += result.fields["dislocations"]["captured"]
        completed += result.fields["operations"]["completed"]
        if captured > enough * offered:
            break
    assert offered >= 2 * SECONDS * 0.5  # about three a second
    return captured / offered, completed


def test_a_fast_engine_takes_most_dislocations_and_a_slow_one_few(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, fast_completed = taken(0, SEEDS, monkeypatch, enough=0.5)
    slow, slow_completed = taken(SLOW_MS, SEEDS[:1], monkeypatch, enough=0.0)
    assert fast > FAST_MIN
    assert slow < 0.3
    assert slow < fast / 2
    assert slow_completed < fast_completed
