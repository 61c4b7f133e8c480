"""Our own TLS: the same bytes at both ends, certificates checked, and every end of a connection is heard once."""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.exchanges.transport import tls
from pipeline.exchanges.transport.openssl import client_context
from pipeline.exchanges.transport.tls import TlsTransport, made_here
from tests.worlds.tls.certificates import HOST, certificates
from tests.worlds.tls.connected import Above, Buffered, in_loops, made_small, opened, peered
from tests.worlds.tls.peer import TLS_1_2, Peer
from tests.worlds.waiting import WAIT_S
from tests.worlds.waiting import until_async as until


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates().authority))


@pytest.mark.parametrize("version_max", [0, TLS_1_2])
@pytest.mark.parametrize("factory", [Above, Buffered])
@in_loops
async def test_both_ends_read_what_the_other_wrote(factory: Callable[[], Any], version_max: int) -> None:
    async with peered(factory, version_max=version_max) as (peer, transport, above):
        said = b""
        for size in (1, 400, 16_384, 16_385, 100_000):
            data = bytes(k & 255 for k in range(size))
            transport.write(data)
            await peer.until(lambda: len(peer.received) >= len(said) + size)  # noqa: B023
            peer.say(data)
            said += data
            await until(lambda: above.data == said)  # noqa: B023
            assert peer.received == said
        transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
        await peer.until(lambda: peer.received == said + b"abc")


@in_loops
async def test_bytes_are_in_the_socket_before_a_write_returns() -> None:
    async with peered() as (peer, transport, _above):
        transport.write(b"order")
        assert peer.socket is not None
        assert select.select([peer.socket], [], [], WAIT_S)[0], "the loop has not gone on"
        peer.turn()
        assert peer.received == b"order"


# --- whom it speaks to ---


@in_loops
async def test_a_certificate_of_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed: "):
        async with peered():
            pass


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost.localdomain"])
@in_loops
async def test_a_certificate_of_another_host_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(certificates()) as peer:
        running = asyncio.create_task(peer.runs())
        context = client_context()
        assert context is not None
        new_ssl = context.new_ssl
        monkeypatch.setattr(context, "new_ssl", lambda _host: new_ssl(host))
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            await opened(peer.port)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not peer.received


@in_loops
async def test_a_host_name_is_checked_as_an_address_is() -> None:
    with Peer(certificates()) as peer:
        running = asyncio.create_task(peer.runs())
        transport, above = await opened(peer.port, host="localhost")
        assert above.heard == ["made"] and not transport.is_closing()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        transport.abort()


@in_loops
async def test_an_old_version_is_refused() -> None:
    with Peer(certificates(), version_max=0x0302) as peer:
        running = asyncio.create_task(peer.runs())
        with pytest.raises(ssl.SSLError):
            await opened(peer.port)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@in_loops
async def test_nobody_there_is_an_error_of_the_socket() -> None:
    with Peer(certificates()) as peer:
        port = peer.port
    with pytest.raises(ConnectionRefusedError):
        await opened(port)


@in_loops
async def test_a_silent_peer_ends_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT_S", 0.05)
    with Peer(certificates(), mute=True) as peer:
        with pytest.raises(TimeoutError):
            await opened(peer.port)
        peer.turn()
        assert peer.socket is not None
        assert select.select([peer.socket], [], [], WAIT_S)[0]


@pytest.mark.parametrize("how", ["closed", "reset", "garbage"])
@in_loops
async def test_a_handshake_that_breaks_is_an_error(how: str) -> None:
    with Peer(certificates(), mute=True) as peer:
        opening = asyncio.create_task(opened(peer.port))
        await peer.until(lambda: peer.socket is not None)
        assert peer.socket is not None
        await asyncio.sleep(0)
        if how == "closed":
            peer.socket.close()
        elif how == "reset":
            peer.reset()
        else:
            peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(OSError):
            await opening


# --- the life of a session ---


@pytest.mark.parametrize("asks", [False, True])
@in_loops
async def test_keys_are_changed_while_both_speak(asks: bool) -> None:
    async with peered() as (peer, transport, above):
        for number in range(3):
            peer.update_keys(asks=asks)
            peer.say(b"new")
            await until(lambda: above.data == b"new" * (number + 1))  # noqa: B023
            transport.write(b"order")
            await peer.until(lambda: peer.received == b"order" * (number + 1))  # noqa: B023
        assert above.heard == ["made"] and above.error is None and not transport.is_closing()


