"""The rings between those who record the market (feeds, detector) and the recorder that writes it down."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.book.recording.byte_ring import RingWriter
from pipeline.book.recording.pieces import DETECTOR
from workers.base import WorkerContext

MARKET_FOLDER = "market"  # of an instance's state folder: what the recorder writes down
RING_BYTES = 8 * 1024 * 1024  # of each source: at 2 MB/s four seconds, the recorder comes ten times a second
SAID_AGAIN_NS = 60_000_000_000  # a recorder that is gone must not be a storm of lines


def sources_of(feeds: Sequence[str]) -> list[str]:
    """The sources of a recording: every feed, and the detector."""
    return [*(f"feed.{exchange}" for exchange in feeds), DETECTOR]


def ring_of(source: str) -> str:
    """The ring of a source, as a segment's name within its instance."""
    return f"market.{source}"


class RingWatch:
    """What the writing end of a ring looks at now and then: a recorder that has come, and what was dropped."""

    def __init__(self, ctx: WorkerContext, ring: RingWriter, lost_text: str) -> None:
        """``lost_text``: what follows the number of messages that were dropped."""
        self._ctx = ctx
        self._ring = ring
        self._lost_text = lost_text
        self._dropped = ctx.metrics.counter("recording_dropped", "messages that the recording's ring had no room for")
        self._said = ring.dropped
        self._say_from_ns = 0

    def look(self, now_ns: int) -> None:
        """Maps a recorder that has come; counts what was dropped, and says it once in ``SAID_AGAIN_NS`` at most."""
        self._ring.refresh()
        dropped = self._ring.dropped
        self._ctx.metrics.set(self._dropped, dropped)
        if dropped != self._said and now_ns >= self._say_from_ns:
            lost, self._said, self._say_from_ns = dropped - self._said, dropped, now_ns + SAID_AGAIN_NS
            self._ctx.say("warning", f"recording: {lost} {self._lost_text}")
