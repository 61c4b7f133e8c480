"""Published versions of the books: what a client could know, and when, to the twentieth level.

Every delta of every stream is one version. Its changed levels are kept, and now and then the whole book; a query with
depth rebuilds the levels from there. Prices are ticks, quantities units, as in the book itself.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline.sim.exchange.instruments import Level

# update_id, wall ms, mono ns, bid, bid qty, ask, ask qty (-1 absent)
Version = tuple[int, int, int, int, int, int, int]
Sides = tuple[Sequence[Level], Sequence[Level]]

VERSIONS_MAX = 200_000  # kept per server: about 15 minutes at the default rates
KEYFRAME_EVERY = 256  # versions of one stream between two whole books
DEPTH_MAX = 20

_Packed = tuple[bytes, bytes]
_Row = tuple[str, str, int, Version, _Packed, bool]  # venue, symbol, interval ms, version, levels, whole book?


class Versions:
    """Versions of all streams of a server, oldest first."""

    def __init__(self, most: int = VERSIONS_MAX) -> None:
        self._rows: deque[_Row] = deque(maxlen=most)
        self._since_keyframe: dict[tuple[str, str, int], int] = {}
        self.recorded = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self, venue: str, symbol: str, interval_ms: int, version: Version, changed: Sides, whole: Callable[[], Sides]
    ) -> None:
        """One delta: its changed levels (0 deletes); ``whole`` gives the book, called when a keyframe is due."""
        self.recorded += 1
        stream = (venue, symbol, interval_ms)
        count = self._since_keyframe.get(stream, KEYFRAME_EVERY)
        is_whole = count >= KEYFRAME_EVERY
        self._since_keyframe[stream] = 0 if is_whole else count + 1
        bids, asks = whole() if is_whole else changed
        self._rows.append((venue, symbol, interval_ms, version, (_pack(bids), _pack(asks)), is_whole))

    def rows(
        self,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        depth: int = 0,
        first_id: int = 0,
        last_id: int | None = None,
    ) -> Iterator[list[Any]]:
        """[venue, symbol, *version]; with ``depth`` also interval ms, bids and asks, best first.

        Levels are None where the whole book before them is no longer kept.
        """
        books: dict[tuple[str, str, int], tuple[dict[int, int], dict[int, int]]] = {}
        for name, listed, interval_ms, version, packed, is_whole in self._rows:
            if venue not in (None, name) or symbol not in (None, listed):
                continue
            book = None
            if depth:
                stream = (name, listed, interval_ms)
                if is_whole:
                    books[stream] = ({}, {})
                book = books.get(stream)
                if book is not None:
                    _apply(book, packed)
            if version[0] < first_id or (last_id is not None and version[0] > last_id):
                continue
            row: list[Any] = [name, listed, *version]
            yield row if not depth else [*row, interval_ms, *_best(book, min(depth, DEPTH_MAX))]


def _pack(levels: Sequence[Level]) -> bytes:
    return array("q", [number for level in levels for number in level]).tobytes()


def _apply(book: tuple[dict[int, int], dict[int, int]], packed: _Packed) -> None:
    for side, data in zip(book, packed, strict=True):
        numbers = array("q")
        numbers.frombytes(data)
        for price, units in zip(numbers[::2], numbers[1::2], strict=True):
            if units:
                side[price] = units
            else:
                side.pop(price, None)


def _best(book: tuple[dict[int, int], dict[int, int]] | None, depth: int) -> tuple[Any, Any]:
    if book is None:
        return None, None
    bids, asks = book
    return sorted(bids.items(), reverse=True)[:depth], sorted(asks.items())[:depth]
