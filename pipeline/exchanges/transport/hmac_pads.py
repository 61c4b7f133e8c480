"""HMAC with the key's two pads hashed once, so that a signature costs two short updates.

*Source:* RFC 2104: ``H(key ^ opad || H(key ^ ipad || message))``; blocks of SHA-256 and SHA-512 are 64 and 128 bytes.
"""

from __future__ import annotations

import hashlib
from typing import Literal

_BLOCK_BYTES = {"sha256": 64, "sha512": 128}
_IPAD = bytes(x ^ 0x36 for x in range(256))
_OPAD = bytes(x ^ 0x5C for x in range(256))


class HmacPads:
    """Hex HMAC of messages under one secret. ``repr`` never shows the secret."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: str, algorithm: Literal["sha256", "sha512"]) -> None:
        block = _BLOCK_BYTES[algorithm]
        key = secret.encode()
        if len(key) > block:
            key = hashlib.new(algorithm, key).digest()
        key = key.ljust(block, b"\0")
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
