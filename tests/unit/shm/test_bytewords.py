"""Unaligned reads, digit and string runs, byte marks and block moves against plain Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as some

from shm import bytewords as bw
from shm.jit import njit
from shm.words import Words

WORDS = 24


@njit
def look(words: Words, i: int, out: Words) -> None:
    """Every reader at one place."""
    out[0] = bw.load8(words, i)
    out[1] = bw.load1(words, i)
    out[2] = bw.digit_run(words, i)
    out[3] = bw.digits_value(words, i, out[2]) if out[2] else -1
    out[4] = bw.plain_run(words, i)
    out[5] = bw.byte_marks(words, i, 0x22)
    out[6] = bw.lowest_bit(out[5])


@njit
def change(words: Words, dst: int, src: int, count: int) -> None:
    bw.move_words(words, dst, src, count)


@njit
def steps(words: Words, i: int, key: int, out: Words) -> None:
    out[0] = bw.step_if_below(words, i, 6, key)
    out[1] = bw.step_if_not_above(words, i, 6, key)
    bw.put(words, i, bw.get(words, i) + 1)
    bw.zero16(words, 8 * i + 11)


def run(data: bytes, good: set[int]) -> int:
    return next((k for k in range(8) if data[k] not in good), 8)


DIGITS = set(b"0123456789")
PLAIN = set(range(32, 128)) - set(b'"\\')
text = some.lists(some.sampled_from(b'0123456789.,"\\azZ \x00\x1f\x7f\x80\xff'), min_size=WORDS * 8, max_size=WORDS * 8)


@settings(max_examples=300, deadline=None)
@given(data=some.one_of(text.map(bytes), some.binary(min_size=WORDS * 8, max_size=WORDS * 8)), i=some.integers(0, 100))
def test_readers_equal_plain_python(data: bytes, i: int) -> None:
    words = np.frombuffer(data, dtype="<i8").astype(np.int64)
    out = np.zeros(7, dtype=np.int64)
    look(words, i, out)
    here = data[i : i + 64]
    digits = run(here, DIGITS)
    marks = sum(1 << k for k in range(64) if here[k] == 0x22)
    assert [int(word) for word in out] == [
        int.from_bytes(here[:8], "little", signed=True),
        here[0],
        digits,
        int(here[:digits]) if digits else -1,
        run(here, PLAIN),
        marks - (1 << 64) if marks >> 63 else marks,
        next((k for k in range(64) if marks >> k & 1), 64),
    ]


@settings(max_examples=100, deadline=None)
@given(dst=some.integers(0, 20), src=some.integers(0, 20), count=some.integers(0, 20))
def test_moves_may_overlap(dst: int, src: int, count: int) -> None:
    words = np.arange(48, dtype=np.int64)
    wanted = words.copy()
    wanted[dst : dst + count] = words[src : src + count].copy()
    change(words, dst, src, count)
    assert (words == wanted).all()


@settings(max_examples=100, deadline=None)
@given(value=some.integers(-(2**62), 2**62 - 1), key=some.integers(-(2**62), 2**62 - 1), near=some.integers(-1, 1))
def test_steps_compare_without_a_branch(value: int, key: int, near: int) -> None:
    for wanted in (key, max(-(2**62), min(2**62 - 1, value + near))):
        words = np.full(8, -1, dtype=np.int64)
        words[2] = value
        out = np.zeros(2, dtype=np.int64)
        steps(words, 2, wanted, out)
        assert [int(word) for word in out] == [6 * (value < wanted), 6 * (value <= wanted)]
        assert words[2] == value + 1
        assert bytes(words.data.cast("B"))[27:43] == bytes(16) and words[1] == -1 and words[6] == -1
