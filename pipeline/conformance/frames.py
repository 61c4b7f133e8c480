"""Golden frames of a dialect (``golden.json`` in its folder): both decoders read them alike; the sequence rule holds.

``{market: {"frames": [{"frame" | "hex", "wanted"}], "sequence": {...}}}``: ``wanted`` is a ``Decoded``; frames that are
no text are in ``hex``. ``sequence`` has ``symbol``, ``price_exp``, ``qty_exp`` and ``steps``: a frame with the
``FrameResult`` that it must give, or a ``snapshot`` with its ``SnapshotResult``, all on one book.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import msgspec
import numpy as np

from pipeline.book.codec import Decoded, FeedCodec, Number
from pipeline.book.memory import (
    EVENT,
    FRAME_BYTE,
    LEVEL,
    TOPIC_CONTROL,
    TOPIC_DEPTH,
    TOPIC_OTHER,
    TOPIC_TICKER,
    TOPIC_UNKNOWN,
    new_memory,
)
from pipeline.book.results import FrameResult, SnapshotResult
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec
from pipeline.model.dialects import folder_of
from pipeline.model.errors import BadInput, ProtocolViolation
from shm.bookring import conn_open, init_feed
from shm.layout import feed_segment_words
from shm.words import Words

GOLDEN = "golden.json"
HOSTILE = (b"\x00" * 64, b'"1"]],"a":[]}}' * 8, b"\xff" * 64, b"9" * 64)  # behind a frame that is cut
_CAPACITY = 4


class GoldenFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A frame as received, and what it means."""

    wanted: Decoded
    frame: str = ""
    hex: str = ""

    @property
    def payload(self) -> bytes:
        """The bytes."""
        return bytes.fromhex(self.hex) if self.hex else self.frame.encode()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A frame or a REST snapshot, and the name of the result that it gives."""

    result: str
    frame: str = ""
    hex: str = ""
    snapshot: str = ""

    @property
    def payload(self) -> bytes:
        """The frame's bytes."""
        return bytes.fromhex(self.hex) if self.hex else self.frame.encode()


class Sequence(msgspec.Struct, frozen=True, kw_only=True):
    """A book's life: aligned, old and next updates, a gap, whole again."""

    symbol: str
    steps: tuple[Step, ...]
    price_exp: int = 2
    qty_exp: int = 8


class MarketGolden(msgspec.Struct, frozen=True, kw_only=True):
    """What one market brings."""

    frames: tuple[GoldenFrame, ...]
    sequence: Sequence


@cache
def golden_of(dialect: str) -> dict[str, MarketGolden]:
    """By market. Raises ``BadInput`` where the file is missing or cannot be read."""
    path = folder_of(dialect, "exchanges") / GOLDEN
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, MarketGolden])
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise BadInput(f"{path}: {error}; wanted golden frames by market") from None


def put_frame(codec: FeedCodec, mem: Words, frame: bytes, behind: bytes = b"") -> None:
    """Writes the venue's rules and the frame into the books' memory; ``behind``: what lies behind the frame."""
    codec.rule.write(mem)
    memoryview(mem.data).cast("B")[FRAME_BYTE : FRAME_BYTE + len(frame) + len(behind)] = frame + behind


def read_event(mem: Words, topic: int) -> Decoded:
    """The scanned event in the reference decoder's form."""
    if topic in (TOPIC_OTHER, TOPIC_CONTROL):
        return Decoded(topic=topic)
    at = int(mem[EVENT.symbol_byte])
    symbol = bytes(memoryview(mem.data).cast("B")[at : at + int(mem[EVENT.symbol_len])]).decode()

    def levels(off: int, count: int) -> tuple[tuple[Number, Number], ...]:
        rows = [mem[int(mem[off]) + k * LEVEL.WORDS :][:4] for k in range(int(mem[count]))]
        return tuple(((int(r[0]), int(r[2])), (int(r[1]), int(r[3]))) for r in rows)

    def tick(k: int) -> Number | None:
        mantissa, digits = (int(word) for word in mem[EVENT.tick + 2 * k : EVENT.tick + 2 * k + 2])
        return None if digits < 0 else (mantissa, digits)

    first, last = int(mem[EVENT.first_id]), int(mem[EVENT.last_id])
    if topic == TOPIC_TICKER:
        ticks = (tick(0), tick(1), tick(2), tick(3))
        return Decoded(topic=topic, symbol=symbol, last=last, time=int(mem[EVENT.time]), tick=ticks)
    return Decoded(
        topic=topic,
        symbol=symbol if topic == TOPIC_DEPTH else "",
        first=first if topic == TOPIC_DEPTH else last,
        last=last,
        previous=int(mem[EVENT.previous_id]),
        full=bool(mem[EVENT.full]),
        time=int(mem[EVENT.time]),
        bids=levels(EVENT.bid_off, EVENT.bid_count),
        asks=levels(EVENT.ask_off, EVENT.ask_count),
    )


