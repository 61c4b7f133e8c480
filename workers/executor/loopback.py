"""Where a rehearsed entry's bytes go: two connections of this process to itself. Nothing leaves it.

The kernel's way through TCP leaves the caches as all else does: memory alone is hardly worth it. So does libssl's way
from an order to a record.
"""

from __future__ import annotations

import contextlib
import os
import socket

from pipeline.exchanges.transport.openssl import libssl
from pipeline.fast_entry.encoder import NO_SEALS
from workers.executor.sealed_pair import SealedPair

READ_BYTES = 1 << 16
CONNECT_TIMEOUT_S = 1.0


class Loopback:
    """``fds``: the sockets that take both orders; ``seals``: how they are encrypted. ``sealed``: they are, where libssl
    can be called."""

    def __init__(self, *, sealed: bool = False) -> None:
        self._pairs = [connected(), connected()]
        self.fds = (self._pairs[0][0], self._pairs[1][0])
        self._sealed: list[SealedPair] = []
        lib = libssl() if sealed else None
        if lib is not None:
            with contextlib.suppress(OSError):  # a library that makes no such key: rehearsed plain
                self._sealed = [SealedPair(lib), SealedPair(lib)]
        self.seals = (self._sealed[0].seal, self._sealed[1].seal) if self._sealed else NO_SEALS

    def drain(self) -> None:
        """Reads what has come."""
        for _, theirs in self._pairs:
            with contextlib.suppress(BlockingIOError):  # a busy host delivers later: it is read the next time
                os.read(theirs, READ_BYTES)

    def close(self) -> None:
        """Closes both connections."""
        for ends in self._pairs:
            for end in ends:
                os.close(end)
        self._pairs.clear()
        for pair in self._sealed:
            pair.close()
        self._sealed.clear()


def connected() -> tuple[int, int]:
    """Both ends of a connection over loopback, as order entry has one; of a plain pair where that is forbidden."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname(), timeout=CONNECT_TIMEOUT_S)
            theirs, _ = server.accept()
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours.detach(), theirs.detach()
