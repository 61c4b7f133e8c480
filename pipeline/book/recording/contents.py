"""What a recording holds before its books exist: its symbols, their digits, and whose snapshot each one is.

Recorders keep REST replies as received, and some replies name no symbol. Such a snapshot belongs to the recording's
one symbol; else to the one whose updates around it agree with its levels; else to the one whose prices are near its
own. What stays ambiguous is refused: a book on another coin's levels would look whole.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from pipeline.book.codec import Decoded, FeedCodec, Number, shortest
from pipeline.book.memory import ASK, BID, TOPIC_DEPTH
from pipeline.book.recording.capture_files import SNAPSHOT, Capture, Record
from pipeline.book.recording.digits import DigitCounter, Digits
from pipeline.model.errors import BadInput, ProtocolViolation

NEAR = 0.2  # a snapshot's top and its symbol's prices differ by less than this share
WITNESSES_MAX = 500  # updates of a symbol on each side of a snapshot that are asked about it

Levels = dict[tuple[int, Number], Number]  # (side, price) -> quantity


class CaptureContents:
    """``digits`` by symbol; ``owners``: record index of a snapshot -> symbol. Raises ``BadInput``."""

    def __init__(self, capture: Capture, codec: FeedCodec) -> None:
        self._capture = capture
        self._codec = codec
        counter = DigitCounter(codec)
        snapshots: list[tuple[int, Digits]] = []
        for index, record in enumerate(capture.records):
            if record.kind != SNAPSHOT:
                counter.frame(record.payload)
                continue
            found = counter.snapshot(record.payload)
            if found is not None:
                snapshots.append((index, found))
        self.digits = counter.symbols
        self.owners: dict[int, str] = {}
        for index, found in snapshots:
            symbol = capture.records[index].symbol or self._owner(index)
            self.owners[index] = symbol
            counter.merge(symbol, found)

    def _owner(self, index: int) -> str:
        """Whose snapshot without a name it is."""
        symbols = list(self.digits)
        if len(symbols) == 1:
            return symbols[0]
        record = self._capture.records[index]
        snapshot = self._codec.reference_snapshot(record.payload)
        held = _levels(snapshot)
        events = self._witnesses(index)
        scores = {symbol: _agreement(held, snapshot.last, events.get(symbol, [])) for symbol in symbols}
        best = max(scores.values(), default=0)
        fits = [symbol for symbol, score in scores.items() if score == best]
        if best <= 0 or len(fits) != 1:
            fits = [symbol for symbol in symbols if _is_near(held, events.get(symbol, []))]
        if len(fits) != 1:
            raise BadInput(f"{record.file}:{record.line}: snapshot without a symbol fits {fits or 'no symbol'}")
        return fits[0]

    def _witnesses(self, index: int) -> dict[str, list[Decoded]]:
        """Updates around a snapshot by symbol, in the order of the file."""
        records = self._capture.records
        before: dict[str, list[Decoded]] = {}
        after: dict[str, list[Decoded]] = {}
        for events, order in ((before, range(index - 1, -1, -1)), (after, range(index + 1, len(records)))):
            missing = len(self.digits)
            for at in order:
                if not missing:
                    break
                event = self._update(records[at])
                if event is not None:
                    events.setdefault(event.symbol, []).append(event)
                    missing -= len(events[event.symbol]) == WITNESSES_MAX
        return {symbol: before.get(symbol, [])[::-1] + after.get(symbol, []) for symbol in self.digits}

    def _update(self, record: Record) -> Decoded | None:
        if record.kind == SNAPSHOT:
            return None
        try:
            decoded = self._codec.reference(record.payload)
        except ProtocolViolation:
            return None
        return decoded if decoded.topic == TOPIC_DEPTH else None


def _levels(book: Decoded) -> Levels:
    return {
        (side, shortest(price)): shortest(qty)
        for side, rows in enumerate((book.bids, book.asks))
        for price, qty in rows
    }


def _value(number: Number) -> float:
    return float(number[0] / 10 ** number[1])


def _agreement(held: Levels, snapshot_id: int, events: list[Decoded]) -> int:
    """How many levels a symbol's updates and the snapshot agree on, less those that they contradict.

    Up to the snapshot's id the last update of a price must equal the snapshot; behind it the first deletion of a price
    deletes what the snapshot holds. Prices outside its depth say nothing.
    """
    last_update: Levels = {}
    score = 0
    seen: set[tuple[int, Number]] = set()
    for event in events:
        for key, qty in _levels(event).items():
            if event.last <= snapshot_id:
                last_update[key] = qty
            elif key not in seen and key not in last_update:
                seen.add(key)
                score += qty[0] == 0 and key in held
    inside = _inside(held)
    for key, qty in last_update.items():
        if key in held:
            score += 1 if held[key] == qty else -1
        elif qty[0] and inside(key):
            score -= 1
    return score


def _inside(held: Levels) -> Callable[[tuple[int, Number]], bool]:
    """Whether a price lies within the snapshot's depth on its side."""
    bids = [_value(price) for side, price in held if side == BID]
    asks = [_value(price) for side, price in held if side == ASK]
    lowest, highest = min(bids, default=float("inf")), max(asks, default=0.0)
    return lambda key: _value(key[1]) > lowest if key[0] == BID else _value(key[1]) < highest


def _is_near(held: Levels, events: list[Decoded]) -> bool:
    prices = [_value(price) for event in events for _, price in _levels(event)]
    tops = [max((_value(p) for side, p in held if side == BID), default=0.0)]
    tops += [min((_value(p) for side, p in held if side == ASK), default=0.0)]
    own = [top for top in tops if top]
    if not prices or not own:
        return False
    middle = median(prices)
    return any(abs(middle - top) <= NEAR * middle for top in own)
