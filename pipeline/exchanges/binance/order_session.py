"""Binance trading sessions: that of spot here, that of USDⓈ-M in ``futures_session.py``.

Spot's events of the account are subscribed by signature on a second connection of the WebSocket API, which HMAC keys
may do as well. There is no dead-man switch on spot: only IOC and FOK orders should be placed.

*Source:* Binance spot WebSocket API: user data stream requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.exchanges.base import EventSink
from pipeline.exchanges.binance import account
from pipeline.exchanges.binance import websocket_api as wsapi
from pipeline.exchanges.binance.api_session import ApiSession, BinanceTrading
from pipeline.exchanges.binance.futures_session import BinanceFuturesTrading
from pipeline.exchanges.binance.rest_client import BinanceSpotClient
from pipeline.exchanges.binance.signing import RECV_WINDOW_DEFAULT_MS
from pipeline.exchanges.transport.websocket import WsLink
from pipeline.model.structs import Credentials

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

SUBSCRIBE = "userDataStream.subscribe.signature"


class _UserStream(ApiSession):
    """Orders, trades and balances of the account."""

    async def handshake(self, link: WsLink) -> None:
        await super().handshake(link)
        payload = self._owner.call(SUBSCRIBE, "subscribe", [], RECV_WINDOW_DEFAULT_MS)
        frame = wsapi.parse_frame(self.venue, await self.ask(link, "subscribe", payload))
        error = wsapi.reply_error(self.venue, frame)
        if error is not None:
            self._owner.check_clock(error)
            raise error

    def pushed(self, payload: bytes, recv_mono_ns: int) -> None:
        owner = self._owner
        events = account.parse_event(
            self.venue, payload, recv_mono_ns, symbols=owner.client.symbols, odd=owner.client.odd_rows
        )
        for event in events:
            owner.on_event(event)


class BinanceSpotTrading(BinanceTrading):
    """:class:`VenueTrading` of Binance spot."""

    def __init__(self, venue: VenueConfig, credentials: Credentials, on_event: EventSink) -> None:
        super().__init__(venue, credentials, on_event, BinanceSpotClient(venue, credentials))
        self.private = _UserStream("user stream", self)


def make_trading(venue: VenueConfig, credentials: Credentials, on_event: EventSink) -> BinanceTrading:
    """Order entry and user stream of one market."""
    make = BinanceFuturesTrading if venue.market == "futures" else BinanceSpotTrading
    return make(venue, credentials, on_event)
