"""The simulated venue of a dialect, alone with its instruments, and the engine's own client, feed and session on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, TypeVar

from pipeline.exchanges.factory import make_venue
from pipeline.model.clock import mono_ns
from pipeline.model.config import VenueConfig
from pipeline.model.dialects import MarketFacts, facts_of
from pipeline.model.structs import Credentials
from pipeline.sim.exchange.faults import FaultRule
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.server import SimExchangeServer

T = TypeVar("T")
EXCHANGE = "checked"
SEED = 7
LATENCY_US = {"feed_us": 200, "order_us": 200, "match_us": 50, "ack_us": 200, "private_us": 300, "rest_us": 300}
WAIT_S = 30.0  # a loaded machine takes seconds for what a free one does in milliseconds
ASK_AGAIN_S = 0.2  # within every venue's limits
#: (pair, price, tick, lot); the second has numbers of many digits.
PAIRS = (("BTC/USDT", 64218.4, "0.1", "0.001"), ("XRP/USDT", 0.5243, "0.0001", "1"))


class CheckFailed(Exception):
    """What a dialect does not show, in a sentence."""


def need(condition: object, said: str) -> None:
    """Raises :class:`CheckFailed` unless the condition holds."""
    if not condition:
        raise CheckFailed(said)


async def until(condition: Callable[[], object], said: str) -> None:
    """Waits for a condition. Raises :class:`CheckFailed` after ``WAIT_S``."""
    deadline_ns = mono_ns() + int(WAIT_S * 1e9)
    while not condition():
        need(mono_ns() < deadline_ns, f"waited {WAIT_S:g} s for {said}")
        await asyncio.sleep(0.01)


async def rows_of(ask: Callable[[], Awaitable[Sequence[T]]], said: str) -> Sequence[T]:
    """Asks until there are rows. Raises :class:`CheckFailed` after ``WAIT_S``."""
    deadline_ns = mono_ns() + int(WAIT_S * 1e9)
    while not (rows := await ask()):
        need(mono_ns() < deadline_ns, f"waited {WAIT_S:g} s for {said}")
        await asyncio.sleep(ASK_AGAIN_S)
    return rows


def scenario_of(dialect: str) -> dict[str, Any]:
    """A quiet market of two pairs on every market of the dialect, as one exchange."""
    facts = facts_of(dialect)
    venues: dict[str, Any] = {}
    listings: dict[str, dict[str, Any]] = {pair: {} for pair, *_ in PAIRS}
    for market, spelling in facts.markets.items():
        futures = market == "futures"
        venues[market] = {
            "kind": market,
            "latency": dict(LATENCY_US),
            "fee_rule": "QUOTE",
            "balances": {"USDT": "60000"} if futures else {"USDT": "60000", "BTC": "1", "XRP": "70000"},
        }
        for pair, _, tick, lot in PAIRS:
            row: dict[str, Any] = {"symbol": spelling.spell(*pair.split("/")), "tick": tick, "lot": lot}
            row |= {"min_notional": "5", "min_qty": lot, "max_qty": str(Decimal(lot) * 10**6)}
            if futures:
                row |= {"multiplier": lot, "funding_rate": "0.0001", "funding_interval_s": 28800}
            listings[pair][f"{EXCHANGE}_{market}"] = row
    shape = {"rate_per_s": 20, "vol_bps": 1.2, "spread_bps": 3.0, "top_usd": 9000, "level_usd": 4000}
    return {
        "name": f"conformance of {dialect}",
        "coins": {"BTC": {"networks": [["btc", ""]]}, "XRP": {"networks": [["xrp", ""]]}},
        "exchanges": {EXCHANGE: {"dialect": dialect, "venues": venues}},
        "pairs": {pair: {"price": price, **shape, "listings": listings[pair]} for pair, price, *_ in PAIRS},
    }


class Checked:
    """One running simulated venue of a dialect."""

    def __init__(self, server: SimExchangeServer, info: dict[str, Any], dialect: str, market: str) -> None:
        self.server = server
        self.dialect = dialect
        self.market = market
        self.name = f"{EXCHANGE}_{market}"
        self.facts: MarketFacts = facts_of(dialect).markets[market]
        self.sim: SimVenue = server.venues[self.name]
        entry = info["venues"][self.name]
        self.config = VenueConfig(
            name=self.name,
            exchange=EXCHANGE,
            market=market,
            dialect=dialect,
            venue_id=0,
            feed_id=0,
            rest=entry["rest"].rstrip("/"),
            ws=entry["ws"],
            ws_private=entry.get("ws_private", ""),
            ws_api=entry.get("ws_api", ""),
            symbols=tuple(entry["symbols"]),
        )
        self.key = Credentials(api_key=entry["api_key"], api_secret=entry["api_secret"], uid=entry.get("uid", ""))
        self.client = make_venue(self.config)

    def fault(self, **rule: object) -> None:
        """Arms a fault of this venue."""
        self.server.arm(FaultRule.parse({"venue": self.name, **rule}))

    def end_faults(self) -> None:
        """No rule is armed any more."""
        self.server.faults.clear()


@asynccontextmanager
async def checked_venue(dialect: str, market: str) -> AsyncIterator[Checked]:
    """A simulated venue for as long as the block runs."""
    server = SimExchangeServer(scenario_of(dialect), SEED)
    info = await server.start()
    it = Checked(server, info, dialect, market)
    try:
        yield it
    finally:
        await it.client.close()
        await server.stop()
