"""Binance USDⓈ-M trading session: orders over the WebSocket API, the account's events on a listen key's socket.

A listen key is made without a signature, lives 60 minutes and is renewed every 30; the socket lies on the ``/private``
route. What is pushed of a wallet is its total: what is available is asked by REST, at most twice a second.

*Source:* Binance USDⓈ-M futures API, user data streams; WebSocket routes since 2026-03 (read 2026).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.exchanges.base import EventSink, HttpReply
from pipeline.exchanges.binance import futures_stream
from pipeline.exchanges.binance.api_session import CONNECTION_LIFE_S, BinanceTrading
from pipeline.exchanges.binance.errors import error_of
from pipeline.exchanges.binance.futures_client import BinanceFuturesClient
from pipeline.exchanges.stream_session import StreamSession
from pipeline.exchanges.transport.websocket import WsLink
from pipeline.model.clock import mono_ns
from pipeline.model.errors import ProtocolViolation, VenueError
from pipeline.model.structs import Credentials

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

KEY_RENEW_NS = 30 * 60 * 1_000_000_000
BALANCE_REST_INTERVAL_S = 0.5  # a burst of wallet changes asks once; a reading weighs 5 of 2400 a minute
ROUTES = ("/public", "/market", "/private")


def private_url(config: VenueConfig) -> str:
    """Address of the user stream without its key: ``ws_private``, or the private route beside that of the streams."""
    base = (config.ws_private or config.ws).rstrip("/")
    for end in ("/ws", "/stream"):
        base = base.removesuffix(end)
    if not config.ws_private:
        for route in ROUTES:
            base = base.removesuffix(route)
        base += "/private"
    return f"{base}/ws"


class _UserStream(StreamSession):
    """Orders, trades, wallets and positions of the account; protocol pings keep it."""

    ping_interval_s = 15.0
    stall_after_s = 40.0  # our pings are answered
    life_s = CONNECTION_LIFE_S

    def __init__(self, owner: BinanceFuturesTrading) -> None:
        super().__init__("user stream", owner.venue, owner.sessions_changed)
        self._owner = owner
        self._renewed_ns = 0

    async def url(self) -> str:
        key = await self._owner.client.listen_key()
        self._renewed_ns = mono_ns()
        return f"{private_url(self._owner.config)}?listenKey={key}"

    def error_of(self, reply: HttpReply) -> VenueError | None:
        return error_of(self.venue, reply)

    async def handshake(self, link: WsLink) -> None:
        return

    def on_frame(self, payload: memoryview, is_text: bool, recv_mono_ns: int) -> None:
        try:
            kind = futures_stream.event_kind(self.venue, payload)
            if kind == futures_stream.KEY_EXPIRED and self.link is not None:
                self.link.disconnect("listen key expired")
            elif kind == futures_stream.CONFIG_CHANGED:
                self._owner.client.forget_settings()
            else:
                self._owner.pushed(payload, recv_mono_ns)
        except ProtocolViolation as error:
            self._owner.violation(error)

    def ping(self) -> bytes:
        return b""

    async def upkeep(self) -> None:
        if mono_ns() - self._renewed_ns <= KEY_RENEW_NS:
            return
        self._renewed_ns = mono_ns()
        try:
            await self._owner.client.renew_listen_key()
        except VenueError:
            # the key is gone or the venue is: a new connection asks for a new key
            if self.link is not None:
                self.link.disconnect("listen key could not be renewed")


class BinanceFuturesTrading(BinanceTrading):
    """:class:`VenueTrading` of Binance USDⓈ-M."""

    client: BinanceFuturesClient

    def __init__(self, venue: VenueConfig, credentials: Credentials, on_event: EventSink) -> None:
        super().__init__(venue, credentials, on_event, BinanceFuturesClient(venue, credentials))
        self.private = _UserStream(self)

    def pushed(self, payload: bytes | memoryview, recv_mono_ns: int) -> None:
        """One event of the account. Rows of ours that cannot be read are a violation: REST is asked for what they say.
        Raises ``ProtocolViolation``."""
        own = self.client.own_rows()
        events = list(
            futures_stream.parse_event(self.venue, payload, recv_mono_ns, symbols=self.client.symbols, odd=own)
        )
        for row in own.unreadable:
            text = f"{self.venue}: {row.what}: row of {row.name} cannot be read: {row.reason}"
            self.violation(ProtocolViolation(text, venue=self.venue))
        for event in events:
            if isinstance(event, futures_stream.WalletChanged):
                self.ask_balance(BALANCE_REST_INTERVAL_S)
            else:
                self.on_event(event)