@in_loops
async def test_another_handshake_is_refused_and_writes_go_on() -> None:
    async with peered(version_max=TLS_1_2) as (peer, transport, above):
        before = len(peer.records)
        peer.renegotiate()
        await peer.until(lambda: len(peer.records) > before, "the alert that refuses it")
        refused = len(peer.records)
        transport.write(b"order")
        await peer.until(lambda: len(peer.records) > refused, "the record behind it")
        assert above.heard == ["made"] and above.error is None and not transport.is_closing()


@in_loops
async def test_a_record_in_two_parts_is_one() -> None:
    async with peered() as (peer, transport, above):
        rest = peer.half_a_record(b"answer")
        transport.write(b"order")
        await peer.until(lambda: peer.received == b"order")
        assert not above.data
        peer.raw(rest)
        await until(lambda: above.data == b"answer")


@in_loops
async def test_a_socket_that_is_full_keeps_the_order_of_bytes() -> None:
    async with peered() as (peer, transport, above):
        made_small(transport)
        parts = [bytes([k]) * 50_000 for k in range(40)]
        for part in parts:
            transport.write(part)
        assert transport.get_write_buffer_size() > 0
        whole = b"".join(parts)
        await peer.until(lambda: len(peer.received) >= len(whole))
        assert peer.received == whole
        assert above.heard[:3] == ["made", "paused", "resumed"]


# --- its end ---


@in_loops
async def test_the_peers_close_is_heard_once_and_answered() -> None:
    async with peered() as (peer, transport, above):
        peer.say(b"last words")
        peer.close_notify()
        await above.lost()
        assert above.heard == ["made", "eof", "lost"] and above.error is None and above.data == b"last words"
        assert transport.is_closing()
        transport.write(b"too late")
        transport.close()
        transport.abort()
        await peer.until(lambda: peer.ended)
        assert not peer.received


@in_loops
async def test_our_close_says_so_behind_everything_that_was_written() -> None:
    async with peered() as (peer, transport, above):
        transport.write(b"x" * 500_000)
        transport.close()
        assert transport.is_closing()
        await peer.until(lambda: peer.ended)
        assert len(peer.received) == 500_000
        await above.lost()
        assert above.heard[-1] == "lost" and above.error is None


@pytest.mark.parametrize("how", ["reset", "closed", "killed while we write"])
@in_loops
async def test_a_peer_that_is_gone_is_heard_once(how: str) -> None:
    async with peered() as (peer, transport, above):
        if how == "closed":
            assert peer.socket is not None
            peer.socket.close()
        else:
            peer.reset()
        if how == "killed while we write":
            transport.write(b"order")
            transport.write(b"order")
        await above.lost()
        assert above.heard.count("lost") == 1 and transport.is_closing()
        assert (above.error is None) is (how == "closed")
        assert transport.get_write_buffer_size() == 0 and transport.get_extra_info("socket") is None


@in_loops
async def test_what_a_reset_socket_took_nothing_of_is_said_to_be_not_sent() -> None:
    async with peered() as (peer, transport, above):
        peer.reset()
        while transport.gives(b"order"):  # the reset is on its way
            pass
        assert transport.is_closing() and not transport.gives(b"another")
        await above.lost()
        assert above.error is not None and above.heard.count("lost") == 1


@in_loops
async def test_a_broken_record_ends_the_connection_with_an_alert() -> None:
    async with peered() as (peer, _transport, above):
        peer.raw(b"\x17\x03\x03\x00\x20" + bytes(32))
        await above.lost()
        assert isinstance(above.error, ssl.SSLError) and not above.data
        seen = len(peer.records)
        await peer.until(lambda: peer.ended)
        assert len(peer.records) > seen, "an alert"


@in_loops
async def test_nothing_is_heard_behind_an_abort() -> None:
    async with peered() as (peer, transport, above):
        above.on_data = transport.abort
        peer.say(b"one")
        peer.say(b"two")
        await above.lost()
        assert above.data == b"one" and above.heard == ["made", "lost"]


# --- by the loop's own call ---


@in_loops
async def test_the_loop_makes_such_connections_where_it_is_asked_to() -> None:
    loop, context = asyncio.get_running_loop(), client_context()
    made_here(loop)
    once = loop.create_connection
    made_here(loop)
    assert loop.create_connection is once
    with Peer(certificates()) as peer:
        running = asyncio.create_task(peer.runs())
        transport, above = await loop.create_connection(Above, HOST, peer.port, ssl=context)  # type: ignore[arg-type]
        assert isinstance(transport, TlsTransport) and transport.get_protocol() is above
        transport.abort()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    server = await loop.create_server(asyncio.Protocol, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    plain, _ = await loop.create_connection(asyncio.Protocol, HOST, port)
    assert not isinstance(plain, TlsTransport)
    plain.abort()
    server.close()
