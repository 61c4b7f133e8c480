"""Recorded market data of a wire dialect: what a recording, a frame and a served recording are.

A dialect with recordings has ``recorded.py``, in it ``RECORDED``: which files are its own, how they are opened, and the
class that serves them over its public endpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec

from pipeline.model.errors import BadInput
from pipeline.sim.wire.dialect import Dialect


@dataclass(slots=True, frozen=True)
class Frame:
    """One recorded push. ``data``: the payload without any combined-stream wrapper; ``symbol`` as the venue spells."""

    t_ns: int  # since the start of its recording
    venue: str
    symbol: str
    topic: str  # the stream or channel
    data: bytes


@dataclass(eq=False)
class Recording:
    """One recorded stream of one venue."""

    shares_start: ClassVar[bool] = False  # with the recordings of its exchange that are given together

    venue: str
    path: Path
    symbols: list[str]
    first_ns: int  # receive time of the first frame
    first_event_ms: int  # the venue's own clock at that frame
    snapshots: dict[str, bytes] = field(default_factory=dict)  # symbol -> REST reply as recorded
    snapshot_ns: dict[str, int] = field(default_factory=dict)  # relative; absent = before the first frame
    instruments: list[dict[str, Any]] = field(default_factory=list)

    def frames(self) -> Iterator[Frame]:
        """In recorded order."""
        raise BadInput(f"{self.path}: a recording of no known kind")

    def book_shape(self) -> BookShape:
        """How its snapshots and depth frames are written."""
        raise BadInput(f"{self.path}: a recording of no known kind")

    def is_depth(self, frame: Frame) -> bool:
        """Whether a frame changes a book."""
        return False


@dataclass(slots=True, frozen=True)
class BookShape:
    """``id_key``: the snapshot's update id; ``body_key``: where a depth frame has its update ("" = at its root);
    ``objects``: levels are ``{"p", "s"}`` instead of ``[price, quantity]``."""

    id_key: str
    body_key: str = ""
    objects: bool = False


class RebuiltBook:
    """A recorded book at a later moment: snapshot and the diffs since, kept as the recorded texts."""

    def __init__(self, shape: BookShape, snapshot: bytes) -> None:
        self._shape = shape
        self._raw = dict(msgspec.json.decode(snapshot))
        self.update_id = int(self._raw[shape.id_key])
        self.sides: dict[str, dict[Decimal, tuple[Any, Any]]] = {"bids": {}, "asks": {}}
        for side, levels in self.sides.items():
            self._apply(levels, self._raw[side])

    def _apply(self, levels: dict[Decimal, tuple[Any, Any]], rows: list[Any]) -> None:
        for row in rows:
            price, qty = (row["p"], row["s"]) if isinstance(row, dict) else (row[0], row[1])
            key = Decimal(str(price))
            if Decimal(str(qty)) == 0:
                levels.pop(key, None)
            else:
                levels[key] = (price, qty)

    def on_depth(self, data: bytes) -> None:
        """Applies one recorded diff if it is newer."""
        row = msgspec.json.decode(data)
        body = row[self._shape.body_key] if self._shape.body_key else row
        last = int(body["u"])
        if last <= self.update_id:
            return
        self._apply(self.sides["bids"], body.get("b") or [])
        self._apply(self.sides["asks"], body.get("a") or [])
        self.update_id = last

    def reply(self, limit: int) -> dict[str, Any]:
        """The REST reply in the venue's shape, ``limit`` levels a side."""
        answer = dict(self._raw)
        answer[self._shape.id_key] = self.update_id
        for side, levels in self.sides.items():
            ordered = sorted(levels.items(), reverse=side == "bids")[:limit]
            if self._shape.objects:
                answer[side] = [{"p": price, "s": qty} for _, (price, qty) in ordered]
            else:
                answer[side] = [[price, qty] for _, (price, qty) in ordered]
        return answer


class Playing(Protocol):
    """What a serving dialect needs of the player."""

    def of_venue(self, served: str) -> list[Recording]:
        """The recordings behind a served venue."""

    def now_ms(self, served: str) -> int:
        """The recorded venue's clock at the moment that is being played."""

    async def snapshot(self, served: str, symbol: str, limit: int) -> dict[str, Any] | None:
        """The REST snapshot now; None for an unknown symbol."""


class CaptureDialect(Dialect):
    """A dialect that sends recorded frames."""

    market_venues: dict[str, str]  # market -> venue name
    source: Playing

    def push(self, frame: Frame) -> int:
        """Sends a recorded frame to its subscribers; returns how many got it."""
        return 0

    def has_subscriber(self, venue: str, symbol: str) -> bool:
        """True while a client is subscribed to the symbol's depth."""
        return False


@dataclass(slots=True, frozen=True)
class RecordedDialect:
    """``is_own``: whether what lies at a path is a recording of this exchange; ``open``: raises BadInput."""

    serve: type[CaptureDialect]
    is_own: Callable[[Path], bool]
    open: Callable[[Path], Recording]
