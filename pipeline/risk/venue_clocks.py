"""The clocks of the venues, as the account poller measures them: beyond a bound no entry is made there.

A venue judges an order's expiry, and how old a request is, by its own clock. What is signed follows the measured
offset; but a clock that is far from ours is one that somebody has moved, and may be moved again before the next
measurement. After an order was refused for its time, nothing new is risked there until the clock has been measured
again.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.execution.core_context import CoreContext
from pipeline.model.errors import ClockRefused, VenueError
from pipeline.model.units import NS_PER_MS


class VenueClocks:
    """``refusal(venue)``: why no entry may be made there, "" while its clock is known and near."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self.skew_ms: dict[str, int] = {}  # venue -> its clock less ours, at the last reading
        self._refused: dict[str, int] = {}  # venue -> when it refused an order for its time (mono ns)

    def reported(self, offsets_ns: Mapping[str, int], measured_mono_ns: Mapping[str, int]) -> None:
        """Offsets by venue: its unix time less our monotonic time; and when each was measured at the latest."""
        now = self._context.now
        for venue, offset_ns in offsets_ns.items():
            self.skew_ms[venue] = round((now.mono_ns + offset_ns - now.wall_ns) / NS_PER_MS)
            if measured_mono_ns.get(venue, 0) > self._refused.get(venue, 0):
                self._refused.pop(venue, None)

    def refused(self, venue: str, error: VenueError | None) -> None:
        """What a venue said of an order."""
        if isinstance(error, ClockRefused):
            self._refused[venue] = self._context.now.mono_ns

    def closed(self) -> set[str]:
        """The venues at which no entry may be made."""
        most_ms = self._context.config.execution.max_clock_skew_ms
        return {venue for venue, skew_ms in self.skew_ms.items() if not abs(skew_ms) <= most_ms} | self._refused.keys()

    def refusal(self, venue: str) -> str:
        """Why no entry may be made at a venue; "" where its clock does not forbid it."""
        most_ms = self._context.config.execution.max_clock_skew_ms
        skew_ms = self.skew_ms.get(venue, 0)
        if not abs(skew_ms) <= most_ms:
            return f"{venue}: its clock is {skew_ms:+d} ms from ours, at most {most_ms} (execution.max_clock_skew_ms)"
        if venue in self._refused:
            return f"{venue}: it refused an order for its time; its clock is being measured again"
        return ""
