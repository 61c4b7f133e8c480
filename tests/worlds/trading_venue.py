"""A venue of the simulator with the engine's own client and trading session on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import numpy as np

from pipeline.exchanges.base import VenueClient, VenueTrading
from pipeline.exchanges.factory import make_trading, make_venue
from pipeline.model.clock import wall_ms
from pipeline.model.config import VenueConfig
from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.model.fixedpoint import quantize_down, quantize_up
from pipeline.model.structs import InstrumentSpec, OrderRequest
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template import OrderTerms, TemplateTable
from pipeline.templates.template_writer import fill_template
from tests.naive.orders import framed, hex_signature
from tests.worlds.exchange_world import Events, World, world


class TradingVenue:
    """One simulated venue, its client and its trading session."""

    def __init__(self, box: World, name: str, config: VenueConfig | None = None) -> None:
        self.box = box
        self.name = name
        self.config = config or box.venue(name)
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

    def filled_template(self) -> tuple[bytes, bytes]:
        """An order like ``buy("s1x1")``, made of its template and signed; the same as its socket takes it."""
        spec = self.spec
        terms = OrderTerms(
            symbol=spec.symbol, side=OrderSide.BUY, tick=spec.tick, lot=spec.lot, multiplier=spec.multiplier,
            id_prefix="s1x", window_ms=5000,
        )  # fmt: skip
        pieces = self.trading.template(terms)
        assert pieces is not None
        book = TemplateTable()
        book.add(pieces)
        program, pool = book.freeze(np.zeros(0, np.int64))
        wanted = self.buy("s1x1")
        slots, out = np.zeros(template.SLOTS, np.int64), np.zeros(2048, np.uint8)
        leg = slots[template.LEG_SLOTS : 2 * template.LEG_SLOTS]
        leg[ENTRY_LEG.lots], leg[ENTRY_LEG.ticks] = wanted.qty / spec.lot, wanted.price / spec.tick
        fill_template(program, pool, 0, slots, 0, out, 0)  # compiled before the order's time window begins
        now_ms = self.trading.now_ms()
        leg[ENTRY_LEG.client], leg[ENTRY_LEG.now_ms], leg[ENTRY_LEG.now_s] = 1, now_ms, now_ms // 1000
        leg[ENTRY_LEG.expiry_ms] = now_ms + 5000
        size = fill_template(program, pool, 0, slots, 0, out, 0)
        view = memoryview(out.data).cast("B")[:size]
        marks = [int(leg[slot]) for slot in (ENTRY_LEG.sign_from, ENTRY_LEG.sign_to, ENTRY_LEG.signature)]
        keys = [piece.prefix for piece in pieces if isinstance(piece, template.Placeholder) and piece.prefix]
        if self.trading.signs_orders:
            self.trading.sign(view, *marks)
        elif keys:
            start, stop, place = marks
            view[place : place + 64] = hex_signature(keys[0], bytes(view[start:stop])).encode()
        payload = bytes(view)
        return payload, framed(payload, 0x9A0B7F01) if template.TEXT_FRAME in pieces else payload

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
