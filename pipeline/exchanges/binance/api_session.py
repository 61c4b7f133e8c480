"""What the trading sessions of Binance spot and USDⓈ-M share: order entry over the WebSocket API.

One connection carries only orders, so that no burst of pushes stands before an answer. Every order is signed: a login
(``session.logon``) would need an Ed25519 key. There is no cancel-on-disconnect here.

*Source:* Binance spot and USDⓈ-M futures WebSocket API: trading requests, connection rules (24 h life).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.exchanges.base import EventSink, HttpReply
from pipeline.exchanges.binance import account, orders
from pipeline.exchanges.binance import websocket_api as wsapi
from pipeline.exchanges.binance.errors import error_of
from pipeline.exchanges.binance.market_client import BinanceClient
from pipeline.exchanges.binance.signing import RECV_WINDOW_DEFAULT_MS, BinanceSigner
from pipeline.exchanges.order_session import OrderSession
from pipeline.exchanges.stream_session import StreamSession
from pipeline.exchanges.transport.websocket import WsLink
from pipeline.model.errors import ProtocolViolation, VenueError
from pipeline.model.structs import Credentials, OrderRequest, OrderUpdate
from pipeline.templates import template
from pipeline.templates.template import OrderTerms, Pieces

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

CONNECTION_LIFE_S = 23 * 3600.0


class ApiSession(StreamSession):
    """A connection of the WebSocket API; protocol pings keep it."""

    life_s = CONNECTION_LIFE_S

    def __init__(self, name: str, owner: BinanceTrading) -> None:
        super().__init__(name, owner.venue, owner.sessions_changed)
        self._owner = owner

    async def url(self) -> str:
        return self._owner.config.ws_api

    def error_of(self, reply: HttpReply) -> VenueError | None:
        return error_of(self.venue, reply)

    async def handshake(self, link: WsLink) -> None:
        self.life_s = CONNECTION_LIFE_S

    def on_frame(self, payload: memoryview, is_text: bool, recv_mono_ns: int) -> None:
        try:
            frame = wsapi.parse_frame(self.venue, payload)
            if frame.status == 0 and bytes(frame.event) != b"null":
                self._event(bytes(frame.event), recv_mono_ns)
            elif not self.answer(str(frame.id), payload):
                self.replied(frame, recv_mono_ns)
        except ProtocolViolation as error:
            self._owner.violation(error)

    def _event(self, payload: bytes, recv_mono_ns: int) -> None:
        kind = account.event_kind(self.venue, payload)
        if kind == account.SHUTDOWN:
            self.life_s = 1e-9  # the next look replaces the connection, while the old one still serves
        elif kind == account.STREAM_ENDED and self.link is not None:
            self.link.disconnect("the venue ended the user stream")
        else:
            self.pushed(payload, recv_mono_ns)

    def replied(self, frame: wsapi.ApiFrame, recv_mono_ns: int) -> None:
        """A reply that no handshake waits for."""
        raise ProtocolViolation(f"{self.venue}: {self.name}: a reply to nothing: {frame.id}", venue=self.venue)

    def pushed(self, payload: bytes, recv_mono_ns: int) -> None:
        """An event of the account."""
        raise ProtocolViolation(f"{self.venue}: {self.name}: an event of the account", venue=self.venue)

    def ping(self) -> bytes:
        return b""


class _OrderEntry(ApiSession):
    """Orders and cancels; their answers come by request id."""

    carries_orders = True

    def replied(self, frame: wsapi.ApiFrame, recv_mono_ns: int) -> None:
        self._owner.answered(frame, recv_mono_ns)

    def on_lost(self, link: WsLink, reason: str) -> None:
        self._owner.end_all_unknown(reason, link)


class BinanceTrading(OrderSession):
    """What the :class:`VenueTrading` of both markets share; a market brings its client and its private stream."""

    client: BinanceClient
    signs_orders = True

    def __init__(
        self, venue: VenueConfig, credentials: Credentials, on_event: EventSink, client: BinanceClient
    ) -> None:
        super().__init__(venue, credentials, on_event, client)
        self._signer = BinanceSigner(credentials.api_key, credentials.api_secret)
        self.entry = _OrderEntry("order entry", self)

    def sessions_ready(self) -> tuple[bool, str]:
        for session in self.streams():
            if not session.ready:
                return False, f"{session.name}: {session.last_reason or 'not connected'}"
        return True, ""

    def streams(self) -> tuple[StreamSession, ...]:
        return (self.entry, self.private)

    async def open_order_entry(self) -> None:
        await self.entry.start()

    async def close_order_entry(self) -> None:
        await self.entry.stop()

    def call(self, method: str, call_id: str, params: list[tuple[str, str | int]], window_ms: int) -> bytes:
        """A signed call of the WebSocket API, stamped with the venue's clock now."""
        stamped = [
            *params,
            ("apiKey", self._signer.api_key),
            ("recvWindow", self._signer.window(window_ms)),
            ("timestamp", self.client.clock.now_ms()),
        ]
        return wsapi.call_frame(self._signer, method, call_id, stamped)

    # --- orders ---

    def order_payload(self, request: OrderRequest, now_ms: int) -> bytes:
        window_ms = request.expiry_wall_ms - now_ms if request.expiry_wall_ms else RECV_WINDOW_DEFAULT_MS
        params = orders.place_params(request, self.config.market)
        return self.call("order.place", f"p-{request.client_id}", params, window_ms)

    def template(self, terms: OrderTerms) -> Pieces | None:
        if not self.good_symbol(terms.symbol):
            return None
        inside = orders.place_pieces(terms, self._signer.api_key, self._signer.window(terms.window_ms))
        pieces = wsapi.call_pieces("order.place", "p-" + terms.id_prefix, inside, self._signer.signature_bytes)
        return [template.TEXT_FRAME, *pieces]

    def sign(self, order: memoryview, start: int, stop: int, place: int) -> None:
        signature = self._signer.sign(wsapi.signed_text(order[start:stop])).encode()
        order[place : place + self._signer.signature_bytes] = signature

    def cancel_payload(self, symbol: str, client_id: str, order_id: str) -> bytes:
        name: tuple[str, str | int] = ("orderId", int(order_id)) if order_id else ("origClientOrderId", client_id)
        return self.call("order.cancel", f"c-{client_id}", [("symbol", symbol), name], RECV_WINDOW_DEFAULT_MS)

    def answered(self, frame: wsapi.ApiFrame, recv_mono_ns: int) -> None:
        """The reply to an order or a cancel."""
        key = str(frame.id)
        bucket = "order" if key.startswith("p-") else "cancel"
        error = wsapi.reply_error(self.venue, frame)
        update: OrderUpdate | None = None
        self.note_answer(error, bucket)
        left = wsapi.orders_left(frame)
        if left is not None:
            self.client.transport.throttle.remaining("order", left)
        if error is not None:
            self.check_clock(error)
        else:
            try:
                update = orders.parse_order(self.venue, bytes(frame.result), recv_mono_ns, "ws_api")
            except ProtocolViolation as violation:
                self.violation(violation)
                error = violation
        self.end(key, update=update, error=error, recv_mono_ns=recv_mono_ns)
