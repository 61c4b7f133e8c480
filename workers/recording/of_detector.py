"""What the detector process records: its ring, and the messages that its inputs become."""

from __future__ import annotations

import struct

from pipeline.book.recording.byte_ring import RingWriter
from pipeline.book.recording.pieces import DETECTOR, DETECTOR_STATE, DETECTOR_WORDS, DROPPED, begin_piece
from pipeline.detection.input_recording import InputRecorder
from pipeline.model.clock import mono_ns
from workers.base import WorkerContext
from workers.recording.rings import RING_BYTES, RingWatch, ring_of

S = 1_000_000_000
_COUNT = struct.Struct("<Q")


class DetectorRecording:
    """The writing end of the detector's recording, and the sink of its recorder."""

    def __init__(self, ctx: WorkerContext) -> None:
        self._ring = RingWriter.create(ctx.instance, ring_of(DETECTOR), capacity_bytes=RING_BYTES)
        self._watch = RingWatch(ctx, self._ring, "messages found no room: no exact replay of that span")
        self.recorder = InputRecorder(self, ctx.config.recording.market_piece_s * S)

    def begin(self) -> bool:
        """A new piece."""
        return begin_piece(self._ring, DETECTOR, [])

    def state(self, data: bytes) -> bool:
        """The detector's state."""
        return self._ring.write(DETECTOR_STATE, data)

    def words(self, data: bytes) -> bool:
        """Entries of its log."""
        return self._ring.write(DETECTOR_WORDS, data)

    def missed(self, count: int) -> bool:
        """Entries that found no room in the detector's own memory."""
        return self._ring.write(DROPPED, _COUNT.pack(count))

    def look(self) -> None:
        """Now and then: maps a recorder that has come, says what was dropped."""
        self._watch.look(mono_ns())
