"""The market as it is kept: pieces, their headers, quota and age, cut files, a disk that takes nothing."""

from __future__ import annotations

import base64
import gzip
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline.book.recording.byte_ring import RingWriter
from pipeline.book.recording.pieces import (
    DROPPED,
    FRAME,
    HEAD,
    PIECE,
    SNAPSHOT,
    SUFFIX,
    RecordedMarket,
    RecordedRow,
    begin_piece,
    is_recording,
    messages,
    read_recording,
)
from pipeline.exchanges.feed.frame_tap import FrameTap
from pipeline.model.errors import BadInput
from tests.exhausted import full_disk
from workers.recorder.market_files import MarketFiles
from workers.recording.rings import RING_BYTES, ring_of, sources_of

SOURCE = "feed.mexc"
ROW = RecordedRow("BTCUSDT", "BTC", "USDT", "0.01", "0.001", "0", "5", "5.00", "1")
MARKETS = [RecordedMarket("mexc_spot", "mexc", "spot", [ROW])]


@pytest.fixture
def ring(instance: str) -> Iterator[RingWriter]:
    made = RingWriter.create(instance, ring_of(SOURCE), capacity_bytes=RING_BYTES)
    yield made
    made.close()


def keeper(instance: str, folder: Path, bytes_max: int = 10**9, keep_hours: int = 72) -> MarketFiles:
    return MarketFiles(instance, [SOURCE], folder, bytes_max=bytes_max, keep_hours=keep_hours)


def frames(ring: RingWriter, *texts: str) -> None:
    tap, handled = FrameTap(ring, 0), []
    take = tap.behind(lambda payload, is_text, recv_ns: handled.append(bytes(payload)), 3)
    for number, text in enumerate(texts):
        take(memoryview(text.encode()), True, 1000 + number)
    assert handled == [text.encode() for text in texts], "the sink comes first, with every frame"


def pieces(folder: Path) -> list[Path]:
    return sorted((folder / SOURCE).glob(f"*{SUFFIX}"))


def test_frames_and_snapshots_come_back_as_they_were(ring: RingWriter, instance: str, tmp_path: Path) -> None:
    kept = keeper(instance, tmp_path)
    ring.refresh()
    begin_piece(ring, SOURCE, MARKETS)
    frames(ring, '{"a":1}', "\x00binary\xff")
    FrameTap(ring, 0).snapshot("BTCUSDT", 999, b'{"bids":[]}')
    assert kept.round() == 4 and kept.round() == 0
    kept.close()
    assert is_recording(tmp_path) and is_recording(tmp_path / SOURCE) and is_recording(pieces(tmp_path)[0])
    (capture,) = read_recording(tmp_path)
    assert (capture.name_of_venue, capture.dialect, capture.market) == ("mexc_spot", "mexc", "spot")
    found = [(record.kind, record.symbol, record.payload) for record in capture.records]
    assert found == [(0, "", b'{"a":1}'), (0, "", "\x00binary\xff".encode()), (1, "BTCUSDT", b'{"bids":[]}')]
    assert [record.time_ns - capture.records[0].time_ns for record in capture.records] == [0, 1, -1]
    assert capture.rows["BTCUSDT"]["taker_bps"] == "5.00" and capture.dropped == 0


def test_a_header_begins_a_piece_and_a_new_recorder_repeats_the_one_before(
    ring: RingWriter, instance: str, tmp_path: Path
) -> None:
    kept = keeper(instance, tmp_path)
    ring.refresh()
    frames(ring, "before any header: of a piece that nobody has the beginning of")
    for text in ("one", "two"):
        begin_piece(ring, SOURCE, MARKETS)
        frames(ring, text)
        kept.round()
    kept.close()
    again = keeper(instance, tmp_path)
    frames(ring, "three")
    again.round()
    again.close()
    assert len(pieces(tmp_path)) == 3
    assert [[kind for kind, _ in messages(path)] for path in pieces(tmp_path)] == [[PIECE, FRAME]] * 3
    (capture,) = read_recording(tmp_path)
    assert [record.payload for record in capture.records] == [b"one", b"two", b"three"]


def test_a_killed_recorder_leaves_what_is_whole_at_any_byte(ring: RingWriter, instance: str, tmp_path: Path) -> None:
    kept = keeper(instance, tmp_path)
    ring.refresh()
    begin_piece(ring, SOURCE, MARKETS)
    frames(ring, *(f"frame {number}" for number in range(5)))
    kept.round()
    kept.close()
    (path,) = pieces(tmp_path)
    whole = path.read_bytes()
    everything = list(messages(path))
    counts = set()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        found = list(messages(path))
        assert found == everything[: len(found)]
        counts.add(len(found))
    assert 0 in counts and max(counts) == len(everything)


def test_the_oldest_piece_goes_beyond_the_quota_and_every_piece_at_its_age(
    ring: RingWriter, instance: str, tmp_path: Path
) -> None:
    kept = keeper(instance, tmp_path)
    ring.refresh()
    for _ in range(4):
        begin_piece(ring, SOURCE, MARKETS)
        frames(ring, random.Random(1).randbytes(4000).hex())
        kept.round()
    first, second, third, newest = pieces(tmp_path)
    size = third.stat().st_size + newest.stat().st_size
    small = keeper_of(kept, bytes_max=size + second.stat().st_size - 1)
    small.keep_limits()
    assert pieces(tmp_path) == [third, newest] and small.removed == 2
    old = time.time() - 3 * 3600
    for path in (third, newest):
        os.utime(path, (old, old))
    aged = keeper_of(kept, keep_hours=2)
    aged.keep_limits()
    assert pieces(tmp_path) == [newest], "the piece that is being written stays"
    assert first not in pieces(tmp_path)
    kept.close()


