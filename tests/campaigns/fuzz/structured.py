"""Mutations that keep a message well formed around the one place that they change: JSON values, protobuf fields."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

VALUES: tuple[Any, ...] = (
    0, 1, -1, 2**53, 2**63, 10**19, 1e300, 0.1, "", "0", "-1", "1e5", "NaN", "9" * 19, "0." + "0" * 30 + "1", "1" * 30,
    None, True, False, [], {}, [[]], [["1"]], [["1", "2"]], [["1", "2", "3"]], "\u4e01", "x" * 200, "a\x1bb",
    12345678901234567890, 1700000000000, "BTC_USDT", "update", "all",
)  # fmt: skip
Field = tuple[int, int, "int | bytes"]  # number, wire type, value
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def json_mutated(seeds: Sequence[bytes], rng: random.Random, words: Sequence[str] = ()) -> bytes | None:
    """A JSON seed with a value, a key or an item changed; None where the chosen one is no JSON. ``words``: values that
    mean something to its reader."""
    try:
        whole = json.loads(rng.choice(seeds))
    except ValueError:
        return None
    places = list(_containers(whole))
    if not places:
        return None
    for _ in range(rng.choice((1, 1, 2))):
        one = rng.choice(places)
        if isinstance(one, dict) and one:
            key = rng.choice(list(one))
            kind = rng.randrange(4)
            if kind == 0:
                del one[key]
            elif kind == 1:
                one[rng.choice([*_keys(places), "full", "pu", "l"])] = copy.deepcopy(one[key])
            else:
                one[key] = copy.deepcopy(rng.choice([*VALUES, *words, *_values(places)]))
        elif isinstance(one, list):
            item = copy.deepcopy(rng.choice([*VALUES, *one, one[:1]]))
            one[rng.randint(0, len(one)) :] = [item] * rng.choice((0, 1, 1, 3, 300))
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=rng.random() < 0.5).encode()


def _containers(value: Any) -> list[Any]:
    found: list[Any] = []
    if isinstance(value, dict | list):
        found.append(value)
        for inner in value.values() if isinstance(value, dict) else value:
            found += _containers(inner)
    return found


def _keys(places: list[Any]) -> list[str]:
    return [key for place in places if isinstance(place, dict) for key in place]


def _values(places: list[Any]) -> list[Any]:
    return [value for place in places if isinstance(place, dict) for value in place.values()]


def protobuf_mutated(seeds: Sequence[bytes], rng: random.Random) -> bytes | None:
    """A protobuf seed with a field of it, or of a message inside it, changed; None where the chosen one is none."""
    fields = parsed(rng.choice(seeds))
    return None if not fields else _spelled(_changed(fields, rng, 3))


def parsed(data: bytes) -> list[Field] | None:
    """The fields of a message; None where the bytes are none."""
    at, found = 0, list[Field]()
    while at < len(data):
        tag, at = _varint_at(data, at)
        number, wire = tag >> 3, tag & 7
        if number < 1 or at > len(data):
            return None
        if wire == VARINT:
            value, at = _varint_at(data, at)
            found.append((number, wire, value))
        elif wire in (BYTES, FIXED32, FIXED64):
            size = {FIXED32: 4, FIXED64: 8}.get(wire, 0)
            if wire == BYTES:
                size, at = _varint_at(data, at)
            if at + size > len(data):
                return None
            found.append((number, wire, data[at : at + size]))
            at += size
        else:
            return None
    return found if at == len(data) else None


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at
    return value, len(data) + 1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _spelled(fields: Sequence[Field]) -> bytes:
    out = b""
    for number, wire, value in fields:
        out += _varint(number << 3 | wire)
        if isinstance(value, int):
            out += _varint(value)
        else:
            out += (_varint(len(value)) if wire == BYTES else b"") + value
    return out


def _changed(fields: list[Field], rng: random.Random, depth: int) -> list[Field]:
    at = rng.randrange(len(fields))
    number, wire, value = fields[at]
    inner = parsed(value) if isinstance(value, bytes) and wire == BYTES and depth else None
    if inner and rng.random() < 0.8:
        new: list[Field] = [(number, wire, _spelled(_changed(inner, rng, depth - 1)))]
        return [*fields[:at], *new, *fields[at + 1 :]]
    kind = rng.randrange(8)
    if kind == 0:
        new = []
    elif kind > 5 and isinstance(value, bytes) and value:  # a message that ends too early, its length with it
        new = [(number, wire, value[: rng.randrange(len(value))] + rng.choice((b"", b"\x80", b"\x07", b"\x0a\xff")))]
    elif kind == 1:
        new = [fields[at], fields[at]]
    elif kind == 2:
        new = [(rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 313, 314, 315)), wire, value)]
    elif kind == 3:
        new = [(number, FIXED64, bytes(8)), (number, FIXED32, bytes(4))][: rng.randint(1, 2)]
    elif kind == 4:
        new = [(number, VARINT, rng.choice((0, 1, 127, 128, 2**32, 2**63, 2**64 - 1)))]
    else:
        texts = (b"", b"0", b"1.5", b"-1", b"1" * 25, b"9" * 19, b".", b"1.", b"\xff" * 3, b"1" * 400, b"x")
        new = [(number, BYTES, rng.choice((*texts, b"\xe4\xb8\x81")))]
    return [*fields[:at], *new, *fields[at + 1 :]]
