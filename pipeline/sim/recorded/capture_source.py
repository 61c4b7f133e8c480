"""Serves recorded market data over the venues' public endpoints, at the recorded pace, faster, or as fast as possible.

Playing begins when every symbol's depth stream has a subscriber (or some time after the first one came). At ``max``
no more than ``AHEAD_MAX`` frames are sent beyond what the consumer has confirmed through the control endpoint, so
that the merged recorded order survives, and none while a REST request is answered: that takes no recorded time. A REST
snapshot is the recorded one until the stream has passed its moment, after that the book as it stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.sim.exchange.latency import NS_PER_MS, ManualClock
from pipeline.sim.recorded.capture_frames import merged, open_recordings
from pipeline.sim.wire.dialect import Host
from pipeline.sim.wire.discovery import recorded_dialects
from pipeline.sim.wire.recording import CaptureDialect, RebuiltBook, Recording

Speed = float | Literal["max"]
AHEAD_MAX = 64  # frames in flight at ``max``: what an SPSC queue and a book ring hold without conflation
START_GRACE_S = 10.0
TURN_FRAMES = 64  # frames sent before the event loop gets its turn


class CaptureSource:
    """Plays recordings. ``speed``: factor on the recorded pace, or "max"."""

    def __init__(self, paths: Sequence[Path], clock: ManualClock, speed: Speed, taken: set[str] | None = None) -> None:
        self.recordings: list[Recording] = open_recordings(list(paths))
        self._clock = clock
        self._speed = speed
        self._taken = taken or set()
        self._by_exchange: dict[str, CaptureDialect] = {}
        self._sent: dict[str, int] = {}
        self._confirmed: dict[str, int] = {}
        self._position: dict[tuple[str, str], int] = {}  # depth frames played
        self._is_depth = {row.venue: row.is_depth for row in self.recordings}
        self._played = 0
        self._done = False
        self._started_ns = 0
        self._t_ns = 0
        self._answering = 0  # snapshots that are being rebuilt
        self._confirmation = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- for the server ---

    def exchange_name(self, exchange: str) -> str:
        """Name under which a recorded exchange is served: its own, unless a synthetic one has it."""
        return f"{exchange}rec" if exchange in self._taken else exchange

    def dialects(self, host: Host) -> dict[str, CaptureDialect]:
        """One dialect per recorded exchange; starts playing."""
        kinds = recorded_dialects()
        for exchange in dict.fromkeys(row.venue.partition("_")[0] for row in self.recordings):
            dialect = kinds[exchange].serve({}, host)
            dialect.source = self
            served = self.exchange_name(exchange)
            dialect.market_venues = {
                row.venue.partition("_")[2]: f"{served}_{row.venue.partition('_')[2]}"
                for row in self.recordings
                if row.venue.startswith(exchange)
            }
            self._by_exchange[served] = dialect
        self._task = asyncio.create_task(self._play())
        return dict(self._by_exchange)

    def dialect_of(self, exchange: str) -> str:
        """The dialect of a served exchange's name."""
        return exchange.removesuffix("rec")

    def symbols(self, exchange: str) -> dict[str, list[str]]:
        """Served venue name -> recorded symbols."""
        found: dict[str, list[str]] = {}
        for row in self.recordings:
            served = self._served(row.venue)
            if served.rpartition("_")[0] == exchange:
                found.setdefault(served, []).extend(row.symbols)
        return found

    def of_venue(self, served: str) -> list[Recording]:
        """The recordings behind a served venue."""
        return [row for row in self.recordings if self._served(row.venue) == served]

    def now_ms(self, served: str) -> int:
        """The recorded venue's clock at the moment that is being played."""
        first_ms = min(row.first_event_ms for row in self.of_venue(served))
        if not self._started_ns:
            return first_ms
        if self._speed == "max":
            return first_ms + self._t_ns // NS_PER_MS
        return first_ms + int((self._clock.mono_ns() - self._started_ns) * float(self._speed)) // NS_PER_MS

    def confirm(self, venue: str, frames: int) -> None:
        """The consumer has handled ``frames`` frames of a venue in total."""
        self._confirmed[venue] = max(frames, self._confirmed.get(venue, 0))
        self._confirmation.set()

    def describe(self) -> dict[str, Any]:
        """The reply of ``GET /replay``."""
        return {
            "done": self._done,
            "started": bool(self._started_ns),
            "played": self._played,
            "t_ms": self._t_ns // NS_PER_MS,
            "speed": self._speed,
            "venues": {
                venue: {"sent": sent, "confirmed": self._confirmed.get(venue, 0)} for venue, sent in self._sent.items()
            },
        }

    async def snapshot(self, served: str, symbol: str, limit: int) -> dict[str, Any] | None:
        """The REST snapshot now; None for an unknown symbol."""
        for row in self.of_venue(served):
            if symbol in row.snapshots:
                position = self._position.get((row.venue, symbol), 0)
                passed = self._t_ns >= row.snapshot_ns.get(symbol, 0)
                self._answering += 1
                try:
                    book = await asyncio.to_thread(_rebuild, row, symbol, position if passed else 0)
                finally:
                    self._answering -= 1
                    self._confirmation.set()
                return book.reply(limit)
        return None

    async def stop(self) -> None:
        """Ends playing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- playing ---

    def _served(self, venue: str) -> str:
        exchange, _, market = venue.partition("_")
        return f"{self.exchange_name(exchange)}_{market}"

    async def _wait_for_subscribers(self) -> None:
        since_first_s = 0.0
        while since_first_s < START_GRACE_S:
            missing = found = 0
            for row in self.recordings:
                served = self._served(row.venue)
                dialect = self._by_exchange[served.rpartition("_")[0]]
                for symbol in row.symbols:
                    if dialect.has_subscriber(served, symbol):
                        found += 1
                    else:
                        missing += 1
            if not missing:
                return
            await asyncio.sleep(0.02)
            since_first_s += 0.02 if found else 0.0

    async def _play(self) -> None:
        await self._wait_for_subscribers()
        self._started_ns = self._clock.mono_ns()
        turn = 0
        for frame in merged(self.recordings):
            if self._speed == "max":
                await self._until_wanted()
                turn += 1
                if turn % TURN_FRAMES == 0:
                    await asyncio.sleep(0)
            else:
                due_ns = self._started_ns + int(frame.t_ns / float(self._speed))
                if due_ns > self._clock.mono_ns():
                    await self._clock.sleep_until(due_ns)
                else:
                    turn += 1
                    if turn % TURN_FRAMES == 0:
                        await asyncio.sleep(0)
            self._t_ns = frame.t_ns
            served = self._served(frame.venue)
            dialect = self._by_exchange[served.rpartition("_")[0]]
            if dialect.push(frame):
                self._sent[served] = self._sent.get(served, 0) + 1
            if self._is_depth[frame.venue](frame):
                key = (frame.venue, frame.symbol)
                self._position[key] = self._position.get(key, 0) + 1
            self._played += 1
        self._done = True

    async def _until_wanted(self) -> None:
        while self._answering or sum(self._sent.values()) - sum(self._confirmed.values()) >= AHEAD_MAX:
            self._confirmation.clear()
            await self._confirmation.wait()


def _rebuild(recording: Recording, symbol: str, depth_frames: int) -> RebuiltBook:
    """The recorded book after ``depth_frames`` depth frames of the symbol (0 = the recorded snapshot)."""
    book = RebuiltBook(recording.book_shape(), recording.snapshots[symbol])
    left = depth_frames
    if left:
        for frame in recording.frames():
            if frame.symbol != symbol or not recording.is_depth(frame):
                continue
            book.on_depth(frame.data)
            left -= 1
            if not left:
                break
    return book
