"""Dead-man timers at the venues: without a word from us they cancel what rests, ``ARM_S`` after our last send.

Our orders rest for no moment (IOC, or expired by the venue), so that a timer that runs out in quiet times cancels
nothing of ours; it is for the order that should not have rested, of an engine that is gone. The account is the
engine's alone.
Disarmed on planned stops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.model.units import NS_PER_S

ARM_S = 10  # Gate.io takes 5 at least
ARM_AGAIN_NS = 2_000_000_000  # further sends are covered for 8 s at least, at half a request a second


class DeadMan:
    """``arm(venue, seconds)`` asks the venue for a timer and returns at once, False where it has none; ``sent``: venue
    -> mono ns of our newest send; ``factor``: how many times as long as asked for a venue's timer runs."""

    def __init__(self, arm: Callable[[str, int], bool], sent: Mapping[str, int], factor: Callable[[str], int]) -> None:
        self._arm = arm
        self._sent = sent
        self._factor = factor
        self._asked: dict[str, int] = {}
        self._covered: dict[str, int] = {}  # the sends up to then are

    def tick(self, now_ns: int) -> None:
        """Arms where something was sent since the last time. ``now_ns``: monotonic."""
        for venue, sent_ns in self._sent.items():
            asked_ns = self._asked.get(venue, 0)
            due = sent_ns > self._covered.get(venue, 0) and (not asked_ns or now_ns - asked_ns >= ARM_AGAIN_NS)
            if due and now_ns - sent_ns < ARM_S * NS_PER_S and self._arm(venue, ARM_S):
                self._asked[venue] = self._covered[venue] = now_ns

    def not_taken(self, venue: str) -> None:
        """The venue has not taken its timer, or not for every contract: it is asked again, no sooner than else."""
        self._covered[venue] = 0

    def running(self, now_ns: int) -> list[str]:
        """Venues whose timer may still run: to be disarmed before a planned stop."""
        return [
            venue
            for venue, asked_ns in self._asked.items()
            if now_ns - asked_ns < ARM_S * self._factor(venue) * NS_PER_S
        ]
