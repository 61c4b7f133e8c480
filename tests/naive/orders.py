"""Slow and obvious twins of how orders are signed and framed."""

from __future__ import annotations

import hmac


def hex_signature(key: bytes, message: bytes) -> str:
    """HMAC-SHA256 in hex, by the library."""
    return hmac.new(key, message, "sha256").hexdigest()


def framed(payload: bytes, key: int) -> bytes:
    """A masked text frame, one step after the other (RFC 6455, section 5.2)."""
    mask = key.to_bytes(4, "big")
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return b"\x81" + length + mask + bytes(byte ^ mask[k % 4] for k, byte in enumerate(payload))


def unframed(frame: bytes) -> bytes:
    """The payload of a masked text frame of less than 64 kB."""
    assert frame[0] == 0x81 and frame[1] & 0x80, "a whole text message, masked"
    size, at = frame[1] & 0x7F, 2
    if size == 126:
        size, at = int.from_bytes(frame[2:4], "big"), 4
        assert size > 125, "the shortest form of the length"
    mask, payload = frame[at : at + 4], frame[at + 4 :]
    assert len(payload) == size
    return bytes(byte ^ mask[k % 4] for k, byte in enumerate(payload))
