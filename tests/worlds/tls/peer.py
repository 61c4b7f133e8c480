"""A server of TLS with every means of the protocol: key updates, renegotiation, close_notify, garbage, silence."""

from __future__ import annotations

import _ssl
import asyncio
import ctypes
import os
import select
import socket
from ctypes import c_char_p, c_int, c_void_p
from typing import Any

from pipeline.exchanges.transport.openssl import BIO_INFO, BIO_RESET, LibSsl, libssl
from tests.worlds.tls.certificates import HOST, Certificates
from tests.worlds.waiting import WAIT_S, until_async

_PEM = 1
_VERSION_MAX = 124
TLS_1_2 = 0x0303
BUFFER_BYTES = 1 << 16  # of a socket, where a test fills it


class Peer:
    """Takes one connection. ``received``: what it has decrypted; ``version_max``: 0 = the newest."""

    def __init__(self, certificates: Certificates, *, version_max: int = 0, mute: bool = False) -> None:
        found = libssl()
        assert found is not None
        self._lib: LibSsl = found
        self._more = ctypes.PyDLL(_ssl.__file__)
        for name, result, *arguments in (
            ("TLS_server_method", c_void_p),
            ("SSL_CTX_use_certificate_chain_file", c_int, c_void_p, c_char_p),
            ("SSL_CTX_use_PrivateKey_file", c_int, c_void_p, c_char_p, c_int),
            ("SSL_set_accept_state", None, c_void_p),
            ("SSL_key_update", c_int, c_void_p, c_int),
            ("SSL_renegotiate", c_int, c_void_p),
        ):
            function = getattr(self._more, str(name))
            function.restype, function.argtypes = result, arguments
        lib, more = self._lib, self._more
        self._context = lib.SSL_CTX_new(more.TLS_server_method())
        lib.SSL_CTX_ctrl(self._context, _VERSION_MAX, version_max, None)
        assert more.SSL_CTX_use_certificate_chain_file(self._context, os.fsencode(certificates.chain))
        assert more.SSL_CTX_use_PrivateKey_file(self._context, os.fsencode(certificates.key), _PEM)
        self._ssl = lib.SSL_new(self._context)
        self._in, self._out = lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())
        lib.SSL_set_bio(self._ssl, self._in, self._out)
        more.SSL_set_accept_state(self._ssl)
        self._mute = mute
        self._listening = socket.create_server((HOST, 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.port: int = self._listening.getsockname()[1]
        self.socket: socket.socket | None = None
        self.received = bytearray()
        self.records = bytearray()  # as they came
        self.ended = False

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        if self.socket is not None:
            self.socket.close()
        self._lib.SSL_free(self._ssl)
        self._lib.SSL_CTX_free(self._context)

    def turn(self) -> None:
        """Takes a connection, reads what has come, answers what TLS asks for."""
        if self.socket is None:
            if not select.select([self._listening], [], [], 0)[0]:
                return
            self.socket, _ = self._listening.accept()
            self.socket.setblocking(False)
        while not self._mute and not self.ended:
            try:
                records = self.socket.recv(1 << 20)
            except BlockingIOError:
                break
            except OSError:
                records = b""
            self.ended = not records
            self.records += records
            self._lib.BIO_write(self._in, records, len(records))
            self._decrypt()
        self._flush()

    def _decrypt(self) -> None:
        lib, plain = self._lib, ctypes.create_string_buffer(1 << 16)
        lib.ERR_clear_error()
        while (size := lib.SSL_read(self._ssl, plain, len(plain))) > 0:
            self.received += plain.raw[:size]
        lib.ERR_clear_error()

    def _flush(self) -> None:
        data = ctypes.c_void_p()
        size = self._lib.BIO_ctrl(self._out, BIO_INFO, 0, ctypes.byref(data))
        if size > 0 and self.socket is not None and not self._mute:
            records = ctypes.string_at(data, size)
            self._lib.BIO_ctrl(self._out, BIO_RESET, 0, None)
            self.raw(records)

    async def until(self, what: Any, text: str = "the peer") -> None:
        """Takes its turns until then."""

        def then() -> bool:
            self.turn()
            return bool(what())

        await until_async(then, text)

    @property
    def is_secure(self) -> bool:
        """The handshake has ended here too: before that nothing can be said."""
        return bool(self._lib.SSL_do_handshake(self._ssl) == 1)

    async def runs(self) -> None:
        """Takes its turns until it is cancelled."""
        while True:
            self.turn()
            await asyncio.sleep(0)

    # --- what it says ---

    def say(self, data: bytes) -> None:
        assert self._lib.SSL_write(self._ssl, data, len(data)) == len(data)
        self._flush()

    def raw(self, records: bytes) -> None:
        """Bytes as they are."""
        assert self.socket is not None
        self.socket.setblocking(True)
        self.socket.settimeout(WAIT_S)
        self.socket.sendall(records)
        self.socket.setblocking(False)

    def update_keys(self, *, asks: bool) -> None:
        """New keys for what it says; ``asks``: and for what it is told."""
        assert self._more.SSL_key_update(self._ssl, int(asks)) == 1
        assert self._lib.SSL_do_handshake(self._ssl) == 1
        self._flush()

    def renegotiate(self) -> None:
        """TLS 1.2: asks for another handshake."""
        assert self._more.SSL_renegotiate(self._ssl) == 1
        self._lib.SSL_do_handshake(self._ssl)
        self._flush()

    def close_notify(self) -> None:
        self._lib.SSL_shutdown(self._ssl)
        self._flush()

    def half_a_record(self, data: bytes) -> bytes:
        """Says the first half of a record; the other one is returned."""
        assert self._lib.SSL_write(self._ssl, data, len(data)) == len(data)
        at = ctypes.c_void_p()
        size = self._lib.BIO_ctrl(self._out, BIO_INFO, 0, ctypes.byref(at))
        records = ctypes.string_at(at, size)
        self._lib.BIO_ctrl(self._out, BIO_RESET, 0, None)
        self.raw(records[: size // 2])
        return records[size // 2 :]

    def reset(self) -> None:
        """Ends the connection by a reset."""
        assert self.socket is not None
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()
        self.ended = True
