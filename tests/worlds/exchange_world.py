"""A simulated exchange on loopback and our venues on it: what the tests of transports and sessions share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.model.config import VenueConfig
from pipeline.model.structs import Credentials
from pipeline.model.venue_events import VenueEvent
from pipeline.sim.exchange.faults import FaultRule
from pipeline.sim.scenarios.specs import Scenario, load_scenario
from pipeline.sim.server import SimExchangeServer
from tests.worlds.waiting import until_async

TRADED = ("mexc_spot", "gateio_spot", "gateio_futures")
STAMPED = ("binance_spot", "binance_futures", "bybit_spot", "bybitperp_futures")
SESSIONS = (*TRADED, *STAMPED)


def market_of(name: str) -> str | Scenario:
    """A market that has the venue; the accounts of the last two are alone on their exchanges."""
    if name in TRADED:
        return "demo"
    return "five_venues" if name.startswith("binance") else load_scenario("seven_venues").only([name])


@dataclass
class Events:
    """Every event of a trading session, in order."""

    seen: list[VenueEvent] = field(default_factory=list)

    def __call__(self, event: VenueEvent) -> None:
        self.seen.append(event)

    def of(self, kind: type, **fields: object) -> list[Any]:
        return [
            event
            for event in self.seen
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
        ]

    async def one(self, kind: type, **fields: object) -> Any:
        await until_async(lambda: bool(self.of(kind, **fields)), f"{kind.__name__} {fields}")
        return self.of(kind, **fields)[0]


class World:
    def __init__(self, server: SimExchangeServer, info: dict[str, Any]) -> None:
        self.server = server
        self.info = info["venues"]

    def venue(self, name: str, *, symbols: tuple[str, ...] | None = None) -> VenueConfig:
        exchange, market = name.rsplit("_", 1)
        entry = self.info[name]
        return VenueConfig(
            name=name,
            exchange=exchange,
            market=market,
            dialect=self.server.scenario.exchanges[exchange].dialect,
            venue_id=list(self.info).index(name),
            feed_id=0,
            rest=entry["rest"].rstrip("/"),
            ws=entry["ws"],
            ws_private=entry.get("ws_private", ""),
            ws_api=entry.get("ws_api", ""),
            symbols=tuple(entry["symbols"]) if symbols is None else symbols,
        )

    def credentials(self, name: str) -> Credentials:
        entry = self.info[name]
        return Credentials(api_key=entry["api_key"], api_secret=entry["api_secret"], uid=entry.get("uid", ""))

    def fault(self, **rule: object) -> None:
        self.server.arm(FaultRule.parse(rule))


@asynccontextmanager
async def world(scenario: Any = "demo", seed: int = 7) -> AsyncIterator[World]:
    server = SimExchangeServer(scenario, seed)
    info = await server.start()
    try:
        yield World(server, info)
    finally:
        await server.stop()
