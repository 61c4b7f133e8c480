"""What a feed writes down where recording is on: every frame behind its handling, every REST book that was asked for.

Off, nothing of this exists on a frame's way: the sink of a connection is another function. On, a frame costs one copy
into the ring, after the detector was woken. The recorder drains the ring; what it does not take in time is dropped and
counted (``pipeline.book.recording.byte_ring``).
"""

from __future__ import annotations

from pipeline.book.recording.byte_ring import RingWriter
from pipeline.book.recording.pieces import FRAME, HEAD, SNAPSHOT, RecordedRow
from pipeline.exchanges.transport.websocket import FrameSink
from pipeline.model.fixedpoint import plain
from pipeline.model.instruments import InstrumentRow
from pipeline.model.units import PPM_PER_BPS


class FrameTap:
    """One market of a feed; its index in ``Piece.markets`` is ``market``."""

    def __init__(self, ring: RingWriter, market: int) -> None:
        self._write = ring.write
        self._market = market

    def behind(self, sink: FrameSink, conn: int) -> FrameSink:
        """``sink``, and each frame into the ring when it has been handled."""
        write, market, pack = self._write, self._market, HEAD.pack

        def take(payload: memoryview, is_text: bool, recv_mono_ns: int) -> None:
            sink(payload, is_text, recv_mono_ns)
            write(FRAME, pack(recv_mono_ns, market, conn), payload)

        return take

    def snapshot(self, symbol: str, asked_ns: int, payload: bytes) -> None:
        """A REST book, before it is loaded. ``asked_ns``: when it was asked for (monotonic)."""
        name = symbol.encode()
        self._write(SNAPSHOT, HEAD.pack(asked_ns, self._market, len(name)), name, payload)


def recorded_row(row: InstrumentRow) -> RecordedRow:
    """A catalogue row as a piece's header lists it."""
    spec = row.spec
    return RecordedRow(
        symbol=spec.symbol,
        base=spec.base,
        quote=spec.quote,
        tick=plain(spec.tick),
        step=plain(spec.lot),
        min_qty=plain(spec.min_qty),
        min_notional=plain(spec.min_notional),
        taker_bps=f"{spec.taker_fee_ppm / PPM_PER_BPS:.2f}",
        multiplier=plain(spec.multiplier),
        quarantine="" if row.tradable_pair else "yes",
    )
