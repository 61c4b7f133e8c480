"""A venue's clock from many answers: the sharpest that agree; at once another one when a clock was moved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.venue_clock import ClockEstimate

MS = 1_000_000
TRUE_NS = 1_700_000_000_000 * MS


def asked(clock: ClockEstimate, at_ms: int, there_ms: int, back_ms: int, moved_ms: int = 0) -> None:
    """One question: so long on the way there, so long on the way back."""
    server_ms = (TRUE_NS + (at_ms + there_ms + moved_ms) * MS) // MS
    clock.learn(server_ms, at_ms * MS, (at_ms + there_ms + back_ms) * MS)


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=20))
def test_the_error_is_never_more_than_half_the_shortest_round_trip(trips: list[tuple[int, int]]) -> None:
    clock = ClockEstimate()
    for number, (there, back) in enumerate(trips):
        asked(clock, 1000 * number, there, back)
    drift_ms = 1000 * len(trips) / 20_000
    shortest_ms = min(there + back for there, back in trips)
    assert abs(clock.offset_ns - TRUE_NS) <= (shortest_ms / 2 + 2 + 2 * drift_ms) * MS


def test_a_slow_answer_does_not_blur_what_is_known() -> None:
    clock = ClockEstimate()
    asked(clock, 0, 2, 2)
    known = clock.offset_ns
    asked(clock, 500, 5, 395)
    assert clock.offset_ns == known


@given(st.integers(-3_600_000, 3_600_000).filter(lambda ms: abs(ms) > 250))
def test_a_moved_clock_counts_with_the_first_answer(moved_ms: int) -> None:
    clock = ClockEstimate()
    for at_ms in range(0, 5000, 500):
        asked(clock, at_ms, 2, 2)
    asked(clock, 5000, 100, 100, moved_ms)
    assert abs(clock.offset_ns - TRUE_NS - moved_ms * MS) <= 101 * MS
