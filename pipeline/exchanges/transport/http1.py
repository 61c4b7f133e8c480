"""Raw keep-alive HTTP/1.1 for order entry: bytes go to the socket inside the call that asks for them.

One request at a time per connection (no pipelining: an answer must never be given to the wrong order), several warm
connections per venue. A request's end is exactly one of:

* a whole reply -> ``on_reply(HttpReply)``
* anything else after its bytes were handed over (disconnect, time-out, broken reply) -> ``on_lost(reason)``

Nothing is ever sent twice. An idle connection that dies is replaced with backoff.

Parsing is httptools' (llhttp); a reply over ``REPLY_BYTES_MAX`` or compressed ends the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import cast

import httptools

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.transport.backoff import Backoff
from pipeline.exchanges.transport.openssl import client_context, tls_context
from pipeline.exchanges.transport.tls import TlsTransport, connect
from pipeline.model.clock import mono_ns
from pipeline.model.errors import VenueUnavailable
from shm.tls.sealed import NO_SEAL

REPLY_BYTES_MAX = 1024 * 1024
REPLY_TIMEOUT_S = 10.0  # venues process an order for at most 10 s; the saga's own time-out is far shorter
KEEP_WARM_S = 15.0  # well under the idle limit of usual front ends (60 s)
CONNECT_TIMEOUT_S = 3.0
CLOSE_ROUNDS_MAX = 100

OnReply = Callable[[HttpReply], None]
OnLost = Callable[[str], None]


class _Exchange:
    """One request's answer while it is parsed. Of its own object, so that bytes behind the answer can never be taken
    for the answer of the next request."""

    __slots__ = ("_connection", "body", "done", "headers", "on_lost", "on_reply", "parser")

    def __init__(self, connection: Http1Connection, on_reply: OnReply, on_lost: OnLost) -> None:
        self._connection = connection
        self.on_reply = on_reply
        self.on_lost = on_lost
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.done = False
        self.parser = httptools.HttpResponseParser(self)

    # --- httptools callbacks ---

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body
        if len(self.body) > REPLY_BYTES_MAX:
            self._connection.close(f"reply larger than {REPLY_BYTES_MAX} bytes")

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        if self.done:
            self._connection.close("a second answer to one request")
        elif status < 200:  # an interim reply; the real one follows
            self.headers = {}
            self.body.clear()
        elif self.headers.get("content-encoding", "identity") != "identity":
            self._connection.close("compressed reply that was not asked for")
        else:
            self.done = True
            self._connection.answered(self, status)


class Http1Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight."""

    def __init__(self, on_down: Callable[[Http1Connection], None]) -> None:
        self._on_down = on_down
        self._transport: asyncio.Transport | None = None
        self._exchange: _Exchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._broken = ""
        self._fd = -1  # of a plain socket; -1 under TLS
        self._tls: TlsTransport | None = None
        self.last_used_mono_ns = 0

    @property
    def idle(self) -> bool:
        """Connected and free for a request."""
        return self._transport is not None and self._exchange is None and not self._transport.is_closing()

    @property
    def open(self) -> bool:
        """Connected, busy or not."""
        return self._transport is not None

    def send(self, payload: bytes, on_reply: OnReply, on_lost: OnLost, timeout_s: float = REPLY_TIMEOUT_S) -> int:
        """Write one request; returns the moment. Raises ``VenueUnavailable`` if nothing was written."""
        transport = self._transport
        if transport is None or self._exchange is not None or transport.is_closing():
            raise VenueUnavailable("connection is not idle; nothing was sent")
        self._write(transport, payload)
        sent_ns = mono_ns()
        # behind the bytes: the loop that would bring an answer runs only after this call
        self.expect(on_reply, on_lost, timeout_s, sent_ns)
        return sent_ns

    def expect(self, on_reply: OnReply, on_lost: OnLost, timeout_s: float, sent_mono_ns: int) -> None:
        """The request whose bytes have just gone: its answer is awaited."""
        self._exchange = _Exchange(self, on_reply, on_lost)
        self.last_used_mono_ns = sent_mono_ns
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._timed_out)

    def direct_fd(self) -> int:
        """The socket that takes a request's bytes now; -1: there is none. Raises ``VenueUnavailable`` when the
        connection is closed or closing, or does not take what it was given before."""
        transport = self._transport
        if self._tls is not None:
            return self._tls.direct_fd()
        if transport is None or transport.is_closing():
            raise VenueUnavailable("connection is closed; nothing was sent")
        if transport.get_write_buffer_size():
            raise VenueUnavailable("the connection does not take the bytes of before; nothing was sent")
        return self._fd

    @property
    def seal(self) -> int:
        """See ``OrderLine``."""
        return self._tls.seal if self._tls is not None else NO_SEAL

    def write_rest(self, wire: memoryview, taken: int) -> None:
        """See ``OrderLine``; nothing where it is gone."""
        if self._tls is not None:
            self._tls.write_rest()
        elif self._transport is not None:
            self._transport.write(bytes(wire[taken:]))

    def _write(self, transport: asyncio.Transport, payload: bytes) -> None:
        """Into the kernel before this returns: uvloop's own ``write`` waits for the end of the loop's round. Our own
        TLS does so by itself; there is no way around that of ``ssl``."""
        if self._tls is not None:
            if not self._tls.gives(payload):
                raise VenueUnavailable("connection was reset before; nothing was sent")
            return
        if self._fd < 0 or transport.get_write_buffer_size():
            transport.write(payload)
            return
        try:
            written = os.write(self._fd, payload)
        except BlockingIOError:
            written = 0
        except OSError as error:  # reset by the venue, which the loop has not reported yet: the kernel took nothing
            self.close(type(error).__name__)
            raise VenueUnavailable("connection was reset before; nothing was sent") from None
        if written < len(payload):
            transport.write(payload[written:])

    def close(self, reason: str = "closed by us") -> None:
        """Abort the connection; a request in flight ends with ``on_lost(reason)``."""
        self._broken = self._broken or reason
        if self._transport is not None:
            self._transport.abort()

    def disconnect(self, reason: str) -> None:
        """:meth:`close`, as every order line has it."""
        self.close(reason)

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports share no base class with asyncio's
        if isinstance(transport, TlsTransport):
            self._tls = transport
        elif transport.get_extra_info("ssl_object") is None:
            self._fd = transport.get_extra_info("socket").fileno()
        self.last_used_mono_ns = mono_ns()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.close("bytes without a request")
            return
        try:
            exchange.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close(f"broken reply: {type(error).__name__}")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self._tls = None
        self._fd = -1
        self._finish_lost(self._broken or (type(exc).__name__ if exc else "connection closed"))
        self._on_down(self)

    # --- ends of a request ---

    def answered(self, exchange: _Exchange, status: int) -> None:
        """The whole reply is there."""
        if exchange is not self._exchange:
            self.close("answer to a request that had ended")
            return
        keep_alive = exchange.parser.should_keep_alive()
        self._release()
        if not keep_alive:
            self.close("venue closes after this reply")
        exchange.on_reply(
            HttpReply(status=status, headers=exchange.headers, body=bytes(exchange.body), recv_mono_ns=mono_ns())
        )

    def _release(self) -> None:
        self._exchange = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish_lost(self, reason: str) -> None:
        exchange = self._exchange
        self._release()
        if exchange is not None:
            exchange.on_lost(reason)

    def _timed_out(self) -> None:
        # the connection is not used again: a late answer must not meet the next request
        self._broken = "no answer in time"
        self._finish_lost(self._broken)
        self.close(self._broken)


