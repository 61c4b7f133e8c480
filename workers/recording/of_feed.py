"""What a feed process records: its ring, a tap for each of its markets, and when a new piece begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.book.recording.byte_ring import RingWriter
from pipeline.book.recording.pieces import RecordedMarket, begin_piece
from pipeline.exchanges.feed.frame_tap import FrameTap, recorded_row
from pipeline.model.clock import mono_ns
from pipeline.model.config import VenueConfig
from pipeline.model.instruments import InstrumentRow
from workers.base import WorkerContext
from workers.recording.rings import RING_BYTES, RingWatch, ring_of

S = 1_000_000_000
AGAIN_NS = S  # a piece whose header found no room in the ring is begun again so much later


class FeedRecording:
    """The writing end of one feed's recording; made before its markets."""

    def __init__(self, ctx: WorkerContext, venues: Sequence[VenueConfig]) -> None:
        self._venues = venues
        self._source = f"feed.{ctx.exchange}"
        self._ring = RingWriter.create(ctx.instance, ring_of(self._source), capacity_bytes=RING_BYTES)
        self._piece_ns = ctx.config.recording.market_piece_s * S
        self._next_ns = 0
        self._watch = RingWatch(ctx, self._ring, "frames found no room in the ring: that span is not whole")

    def tap(self, market: int) -> FrameTap:
        """What the feed's ``market``-th venue writes to."""
        return FrameTap(self._ring, market)

    def begin(self, listed: Mapping[str, Sequence[InstrumentRow]]) -> bool:
        """Begins a piece, with the instruments of each venue as they are listed now; False = it found no room, and is
        tried again by and by: no book is asked for until then."""
        rows = {name: [recorded_row(row) for row in of_venue] for name, of_venue in listed.items()}
        markets = [RecordedMarket(v.name, v.dialect, v.market, rows.get(v.name, [])) for v in self._venues]
        begun = begin_piece(self._ring, self._source, markets)
        self._next_ns = mono_ns() + (self._piece_ns if begun else AGAIN_NS)
        return begun

    def look(self, now_ns: int) -> bool:
        """Now and then: maps a recorder that has come, says what was dropped; whether a new piece is due."""
        self._watch.look(now_ns)
        return now_ns >= self._next_ns
