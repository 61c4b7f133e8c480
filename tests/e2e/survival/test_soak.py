"""The soak's judgement of what is level, on made-up samples; and a short soak of a whole instance."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from pipeline.execution.records import BreakerRecord
from tests.campaigns.level_fit import (
    BYTES_PER_OPERATION,
    DESCRIPTORS,
    HELD_S,
    JUDGED_S,
    MEMORY,
    Sample,
    Slope,
    levels_of,
    slopes,
    too_steep,
    unjudged,
)
from tests.campaigns.soak import SAMPLE_S, plan, soak
from tests.campaigns.soak_bounds import Recovery, not_tried, slow_recoveries, too_naked, unexplained
from tests.paths import REPO

RATE = 4  # operations a second
BASE = 60e6  # bytes


def samples_of(
    per_operation: float, per_held: float = 0.0, *, minutes: float = 30, restart_s: float = 1e9
) -> list[Sample]:
    """An executor and a detector that grow by so much, with noise of 50 kB; a new process after each ``restart_s``."""
    rng = np.random.default_rng(1)
    found = []
    for at_s in np.arange(0, minutes * 60, SAMPLE_S):
        count = int(at_s * RATE)
        held = count - max(0, int((at_s - HELD_S) * RATE))
        life = int(at_s // restart_s)
        began = int(life * restart_s * RATE)
        noise = rng.normal(0, 50_000)
        grown = int(BASE + per_operation * (count - began) + noise)
        processes = {"executor": (1, int(grown + per_held * held), 30), "detector": (100 + life, grown, 20)}
        found.append(Sample(float(at_s), count, processes, 20, 10**8))
    return found


def test_a_level_process_is_level_whatever_its_operations_in_memory_weigh() -> None:
    levels = levels_of(samples_of(0.0, 9000.0))
    assert levels["executor", MEMORY].at_most(0) and levels["detector", MEMORY].at_most(0)
    assert abs(levels["executor", MEMORY].value) < BYTES_PER_OPERATION
    assert levels["executor", DESCRIPTORS].value == 0


@pytest.mark.parametrize("restart_s", [1e9, 290.0])
def test_a_leak_is_seen_through_restarts_and_beside_what_is_in_memory(restart_s: float) -> None:
    levels = levels_of(samples_of(3000.0, 9000.0, restart_s=restart_s))
    assert not levels["detector", MEMORY].at_most(BYTES_PER_OPERATION)
    if restart_s > 1e6:
        assert not levels["executor", MEMORY].at_most(BYTES_PER_OPERATION)
        assert levels["executor", MEMORY].value == pytest.approx(3000, rel=0.2)


def test_a_step_is_no_leak_and_a_leak_that_goes_up_in_steps_is_one() -> None:
    """Two megabytes when a feed first sees an edge's pages; arenas of a megabyte that a leak fills one by one."""
    rng = np.random.default_rng(3)
    x = np.arange(0.0, 4000.0, 4.0)
    noise = rng.normal(0, 20_000, len(x))
    (step,) = slopes([(x[:, None], BASE + 2e6 * (x > 2800) + noise)]) or []
    assert abs(step.value) < BYTES_PER_OPERATION and step.at_most(BYTES_PER_OPERATION)
    assert too_steep(("feed.mexc", MEMORY), step) == ""
    (leak,) = slopes([(x[:, None], BASE + np.floor(2000.0 * x / 2**20) * 2**20 + noise)]) or []
    assert not leak.at_most(BYTES_PER_OPERATION), leak


def test_a_short_run_cannot_tell_a_leak_from_what_is_held() -> None:
    samples = samples_of(3000.0, minutes=4)
    levels = levels_of(samples)
    assert ("executor", MEMORY) not in levels and ("detector", MEMORY) in levels
    assert unjudged(samples, levels, JUDGED_S) == ["executor: no life was long enough to judge its memory"]
    assert unjudged(samples, levels, 240.0) == []


def test_an_error_that_hides_the_bound_is_a_failure() -> None:
    assert too_steep(("executor", MEMORY), Slope(100.0, 150.0, 60, 1)) == ""
    assert "too uncertain" in too_steep(("executor", MEMORY), Slope(100.0, 250.0, 60, 1))
    assert "wanted at most" in too_steep(("executor", MEMORY), Slope(1000.0, 250.0, 60, 1))


UNSHARES = """
import json, os, psutil
from tests.campaigns.level_fit import own_bytes
inherited = bytearray(b"x") * (20 << 20)
if os.fork():
    os.wait()
else:
    first = psutil.Process().memory_full_info().uss, own_bytes(os.getpid())
    inherited[::4096] = bytes(len(inherited) // 4096)
    unshared = psutil.Process().memory_full_info().uss, own_bytes(os.getpid())
    fresh = bytearray(b"x") * (20 << 20)
    print(json.dumps([*first, *unshared, own_bytes(os.getpid()) if fresh else 0]))
"""


