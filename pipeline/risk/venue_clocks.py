"""The clocks of the venues, as the account poller measures them: beyond a bound no entry is made there.

A venue judges an order's expiry, and how old a request is, by its own clock. What is signed follows the measured
offset; but a clock that is far from ours is one that somebody has moved, and may be moved again before the next
measurement. After an order was refused for its time, nothing new is risked there until the clock has been measured
again; nor where a session was opened while nobody had measured it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.execution.core_context import CoreContext
from pipeline.model.errors import ClockRefused, VenueError
from pipeline.model.units import NS_PER_MS
from pipeline.model.venue_events import SessionState


class VenueClocks:
    """``refusal(venue)``: why no entry may be made there, "" while its clock is known and near."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self.skew_ms: dict[str, int] = {}  # venue -> its clock less ours, at the last reading
        self._awaited: dict[str, tuple[int, str]] = {}  # venue -> (mono ns, why): no measurement of before is good

    def reported(self, offsets_ns: Mapping[str, int], measured_mono_ns: Mapping[str, int]) -> None:
        """Offsets by venue: its unix time less our monotonic time; and when each was measured at the latest."""
        now = self._context.now
        for venue, offset_ns in offsets_ns.items():
            self.skew_ms[venue] = round((now.mono_ns + offset_ns - now.wall_ns) / NS_PER_MS)
            if venue in self._awaited and measured_mono_ns.get(venue, 0) > self._awaited[venue][0]:
                del self._awaited[venue]

    def refused(self, venue: str, error: VenueError | None) -> None:
        """What a venue said of an order."""
        if isinstance(error, ClockRefused):
            text = "it refused an order for its time; its clock is being measured again"
            self._awaited[venue] = self._context.now.mono_ns, text

    def opened(self, state: SessionState) -> None:
        """A session is up."""
        if not state.clock_known:
            self._awaited.setdefault(state.venue, (0, "it does not tell its time; its clock is being asked for"))

    def closed(self) -> set[str]:
        """The venues at which no entry may be made."""
        most_ms = self._context.config.execution.max_clock_skew_ms
        return {venue for venue, skew_ms in self.skew_ms.items() if not abs(skew_ms) <= most_ms} | self._awaited.keys()

    def refusal(self, venue: str) -> str:
        """Why no entry may be made at a venue; "" where its clock does not forbid it."""
        most_ms = self._context.config.execution.max_clock_skew_ms
        skew_ms = self.skew_ms.get(venue, 0)
        if not abs(skew_ms) <= most_ms:
            return f"{venue}: its clock is {skew_ms:+d} ms from ours, at most {most_ms} (execution.max_clock_skew_ms)"
        if venue in self._awaited:
            return f"{venue}: {self._awaited[venue][1]}"
        return ""
