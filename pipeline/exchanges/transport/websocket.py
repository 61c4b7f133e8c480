"""WebSocket transport: picows for TLS and plain, one listener that stamps, reassembles and hands on without copying.

``on_frame(payload, is_text, recv_mono_ns)`` gets a memoryview that is valid only during the call. A frame over
``FRAME_BYTES_MAX`` or an endless chain of fragments ends the connection (the venue or somebody in between is broken);
compression is never offered. Protocol pings of the server are answered by picows; ours go out when nothing has come for
``ping_idle_s`` and end a half-open connection when no answer comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Mapping

from picows import (
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.transport.openssl import ClientContext, client_context, tls_context
from pipeline.exchanges.transport.refusals import gateway_error
from pipeline.exchanges.transport.tls import TlsTransport, made_here
from pipeline.model.clock import mono_ns
from pipeline.model.errors import GatewayRefused, VenueError, VenueUnavailable
from shm.tls.sealed import NO_SEAL

FRAME_BYTES_MAX = 4 * 1024 * 1024  # a whole 400-level book is under 64 KiB; MEXC's order lists under 1 MiB
FRAGMENTS_MAX = 64
HANDSHAKE_TIMEOUT_S = 5.0
OPEN_TIMEOUT_S = 20.0  # with the way to an address that answers nothing, and TLS: else two minutes of the kernel's
PING_IDLE_S = 10.0
PING_REPLY_S = 5.0

FrameSink = Callable[[memoryview, bool, int], None]
_TEXT, _BINARY = WSMsgType.TEXT, WSMsgType.BINARY
_log = logging.getLogger("arb.ws")


class WsLink(WSListener):
    """One connection, from the upgrade to its end; never reused."""

    def __init__(self, on_frame: FrameSink, on_close: Callable[[str], None]) -> None:
        self._on_frame = on_frame
        self._on_close = on_close
        self._transport: WSTransport | None = None
        self._last_transport: WSTransport | None = None
        self._fragments: list[bytes] = []
        self._fragment_is_text = False
        self._close_reason = ""
        self._given_up = False
        self._fd = -1
        self._tls: TlsTransport | None = None
        self.opened_mono_ns = 0
        self.last_frame_mono_ns = 0  # any frame, pongs included
        self.frames = 0

    # --- picows callbacks ---

    def on_ws_connected(self, transport: WSTransport) -> None:
        """By picows: the upgrade is done, and sends are possible from here on."""
        if self._given_up:
            transport.disconnect(False)
            return
        self._transport = self._last_transport = transport
        below = transport.underlying_transport
        self._fd = below.get_extra_info("socket").fileno()
        self._tls = below if isinstance(below, TlsTransport) else None
        self.opened_mono_ns = self.last_frame_mono_ns = mono_ns()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """By picows: passes whole messages on with their receive time; ``frame`` lives no longer than this call, so
        neither does the view that the sink gets. A venue's close is answered."""
        recv_mono_ns = mono_ns()
        self.last_frame_mono_ns = recv_mono_ns
        kind = frame.msg_type
        if frame.rsv1:  # RFC 6455 section 5.2: no extension was negotiated, so this fails the connection
            self.disconnect("a compressed frame, which was not negotiated")
            return
        # Looked up once above: each look-up of a member through its class costs as much as the rest of this function.
        if (kind is _TEXT or kind is _BINARY) and frame.fin:
            self.frames += 1
            self._on_frame(frame.get_payload_as_memoryview(), kind is _TEXT, recv_mono_ns)
        elif kind in (WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.CONTINUATION):
            self._fragment(frame, kind, recv_mono_ns)
        elif kind == WSMsgType.CLOSE:
            self._close_reason = (
                f"closed by the venue: {frame.get_close_code()} {frame.get_close_reason() or ''}".strip()
            )
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _fragment(self, frame: WSFrame, kind: WSMsgType, recv_mono_ns: int) -> None:
        if kind != WSMsgType.CONTINUATION:
            self._fragments.clear()
            self._fragment_is_text = kind == WSMsgType.TEXT
        self._fragments.append(frame.get_payload_as_bytes())
        if len(self._fragments) > FRAGMENTS_MAX or sum(map(len, self._fragments)) > FRAME_BYTES_MAX:
            self.disconnect(f"more than {FRAGMENTS_MAX} fragments or {FRAME_BYTES_MAX} bytes in one message")
        elif frame.fin:
            whole = b"".join(self._fragments)
            self._fragments.clear()
            self.frames += 1
            self._on_frame(memoryview(whole), self._fragment_is_text, recv_mono_ns)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """By picows, once: gives the reason on, which is "connection lost" where neither end has said one."""
        self._transport = None
        if not self._given_up:
            self._on_close(self._close_reason or "connection lost")

    # --- our side ---

    @property
    def is_open(self) -> bool:
        """Frames can be sent."""
        return self._transport is not None

    def send_text(self, payload: bytes) -> int:
        """Hand one text frame to the socket; returns the moment. Raises ``VenueUnavailable`` when it is closed."""
        self._open().send(_TEXT, payload)
        return mono_ns()

    def direct_fd(self) -> int:
        """The socket that takes a frame's bytes now; -1: there is none. Raises ``VenueUnavailable`` when the connection
        is closed or closing, or does not take what it was given before."""
        transport = self._open()
        if self._tls is not None:
            return self._tls.direct_fd()
        if transport.underlying_transport.get_write_buffer_size():
            raise VenueUnavailable("the connection does not take the bytes of before; nothing was sent")
        return -1 if transport.is_secure else self._fd

    def _open(self) -> WSTransport:
        """Raises ``VenueUnavailable`` when nothing can be sent: picows says so only once the loop has closed it."""
        transport = self._transport
        if transport is None or transport.is_close_frame_sent or transport.underlying_transport.is_closing():
            raise VenueUnavailable("connection is closed; nothing was sent")
        return transport

    @property
    def seal(self) -> int:
        """See ``OrderLine``."""
        return self._tls.seal if self._tls is not None else NO_SEAL

    def write_rest(self, wire: memoryview, taken: int) -> None:
        """See ``OrderLine``; nothing where it is gone."""
        if self._tls is not None:
            self._tls.write_rest()
        elif self._transport is not None:
            self._transport.underlying_transport.write(bytes(wire[taken:]))

    async def reraise(self) -> None:
        """After the end: raise what a frame handler of ours raised. A bug must end the process, not look like a lost
        connection; what the network or the venue did is the reason that ``on_close`` gets, and raises nothing here."""
        if self._last_transport is not None:
            with contextlib.suppress(WSError, OSError, EOFError):
                await self._last_transport.wait_disconnected()

    def give_up(self) -> None:
        """Nobody waits for the upgrade any more: where it comes all the same, the connection ends and says nothing."""
        self._given_up, self._on_frame = True, lambda payload, is_text, recv_mono_ns: None
        if self._transport is not None:
            self._transport.disconnect(False)

    def disconnect(self, reason: str) -> None:
        """End the connection now, without a closing handshake (it may be half-open); ``on_close`` follows."""
        self._close_reason = self._close_reason or reason
        if self._transport is not None:
            self._transport.disconnect(False)

    def close(self) -> None:
        """End the connection politely."""
        self._close_reason = self._close_reason or "closed by us"
        if self._transport is not None:
            self._transport.send_close()
            self._transport.disconnect()


