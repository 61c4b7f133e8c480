"""Attacks on the order budget: one order too many is a broken leg, so no window may ever hold more than the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exchanges.binance.market_client import LIMITS as BINANCE
from pipeline.exchanges.gateio.limits import FUTURES_LIMITS, SPOT_LIMITS
from pipeline.exchanges.mexc.rest_client import LIMITS
from pipeline.exchanges.transport.throttle import SPARE, Limit, Throttle

SECOND = 1_000_000_000
DIALECTS = (LIMITS, SPOT_LIMITS, FUTURES_LIMITS, *BINANCE.values())


@given(st.lists(st.tuples(st.integers(0, SECOND), st.integers(1, 3)), max_size=60))
def test_no_second_ever_holds_more_orders_than_the_venue_takes(steps: list[tuple[int, int]]) -> None:
    now = [SECOND]
    throttle = Throttle({"order": Limit(5, 1, part=1.0)}, clock_ns=lambda: now[0])
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
    throttle = Throttle({"order": Limit(2, 1, part=1.0)}, clock_ns=lambda: now[0])
    assert throttle.try_acquire("order")
    now[0] += SECOND // 2
    assert throttle.try_acquire("order")
    delay_s = throttle.delay_s("order")
    assert abs(delay_s - 0.6) < 1e-6
    now[0] += int(delay_s * SECOND)
    assert throttle.try_acquire("order") and not throttle.try_acquire("order")


def test_the_venues_own_count_closes_the_window() -> None:
    now = [SECOND]
    throttle = Throttle({"order": Limit(5, 1, part=1.0)}, clock_ns=lambda: now[0])
    throttle.remaining("order", 1)
    assert throttle.try_acquire("order") and not throttle.try_acquire("order")
    now[0] += 2 * SECOND
    assert throttle.delay_s("order", 5) == 0.0


def test_the_venues_own_count_is_of_the_whole_limit() -> None:
    now = [SECOND]
    throttle = Throttle({"q": Limit(10, 1, part=0.5)}, clock_ns=lambda: now[0])
    assert throttle.try_acquire("q", 2)
    throttle.remaining("q", 8)  # the venue has counted what we have
    assert throttle.try_acquire("q", 3)
    throttle.remaining("q", 5)
    assert not throttle.try_acquire("q")


@pytest.mark.parametrize("limits", DIALECTS)
def test_orders_and_cancels_of_every_venue_have_all_of_their_limit_and_are_the_accounts(
    limits: dict[str, Limit],
) -> None:
    assert limits["order"].part == limits["cancel"].part == 1.0
    assert limits["order"].account and not limits["order"].pool


@pytest.mark.parametrize("market", BINANCE)
def test_books_and_accounts_leave_of_the_common_weight_what_repairs_need(market: str) -> None:
    limits, now = BINANCE[market], [SECOND]
    throttle = Throttle(limits, clock_ns=lambda: now[0])
    while throttle.try_acquire("public", 20):
        pass
    while throttle.try_acquire("private", 20):
        pass
    assert throttle.delay_s("public", 20) > 0 and throttle.delay_s("private", 20) > 0
    spared = limits["weight"].capacity * SPARE
    assert throttle.try_acquire("query", spared - 20) and throttle.try_acquire("cancel", 20)
    assert not throttle.try_acquire("query", 20), "the venue's own limit"
