"""HMAC with the key's two pads hashed once, so that a signature costs two short updates.

*Source:* RFC 2104: ``H(key ^ opad || H(key ^ ipad || message))``; blocks of SHA-256 and SHA-512 are 64 and 128 bytes.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Algorithm = Literal["sha256", "sha512"]
_BLOCK_BYTES = {"sha256": 64, "sha512": 128}
_IPAD = bytes(x ^ 0x36 for x in range(256))
_OPAD = bytes(x ^ 0x5C for x in range(256))


def block_key(secret: str, algorithm: Algorithm) -> bytes:
    """A secret as the key of its HMAC: no longer than a block."""
    key = secret.encode()
    return key if len(key) <= _BLOCK_BYTES[algorithm] else hashlib.new(algorithm, key).digest()


class HmacPads:
    """Hex HMAC of messages under one secret. ``repr`` never shows the secret."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: str, algorithm: Algorithm) -> None:
        key = block_key(secret, algorithm).ljust(_BLOCK_BYTES[algorithm], b"\0")
        self._inner = hashlib.new(algorithm, key.translate(_IPAD))
        self._outer = hashlib.new(algorithm, key.translate(_OPAD))

    def __repr__(self) -> str:
        return "HmacPads(***)"

    def hexdigest(self, message: bytes | memoryview) -> str:
        """Lower-case hex HMAC of ``message``."""
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest()
