"""A WebSocket whose other end says nothing, too much, or no end: its peer is made of bytes and breaks rules."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
from collections.abc import Awaitable, Callable

import pytest

from pipeline.exchanges.transport import websocket
from pipeline.exchanges.transport.websocket import FRAGMENTS_MAX, FRAME_BYTES_MAX, WsLink, open_ws
from pipeline.model.errors import VenueUnavailable
from tests.worlds.waiting import until_async as until

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
TEXT, BINARY, CONTINUATION, FIN = 1, 2, 0, 0x80
PART = 128 * 1024  # of 65,536 bytes and more a frame says its length in eight


def frame(kind: int, payload: bytes, *, claimed: int | None = None) -> bytes:
    """A server's frame; ``claimed``: the length that its head says."""
    size = len(payload) if claimed is None else claimed
    short = bytes([size]) if size < 126 else b""
    return bytes([kind]) + (short or bytes([127]) + struct.pack("!Q", size)) + payload


def upgrade(head: bytes) -> bytes:
    """The answer to a question for the upgrade."""
    key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
    accept = base64.b64encode(hashlib.sha1(key.partition(b":")[2].strip() + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


class Met:
    """What came of a connection: its whole messages, and why it ended."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bool]] = []
        self.ended: list[str] = []


def met(says: bytes, whole: Callable[[Met], bool], *, ping_idle_s: float = 60.0) -> Met:
    """A peer that upgrades, sends ``says`` and is silent, pings included; until ``whole``."""
    found = Met()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(upgrade(head) + says)
        await reader.read()
        writer.close()

    async def body(connect: Callable[[int], Awaitable[WsLink]]) -> None:
        server = await asyncio.start_server(peer, "127.0.0.1", 0)
        async with server:
            link = await connect(server.sockets[0].getsockname()[1])
            await until(lambda: whole(found), "what the peer leads to")
            if not found.ended:
                link.disconnect("done")
                await until(lambda: bool(found.ended))

    asyncio.run(
        body(
            lambda port: open_ws(
                f"ws://127.0.0.1:{port}/",
                venue="v",
                on_frame=lambda payload, is_text, _: found.messages.append((bytes(payload), is_text)),
                on_close=found.ended.append,
                ping_idle_s=ping_idle_s,
                ping_reply_s=0.05,
            )
        )
    )
    return found


def ended(found: Met) -> bool:
    return bool(found.ended)


def test_a_peer_that_answers_no_ping_is_given_up() -> None:
    """Half-open: the socket stands, and nothing will ever come."""
    found = met(b"", ended, ping_idle_s=0.05)
    assert len(found.ended) == 1 and not found.messages


@pytest.mark.parametrize("claimed", [FRAME_BYTES_MAX + 1, 1 << 30, (1 << 63) - 1])
def test_a_frame_that_says_to_be_giant_ends_the_connection_before_it_comes(claimed: int) -> None:
    found = met(frame(TEXT | FIN, b"x" * 100, claimed=claimed), ended)
    assert len(found.ended) == 1 and not found.messages


@pytest.mark.parametrize(
    ("count", "size"), [(FRAGMENTS_MAX + 1, 1), (FRAME_BYTES_MAX // PART + 1, PART)], ids=["many", "large"]
)
def test_fragments_without_end_end_the_connection(count: int, size: int) -> None:
    parts = [frame(TEXT, b"x" * size), *[frame(CONTINUATION, b"x" * size)] * (count - 1)]
    found = met(b"".join(parts), ended)
    assert "fragments" in found.ended[0] and not found.messages


@pytest.mark.parametrize("kind", [TEXT, BINARY])
def test_as_many_fragments_as_are_allowed_are_one_message(kind: int) -> None:
    parts = [frame(kind, b"0"), *[frame(CONTINUATION, b"1")] * (FRAGMENTS_MAX - 2), frame(CONTINUATION | FIN, b"2")]
    found = met(b"".join(parts), lambda one: bool(one.messages))
    assert found.messages == [(b"0" + b"1" * (FRAGMENTS_MAX - 2) + b"2", kind == TEXT)]


@pytest.mark.parametrize("own_tls", [False, True])
def test_an_address_that_takes_the_connection_and_says_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, own_tls: bool
) -> None:
    """Before there is any WebSocket: TLS by itself would wait for a minute, the kernel for two."""
    monkeypatch.setattr(websocket, "OPEN_TIMEOUT_S", 0.2)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await reader.read()
        writer.close()

    async def body() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with server:
            url = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
            with pytest.raises(VenueUnavailable, match="cannot open a stream"):
                await open_ws(url, venue="v", on_frame=lambda *_: None, on_close=lambda reason: None, own_tls=own_tls)

    asyncio.run(body())


def test_an_upgrade_that_comes_when_nobody_waits_for_it_any_more_ends_and_says_nothing() -> None:
    """It would stand for as long as the venue likes; what it brings, and its end, would be taken for another one's."""

    async def body() -> None:
        asked, answer, ended, said = asyncio.Event(), asyncio.Event(), asyncio.Event(), list[object]()

        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await answer.wait()
            with contextlib.suppress(ConnectionError):
                writer.write(upgrade(head) + frame(TEXT | FIN, b"{}"))
                await reader.read()
            ended.set()
            writer.close()

        server = await asyncio.start_server(peer, "127.0.0.1", 0)
        async with server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            opening = asyncio.ensure_future(
                open_ws(url, venue="v", on_frame=lambda *frame: said.append(frame), on_close=said.append)
            )
            await asked.wait()
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            answer.set()
            await ended.wait()
            assert opening.cancelled() and not said

    asyncio.run(body())
