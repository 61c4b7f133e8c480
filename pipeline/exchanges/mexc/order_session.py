"""MEXC order entry (raw keep-alive HTTP/1.1) and private stream (listen key, protobuf).

An order is one POST whose query is signed; the head of the request is built once, so that placing costs one
format, one HMAC over prebuilt pads and one socket write.

There is no dead-man switch and no cancel-on-disconnect here: only IOC and FOK orders should be placed.

*Source:* MEXC spot v3: new order, listen key, user data streams. A listen key lives 60 minutes and is renewed every
30; a connection lives 24 h and is replaced before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from pipeline.exchanges.base import EventSink, HttpReply, OrderLine
from pipeline.exchanges.mexc import account, orders
from pipeline.exchanges.mexc.errors import error_of
from pipeline.exchanges.mexc.public_stream import ControlReply, control_decoder, parse_ack
from pipeline.exchanges.mexc.rest_client import MexcClient
from pipeline.exchanges.mexc.signing import RECV_WINDOW_DEFAULT_MS, MexcSigner
from pipeline.exchanges.order_session import OrderSession
from pipeline.exchanges.parsing.venue_json import decode
from pipeline.exchanges.stream_session import StreamSession
from pipeline.exchanges.transport.hmac_pads import block_key
from pipeline.exchanges.transport.http1 import Http1Connection, Http1Pool, OnLost, OnReply
from pipeline.exchanges.transport.websocket import WsLink
from pipeline.model.clock import mono_ns
from pipeline.model.errors import (
    AuthRefused,
    OutcomeUnknown,
    ProtocolViolation,
    VenueError,
)
from pipeline.model.structs import Credentials, OrderRequest
from pipeline.templates import template
from pipeline.templates.template import OrderTerms, Pieces

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

POOL_SIZE = 4  # three legs of a triangle and one cancel
KEY_RENEW_NS = 30 * 60 * 1_000_000_000
CONNECTION_LIFE_S = 23 * 3600.0
SUBSCRIBE_KEY = "subscribe"


class _PrivateStream(StreamSession):
    """Orders, deals and balances of the account."""

    ping_interval_s = 15.0
    stall_after_s = 40.0
    life_s = CONNECTION_LIFE_S

    def __init__(self, owner: MexcTrading, on_change: Callable[[], None]) -> None:
        super().__init__("private", owner.venue, on_change)
        self._owner = owner
        self._key = ""
        self._renewed_ns = 0

    async def url(self) -> str:
        self._key = await self._owner.client.listen_key()
        self._renewed_ns = mono_ns()
        config = self._owner.config
        base = config.ws_private or config.ws
        return f"{base}{'&' if '?' in base else '?'}listenKey={self._key}"

    def error_of(self, reply: HttpReply) -> VenueError | None:
        return error_of(self.venue, reply)

    async def handshake(self, link: WsLink) -> None:
        params = ",".join(f'"{channel}"' for channel in account.CHANNELS)
        payload = f'{{"method":"SUBSCRIPTION","params":[{params}],"id":1}}'.encode()
        reply = decode(control_decoder, await self.ask(link, SUBSCRIBE_KEY, payload), self.venue, "subscribe reply")
        accepted, refused = parse_ack(reply.msg)
        missing = [channel for channel in account.CHANNELS if channel not in accepted]
        if missing:
            text = "; ".join(f"{channel}: {why}" for channel, why in refused.items()) or reply.msg
            raise AuthRefused(f"{self.venue}: private channels refused: {text}", venue=self.venue)

    def on_frame(self, payload: memoryview, is_text: bool, recv_mono_ns: int) -> None:
        try:
            if is_text:
                self._control(decode(control_decoder, payload, self.venue, "control frame"), payload)
                return
            for event in account.parse_private(self.venue, payload, recv_mono_ns):
                self._owner.on_event(event)
        except ProtocolViolation as error:
            self._owner.violation(error)

    def _control(self, reply: ControlReply, payload: memoryview) -> None:
        if reply.msg.upper() != "PONG":
            self.answer(SUBSCRIBE_KEY, payload)

    def ping(self) -> bytes:
        return b'{"method":"PING"}'

    async def upkeep(self) -> None:
        if mono_ns() - self._renewed_ns > KEY_RENEW_NS:
            self._renewed_ns = mono_ns()
            try:
                await self._owner.client.renew_listen_key(self._key)
            except VenueError:
                # the key is gone or the venue is: a new connection asks for a new key
                if self.link is not None:
                    self.link.disconnect("listen key could not be renewed")


class MexcTrading(OrderSession):
    """:class:`VenueTrading` of MEXC spot."""

    client: MexcClient

    def __init__(self, venue: VenueConfig, credentials: Credentials, on_event: EventSink) -> None:
        super().__init__(venue, credentials, on_event, MexcClient(venue, credentials))
        self._signer = MexcSigner(credentials.api_key, credentials.api_secret)
        parts = urlsplit(venue.rest)
        secure = parts.scheme == "https"
        self._prefix = parts.path.rstrip("/")
        self._tail = (
            f" HTTP/1.1\r\nHost: {parts.netloc}\r\nX-MEXC-APIKEY: {credentials.api_key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 0\r\n\r\n"
        ).encode("latin-1")
        self._pool = Http1Pool(
            host=parts.hostname or "",
            port=parts.port or (443 if secure else 80),
            secure=secure,
            size=POOL_SIZE,
            keep_warm_request=b"GET %b/ping HTTP/1.1\r\nHost: %b\r\n\r\n"
            % (self._prefix.encode(), parts.netloc.encode()),
            on_change=lambda _up: self.sessions_changed(),
            venue=self.venue,
        )
        self.private = _PrivateStream(self, self.sessions_changed)

    def sessions_ready(self) -> tuple[bool, str]:
        if not self.private.ready:
            return False, f"private stream: {self.private.last_reason or 'not connected'}"
        return self._pool.up, "order entry: no connection"

    async def open_order_entry(self) -> None:
        await self._pool.start()

    async def close_order_entry(self) -> None:
        await self._pool.close()

    def _request(self, method: bytes, query: str, recv_window_ms: int) -> bytes:
        signed = self._signer.signed_query(
            query, timestamp_ms=self.client.clock.now_ms(), recv_window_ms=recv_window_ms
        )
        return b"%b %b/order?%b%b" % (method, self._prefix.encode(), signed.encode(), self._tail)

    def hand_over(self, key: str, payload: bytes) -> int:
        return self._pool.take().send(payload, *self._ends(key), self.request_timeout_s)

    def _ends(self, key: str) -> tuple[OnReply, OnLost]:
        """Both ends of a request."""
        entry = self.in_flight[key]
        ended = self._placed if entry.is_place else self._cancelled
        return lambda reply: ended(key, entry.client_id, reply), lambda reason: self._lost(key, reason)

    def order_line(self) -> OrderLine:
        return self._pool.take()

    def await_answer(self, key: str, line: OrderLine | None) -> None:
        assert isinstance(line, Http1Connection), "the pool has no others"
        line.expect(*self._ends(key), self.request_timeout_s, mono_ns())

    def _lost(self, key: str, reason: str) -> None:
        error = OutcomeUnknown(f"{self.venue}: {reason} before the answer came", venue=self.venue)
        self.end(key, error=error, recv_mono_ns=mono_ns())

    def order_payload(self, request: OrderRequest, now_ms: int) -> bytes:
        window_ms = request.expiry_wall_ms - now_ms if request.expiry_wall_ms else RECV_WINDOW_DEFAULT_MS
        return self._request(b"POST", orders.place_query(request), window_ms)

    def template(self, terms: OrderTerms) -> Pieces | None:
        if not self.good_symbol(terms.symbol):
            return None
        return [
            b"POST %b/order?" % self._prefix.encode(),
            *orders.place_pieces(terms, self._signer.window(terms.window_ms)),
            b"&signature=",
            template.signature(block_key(self.credentials.api_secret, "sha256")),
            self._tail,
        ]

    def _placed(self, key: str, client_id: str, reply: HttpReply) -> None:
        try:
            update = orders.parse_ack(self.venue, client_id, reply)
        except VenueError as error:
            self.note_answer(error, "order")
            self.check_clock(error)
            self.end(key, error=error, recv_mono_ns=reply.recv_mono_ns)
            return
        self.note_answer(None, "order")
        self.end(key, update=update, recv_mono_ns=reply.recv_mono_ns)

    def cancel_payload(self, symbol: str, client_id: str, order_id: str) -> bytes:
        return self._request(b"DELETE", orders.order_query(symbol, client_id, order_id), RECV_WINDOW_DEFAULT_MS)

    def _cancelled(self, key: str, client_id: str, reply: HttpReply) -> None:
        error = error_of(self.venue, reply)
        self.note_answer(error, "cancel")
        if error is not None:
            self.check_clock(error)
            self.end(key, error=error, recv_mono_ns=reply.recv_mono_ns)
            return
        try:
            update = orders.parse_cancel(self.venue, reply.body, reply.recv_mono_ns)
        except ProtocolViolation as violation:
            self.violation(violation)
            self.end(key, error=violation, recv_mono_ns=reply.recv_mono_ns)
            return
        self.end(key, update=msgspec.structs.replace(update, client_id=client_id), recv_mono_ns=reply.recv_mono_ns)


def make_trading(venue: VenueConfig, credentials: Credentials, on_event: EventSink) -> MexcTrading:
    """Order entry and private stream of one venue."""
    return MexcTrading(venue, credentials, on_event)
