"""Mutations of bytes: what a broken peer, a cut connection and somebody with bad intentions send."""

from __future__ import annotations

import random
from collections.abc import Sequence

#: What parsers trip over: numbers at the ends of their words, no numbers, structure, digits of other scripts.
TOKENS = (
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"-1", b"-0", b"1e999", b"1E-999", b"NaN",
    b"Infinity", b"-Infinity", b"1_000", b"\xd9\xa1\xd9\xa2", b"0.00000000000000000001", b"." * 3, b"null", b"true",
    b"false", b'""', b"[]", b"{}", b"[[", b"]]", b"}}", b'"', b"\\", b"\\u0000", b"\\ud800", b",", b":", b"\x00",
    b"\xff" * 4, b"\x80" * 10, b"\r\n", b"\r\n\r\n", b"\x1b[31m", b"0" * 40, b"9" * 40, b"[" * 64, b'{"a":' * 32,
    b"\x12\xff\xff\xff\xff\x0f", b"\x0a\x00", b" ", b"\t", b"\xc3\x28", b"\xef\xbb\xbf", b"Content-Length: 99999999999",
    b"Transfer-Encoding: chunked", b"ffffffffffffffff\r\n", b"Content-Encoding: gzip", b"HTTP/1.1 999 ", b"!!python/",
    b"&a", b"*a", b"<<:", b"? ", b"- ", b"|", b"%",
)  # fmt: skip


def mutated(seeds: Sequence[bytes], rng: random.Random, most: int) -> bytes:
    """One of ``seeds`` with one to four changes, at most ``most`` bytes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        _change(data, seeds, rng)
    return bytes(data[:most])


def _change(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randint(0, len(data))
    width = rng.choice((1, 1, 2, 4, 8, 32))
    kind = rng.randrange(9)
    if kind == 0:
        data[at : at + 1] = bytes([rng.randrange(256)])
    elif kind == 1 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 2:
        del data[at : at + width]
    elif kind == 3:
        data[at:at] = rng.choice(TOKENS)
    elif kind == 4:
        data[at : at + width] = rng.choice(TOKENS)
    elif kind == 5:
        data[at:at] = data[at : at + width] * rng.choice((1, 2, 16))
    elif kind == 6:
        other = rng.choice(seeds)
        begin = rng.randint(0, len(other))
        data[at : at + width] = other[begin : begin + rng.choice((4, 16, 64))]
    elif kind == 7:
        del data[at:]
    else:
        _number(data, at, rng)


def _number(data: bytearray, at: int, rng: random.Random) -> None:
    """The number nearest behind ``at`` becomes another one."""
    begin = next((k for k in range(at, len(data)) if 48 <= data[k] <= 57), len(data))
    end = next((k for k in range(begin, len(data)) if not 48 <= data[k] <= 57), len(data))
    data[begin:end] = rng.choice((b"0", b"1", b"00", b"9" * 18, b"9" * 19, str(2**63).encode(), b"1.", b".5", b"-7"))
