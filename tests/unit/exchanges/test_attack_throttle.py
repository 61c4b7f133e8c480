"""Attacks on the order budget: one order too many is a broken leg, so no window may ever hold more than the limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exchanges.gateio.rest_client import FUTURES_LIMITS, SPOT_LIMITS
from pipeline.exchanges.mexc.rest_client import LIMITS
from pipeline.exchanges.transport.throttle import Limit, Throttle

SECOND = 1_000_000_000


@given(st.lists(st.tuples(st.integers(0, SECOND), st.integers(1, 3)), max_size=60))
def test_no_second_ever_holds_more_orders_than_the_venue_takes(steps: list[tuple[int, int]]) -> None:
    now = [SECOND]
    throttle = Throttle({"order": Limit(5, 1, shared=False, rolling=True)}, clock_ns=lambda: now[0])
    sent: list[int] = []
    for pause_ns, count in steps:
        now[0] += pause_ns
        delay_s = throttle.delay_s("order", count)
        assert throttle.try_acquire("order", count) == (delay_s == 0.0)
        if delay_s == 0.0:
            sent += [now[0]] * count
        else:
            assert 0.0 < delay_s <= 1.1
    for at_ns in sent:
        assert sum(at_ns - SECOND < other <= at_ns for other in sent) <= 5


def test_the_delay_is_long_enough_and_no_longer() -> None:
    now = [SECOND]
    throttle = Throttle({"order": Limit(2, 1, shared=False, rolling=True)}, clock_ns=lambda: now[0])
    assert throttle.try_acquire("order")
    now[0] += SECOND // 2
    assert throttle.try_acquire("order")
    delay_s = throttle.delay_s("order")
    assert abs(delay_s - 0.6) < 1e-6
    now[0] += int(delay_s * SECOND)
    assert throttle.try_acquire("order") and not throttle.try_acquire("order")


def test_the_venues_own_count_closes_the_window() -> None:
    now = [SECOND]
    throttle = Throttle({"order": Limit(5, 1, shared=False, rolling=True)}, clock_ns=lambda: now[0])
    throttle.remaining("order", 1)
    assert throttle.try_acquire("order") and not throttle.try_acquire("order")
    now[0] += 2 * SECOND
    assert throttle.delay_s("order", 5) == 0.0


def test_orders_of_every_venue_are_counted_in_a_rolling_window() -> None:
    assert all(limits["order"].rolling for limits in (LIMITS, SPOT_LIMITS, FUTURES_LIMITS))


WEIGHTS = {"order": Limit(5, 1, shared=False, rolling=True), "trades": Limit(300, 10)}


def born(path: Path, now: list[int], limits: dict[str, Limit] = WEIGHTS) -> Throttle:
    throttle = Throttle(limits, clock_ns=lambda: now[0])
    throttle.remember(path)
    return throttle


@given(st.lists(st.tuples(st.integers(0, SECOND), st.integers(1, 3), st.booleans()), max_size=40))
def test_no_second_holds_too_many_orders_over_any_number_of_deaths(steps: list[tuple[int, int, bool]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path, now, sent = Path(folder) / "budgets", [SECOND], []
        throttle = born(path, now)
        for pause_ns, count, dies in steps:
            now[0] += pause_ns
            if dies:
                throttle = born(path, now)
            if throttle.try_acquire("order", count):
                sent += [now[0]] * count
        for at_ns in sent:
            assert sum(at_ns - SECOND < other <= at_ns for other in sent) <= 5


def test_a_successor_goes_on_with_weight_and_silence(tmp_path: Path) -> None:
    now = [SECOND]
    first = born(tmp_path / "b", now)
    assert first.try_acquire("trades", 150)
    first.silence(5, "order")
    first.silence(2)
    now[0] += SECOND
    second = born(tmp_path / "b", now)
    assert second.delay_s("trades", 15) == pytest.approx(1.0)  # the silence of all, not the weight
    assert second.delay_s("order") == pytest.approx(4.0)
    now[0] += SECOND
    third = born(tmp_path / "b", now)
    assert third.try_acquire("trades", 29)
    assert third.delay_s("trades", 16) == pytest.approx(1.0)
    now[0] += 3 * SECOND
    assert third.try_acquire("order", 5)


def test_times_of_another_boot_of_the_host_count_as_nothing(tmp_path: Path) -> None:
    now = [10**18]
    before = born(tmp_path / "b", now)
    assert before.try_acquire("order", 5)
    assert before.try_acquire("trades", 150)
    before.silence(60)
    now[0] = SECOND
    after = born(tmp_path / "b", now)
    assert after.try_acquire("order", 5)
    assert after.try_acquire("trades", 150)


def test_a_memory_of_other_buckets_is_begun_anew(tmp_path: Path) -> None:
    now = [SECOND]
    assert born(tmp_path / "b", now).try_acquire("order", 5)
    other = born(tmp_path / "b", now, {"a": Limit(5, 1), "order": WEIGHTS["order"]})
    assert other.try_acquire("order", 5)
