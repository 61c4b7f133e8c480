"""Bybit order entry (WebSocket trade) and private stream, spot and USDT perpetuals.

Two connections, each logged in by a signature: one carries only orders, so that no push stands before an answer; one
the topics of the market. An order's answer says that it was taken; what became of it is pushed, and asked for.

Doubt: whether a throttled order can be live. Its outcome is unknown, and the venue is left in silence all the same.

*Source:* Bybit V5 documentation, "WebSocket Trade", "WebSocket Private", "Connect".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.exchanges.base import EventSink
from pipeline.exchanges.bybit import account, orders
from pipeline.exchanges.bybit import websocket_api as wsapi
from pipeline.exchanges.bybit.errors import code_of
from pipeline.exchanges.bybit.market_client import BybitClient
from pipeline.exchanges.bybit.rest_client import make_client
from pipeline.exchanges.bybit.signing import RECV_WINDOW_MS, BybitSigner
from pipeline.exchanges.order_session import OrderSession
from pipeline.exchanges.stream_session import StreamSession
from pipeline.exchanges.transport.refusals import error_of_code, printable
from pipeline.exchanges.transport.websocket import WsLink
from pipeline.model.errors import ProtocolViolation, VenueError, VenueUnavailable
from pipeline.model.structs import Credentials, OrderRequest, OrderUpdate
from pipeline.templates import template
from pipeline.templates.template import OrderTerms, Pieces

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

LOGIN, SUBSCRIBE = "login", "subscribe"


class _Session(StreamSession):
    """What both connections share: the login, and pings."""

    ping_interval_s = 10.0  # the venue advises 20 s

    def __init__(self, name: str, owner: BybitTrading, on_change: Callable[[], None]) -> None:
        super().__init__(name, owner.venue, on_change)
        self._owner = owner

    async def login(self, link: WsLink) -> bytes:
        """The answer to the login."""
        frame = self._owner.signer.login_frame(self._owner.client.clock.now_ms(), LOGIN)
        return await self.ask(link, LOGIN, frame)

    def ping(self) -> bytes:
        return b'{"op":"ping"}'


class _OrderEntry(_Session):
    """Orders and cancels; their answers come by request id."""

    carries_orders = True

    def __init__(self, owner: BybitTrading, on_change: Callable[[], None]) -> None:
        super().__init__("order entry", owner, on_change)

    async def url(self) -> str:
        return self._owner.config.ws_api

    async def handshake(self, link: WsLink) -> None:
        reply = wsapi.parse_reply(self.venue, await self.login(link))
        error = wsapi.reply_error(self.venue, reply, self._owner.client.clock.now_ms())
        if error is not None:
            raise error

    def on_frame(self, payload: memoryview, is_text: bool, recv_mono_ns: int) -> None:
        try:
            reply = wsapi.parse_reply(self.venue, payload)
        except ProtocolViolation as error:
            self._owner.violation(error)
            return
        if reply.op == wsapi.LOGIN:
            self.answer(LOGIN, payload)
        elif reply.reqId and reply.op in (wsapi.CREATE, wsapi.CANCEL, ""):
            self._owner.answered(reply, recv_mono_ns)

    def on_lost(self, link: WsLink, reason: str) -> None:
        self._owner.end_all_unknown(reason, link)


class _PrivateStream(_Session):
    """Orders, executions, positions and the wallet of the account."""

    def __init__(self, owner: BybitTrading, on_change: Callable[[], None]) -> None:
        super().__init__("private", owner, on_change)

    async def url(self) -> str:
        return self._owner.config.ws_private

    async def handshake(self, link: WsLink) -> None:
        answer = account.parse_frame(self.venue, await self.login(link))
        if not answer.success:
            raise self._refusal(answer)
        topics = ",".join(f'"{topic}"' for topic in account.TOPICS[self._owner.client.category])
        frame = f'{{"req_id":"{SUBSCRIBE}","op":"subscribe","args":[{topics}]}}'.encode()
        answer = account.parse_frame(self.venue, await self.ask(link, SUBSCRIBE, frame))
        if not answer.success:
            raise VenueUnavailable(
                f"{self.venue}: private topics refused: {printable(answer.ret_msg)}", venue=self.venue
            )

    def _refusal(self, answer: account.Push) -> VenueError:
        """Of a login. Without a code it is no word about the key: REST tells, and this is tried again soon."""
        if answer.retCode:
            return error_of_code(self.venue, 200, code_of(answer.retCode, answer.ret_msg))
        text = f"{self.venue}: private login refused: {printable(answer.ret_msg)}"
        return VenueUnavailable(text, venue=self.venue)

    def on_frame(self, payload: memoryview, is_text: bool, recv_mono_ns: int) -> None:
        try:
            frame = account.parse_frame(self.venue, payload)
        except ProtocolViolation as error:
            self._owner.violation(error)
            return
        if frame.topic:
            self._owner.pushed(frame, recv_mono_ns)
        elif frame.op == "auth":
            self.answer(LOGIN, payload)
        elif frame.op == "subscribe":
            self.answer(SUBSCRIBE, payload)


class BybitTrading(OrderSession):
    """:class:`VenueTrading` of both Bybit markets."""

    client: BybitClient
    throttled_is_unknown = True

    def __init__(self, venue: VenueConfig, credentials: Credentials, on_event: EventSink) -> None:
        super().__init__(venue, credentials, on_event, make_client(venue, credentials))
        self.signer = BybitSigner(credentials.api_key, credentials.api_secret)
        self.private = _PrivateStream(self, self.sessions_changed)
        self.entry = _OrderEntry(self, self.sessions_changed)

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

    # --- orders ---

    def order_payload(self, request: OrderRequest, now_ms: int) -> bytes:
        window_ms = request.expiry_wall_ms - now_ms if request.expiry_wall_ms else RECV_WINDOW_MS
        body = orders.place_body(self.client.category, request)
        at_ms = self.client.clock.now_ms()
        return wsapi.call_frame(wsapi.CREATE, f"p-{request.client_id}", body, at_ms, window_ms)

    def template(self, terms: OrderTerms) -> Pieces | None:
        if not self.good_symbol(terms.symbol):
            return None
        body = orders.place_pieces(self.client.category, terms)
        return [template.TEXT_FRAME, *wsapi.call_pieces(wsapi.CREATE, f"p-{terms.id_prefix}", body, terms.window_ms)]

    def cancel_payload(self, symbol: str, client_id: str, order_id: str) -> bytes:
        body = orders.cancel_body(self.client.category, symbol, client_id, order_id)
        return wsapi.call_frame(wsapi.CANCEL, f"c-{client_id}", body, self.client.clock.now_ms(), RECV_WINDOW_MS)

    def answered(self, reply: wsapi.ApiReply, recv_mono_ns: int) -> None:
        """The reply to an order or a cancel."""
        key, now_ms = reply.reqId, self.client.clock.now_ms()
        error = wsapi.reply_error(self.venue, reply, now_ms)
        update: OrderUpdate | None = None
        is_order = key.startswith("p-")
        self.note_answer(error, "order" if is_order else "cancel")
        left = wsapi.orders_left(reply)
        if left is not None:
            self.client.transport.throttle.remaining("order" if is_order else "cancel", left)
        if error is not None:
            self.check_clock(error)
        elif is_order and key in self.in_flight:
            entry = self.in_flight[key]
            try:
                update = orders.parse_taken(
                    self.venue, entry.symbol, entry.client_id, bytes(reply.data), recv_mono_ns, now_ms, "ws_api"
                )
            except ProtocolViolation as violation:
                self.violation(violation)
                error = violation
        self.end(key, update=update, error=error, recv_mono_ns=recv_mono_ns)

    # --- private stream ---

    def pushed(self, frame: account.Push, recv_mono_ns: int) -> None:
        """One push. Rows of ours that cannot be read are a violation of their own: REST is asked for what they say."""
        own = self.client.own_rows()
        try:
            events = list(
                account.parse_push(
                    self.venue, self.client.category, frame, recv_mono_ns, symbols=self.client.symbols, odd=own
                )
            )
        except ProtocolViolation as error:
            self.violation(error)
            return
        for row in own.unreadable:
            text = f"{self.venue}: {row.what}: row of {row.name} cannot be read: {row.reason}"
            self.violation(ProtocolViolation(text, venue=self.venue))
        for event in events:
            self.on_event(event)


def make_trading(venue: VenueConfig, credentials: Credentials, on_event: EventSink) -> BybitTrading:
    """Order entry and private stream of one market."""
    return BybitTrading(venue, credentials, on_event)
