"""Are a venue's frames of now? Compares the time that they carry with the venue's own clock, on our monotonic clock.

A frame that comes late is stamped as received just now, so age by receipt alone would call old books fresh: a delayed
stream (fault row 14), a process that was stopped and reads its full socket buffers (fault row 42), a proxy that holds
things back. Steps of our wall clock do not matter here: the venue's clock is held against CLOCK_MONOTONIC.
"""

from __future__ import annotations

LATE_MS = 500  # a frame this far behind the venue's clock proves nothing
ON_TIME_MS = 250  # and one within this ends the lateness
FOREIGN_MS = 3_600_000  # frames an hour away from the venue's own clock: no clock to compare with
MICROSECONDS_FROM = 10**14  # venue times are unix ms, or us from here on


class Timeliness:
    """Lateness of one venue's frames."""

    __slots__ = ("_least_gap_ms", "_offset_ms")

    def __init__(self) -> None:
        self._offset_ms: int | None = None  # venue unix ms = monotonic ms + this
        self._least_gap_ms: int | None = None

    @property
    def clock_known(self) -> bool:
        return self._offset_ms is not None

    def learn(self, server_ms: int, send_mono_ns: int, recv_mono_ns: int) -> None:
        """One answer of the venue's time endpoint."""
        self._offset_ms = server_ms - (send_mono_ns + recv_mono_ns) // 2_000_000

    def late_ms(self, venue_time: int, recv_mono_ns: int) -> int:
        """How long after its own time a frame came (unix ms or us as sent, > 0). Negative: ahead of the clock.

        Without a venue clock, or where frames live in another hour altogether, the least gap ever seen counts as on
        time: then only a growing delay shows.
        """
        if venue_time >= MICROSECONDS_FROM:
            venue_time //= 1000
        recv_ms = recv_mono_ns // 1_000_000
        if self._offset_ms is not None:
            late = recv_ms + self._offset_ms - venue_time
            if -FOREIGN_MS < late < FOREIGN_MS:
                return late
        gap = recv_ms - venue_time
        if self._least_gap_ms is None or gap < self._least_gap_ms:
            self._least_gap_ms = gap
        return gap - self._least_gap_ms
