"""Binance spot's private side: its paths, and what the user data stream of its WebSocket API tells."""

from __future__ import annotations

from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance.limits import SPOT_LIMITS, BinanceLimits
from pipeline.sim.wire.binance.private_side import PrivateSide
from pipeline.sim.wire.binance.public_api import PublicApi
from pipeline.sim.wire.binance.signed_api import SignedApi
from pipeline.sim.wire.binance.user_stream import events_of

PREFIXES = ("/api/", "/sapi/")


class BinanceSpot(PrivateSide):
    """All calls of spot that the public dialect does not answer by itself."""

    def __init__(self, venue: SimVenue, limits: BinanceLimits = SPOT_LIMITS) -> None:
        signed, public = SignedApi(venue), PublicApi(venue)
        super().__init__(
            venue, limits, signed.rest_routes() | public.rest_routes("/api/v3"), signed.ws_routes(), events_of
        )
        self.on_trade = public.on_trade
