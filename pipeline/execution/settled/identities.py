"""Identities of orders and fills that have left memory: 16 bytes each, so that none is ever taken for new.

Looked up only for messages about orders that are no longer in memory: rare, so that a scan does. They lie in arrays of
``CHUNK`` in the order of their coming; a checkpoint writes each full one to a file of its own, whose mapping then takes
the array's place (``checkpoint.py``): what a process holds of them does not grow, the kernel reads what is looked up.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

CHUNK = 65_536
IDENTITY_BYTES = 16  # that two of a hundred million are equal by chance: once in 10**22
Chunk = npt.NDArray[np.uint64]  # [CHUNK, 2]: both halves of an identity


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
        self.full: list[Chunk] = []  # one may be replaced by the mapping of its file, in any thread
        self.digest = bytes(16)
        self._open: Chunk = np.zeros((CHUNK, 2), np.uint64)
        self._octets = memoryview(self._open.data).cast("B")
        self._used = 0

    def __len__(self) -> int:
        return len(self.full) * CHUNK + self._used

    def add(self, one: bytes) -> None:
        """Adds an identity that is not in it."""
        at = self._used * IDENTITY_BYTES
        self._octets[at : at + IDENTITY_BYTES] = one
        self._used += 1
        self.digest = blake2b(self.digest + one, digest_size=16).digest()
        if self._used == CHUNK:
            self.full.append(self._open)
            self._begin_chunk(b"")

    def _begin_chunk(self, content: bytes) -> None:
        self._open = np.zeros((CHUNK, 2), np.uint64)
        self._octets = memoryview(self._open.data).cast("B")
        self._octets[: len(content)] = content
        self._used = len(content) // IDENTITY_BYTES

    @property
    def in_memory(self) -> list[int]:
        """Which full arrays are not the mapping of a file."""
        return [at for at, rows in enumerate(self.full) if not isinstance(rows, np.memmap)]

    def __contains__(self, one: object) -> bool:
        if not isinstance(one, bytes):
            return False
        first, second = np.frombuffer(one, np.uint64)
        for rows in (self._open[: self._used], *reversed(self.full)):
            if bool((rows[rows[:, 0] == first, 1] == second).any()):
                return True
        return False

    def newest(self) -> bytes:
        """The identities behind the full arrays, one after the other."""
        return bytes(self._octets[: self._used * IDENTITY_BYTES])

    def restore(self, full: list[Chunk], newest: bytes, digest: bytes) -> None:
        """Takes the content that a checkpoint has kept. ``full``: uint64 arrays of shape (CHUNK, 2), which are not
        copied."""
        self.full, self.digest = full, digest
        self._begin_chunk(newest)
