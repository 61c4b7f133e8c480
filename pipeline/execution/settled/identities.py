"""Identities of orders and fills that have left memory: 16 bytes each, so that none is ever taken for new.

Looked up only for messages about orders that are no longer in memory: rare. The newest identities are a set; every
``CHUNK`` of them becomes one sorted array, which a checkpoint writes to a file once and never again.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

CHUNK = 65_536
IDENTITY_BYTES = 16  # two of a hundred million differ but for a chance of 1 in 10**22
Chunk = npt.NDArray[np.uint64]  # [CHUNK, 2]: both halves of an identity, sorted by the first


def identity(*parts: str) -> bytes:
    """16 bytes that stand for ``parts``."""
    return blake2b("\0".join(parts).encode(), digest_size=IDENTITY_BYTES).digest()


def fill_identity(venue: str, symbol: str, trade_id: str) -> bytes:
    """Identity of an execution."""
    return identity("fill", venue, symbol, trade_id)


def order_identity(venue: str, client_id: str) -> bytes:
    """Identity of an order by our own id."""
    return identity("order", venue, client_id)


def venue_order_identity(venue: str, order_id: str) -> bytes:
    """Identity of an order by its venue's id."""
    return identity("venue order", venue, order_id)


class SettledIds:
    """A set of identities that only grows. ``digest``: 16 bytes over all of them in their order, for comparisons."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.recent: list[bytes] = []
        self.digest = bytes(16)
        self._recent = set[bytes]()

    def __len__(self) -> int:
        return len(self.chunks) * CHUNK + len(self.recent)

    def add(self, one: bytes) -> None:
        """Adds an identity that is not in it."""
        self.recent.append(one)
        self._recent.add(one)
        self.digest = blake2b(self.digest + one, digest_size=16).digest()
        if len(self.recent) == CHUNK:
            self.chunks.append(sorted_chunk(self.recent))
            self.recent, self._recent = [], set()

    def __contains__(self, one: object) -> bool:
        if not isinstance(one, bytes):
            return False
        if one in self._recent:
            return True
        first, second = np.frombuffer(one, np.uint64)
        for chunk in self.chunks:
            at = int(np.searchsorted(chunk[:, 0], first))
            while at < CHUNK and chunk[at, 0] == first:
                if chunk[at, 1] == second:
                    return True
                at += 1
        return False

    def restore(self, chunks: list[Chunk], recent: list[bytes], digest: bytes) -> None:
        """Takes the content that a checkpoint has kept."""
        self.chunks, self.recent, self.digest = chunks, recent, digest
        self._recent = set(recent)


def sorted_chunk(identities: list[bytes]) -> Chunk:
    """``CHUNK`` identities as a sorted array."""
    rows = np.frombuffer(b"".join(identities), np.uint64).reshape(-1, 2)
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]
