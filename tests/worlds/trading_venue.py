"""A venue of the simulator with the engine's own client and trading session on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from pipeline.exchanges.base import VenueClient, VenueTrading
from pipeline.exchanges.factory import make_trading, make_venue
from pipeline.model.clock import wall_ms
from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.model.fixedpoint import quantize_down, quantize_up
from pipeline.model.structs import InstrumentSpec, OrderRequest
from tests.worlds.exchange_world import Events, World, world


class TradingVenue:
    """One simulated venue, its client and its trading session."""

    def __init__(self, box: World, name: str) -> None:
        self.box = box
        self.name = name
        self.config = box.venue(name)
        self.events = Events()
        self.client: VenueClient = make_venue(self.config, box.credentials(name))
        self.trading: VenueTrading = make_trading(self.config, box.credentials(name), self.events)
        self.began_ms = wall_ms()

    async def open(self) -> None:
        self.spec: InstrumentSpec = (await self.client.instruments(self.config.symbols[:1]))[0]
        await self.trading.connect()

    async def close(self) -> None:
        await self.trading.close()
        await self.client.close()

    def order(self, client_id: str, side: OrderSide, away: str, tif: TimeInForce, **changes: object) -> OrderRequest:
        """An order of about 20 USDT, ``away`` times the reference price."""
        spec = self.spec
        fields: dict[str, object] = {
            "client_id": client_id,
            "venue": self.name,
            "symbol": spec.symbol,
            "side": side,
            "kind": OrderKind.LIMIT,
            "tif": tif,
            "qty": quantize_up(max(spec.min_qty, Decimal(20) / spec.reference_price), spec.lot),
            "price": quantize_down(spec.reference_price * Decimal(away), spec.tick),
            "multiplier": spec.multiplier,
            "expiry_wall_ms": wall_ms() + 5000,
        }
        return OrderRequest(**(fields | changes))  # type: ignore[arg-type]

    def buy(self, client_id: str) -> OrderRequest:
        return self.order(client_id, OrderSide.BUY, "1.02", TimeInForce.IOC)

    def rest(self, client_id: str) -> OrderRequest:
        return self.order(client_id, OrderSide.BUY, "0.97", TimeInForce.GTC)


@asynccontextmanager
async def trading_venue(name: str, scenario: Any = "demo") -> AsyncIterator[TradingVenue]:
    async with world(scenario) as box:
        it = TradingVenue(box, name)
        await it.open()
        try:
            yield it
        finally:
            await it.close()