async def open_ws(
    url: str,
    *,
    venue: str,
    on_frame: FrameSink,
    on_close: Callable[[str], None],
    headers: Mapping[str, str] | None = None,
    ping_idle_s: float = PING_IDLE_S,
    ping_reply_s: float = PING_REPLY_S,
    own_tls: bool = False,
    error_of: Callable[[HttpReply], VenueError | None] | None = None,
) -> WsLink:
    """Connect and upgrade. Raises ``VenueUnavailable``, or what the answer to the upgrade says: ``RateLimited`` (429,
    418), ``GatewayRefused``, and where ``error_of`` finds the venue's own code in it that code's error.

    The URL may hold a listen key: errors name the host only. ``own_tls``: a connection that orders are sent over is
    encrypted by tls.py, where that is possible.
    """
    host = url.partition("://")[2].partition("/")[0]
    tls: ssl.SSLContext | ClientContext | None = None
    if url.startswith("wss://"):
        tls = (client_context() if own_tls else None) or tls_context()
        if isinstance(tls, ClientContext):
            made_here(asyncio.get_running_loop())
    link = WsLink(on_frame, on_close)
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            _, opened = await ws_connect(
                lambda: link,
                url,
                ssl_context=tls,  # type: ignore[arg-type]  # handed on to the loop as it is
                use_aiofastnet=False if isinstance(tls, ClientContext) else None,
                websocket_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                enable_auto_ping=True,
                auto_ping_idle_timeout=ping_idle_s,
                auto_ping_reply_timeout=ping_reply_s,
                max_frame_size=FRAME_BYTES_MAX,
                max_redirects=0,
                extra_headers=dict(headers or {}),
                logger_name=_log,
            )
    except WSHandshakeError as error:
        raise _handshake_error(venue, host, error, error_of) from None
    except (WSError, OSError, TimeoutError, EOFError) as error:
        link.give_up()
        text = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise VenueUnavailable(f"{venue}: cannot open a stream to {host}: {text}", venue=venue) from None
    except asyncio.CancelledError:
        link.give_up()
        raise
    if opened is not link:  # picows gives no listener when the peer went away during the upgrade
        raise VenueUnavailable(f"{venue}: {host} went away during the upgrade", venue=venue)
    return link


def _handshake_error(
    venue: str, host: str, error: WSHandshakeError, error_of: Callable[[HttpReply], VenueError | None] | None
) -> VenueError:
    """By the answer to the upgrade: the venue's own code in it, else the gateway's status."""
    response = error.response
    status = int(response.status) if response is not None else 0
    if response is None or status < 200:
        return VenueUnavailable(f"{venue}: {host}: upgrade failed", venue=venue)
    headers = {str(name).lower(): str(value) for name, value in response.headers.items()}
    reply = HttpReply(status=status, headers=headers, body=bytes(error.raw_body or b""), recv_mono_ns=mono_ns())
    own = error_of(reply) if error_of is not None else None
    if own is None or isinstance(own, GatewayRefused):
        return gateway_error(venue, reply, f" to the upgrade at {host}")
    return own
