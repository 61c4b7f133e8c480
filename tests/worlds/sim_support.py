"""Small simulated venues on virtual time, for the simulator's tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from decimal import Decimal
from typing import Any, TypeVar

from pipeline.model.enums import FeeAssetRule, InstrumentKind, OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.accounts import ApiKey, SimAccount
from pipeline.sim.exchange.events import AccountEvent
from pipeline.sim.exchange.faults import FaultPlan
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.latency import NS_PER_MS, ManualClock
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.exchange.orders import SimOrderRequest
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.exchange.venue_ledger import VenueLedger
from pipeline.sim.factory import build_venues
from pipeline.sim.market.synthetic import SyntheticMarket
from pipeline.sim.scenarios.specs import Scenario

T = TypeVar("T")
D = Decimal


class Bench:
    """One venue with one instrument, a hand-made book and one account."""

    def __init__(self, *, futures: bool = False, rule: FeeAssetRule = FeeAssetRule.QUOTE, rejects: bool = True) -> None:
        self.clock = ManualClock()
        self.ledger = VenueLedger(self.clock.mono_ns)
        self.faults = FaultPlan(self.clock, random.Random(7))
        if futures:
            self.row = SimInstrument(
                symbol="BTC_USDT",
                base="BTC",
                quote="USDT",
                kind=InstrumentKind.PERPETUAL,
                tick=D("0.5"),
                lot=D("0.0001"),
                unit=D("0.0001"),
                multiplier=D("0.0001"),
                min_qty=D("0.0001"),
                taker_fee_ppm=500,
                maker_fee_ppm=-100,
                funding_rate=D("0.0001"),
                funding_interval_s=28800,
            )
        else:
            self.row = SimInstrument(
                symbol="BTC_USDT",
                base="BTC",
                quote="USDT",
                kind=InstrumentKind.SPOT,
                tick=D("0.5"),
                lot=D("0.001"),
                unit=D("0.0001"),
                min_qty=D("0.001"),
                min_notional=D("3"),
                taker_fee_ppm=1000,
                maker_fee_ppm=200,
                fee_rule=rule,
            )
        self.venue = SimVenue(
            name="gateio_futures" if futures else "gateio_spot",
            exchange="gateio",
            kind=self.row.kind,
            instruments=[self.row],
            clock=self.clock,
            ledger=self.ledger,
            faults=self.faults,
            seed=1,
            rejects_unfillable=rejects,
        )
        start = {"USDT": D(10_000)} if futures else {"USDT": D(10_000), "BTC": D(1)}
        self.account: SimAccount = self.venue.add_account("77", [ApiKey("key", "secret")], start)
        self.events: list[AccountEvent] = []
        self.venue.on_account(self.account, self.events.append)
        self.book = self.venue.books["BTC_USDT"]
        # 10000.0 / 10000.5 with 0.5 BTC each, then one level of 1 BTC every tick.
        self.scale = int(1 / self.row.unit)
        for index in range(4):
            units = self.scale // 2 if index == 0 else self.scale
            self.book.set_level(BID, 20_000 - index, units)
            self.book.set_level(ASK, 20_001 + index, units)

    def request(self, side: str, qty: str | None, price: str = "0", **fields: Any) -> SimOrderRequest:
        market = D(price) == 0
        return SimOrderRequest(
            symbol="BTC_USDT",
            side=OrderSide[side.upper()],
            kind=OrderKind.MARKET if market else OrderKind.LIMIT,
            tif=fields.pop("tif", TimeInForce.IOC),
            qty=None if qty is None else D(qty),
            price=D(price),
            **fields,
        )

    def free(self, asset: str) -> Decimal:
        return self.account.wallet(asset).free

    def settle(self) -> None:
        """Lets every push arrive."""
        self.clock.advance(50 * NS_PER_MS)


def run_on(clock: ManualClock, action: Coroutine[Any, Any, T], step_ns: int = 50_000, steps: int = 2000) -> T:
    """Runs a coroutine while virtual time passes in small steps."""

    async def drive() -> T:
        task = asyncio.ensure_future(action)
        for _ in range(steps):
            await asyncio.sleep(0)
            if task.done():
                break
            clock.advance(step_ns)
        return await task

    return asyncio.run(drive())


class MarketWorld:
    """A scenario's venues and their synthetic market; ``market.start()`` begins."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.clock = ManualClock()
        self.ledger = VenueLedger(self.clock.mono_ns)
        faults = FaultPlan(self.clock, random.Random(seed))
        self.venues: dict[str, SimVenue] = build_venues(scenario, self.clock, self.ledger, faults, seed)
        self.market = SyntheticMarket(scenario, self.venues, self.clock, seed)
