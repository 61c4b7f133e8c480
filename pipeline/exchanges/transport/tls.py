"""TLS over a plain transport of the loop, encrypted by our own SSL*: what an order's connection needs, so that a jitted
kernel can encrypt and send by itself.

::

    protocol <-- plaintext -- [ SSL* between two memory BIOs ] <-- records -- plain transport
    protocol -- plaintext --> [                              ] -- records --> send(2), the rest: plain transport

The library never sees the socket: it takes records from one piece of memory and leaves records in another. What it
leaves is given to the socket at once and as a whole, behind everything of before: the plain transport takes what the
socket does not, so there is one order of bytes whoever writes, and none is written in part and forgotten.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, cast

import numpy as np

from pipeline.exchanges.transport.openssl import (
    BIO_INFO,
    BIO_RESET,
    NO_KEY_UPDATE,
    WANT_READ,
    ZERO_RETURN,
    ClientContext,
)
from pipeline.model.errors import VenueUnavailable
from shm.tls.sealed import SEAL

P = TypeVar("P", bound=asyncio.BaseProtocol)
CreateConnection = Callable[..., Awaitable[tuple[asyncio.BaseTransport, asyncio.BaseProtocol]]]

RECORDS_BYTES = 64 * 1024  # taken from the socket at once
PLAIN_BYTES = 16 * 1024  # the largest record's
HANDSHAKE_TIMEOUT_S = 10.0
_BROKEN = select.POLLERR | select.POLLHUP | select.POLLRDHUP


class TlsTransport(asyncio.Transport):
    """What the protocol above writes to; ``protocol`` is made when the handshake is done. Lives in one thread: nothing
    else touches its SSL*."""

    def __init__(self, context: ClientContext, host: str, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Raises ssl.SSLError."""
        super().__init__()
        lib = context.lib
        self._context, self._lib, self._factory = context, lib, factory
        self._ssl = context.new_ssl(host)
        self._in, self._out = lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())
        lib.SSL_set_bio(self._ssl, self._in, self._out)  # both are its own from here on
        self._data = ctypes.c_void_p()
        self._plain = bytearray(PLAIN_BYTES)
        self._plain_view = memoryview(self._plain)
        self._plain_at = ctypes.addressof(ctypes.c_char.from_buffer(self._plain))
        self._protocol: Any = None
        self._buffered = False
        self._raw: Any = None  # the plain transport; uvloop's share no base class with asyncio's
        self._fd = -1
        self._closing = False
        self._idle = False  # no record was taken in part, no key update is due
        self._error: Exception | None = None
        self._poll = select.poll()
        self._seal = np.zeros(SEAL.WORDS, np.int64)
        self.seal: int = self._seal.ctypes.data
        self._seal[SEAL.ssl_write], self._seal[SEAL.bio_ctrl] = lib.address("SSL_write"), lib.address("BIO_ctrl")
        self._seal[SEAL.ssl], self._seal[SEAL.out] = self._ssl, self._out
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- from the plain transport ---

    def began(self, raw: Any) -> None:
        """Connected: the handshake begins."""
        if self._closing:  # given up meanwhile
            raw.abort()
            return
        self._raw, self._fd = raw, raw.get_extra_info("socket").fileno()
        self._poll.register(self._fd, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
        self._shake()

    def took(self, address: int, size: int) -> None:
        """Records have come."""
        if self._closing:
            return
        self._lib.BIO_write(self._in, address, size)
        if self._protocol is not None or self._shake():
            self._deliver()

    def ended(self) -> None:
        """The peer sends no more, and has not said so by TLS."""
        if self._closing:
            return
        if self._protocol is None:
            self._fail(ConnectionResetError("connection closed during the TLS handshake"))
        else:
            self._protocol.eof_received()

    def lost(self, error: Exception | None) -> None:
        """The plain transport is gone."""
        self._closing, self._raw, self._fd = True, None, -1
        self._free()
        self._give_up(error or ConnectionResetError("connection lost during the TLS handshake"))
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(self._error or error)

    def _shake(self) -> bool:
        """Goes on with the handshake; whether it is done."""
        lib = self._lib
        lib.ERR_clear_error()
        result = lib.SSL_do_handshake(self._ssl)
        self._flush()
        if result == 1:
            if self.opened.done() or self._closing:  # given up meanwhile
                return False
            self._protocol = protocol = self._factory()
            self._buffered = hasattr(protocol, "get_buffer")
            self._protocol.connection_made(self)
            if self._closing:  # what the protocol wrote at once met a reset: `lost` fails what waits for us
                return False
            if not self.opened.done():
                self.opened.set_result(None)
            self._note_idle()
            return True
        if lib.SSL_get_error(self._ssl, result) != WANT_READ:
            self._fail(self._context.error_of(self._ssl))
        return False

    def _deliver(self) -> None:
        """Everything that can be read, to the protocol."""
        lib = self._lib
        while not self._closing:
            lib.ERR_clear_error()
            size = lib.SSL_read(self._ssl, self._plain_at, PLAIN_BYTES)
            if size > 0:
                self._hand_up(self._plain_view[:size])
                continue
            found = lib.SSL_get_error(self._ssl, size)
            if found == ZERO_RETURN:
                self._protocol.eof_received()
                self.close()
            elif found == WANT_READ:
                self._flush()  # what the library answers by itself
                self._note_idle()
            else:
                self._fail(self._context.error_of(self._ssl))
            return

    def _hand_up(self, data: memoryview) -> None:
        protocol = self._protocol
        if not self._buffered:
            protocol.data_received(bytes(data))
            return
        while len(data) and not self._closing:
            room = protocol.get_buffer(len(data))
            size = min(len(room), len(data))
            room[:size] = data[:size]
            data = data[size:]
            protocol.buffer_updated(size)

    def _note_idle(self) -> None:
        lib, pointer = self._lib, self._ssl
        self._idle = not (
            self._closing
            or lib.SSL_in_init(pointer)  # a message behind the handshake has come in part
            or lib.BIO_ctrl_pending(self._in)
            or lib.SSL_has_pending(pointer)
            or lib.SSL_get_key_update_type(pointer) != NO_KEY_UPDATE
        )

    def _fail(self, error: Exception) -> None:
        """The end: what the library leaves to say (an alert) is said, and no more."""
        self._error = self._error or error
        self._flush()
        self._give_up(error)
        self.abort()

    def _free(self) -> None:
        self._lib.SSL_free(self._ssl)  # and both BIOs; nothing where it is free already
        self._lib.ERR_clear_error()
        self._ssl = self._in = self._out = 0
        self._seal[SEAL.ssl] = self._seal[SEAL.out] = 0

    def _give_up(self, error: Exception) -> None:
        """Whoever waits for the handshake waits no longer."""
        if not self.opened.done():
            self.opened.set_exception(self._error or error)

    # --- to the socket ---

    def _flush(self) -> bool:
        """Every record that the library has left, to the socket, behind everything of before. False: it was reset
        before, and took none of them."""
        records = self._take()
        if not records or self._closing:
            return True
        taken = 0
        if not self._raw.get_write_buffer_size():
            try:
                taken = os.write(self._fd, records)
            except BlockingIOError:
                pass
            except OSError as error:
                self._error = self._error or error
                self.abort()
                return False
        if taken < len(records):
            self._raw.write(records[taken:])
        return True

    def _take(self) -> bytes:
        """Every record that the library has left."""
        lib = self._lib
        size = lib.BIO_ctrl(self._out, BIO_INFO, 0, ctypes.byref(self._data))
        if size <= 0:
            return b""
        records = ctypes.string_at(self._data, size)
        lib.BIO_ctrl(self._out, BIO_RESET, 0, None)
        return records

    # --- sent by somebody else ---

    def direct_fd(self) -> int:
        """The socket, for one record that is made by ``seal`` before anything else runs here. -1: the bytes go by
        :meth:`write`, as something has come that was not read, or a key update is due. Raises ``VenueUnavailable`` when
        the connection is closed or closing, or does not take the bytes of before: that is looked for at the socket
        itself, as a record that was made must be sent."""
        if self.is_closing():
            raise VenueUnavailable("connection is closed; nothing was sent")
        if self._raw.get_write_buffer_size():
            raise VenueUnavailable("the connection does not take the bytes of before; nothing was sent")
        found = self._poll.poll(0)
        state = found[0][1] if found else 0
        if state == select.POLLOUT:
            return self._fd if self._idle else -1
        if state & _BROKEN:
            raise VenueUnavailable("connection was closed by the venue; nothing was sent")
        if not state & select.POLLOUT:
            raise VenueUnavailable("the connection is full; nothing was sent")
        return -1

    def write_rest(self) -> None:
        """The socket took a part of the record: the rest goes before everything else."""
        records = self._take()[int(self._seal[SEAL.taken]) :]
        if records and self._raw is not None and not self._closing:
            self._raw.write(records)

    # --- asyncio.Transport ---

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypts the bytes, and gives them to the socket before it returns."""
        self.gives(data)

    def gives(self, data: bytes | bytearray | memoryview) -> bool:
        """As :meth:`write`. False: nothing of them was sent, provably; the connection ends."""
        if self._closing:
            return False
        if not len(data):
            return True
        whole, lib = bytes(data), self._lib
        lib.ERR_clear_error()
        if lib.SSL_write(self._ssl, whole, len(whole)) != len(whole):
            self._fail(self._context.error_of(self._ssl))
            return False
        sent = self._flush()
        if sent and not self._idle:
            self._note_idle()  # a key update that was due has gone before the bytes
        return sent

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Says the end by TLS, sends what waits, closes."""
        if self._closing:
            return
        self._lib.ERR_clear_error()
        self._lib.SSL_shutdown(self._ssl)
        self._flush()
        self._closing, self._idle = True, False
        self._lib.ERR_clear_error()
        self._raw.close()

    def abort(self) -> None:
        """Closes now; what waits is dropped."""
        self._closing, self._idle = True, False
        self._lib.ERR_clear_error()  # a kernel's: Python's own ``ssl`` would take it for one of its connections
        if self._raw is not None:
            self._raw.abort()
        else:
            self._free()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def get_write_buffer_size(self) -> int:
        return int(self._raw.get_write_buffer_size()) if self._raw is not None else 0

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the plain transport; ``ssl_object``: something, so that nobody writes past it."""
        if name == "ssl_object":
            return self
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self._protocol)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol


class _Below(asyncio.BufferedProtocol):
    """The plain transport's protocol: gives everything on."""

    def __init__(self, above: TlsTransport) -> None:
        self._above = above
        self._records = bytearray(RECORDS_BYTES)
        self._view = memoryview(self._records)
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(self._records))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._above.began(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self._above.took(self._at, nbytes)

    def eof_received(self) -> bool:
        self._above.ended()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._above.lost(exc)

    def pause_writing(self) -> None:
        protocol = self._above.get_protocol()
        if protocol is not None:
            protocol.pause_writing()

    def resume_writing(self) -> None:
        protocol = self._above.get_protocol()
        if protocol is not None:
            protocol.resume_writing()


def made_here(loop: asyncio.AbstractEventLoop) -> None:
    """From now on the loop's ``create_connection`` makes connections whose ``ssl`` is a :class:`ClientContext` by
    :func:`connect`: who connects by a library that only hands its ``ssl`` on (picows) gets them so."""
    ordinary = loop.create_connection
    if getattr(ordinary, "makes_own_tls", False):
        return

    async def create_connection(
        protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, *, ssl: Any = None, **more: Any
    ) -> tuple[Any, Any]:
        if isinstance(ssl, ClientContext):
            return await connect(ordinary, protocol_factory, host, port, ssl)
        return await ordinary(protocol_factory, host, port, ssl=ssl, **more)

    create_connection.makes_own_tls = True  # type: ignore[attr-defined]
    loop.create_connection = create_connection  # type: ignore[method-assign]


async def connect(
    create_connection: CreateConnection, factory: Callable[[], P], host: str, port: int, context: ClientContext
) -> tuple[TlsTransport, P]:
    """A connection to ``host``, its certificate checked, and the protocol of ``factory`` on it.
    ``create_connection``: the loop's. Raises OSError (ssl.SSLError is one), TimeoutError."""
    above = TlsTransport(context, host, factory)
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            await create_connection(lambda: _Below(above), host, port)
            await above.opened
    except BaseException:
        above.abort()
        above._free()  # a connect that was cancelled in its last round is closed without a word to its protocol
        if not above.opened.cancel() and not above.opened.cancelled():
            above.opened.exception()  # known: it, or what came before it, is raised here
        raise
    return above, cast(P, above.get_protocol())