def keeper_of(kept: MarketFiles, bytes_max: int = 10**9, keep_hours: int = 72) -> MarketFiles:
    """``kept`` under other limits."""
    kept._bytes_max, kept._keep_ns, kept.removed = bytes_max, keep_hours * 3600 * 10**9, 0
    return kept


def test_what_a_full_disk_does_not_take_is_said_where_it_is_missing(
    ring: RingWriter, instance: str, tmp_path: Path
) -> None:
    kept = keeper(instance, tmp_path)
    ring.refresh()
    begin_piece(ring, SOURCE, MARKETS)
    frames(ring, "whole")
    kept.round()
    with full_disk():
        frames(ring, random.Random(2).randbytes(200_000).hex(), "lost too")
        with pytest.raises(OSError):
            kept.round()
    frames(ring, "whole again")
    kept.round()
    kept.close()
    (capture,) = read_recording(tmp_path)
    assert [record.payload for record in capture.records] == [b"whole", b"whole again"]
    assert capture.dropped == 2


#: Fits into the compressor, so that the flush alone needs the disk, and is more than a file's buffer keeps for later.
LOST = base64.b64encode(random.Random(3).randbytes(11_000)).decode()


def test_a_full_disk_at_the_flush_ends_the_piece_before_the_hole_and_says_it(
    ring: RingWriter, instance: str, tmp_path: Path
) -> None:
    kept = keeper(instance, tmp_path)
    ring.refresh()
    begin_piece(ring, SOURCE, MARKETS)
    frames(ring, "whole")
    kept.round()  # the first messages are flushed at once
    (source,) = kept._sources
    with full_disk():
        source._flushed_ns = 0  # the next flush is due
        frames(ring, LOST)
        with pytest.raises(OSError):
            kept.round()
    for text in ("whole again", "and more"):
        frames(ring, text)
        kept.round()
    kept.close()
    assert [[kind for kind, _ in messages(path)] for path in pieces(tmp_path)] == [
        [PIECE, FRAME],
        [PIECE, DROPPED, FRAME, FRAME],
    ]
    (capture,) = read_recording(tmp_path)
    assert [record.payload for record in capture.records] == [b"whole", b"whole again", b"and more"]
    assert capture.dropped == 1


def test_all_that_the_compressor_still_had_is_counted_with_the_hole(
    ring: RingWriter, instance: str, tmp_path: Path
) -> None:
    kept = keeper(instance, tmp_path)
    ring.refresh()
    begin_piece(ring, SOURCE, MARKETS)
    frames(ring, "whole")
    kept.round()  # the first messages are flushed at once
    (source,) = kept._sources
    source._flushed_ns = time.monotonic_ns() + 3600 * 10**9  # no flush is due
    for _ in range(3):
        frames(ring, "held by the compressor")
        kept.round()
    ring.write(DROPPED, (40).to_bytes(8, "little"))
    kept.round()
    with full_disk():
        source._flushed_ns = 0
        frames(ring, LOST)
        with pytest.raises(OSError):
            kept.round()
    frames(ring, "whole again")
    kept.round()
    kept.close()
    (capture,) = read_recording(tmp_path)
    assert [record.payload for record in capture.records] == [b"whole", b"whole again"]
    assert capture.dropped == 3 + 40 + 1


def test_a_hole_that_is_lost_again_keeps_its_count_and_a_lost_header_begins_the_next_piece(
    ring: RingWriter, instance: str, tmp_path: Path
) -> None:
    kept = keeper(instance, tmp_path)
    ring.refresh()
    begin_piece(ring, SOURCE, MARKETS)
    frames(ring, "whole")
    kept.round()
    (source,) = kept._sources
    other = [RecordedMarket("mexc_spot", "mexc", "spot", [msgspec.structs.replace(ROW, symbol="ETHUSDT")])]
    big = random.Random(2).randbytes(200_000).hex()
    with full_disk():
        for texts in ((big, "lost"), (LOST,)):
            source._flushed_ns = 0
            frames(ring, *texts)
            begin_piece(ring, SOURCE, other)
            with pytest.raises(OSError):
                kept.round()
    frames(ring, "whole again")
    kept.round()
    kept.close()
    first, newest = pieces(tmp_path)[0], pieces(tmp_path)[-1]
    assert [kind for kind, _ in messages(first)] == [PIECE, FRAME]
    kinds, payloads = zip(*messages(newest), strict=True)
    assert kinds == (PIECE, DROPPED, FRAME) and b"ETHUSDT" in payloads[0]
    assert int.from_bytes(payloads[1], "little") == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no frame"),
        (gzip.compress(b"\xff" * 64, mtime=0), "no recording"),
        (gzip.compress(FRAME.to_bytes(4, "little") * 8, mtime=0), "no header"),
        (gzip.compress((2).to_bytes(4, "little") + PIECE.to_bytes(4, "little") + b"{}", mtime=0), "no header"),
    ],
)
def test_what_is_no_recording_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / f"1{SUFFIX}"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=words):
        read_recording(path)


def test_every_feed_and_the_detector_are_sources() -> None:
    assert sources_of(["mexc", "gateio"]) == ["feed.mexc", "feed.gateio", "detector"]
    assert len({HEAD.size, SNAPSHOT, DROPPED}) == 3
