"""What the orders bench needs to go over TLS: a certificate of its own, and the floor of two encrypted writes."""

from __future__ import annotations

import _ssl
import ctypes
import datetime
import ipaddress
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.settings import BenchFailed
from pipeline.exchanges.transport.openssl import libssl
from workers.executor.loopback import connected
from workers.executor.sealed_pair import SealedPair

HOST = "127.0.0.1"
TRUST = "SSL_CERT_FILE"


@contextmanager
def trusted_server(folder: Path) -> Iterator[ssl.SSLContext]:
    """For servers at HOST, whose certificate this process trusts meanwhile."""
    key, path = ec.generate_private_key(ec.SECP256R1()), folder / "server.pem"
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(secret + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    before = os.environ.get(TRUST)
    os.environ[TRUST] = str(path)
    try:
        yield context
    finally:
        if before is None:
            del os.environ[TRUST]
        else:
            os.environ[TRUST] = before


class TwoSealedWrites:
    """Ready bytes of an order's size by SSL_write, the library on the socket itself, twice."""

    def __init__(self) -> None:
        lib = libssl()
        if lib is None:
            raise BenchFailed("orders: no libssl that can be called: `arb doctor`")
        set_fd = ctypes.PyDLL(_ssl.__file__).SSL_set_fd
        set_fd.restype, set_fd.argtypes = ctypes.c_int, (ctypes.c_void_p, ctypes.c_int)
        self._sockets = [connected(), connected()]
        self._sealed = [SealedPair(lib), SealedPair(lib)]
        for (ours, _), pair in zip(self._sockets, self._sealed, strict=True):
            if set_fd(pair.ssl, ours) != 1:
                raise BenchFailed("orders: SSL_set_fd failed")
        self._write, self._payload = lib.SSL_write, bytes(400)

    def once(self) -> int:
        """ns of both writes."""
        write, clock, payload, size = self._write, time.monotonic_ns, self._payload, len(self._payload)
        first, second = self._sealed[0].ssl, self._sealed[1].ssl
        start = clock()
        write(first, payload, size)
        write(second, payload, size)
        taken = clock() - start
        for _, theirs in self._sockets:
            if len(os.read(theirs, 4096)) <= size:
                raise BenchFailed("orders: a write was not encrypted, or not whole")
        return taken

    def close(self) -> None:
        """Closes both connections."""
        for pair in self._sealed:
            pair.close()
        for ends in self._sockets:
            for end in ends:
                os.close(end)