def test_who_holds_nothing_an_operation_may_touch_new_pages_and_not_go_on() -> None:
    """315 bytes an operation were below the one bound of all processes, however long they went on."""
    soon, later = (levels_of(samples_of(315.0, minutes=minutes))["detector", MEMORY] for minutes in (20, 90))
    assert too_steep(("detector", MEMORY), soon) == ""
    assert "holds nothing an operation" in too_steep(("detector", MEMORY), later)
    assert too_steep(("executor", MEMORY), later) == "", "its identities of what is settled come to its bound"
    level = levels_of(samples_of(0.0, minutes=90))["detector", MEMORY]
    assert too_steep(("detector", MEMORY), level) == ""


def test_pages_that_a_forked_process_unshares_are_no_growth_and_new_ones_are() -> None:
    """In a process of its own: one that has freed much takes its new memory out of what it still has."""
    done = subprocess.run([sys.executable, "-c", UNSHARES], cwd=REPO, capture_output=True, check=True)
    first_uss, first, unshared_uss, unshared, last = json.loads(done.stdout)
    assert unshared_uss - first_uss > 19 << 20
    assert unshared - first < 1 << 20 and last - unshared > 19 << 20


def test_errors_are_honest_about_neighbours_that_are_alike() -> None:
    """A random walk has no slope; the plain error of least squares says that it has, in most cases."""
    rng = np.random.default_rng(2)
    x = np.arange(200.0)[:, None]
    plain = widened = 0
    for _ in range(200):
        noise = np.zeros(200)
        for i in range(1, 200):
            noise[i] = 0.8 * noise[i - 1] + rng.normal()
        (slope,) = slopes([(x, noise)]) or [Slope(0, 0, 0, 0)]
        widened += abs(slope.value) > 2 * slope.error
        plain += abs(slope.value) > 2 * slope.error / 3  # (1 + 0.8) / (1 - 0.8) = 9
    assert widened < 30 < 60 < plain


def test_trouble_of_every_kind_comes_in_a_short_run_too_and_by_seed() -> None:
    whats = {step.what for step in plan(1, 1800)}
    assert {"hang executor", "403 pages", "kill guard", "kill recorder", "kill detector", "kill feed.mexc"} <= whats
    assert [(s.at_s, s.what) for s in plan(3, 15)] == [(s.at_s, s.what) for s in plan(3, 15)]
    assert {"kill executor", "403 pages"} <= {step.what for step in plan(1, 15)}


def test_what_comes_back_too_late_is_named_by_its_limit() -> None:
    found = [Recovery("feed.mexc", 10.0, 1900.0), Recovery("detector", 11.0, 300.0), Recovery("executor", 50.0, 6000.0)]
    assert slow_recoveries(found[:2], [], []) == []
    assert slow_recoveries(found, [], []) == ["executor: READY again after 6000 ms (p99), wanted 5000 at most"]
    assert slow_recoveries(found, [40.0], []) == [], "after a hang"
    assert slow_recoveries(found, [], [40.0]) == [], "a venue that answers with pages cannot be reconciled with"
    (late,) = slow_recoveries([*found[:2], Recovery("feed.gateio", 12.0, 2100.0)], [], [])
    assert late.startswith("feeds and detector: READY again after 2100 ms")
    assert slow_recoveries([Recovery("feed.gateio", 12.0, 10_100.0)], [], [], [5.0]) == [], "a 429 has its time"


def test_a_breaker_that_no_trouble_explains_is_a_failure_though_it_was_re_armed() -> None:
    records = [
        BreakerRecord("naked_exposure", True, "a lost order"),
        BreakerRecord("bad_fill", True, "more than was left"),
        BreakerRecord("bad_fill", False, "soak"),
        BreakerRecord("fee.mexc_spot.BTCUSDT", True, "dearer"),
    ]
    assert unexplained(records) == [
        "breaker bad_fill tripped: more than was left",
        "breaker fee.mexc_spot.BTCUSDT tripped: dearer",
    ]


def test_a_run_that_tried_nothing_or_stood_alone_for_minutes_is_named() -> None:
    steps, guard = ["kill guard", "403 pages", "kill detector"], Recovery("guard", 10.0, 100.0)
    assert not_tried(steps, [guard], 0) == ["detector was killed, and not seen READY again", "no operation"]
    assert not_tried(steps, [guard, Recovery("detector", 11.0, 50.0)], 7) == []
    seldom, often = [10.0] * 99 + [34_000.0], [10.0] * 90 + [5000.0] * 10
    assert too_naked(seldom, 0.9) == []
    assert len(too_naked([*seldom, 36_000.0], 0.4)) == 3
    (late,) = too_naked(often, 0.95)
    assert "5000 ms (p99), wanted 1000" in late
    (down,) = too_naked([10.0], 0.85)
    assert "85 % of the time, wanted 90" in down


@pytest.mark.e2e
@pytest.mark.campaign
def test_a_short_soak_ends_flat_with_what_it_began_with() -> None:
    outcome = soak(9.0, seed=1)
    assert outcome.failures == []
    assert outcome.restarts.get("executor") and outcome.counts["operations"] > 0
    assert 0 < outcome.seen.uptime <= 1
    assert outcome.naked_ms and any(recovery.process == "executor" for recovery in outcome.seen.recoveries)
    assert "naked ms of" in outcome.text() and "executor READY again, ms of" in outcome.text()
