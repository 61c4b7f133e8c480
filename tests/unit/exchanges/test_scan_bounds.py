"""No reader of a scanner passes the end of the field that it is in, whatever bytes lie behind it.

Every frame is cut at every byte, with hostile bytes behind the cut; protobuf fields are cut, stretched and spelled
longer inside frames whose other lengths are right. The reference decoder, which sees the cut bytes alone, is the judge.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.book.memory import TOPIC_DEPTH, TOPIC_SNAPSHOT, TOPIC_UNKNOWN
from pipeline.exchanges.factory import feed_codec
from pipeline.exchanges.parsing import json_fields as keys
from tests.paths import REPO
from tests.worlds.feed_frames import (
    BODIES,
    CHANNEL,
    FRAMES,
    HEAD,
    IDS,
    MEMORY,
    SNAPSHOTS,
    TEXTS,
    Fields,
    Spelling,
    assert_scan_equal,
    assert_snapshot_equal,
    encode,
    field,
    places,
    put_frame,
    wrappers,
)

CASES = REPO / "tests" / "cases"

FILL_BYTES = 640
# The scanner itself puts sixteen zero bytes behind a frame: the hostile bytes that stay lie behind those.
FILLS = [
    bytes(FILL_BYTES),
    *(bytes([byte]) * FILL_BYTES for byte in (0x80, 0xFF, 0x01, 0x12, *b'7".,:[]{} ')),
    b'"]]}}' * (FILL_BYTES // 5),
    b'","1"]],"a":[]}}' * (FILL_BYTES // 16),
]
GRAMMAR = b'\x00\x1f\x7f\x80\xff "\\,:.-+0179eE[]{}abABsuUpt'


def behind(cut: bytes) -> Iterator[bytes]:
    """What may lie behind a cut: fillings, and the bytes that were cut off, where they were and behind the zeros."""
    yield from FILLS
    yield cut
    yield bytes(16) + cut


@pytest.mark.parametrize(("dialect", "market", "frame"), FRAMES, ids=IDS)
def test_a_frame_cut_at_any_byte_means_what_its_bytes_say(dialect: str, market: str, frame: bytes) -> None:
    codec, mem = feed_codec(dialect, market), MEMORY[dialect, market]
    for at in range(len(frame) + 1):
        topics = {assert_scan_equal(codec, mem, frame[:at], rest) for rest in behind(frame[at:])}
        assert len(topics) == 1, frame[:at]


def test_every_dialect_has_the_one_snapshot_scanner_or_leaves_snapshots_to_its_reference() -> None:
    """What is tried on Binance's codec below and by random frames elsewhere is so for every dialect."""
    own = []
    for (dialect, market), mem in MEMORY.items():
        codec = feed_codec(dialect, market)
        if codec.scan_snapshot is not keys.scan_snapshot:
            own.append(dialect)
            for frame in SNAPSHOTS:
                put_frame(codec, mem, frame)
                assert codec.scan_snapshot(mem, len(frame)) == TOPIC_UNKNOWN
    assert set(own) == {"bybit"}


@pytest.mark.parametrize("frame", SNAPSHOTS)
def test_a_snapshot_cut_at_any_byte_means_what_its_bytes_say(frame: bytes) -> None:
    codec, mem = feed_codec("binance", "spot"), MEMORY["binance", "spot"]
    for at in range(len(frame) + 1):
        topics = {assert_snapshot_equal(codec, mem, frame[:at], rest) for rest in behind(frame[at:])}
        assert topics == {TOPIC_SNAPSHOT if at == len(frame) else TOPIC_UNKNOWN}, frame[:at]


@pytest.mark.parametrize(("dialect", "market", "frame"), FRAMES, ids=IDS)
def test_a_frame_with_any_byte_replaced_means_what_its_bytes_say(dialect: str, market: str, frame: bytes) -> None:
    codec, mem = feed_codec(dialect, market), MEMORY[dialect, market]
    values = bytes(range(256)) if dialect == "mexc" else GRAMMAR
    for at in range(len(frame)):
        for value in values:
            assert_scan_equal(codec, mem, frame[:at] + bytes([value]) + frame[at + 1 :], FILLS[1])


