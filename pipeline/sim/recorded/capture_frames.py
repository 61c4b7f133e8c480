"""Recorded market data as a stream of frames: opens what it is given, by the dialect that knows it.

Frames are read lazily; times are relative to the first frame of their recording.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

from pipeline.model.errors import BadInput
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.wire.discovery import recorded_dialects
from pipeline.sim.wire.recording import Frame, Recording


def open_recordings(paths: list[Path]) -> list[Recording]:
    """Opens recordings (a file, or the prefix of several); raises ``BadInput`` naming what is missing or unknown."""
    kinds = recorded_dialects().values()
    found: list[Recording] = []
    for path in paths:
        own = next((kind for kind in kinds if kind.is_own(path)), None)
        if own is None:
            raise BadInput(f"capture not found: {path} (neither a file nor the prefix of several)")
        found.append(own.open(path))
    for row in found:
        if not row.symbols:
            raise BadInput(f"capture holds no frame that is known: {row.path}")
    # Recordings of one exchange made together share their start.
    for exchange in {row.venue.partition("_")[0] for row in found}:
        together = [row for row in found if row.shares_start and row.venue.startswith(exchange)]
        if together:
            start_ns = min(row.first_ns for row in together)
            for row in together:
                shift_ns = row.first_ns - start_ns
                row.first_ns -= shift_ns
                row.first_event_ms -= shift_ns // NS_PER_MS
                row.snapshot_ns = {symbol: at_ns + shift_ns for symbol, at_ns in row.snapshot_ns.items()}
    return found


def merged(recordings: list[Recording]) -> Iterator[Frame]:
    """All frames in recorded order."""
    return heapq.merge(*(row.frames() for row in recordings), key=lambda frame: frame.t_ns)