def frame_problems(dialect: str, market: str) -> Iterator[str]:
    """What is wrong with how the two decoders read the golden frames; the fast one must know every one of them."""
    golden = golden_of(dialect).get(market)
    if golden is None or not golden.frames:
        yield f"{GOLDEN} has no frames of {market}"
        return
    codec, mem = feed_codec(dialect, market), new_memory(1, 0, blocks=1)
    topics = {row.wanted.topic for row in golden.frames}
    if not {TOPIC_DEPTH, TOPIC_TICKER, TOPIC_CONTROL} <= topics:
        yield f"{GOLDEN} of {market}: wanted depth, ticker and control frames"
    for number, row in enumerate(golden.frames):
        where = f"{GOLDEN} {market} frame {number}"
        try:
            read = codec.reference(row.payload)
        except ProtocolViolation as error:
            yield f"{where}: the reference decoder refuses it: {error}"
            continue
        if read != row.wanted:
            yield f"{where}: the reference decoder reads {read}, wanted {row.wanted}"
        put_frame(codec, mem, row.payload)
        topic = int(codec.scan_frame(mem, len(row.payload)))
        if topic != row.wanted.topic or read_event(mem, topic) != row.wanted:
            yield f"{where}: the scanner reads topic {topic} of it, wanted {row.wanted}"


def cut_problems(dialect: str, market: str) -> Iterator[str]:
    """Golden frames that are cut at any byte, with hostile bytes behind the cut, are never read as something whole
    that the reference decoder, which sees the cut bytes alone, does not read alike."""
    golden = golden_of(dialect).get(market)
    if golden is None or not golden.frames:
        yield f"{GOLDEN} has no frames of {market}"
        return
    codec, mem = feed_codec(dialect, market), new_memory(1, 0, blocks=1)
    for number, row in enumerate(golden.frames):
        for length in range(len(row.payload)):
            cut = row.payload[:length]
            for behind in HOSTILE:
                put_frame(codec, mem, cut, behind)
                topic = int(codec.scan_frame(mem, length))
                if topic in (TOPIC_UNKNOWN, TOPIC_CONTROL, TOPIC_OTHER):
                    continue
                try:
                    alike = codec.reference(cut) == read_event(mem, topic)
                except ProtocolViolation:
                    alike = False
                if not alike:
                    yield f"{GOLDEN} {market} frame {number}: cut at byte {length} it is read as topic {topic}"
                    break


def books_of(dialect: str, market: str, sequence: Sequence) -> VenueBooks:
    """Books with the one of a sequence, over memory of their own."""
    words = np.zeros(feed_segment_words(_CAPACITY), dtype=np.int64)
    init_feed(words, 0, _CAPACITY)
    conn_open(words, 0, 0, 0, 0)
    books = VenueBooks(codec=feed_codec(dialect, market), words=words, feed_off=0, venue_id=0, capacity=_CAPACITY)
    books.add(
        book_index=0,
        instrument_id=0,
        symbol=sequence.symbol,
        price_exp=sequence.price_exp,
        qty_exp=sequence.qty_exp,
    )
    return books


def sequence_problems(dialect: str, market: str) -> Iterator[str]:
    """The steps of the golden sequence on one book, and that they show what a sequence must."""
    golden = golden_of(dialect).get(market)
    if golden is None:
        yield f"{GOLDEN} has no sequence of {market}"
        return
    sequence, books = golden.sequence, books_of(dialect, market, golden.sequence)
    results: list[str] = []
    for number, step in enumerate(sequence.steps):
        if step.snapshot:
            found = books.on_snapshot(0, step.snapshot.encode(), number + 1, 0).name
        else:
            found = FrameResult(books.on_frame(step.payload, number + 1, 0)).name
        if found != step.result:
            yield f"{GOLDEN} {market} step {number}: found {found}, wanted {step.result}"
            return
        results.append(found)
    whole = [k for k, name in enumerate(results) if name in (FrameResult.APPLIED.name, SnapshotResult.SYNCED.name)]
    first = whole[0] if whole else len(results)
    gap = next((k for k, name in enumerate(results) if name == FrameResult.NEED_SNAPSHOT.name and k > first), -1)
    if FrameResult.DROPPED.name not in results or gap < 0 or not books.is_synced(0):
        yield f"{GOLDEN} {market}: wanted steps with an old update, a gap in a whole book, and whole again at the end"
