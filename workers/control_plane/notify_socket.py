"""The receiving end of the readiness protocol (``sd_notify``): datagrams of the instance's own processes."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
from collections.abc import Callable

MESSAGE_BYTES_MAX = 4096
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, as the kernel attaches them


class NotifySocket:
    """A datagram socket in the abstract name space, read by the running event loop.

    ``on_message`` is called with (pid, text); the pid is the kernel's, and messages of other users are dropped.
    """

    def __init__(self, instance: str, on_message: Callable[[int, str], None]) -> None:
        self.address = f"@arb-{instance}-{secrets.token_hex(6)}"  # for NOTIFY_SOCKET of the children
        self._on_message = on_message
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        self._socket.bind("\0" + self.address[1:])
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def _receive(self) -> None:
        while True:
            try:
                raw, ancillary, _, _ = self._socket.recvmsg(MESSAGE_BYTES_MAX, socket.CMSG_SPACE(CREDENTIALS.size))
            except BlockingIOError:
                return
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    pid, uid, _ = CREDENTIALS.unpack(data[: CREDENTIALS.size])
                    if uid in (0, os.geteuid()):
                        self._on_message(pid, raw.decode(errors="replace"))

    def close(self) -> None:
        """Stop reading and close the socket."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
