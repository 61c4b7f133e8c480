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
    return Throttle(limits, clock_ns=clock)


def test_a_bucket_gives_its_part_and_units_come_back_when_their_window_has_passed() -> None:
    clock = Clock()
    budget = throttle(clock, a=Limit(10, 1, part=0.5))
    assert [budget.try_acquire("a") for _ in range(6)] == [True] * 5 + [False]
    clock.now_ns += S
    assert not budget.try_acquire("a"), "two requests may arrive closer to each other than they left"
    clock.now_ns += S // 10
    assert [budget.try_acquire("a") for _ in range(6)] == [True] * 5 + [False]


def test_refused_requests_take_nothing_and_heavy_ones_wait_for_an_empty_window() -> None:
    clock = Clock()
    budget = throttle(clock, a=Limit(10, 1, part=0.5))
    assert budget.try_acquire("a", 5.5) and not budget.try_acquire("a", 0.5)  # heavier than it: an empty one is enough
    budget = throttle(clock, a=Limit(10, 1, part=0.5))
    assert budget.try_acquire("a", 3) and not budget.try_acquire("a", 3) and budget.try_acquire("a", 2)
    clock.now_ns += 10 * S
    assert budget.try_acquire("a", 1000)
    assert not budget.try_acquire("a", 1)


def test_a_common_weight_is_used_by_all_of_its_buckets_and_some_leave_a_part() -> None:
    clock = Clock()
    budget = throttle(
        clock,
        weight=Limit(10, 1, part=1.0),
        books=Limit(10, 1, part=0.5, spare=0.2, pool="weight"),
        account=Limit(10, 1, part=0.8, spare=0.2, pool="weight"),
        cancel=Limit(4, 1, part=1.0, pool="weight"),
    )
    assert budget.try_acquire("books", 5) and not budget.try_acquire("books"), "its own part"
    assert budget.try_acquire("account", 3) and not budget.try_acquire("account"), "what is spared"
    assert budget.try_acquire("cancel", 2) and not budget.try_acquire("cancel"), "the weight of all"
    clock.now_ns += 2 * S
    assert budget.try_acquire("account", 8) and budget.try_acquire("cancel", 2)


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
    budget = throttle(Clock(), a=Limit(10, 1, part=1.0))
    budget.remaining("a", 2)
    budget.remaining("a", 400)
    assert [budget.try_acquire("a") for _ in range(3)] == [True, True, False]


@given(st.lists(st.tuples(st.integers(0, 3 * S), st.integers(1, 4)), max_size=60))
def test_no_window_ever_gets_more_than_its_limit(steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    budget = throttle(clock, a=Limit(10, 2, part=1.0))
    taken: list[tuple[int, int]] = []
    for advance_ns, weight in steps:
        clock.now_ns += advance_ns
        if budget.try_acquire("a", weight):
            taken.append((clock.now_ns, weight))
        assert sum(units for at_ns, units in taken if at_ns > clock.now_ns - 2 * S) <= 10


def test_waiting_for_budget_ends_when_it_is_there() -> None:
    async def scenario() -> None:
        budget = Throttle({"a": Limit(1000, 0.1, part=1.0)})
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


def test_server_clock_follows_the_newest_reading_whoever_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "mono_ns", lambda: 10 * S)
    clock = ServerClock()
    assert not clock.known
    clock.follow(500 * S, 4 * S)
    assert clock.known and clock.now_ms() == 510_000
    clock.follow(400 * S, 3 * S)
    assert clock.now_ms() == 510_000, "read before that"
    clock.learn(600_000, 2 * S)
    assert clock.now_ms() == 601_000
    clock.follow(500 * S, 8 * S)
    assert clock.now_ms() == 601_000, "our own answer is newer"
    clock.follow(500 * S, 10 * S)
    assert clock.now_ms() == 510_000


def test_the_anchor_is_the_busiest_market_that_is_there() -> None:
    assert anchor_symbol(["DOGEUSDT", "ETHUSDT", "BTCUSDT"]) == "BTCUSDT"
    assert anchor_symbol(["ZZZ_USDT", "AAA_USDT"]) == "ZZZ_USDT"
    assert anchor_symbol([]) == ""


def test_what_fits_is_what_a_count_finds_and_what_was_sent_is_counted() -> None:
    """The quick answer (what was free at the last count still is) is never more than the count's own."""
    clock = Clock()
    budget = throttle(clock, order=Limit(5, 1.0, part=1.0))
    sent = 0
    for step in range(400):
        clock.now_ns += 37_000_000 * (step % 7)
        fits = budget.fits("order", 2)
        assert not fits or budget.delay_s("order", 2) == 0.0
        if not fits:
            assert budget.delay_s("order", 2) > 0.0
        elif step % 3:
            budget.count("order")
            sent += 1
    assert sent > 50
    budget.silence(1.0, "order")
    assert not budget.fits("order", 1)
    clock.now_ns += 1_000_000_000
    assert budget.fits("order", 1)
    budget.silence(1.0)
    assert not budget.fits("order", 1)