class Http1Pool:
    """``size`` warm connections to one origin, kept open and replaced by one task each."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        secure: bool,
        size: int,
        keep_warm_request: bytes,
        on_change: Callable[[bool], None],
        venue: str,
    ) -> None:
        self._address = (host, port)
        self._secure = secure
        self._size = size
        self._keep_warm = keep_warm_request
        self._on_change = on_change
        self._venue = venue
        self._connections: list[Http1Connection] = []
        self._newest: Http1Connection | None = None  # the one that was taken last
        self._tasks: list[asyncio.Task[None]] = []
        self._up = False

    @property
    def idle_count(self) -> int:
        """Connections that could take a request now."""
        return sum(connection.idle for connection in self._connections)

    @property
    def up(self) -> bool:
        """At least one connection stands."""
        return self._up

    async def start(self) -> None:
        """Open the first connection (raises ``VenueUnavailable``), the others behind it."""
        first = await self._open(asyncio.Event())
        self._tasks = [
            asyncio.create_task(self._keep(first if slot == 0 else None), name=f"{self._venue}.http1.{slot}")
            for slot in range(self._size)
        ]

    async def close(self) -> None:
        """Close every connection; requests in flight end with ``on_lost``."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # one that has failed must not keep connections open
        self._tasks.clear()
        for connection in list(self._connections):
            connection.close()
        for _ in range(CLOSE_ROUNDS_MAX):  # an aborted transport reports its end in the next round of the loop
            if not self._connections:
                break
            await asyncio.sleep(0)

    def take(self) -> Http1Connection:
        """An idle connection, the one that was taken last first (its congestion window is warm, and so is its state
        here), then the most recently used one.

        Raises ``VenueUnavailable`` when every connection is busy or down: nothing was sent.
        """
        best = self._newest
        if best is not None and best.idle:
            return best
        best = None
        for connection in self._connections:
            if connection.idle and (best is None or connection.last_used_mono_ns > best.last_used_mono_ns):
                best = connection
        if best is None:
            raise VenueUnavailable(
                f"{self._venue}: no idle order connection of {len(self._connections)}", venue=self._venue
            )
        self._newest = best
        return best

    async def _open(self, down: asyncio.Event) -> tuple[Http1Connection, asyncio.Event]:
        def on_down(connection: Http1Connection) -> None:
            if connection in self._connections:
                self._connections.remove(connection)
            down.set()
            self._changed()

        host, port = self._address
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = await self._connected(on_down, host, port)
        except (OSError, TimeoutError) as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise VenueUnavailable(
                f"{self._venue}: cannot connect to {host}:{port}: {text}", venue=self._venue
            ) from None
        self._connections.append(connection)
        self._changed()
        return connection, down

    async def _connected(self, on_down: Callable[[Http1Connection], None], host: str, port: int) -> Http1Connection:
        create_connection = asyncio.get_running_loop().create_connection
        own = client_context() if self._secure else None
        if own is not None:
            return (await connect(create_connection, lambda: Http1Connection(on_down), host, port, own))[1]
        tls = tls_context() if self._secure else None
        return (await create_connection(lambda: Http1Connection(on_down), host, port, ssl=tls))[1]

    def _changed(self) -> None:
        up = any(connection.open for connection in self._connections)
        if up != self._up:
            self._up = up
            self._on_change(up)

    async def _keep(self, opened: tuple[Http1Connection, asyncio.Event] | None) -> None:
        """Own one place of the pool: connect, keep warm, replace."""
        backoff = Backoff()
        while True:
            if opened is None:
                try:
                    opened = await self._open(asyncio.Event())
                except VenueUnavailable:
                    await asyncio.sleep(backoff.next_s())
                    continue
            connection, down = opened
            opened = None
            while not down.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KEEP_WARM_S):
                        await down.wait()
                if connection.idle and mono_ns() - connection.last_used_mono_ns >= KEEP_WARM_S * 1e9:
                    backoff.reset()
                    with contextlib.suppress(VenueUnavailable):  # reset, which is reported to ``down`` in a moment
                        connection.send(self._keep_warm, lambda _reply: None, lambda _reason: None)
            await asyncio.sleep(backoff.next_s())
