"""The rings between those who record the market (feeds, detector) and the recorder that writes it down."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.book.recording.pieces import DETECTOR

MARKET_FOLDER = "market"  # of an instance's state folder: what the recorder writes down
RING_BYTES = 8 * 1024 * 1024  # of each source: at 2 MB/s four seconds, the recorder comes ten times a second


def sources_of(feeds: Sequence[str]) -> list[str]:
    """The sources of a recording: every feed, and the detector."""
    return [*(f"feed.{exchange}" for exchange in feeds), DETECTOR]


def ring_of(source: str) -> str:
    """The ring of a source, as a segment's name within its instance."""
    return f"market.{source}"