@pytest.mark.parametrize("name", list(BODIES))
def test_protobuf_fields_cut_or_stretched_inside_a_right_frame(name: str) -> None:
    codec, mem = feed_codec("mexc", "spot"), MEMORY["mexc", "spot"]

    def spellings(size: int) -> Iterator[Spelling]:
        for at in range(size + 1):
            yield lambda number, content, flat, at=at: field(number, content[:at], flat)  # type: ignore[misc]
            if at < size:  # the field ends early and its rest stands behind it; its length reaches over its end
                yield lambda number, content, flat, at=at: field(number, content, flat, size=at)  # type: ignore[misc]
                yield lambda number, content, flat, at=at: field(number, content[:at], flat, size=len(content))  # type: ignore[misc]
            for more in (b"\x80", b"\xff", b"\x01", b"\x00", b"7", b".", b"\x30\x80", b"\x30\xff\xff", b"\x0a\x80"):
                yield lambda number, content, flat, at=at, more=more: field(number, content[:at] + more, flat)  # type: ignore[misc]

    for fields in wrappers(name):
        taken = set()
        for target in places(fields):
            for spell in spellings(len(content_of(fields, target))):
                frame = encode(fields, target, spell)
                topics = {assert_scan_equal(codec, mem, frame, rest) for rest in (FILLS[0], FILLS[1], FILLS[3])}
                assert len(topics) == 1, frame
                taken |= topics
        assert TOPIC_UNKNOWN in taken and len(taken) > 1  # some are refused, some are frames as good as before


def content_of(fields: Fields, target: tuple[int, ...]) -> bytes:
    """The bytes of one field of a message, without tag and length."""
    found = b""

    def note(number: int, content: bytes, is_varint: bool) -> bytes:
        nonlocal found
        found = content
        return field(number, content, is_varint)

    encode(fields, target, note)
    return found


@pytest.mark.parametrize("name", list(BODIES))
def test_protobuf_varints_longer_than_they_need_to_be(name: str) -> None:
    """Google's decoder refuses tags and lengths of more than five bytes, and field numbers of thirty bits."""
    codec, mem = feed_codec("mexc", "spot"), MEMORY["mexc", "spot"]
    for fields in wrappers(name):
        for target in places(fields):
            for size in range(2, 12):

                def longer_tag(number: int, content: bytes, flat: bool, size: int = size) -> bytes:
                    return field(number, content, flat, tag=size)

                def longer_length(number: int, content: bytes, flat: bool, size: int = size) -> bytes:
                    return field(number, content, flat, length=size)

                def longer_value(number: int, content: bytes, flat: bool, size: int = size) -> bytes:
                    padded = content[:-1] + bytes([content[-1] | 128]) + b"\x80" * (size - 2) + b"\0"
                    return field(number, padded if flat else content, flat)

                for spell in (longer_tag, longer_length, longer_value):
                    assert_scan_equal(codec, mem, encode(fields, target, spell), FILLS[1])
    for bits in range(8, 62):
        for fields in wrappers(name):
            for k in range(len(fields) + 1):
                for extra in ((1 << bits | 2, b"x"), (1 << bits | 2, 5), (1 << bits | BODIES[name][0], b"")):
                    assert_scan_equal(codec, mem, encode([*fields[:k], extra, *fields[k:]]), FILLS[1])


def test_the_case_of_a_varint_cut_by_the_frames_end() -> None:
    """Its last field, a varint inside the depth body, ended in the byte behind the body."""
    codec, mem = feed_codec("mexc", "spot"), MEMORY["mexc", "spot"]
    frame = (CASES / "mexc_depth_cut_varint.bin").read_bytes()
    assert {assert_scan_equal(codec, mem, frame, rest) for rest in FILLS} == {TOPIC_UNKNOWN}
    # with its last byte in the frame it is a good one
    assert assert_scan_equal(codec, mem, frame.replace(b"\xca\x13\xea", b"\xca\x13\xeb") + b"\0") == TOPIC_DEPTH


@pytest.mark.parametrize("length", [79, 80, 81, 90])
@pytest.mark.parametrize("shape", ["{:0>{n}}", "0.{:0>{m}}", "1.{:0<{m}}"])
def test_numbers_of_many_characters(length: int, shape: str) -> None:
    """Numbers of more than eighty characters are refused by the reference decoder, so the scanners do not take them."""
    text = shape.format("5", n=length, m=length - 2)
    assert len(text) == length
    number = text.encode()
    update = b'{"e":"depthUpdate","E":1,"s":"A","U":1,"u":2,"b":[["%s","1"]],"a":[["1","%s"]]}' % (number, number)
    assert_scan_equal(feed_codec("binance", "spot"), MEMORY["binance", "spot"], update)
    result = b'{"t":5,"u":6,"s":"A","b":"%s","B":1,"a":"2","A":0}' % number
    ticker = b'{"channel":"spot.book_ticker","event":"update","result":%s}' % result
    assert_scan_equal(feed_codec("gateio", "spot"), MEMORY["gateio", "spot"], ticker)
    snapshot = b'{"lastUpdateId":1,"bids":[["2","%s"]],"asks":[]}' % number
    assert_snapshot_equal(feed_codec("binance", "spot"), MEMORY["binance", "spot"], snapshot)
    body: Fields = [(1, [(1, number), (2, b"1")]), *TEXTS]
    assert_scan_equal(feed_codec("mexc", "spot"), MEMORY["mexc", "spot"], encode([*CHANNEL, *HEAD, (313, body)]))
