"""Nothing is sent to a server whose certificate is another host's, or of an authority that nobody trusts, on any of the
ways to a venue."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.exchanges.transport.http1 import Http1Pool
from pipeline.exchanges.transport.rest import HttpCall, RestTransport
from pipeline.exchanges.transport.throttle import Limit, Throttle
from pipeline.exchanges.transport.websocket import open_ws
from pipeline.model.errors import VenueUnavailable

SECRET = "/private?signature=canary"


def certificate(folder: Path, subject: x509.GeneralName) -> ssl.SSLContext:
    """Server's side of a certificate of ``subject``, signed by itself, which is in ``folder/own.pem`` as well."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "own.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "own.pem", folder / "key.pem")
    return context


async def by_rest(port: int) -> None:
    transport = RestTransport(f"https://127.0.0.1:{port}", venue="v", throttle=Throttle({"q": Limit(9, 1)}))
    try:
        await transport.send(lambda: HttpCall(method="GET", target=SECRET), bucket="q")
    finally:
        await transport.close()


async def by_order_connection(port: int) -> None:
    pool = Http1Pool(
        host="127.0.0.1", port=port, secure=True, size=1, keep_warm_request=f"GET {SECRET} HTTP/1.1".encode(),
        on_change=lambda up: None, venue="v",
    )  # fmt: skip
    try:
        await pool.start()
    finally:
        await pool.close()


async def by_websocket(port: int) -> None:
    await open_ws(f"wss://127.0.0.1:{port}{SECRET}", venue="v", on_frame=lambda *_: None, on_close=lambda reason: None)


async def by_order_websocket(port: int) -> None:
    url = f"wss://127.0.0.1:{port}{SECRET}"
    await open_ws(url, venue="v", on_frame=lambda *_: None, on_close=lambda reason: None, own_tls=True)


WAYS = [by_rest, by_order_connection, by_websocket, by_order_websocket]


def met(way: Callable[[int], Awaitable[None]], server_side: ssl.SSLContext) -> tuple[list[bytes], Exception | None]:
    """What the server read, and how the way to it ended. It answers 404 and hangs up."""
    read: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read.append(await reader.read(1000))
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    async def body() -> Exception | None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side)
        async with server:
            try:
                await way(server.sockets[0].getsockname()[1])
            except Exception as error:  # noqa: BLE001  it is the test's subject
                return error
        return None

    return read, asyncio.run(body())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trusted", [False, True])
def test_a_server_that_is_not_the_venue_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[int], Awaitable[None]], trusted: bool
) -> None:
    """``trusted``: its authority is ours, and the certificate is another host's; else the other way round."""
    subject = x509.DNSName("venue.example") if trusted else x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    server_side = certificate(tmp_path, subject)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    read, error = met(way, server_side)
    assert isinstance(error, VenueUnavailable) and "canary" not in str(error)
    assert not any(read), "no byte has left"


@pytest.mark.parametrize("way", [by_rest, by_websocket, by_order_websocket])
def test_the_venue_itself_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[int], Awaitable[None]]
) -> None:
    """By the same certificate, with the right name and of an authority that is known."""
    server_side = certificate(tmp_path, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    read, _ = met(way, server_side)
    assert any(read)
