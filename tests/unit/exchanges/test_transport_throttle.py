"""Budgets, silence after 429, waiting times, lateness: everything with an injected clock or none."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exchanges.feed.topics import anchor_symbol
from pipeline.exchanges.transport import rest
from pipeline.exchanges.transport.backoff import Backoff
from pipeline.exchanges.transport.rest import ServerClock
from pipeline.exchanges.transport.throttle import Limit, Throttle

S = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 10 * S

    def __call__(self) -> int:
        return self.now_ns


def throttle(clock: Clock, **limits: Limit) -> Throttle:
    return Throttle(limits, share=0.5, clock_ns=clock)


def test_a_shared_bucket_gives_its_share_then_refills_with_time() -> None:
    clock = Clock()
    budget = throttle(clock, a=Limit(10, 1))
    assert [budget.try_acquire("a") for _ in range(6)] == [True] * 5 + [False]
    clock.now_ns += S // 5
    assert [budget.try_acquire("a"), budget.try_acquire("a")] == [True, False]


def test_an_unshared_bucket_gives_everything() -> None:
    budget = throttle(Clock(), order=Limit(5, 1, shared=False))
    assert [budget.try_acquire("order") for _ in range(6)] == [True] * 5 + [False]


def test_refused_requests_take_nothing_and_heavy_ones_wait_for_a_full_bucket() -> None:
    clock = Clock()
    budget = throttle(clock, a=Limit(10, 1))
    assert not budget.try_acquire("a", 5.5) or True
    budget = throttle(clock, a=Limit(10, 1))
    assert budget.try_acquire("a", 3) and not budget.try_acquire("a", 3) and budget.try_acquire("a", 2)
    clock.now_ns += 10 * S
    assert budget.try_acquire("a", 1000)  # heavier than the bucket: a full bucket is enough, once
    assert not budget.try_acquire("a", 1)


def test_silence_covers_every_bucket_and_is_never_shortened() -> None:
    clock = Clock()
    budget = throttle(clock, a=Limit(10, 1), b=Limit(10, 1))
    budget.silence(5)
    budget.silence(1)
    assert not budget.try_acquire("a") and budget.delay_s("b") == pytest.approx(5)
    clock.now_ns += 5 * S
    assert budget.try_acquire("a") and budget.try_acquire("b")


def test_silence_of_one_bucket_leaves_the_others() -> None:
    budget = throttle(Clock(), order=Limit(10, 1), cancel=Limit(10, 1))
    budget.silence(5, "order")
    assert not budget.try_acquire("order") and budget.try_acquire("cancel")


def test_the_venues_own_count_corrects_downwards_only() -> None:
    budget = throttle(Clock(), a=Limit(10, 1))
    budget.remaining("a", 2)
    budget.remaining("a", 400)
    assert [budget.try_acquire("a") for _ in range(3)] == [True, True, False]


@given(st.lists(st.tuples(st.integers(0, 3 * S), st.integers(1, 4)), max_size=60))
def test_no_window_ever_gets_more_than_the_bucket_and_its_refill(steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    budget = Throttle({"a": Limit(10, 2)}, share=1.0, clock_ns=clock)
    start_ns, taken = clock.now_ns, 0
    for advance_ns, weight in steps:
        clock.now_ns += advance_ns
        taken += weight * budget.try_acquire("a", weight)
        assert taken <= 10 + 5 * (clock.now_ns - start_ns) / S + 1e-6


def test_waiting_for_budget_ends_when_it_is_there() -> None:
    async def scenario() -> None:
        budget = Throttle({"a": Limit(1000, 1)}, share=1.0)
        await asyncio.gather(*(budget.acquire("a", 100) for _ in range(12)))
        assert not budget.try_acquire("a", 900)

    asyncio.run(scenario())


def test_backoff_grows_to_its_cap_with_jitter_and_starts_anew() -> None:
    backoff = Backoff(base_s=1, cap_s=8, rng=random.Random(1))
    waits = [backoff.next_s() for _ in range(8)]
    for wait, ceiling in zip(waits, [1, 2, 4, 8, 8, 8, 8, 8], strict=True):
        assert ceiling / 2 <= wait <= ceiling
    assert len(set(waits[3:])) == 5
    backoff.reset()
    assert backoff.next_s() <= 1 and backoff.next_s(floor_s=60) == 60


def test_backoff_stays_finite_after_a_thousand_attempts() -> None:
    backoff = Backoff(base_s=0.25, cap_s=30)
    assert max(backoff.next_s() for _ in range(1000)) <= 30


@pytest.mark.parametrize(("base", "cap"), [(0, 1), (-1, 1), (2, 1)])
def test_backoff_refuses_senseless_bounds(base: float, cap: float) -> None:
    with pytest.raises(ValueError, match="base_s"):
        Backoff(base_s=base, cap_s=cap)


def test_server_clock_takes_the_middle_of_the_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "mono_ns", lambda: 10 * S)
    monkeypatch.setattr(rest, "wall_ms", lambda: 900_200)
    clock = ServerClock()
    clock.learn(1_000_000, 200 * 1_000_000)
    assert clock.now_ms() == 1_000_100
    assert clock.to_venue_ms(900_205) == 1_000_105


def test_the_anchor_is_the_busiest_market_that_is_there() -> None:
    assert anchor_symbol(["DOGEUSDT", "ETHUSDT", "BTCUSDT"]) == "BTCUSDT"
    assert anchor_symbol(["ZZZ_USDT", "AAA_USDT"]) == "ZZZ_USDT"
    assert anchor_symbol([]) == ""
