"""Gate.io order entry (WebSocket API) and private stream, spot and USDT futures.

Two connections: one carries only orders, so that no burst of pushes stands before an answer; one carries the private
channels. The differences of the markets are data: channel names, path tables, whether sizes are contracts.

*Source:* Gate.io API v4, WebSocket spot and futures: login, order place, orders and usertrades channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from pipeline.exchanges.base import EventSink, HttpReply
from pipeline.exchanges.gateio import account, orders
from pipeline.exchanges.gateio import websocket_api as wsapi
from pipeline.exchanges.gateio.errors import error_of
from pipeline.exchanges.gateio.rest_client import SIZE_DECIMAL, GateClient, GateFuturesClient, make_client
from pipeline.exchanges.gateio.signing import GateSigner
from pipeline.exchanges.order_session import OrderSession
from pipeline.exchanges.parsing.venue_json import decode
from pipeline.exchanges.stream_session import StreamSession
from pipeline.exchanges.transport.websocket import WsLink
from pipeline.model.clock import mono_ns, wall_ms
from pipeline.model.errors import (
    AuthRefused,
    ProtocolViolation,
    VenueError,
    VenueUnavailable,
)
from pipeline.model.structs import Credentials, OrderRequest, OrderUpdate
from pipeline.templates import template
from pipeline.templates.template import OrderTerms, Pieces

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

BALANCE_REST_INTERVAL_S = 0.1  # a burst of wallet changes asks once
LOGIN_SKEW_MAX_MS = 60_000  # a login from further away is refused
HELD_FRAMES_MAX = 256  # frames of contracts whose multiplier is being asked


class _OrderEntry(StreamSession):
    """The trading connection: logged in, answers matched by request id."""

    carries_orders = True

    def __init__(self, owner: GateTrading, on_change: Callable[[], None]) -> None:
        super().__init__("order entry", owner.venue, on_change)
        self._owner = owner
        self.uid = ""

    def error_of(self, reply: HttpReply) -> VenueError | None:
        return error_of(self.venue, reply)

    async def url(self) -> str:
        return self._owner.config.ws_api or self._owner.config.ws

    def headers(self) -> Mapping[str, str]:
        return SIZE_DECIMAL

    async def handshake(self, link: WsLink) -> None:
        clock, sent_ns = self._owner.client.clock, mono_ns()
        frame = wsapi.login_frame(self._owner.signer, self._owner.prefix, "login", clock.now_ms() // 1000)
        reply = wsapi.parse_reply(self.venue, await self.ask(link, "login", frame))
        error = wsapi.reply_error(self.venue, reply, wall_ms())
        if error is not None:
            raise error
        self.uid = wsapi.login_uid(self.venue, reply)
        said_ms = wsapi.reply_ms(reply)
        if not clock.known and abs(said_ms - clock.now_ms()) <= LOGIN_SKEW_MAX_MS:
            clock.learn(said_ms, mono_ns() - sent_ns)  # an order's expiry is a time of theirs: better than ours

    def on_frame(self, payload: memoryview, is_text: bool, recv_mono_ns: int) -> None:
        try:
            if b'"request_id"' not in bytes(payload):
                return  # pongs and other channel frames
            reply = wsapi.parse_reply(self.venue, payload)
        except ProtocolViolation as error:
            self._owner.violation(error)
            return
        if reply.ack is True or self.answer(reply.request_id, payload):
            return
        self._owner.answered(reply, recv_mono_ns)

    def ping(self) -> bytes:
        return f'{{"time":{wall_ms() // 1000},"channel":"{self._owner.prefix}.ping"}}'.encode()

    def on_lost(self, link: WsLink, reason: str) -> None:
        self._owner.end_all_unknown(reason, link)


class _PrivateStream(StreamSession):
    """Orders, trades, balances and positions of the account."""

    def __init__(self, owner: GateTrading, on_change: Callable[[], None]) -> None:
        super().__init__("private", owner.venue, on_change)
        self._owner = owner

    async def url(self) -> str:
        return self._owner.config.ws_private or self._owner.config.ws

    def headers(self) -> Mapping[str, str]:
        return SIZE_DECIMAL

    async def handshake(self, link: WsLink) -> None:
        owner = self._owner
        payloads = await owner.channel_payloads()
        for number, (channel, payload) in enumerate(payloads.items(), 1):
            time_s = owner.client.clock.now_ms() // 1000
            sign = owner.signer.channel(channel, "subscribe", time_s)
            body = f',"payload":{payload}' if payload else ""
            frame = (
                f'{{"time":{time_s},"id":{number},"channel":"{channel}","event":"subscribe"{body},'
                f'"auth":{{"method":"api_key","KEY":"{owner.signer.api_key}","SIGN":"{sign}"}}}}'
            ).encode()
            answer = decode(account.envelope, await self.ask(link, channel, frame), self.venue, "subscribe reply")
            if answer.error is not None and (answer.error.code or answer.error.message):
                text = f"{self.venue}: {channel} refused: {answer.error.code} {answer.error.message}"
                raise AuthRefused(text, venue=self.venue) if answer.error.code == 4 else VenueUnavailable(text)

    def on_frame(self, payload: memoryview, is_text: bool, recv_mono_ns: int) -> None:
        try:
            frame = decode(account.envelope, payload, self.venue, "private frame")
        except ProtocolViolation as error:
            self._owner.violation(error)
            return
        if frame.event == "subscribe":
            self.answer(frame.channel, payload)
        elif frame.event == "update":
            self._owner.pushed(frame, recv_mono_ns)

    def ping(self) -> bytes:
        return f'{{"time":{wall_ms() // 1000},"channel":"{self._owner.prefix}.ping"}}'.encode()


class GateTrading(OrderSession):
    """:class:`VenueTrading` of both Gate.io markets."""

    client: GateClient
    entry: _OrderEntry

    def __init__(self, venue: VenueConfig, credentials: Credentials, on_event: EventSink) -> None:
        super().__init__(venue, credentials, on_event, make_client(venue, credentials))
        self.signer = GateSigner(credentials.api_key, credentials.api_secret)
        self.prefix = "spot" if venue.market == "spot" else "futures"
        self.multipliers: dict[str, Decimal] = {}
        self.private = _PrivateStream(self, self.sessions_changed)
        self.entry = _OrderEntry(self, self.sessions_changed)
        self._held: list[tuple[account.Envelope, int]] = []

    def sessions_ready(self) -> tuple[bool, str]:
        for session in (self.entry, self.private):
            if not session.ready:
                return False, f"{session.name}: {session.last_reason or 'not connected'}"
        return True, ""

    def streams(self) -> tuple[StreamSession, ...]:
        return (self.entry, self.private)

    def set_multipliers(self, multipliers: Mapping[str, Decimal]) -> None:
        self.multipliers.update(multipliers)

    async def open_order_entry(self) -> None:
        if isinstance(self.client, GateFuturesClient) and self.config.symbols:
            self.multipliers |= await self.client.learn_multipliers(self.config.symbols)
        await self.entry.start()

    async def close_order_entry(self) -> None:
        await self.entry.stop()

    async def channel_payloads(self) -> dict[str, str]:
        """Private channels and their payload text; "" = none."""
        if self.prefix == "spot":
            return {channel: "" if channel.endswith("balances") else '["!all"]' for channel in account.SPOT_CHANNELS}
        uid = self.credentials.uid or self.entry.uid
        if not uid and isinstance(self.client, GateFuturesClient):
            uid = await self.client.user_id()
        if not uid.isalnum():
            raise AuthRefused(
                f"{self.venue}: user id of the account is not known; add uid to the key", venue=self.venue
            )
        every = f'["{uid}","!all"]'
        return {
            channel: f'["{uid}"]' if channel.endswith("balances") else every for channel in account.FUTURES_CHANNELS
        }

    # --- orders ---

    def order_payload(self, request: OrderRequest, now_ms: int) -> bytes:
        body = orders.place_body(self.prefix, request)
        if self.prefix == "futures":
            self.multipliers.setdefault(request.symbol, request.multiplier)
        clock = self.client.clock
        expiry_ms = clock.to_venue_ms(request.expiry_wall_ms) if request.expiry_wall_ms else 0
        time_s = clock.to_venue_ms(now_ms) // 1000
        return wsapi.call_frame(f"{self.prefix}.order_place", f"p-{request.client_id}", body, time_s, expiry_ms)

    def template(self, terms: OrderTerms) -> Pieces | None:
        body = orders.place_pieces(self.prefix, terms) if self.good_symbol(terms.symbol) else None
        if body is None:
            return None
        if self.prefix == "futures":
            self.multipliers.setdefault(terms.symbol, terms.multiplier)
        return [template.TEXT_FRAME, *wsapi.call_pieces(f"{self.prefix}.order_place", f"p-{terms.id_prefix}", body)]

    def cancel_payload(self, symbol: str, client_id: str, order_id: str) -> bytes:
        param = wsapi.cancel_param(self.prefix, symbol, order_id or orders.TEXT_PREFIX + client_id)
        return wsapi.call_frame(f"{self.prefix}.order_cancel", f"c-{client_id}", param, self.now_ms() // 1000)

    def answered(self, reply: wsapi.ApiReply, recv_mono_ns: int) -> None:
        """The final reply of a call."""
        key = reply.request_id
        error = wsapi.reply_error(self.venue, reply, self.client.clock.now_ms())
        update: OrderUpdate | None = None
        self.note_answer(error, "order" if key.startswith("p-") else "cancel")
        if error is not None:
            self.check_clock(error)
        else:
            try:
                update = self._update_of(bytes(reply.data.result), recv_mono_ns)
            except (ProtocolViolation, KeyError) as caught:
                violation = _as_violation(self.venue, caught)
                self.violation(violation)
                error = violation
        self.end(key, update=update, error=error, recv_mono_ns=recv_mono_ns)

    def _update_of(self, payload: bytes, recv_mono_ns: int) -> OrderUpdate:
        if self.prefix == "spot":
            spot = decode(orders.spot_order, payload, self.venue, "order")
            return orders.spot_update(self.venue, spot, recv_mono_ns, "ws_api")
        futures = decode(orders.futures_order, payload, self.venue, "order")
        return orders.futures_update(self.venue, futures, self.multipliers, recv_mono_ns, "ws_api")

    # --- private stream ---

    def pushed(self, frame: account.Envelope, recv_mono_ns: int) -> None:
        """One update frame; held back while a contract's multiplier is being asked. Rows of ours that cannot be read
        are a violation of their own: what they say is asked for by REST."""
        own = self.client.own_rows()
        try:
            events = list(
                account.parse_push(
                    self.venue,
                    frame,
                    self.multipliers,
                    recv_mono_ns,
                    symbols=self.client.symbols,
                    odd=own,
                )
            )
        except ProtocolViolation as error:
            self.violation(error)
            return
        except KeyError as unknown:
            self._hold(frame, recv_mono_ns, str(unknown.args[0]))
            return
        for row in own.unreadable:
            text = f"{self.venue}: {row.what}: row of {row.name} cannot be read: {row.reason}"
            self.violation(ProtocolViolation(text, venue=self.venue))
        for event in events:
            if isinstance(event, account.FuturesBalanceChanged):
                self.ask_balance(BALANCE_REST_INTERVAL_S)
            else:
                self.on_event(event)

    def _hold(self, frame: account.Envelope, recv_mono_ns: int, contract: str) -> None:
        if len(self._held) >= HELD_FRAMES_MAX:
            self.violation(ProtocolViolation(f"{self.venue}: push of unknown contract {contract} dropped"))
            return
        kept = msgspec.structs.replace(frame, result=msgspec.Raw(bytes(frame.result)))
        self._held.append((kept, recv_mono_ns))
        if len(self._held) == 1:
            self.spawn(self._release(contract))

    async def _release(self, contract: str) -> None:
        """Learn the multiplier, then deliver what was held."""
        assert isinstance(self.client, GateFuturesClient), "only futures have multipliers"
        try:
            self.multipliers |= await self.client.learn_multipliers([contract])
        except VenueError as error:
            self.violation(ProtocolViolation(f"{self.venue}: multiplier of {contract} not known: {error.message}"))
            self._held.clear()
            return
        held, self._held = self._held, []
        for frame, recv_mono_ns in held:
            self.pushed(frame, recv_mono_ns)


def _as_violation(venue: str, error: ProtocolViolation | KeyError) -> ProtocolViolation:
    if isinstance(error, ProtocolViolation):
        return error
    return ProtocolViolation(f"{venue}: order of unknown contract {error.args[0]}", venue=venue)


def make_trading(venue: VenueConfig, credentials: Credentials, on_event: EventSink) -> GateTrading:
    """Order entry and private stream of one market."""
    return GateTrading(venue, credentials, on_event)
