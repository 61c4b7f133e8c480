"""Which market of an exchange a futures symbol means, and what an exchange object changes of a configuration."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from arbitrage import (
    ArbitrageConfig,
    ArbitrageEngine,
    ArbitrageOpportunity,
    BadInput,
    ExchangeName,
    GateioPrivateExchange,
    GateioPublicExchange,
    MexcPrivateExchange,
    MexcPublicExchange,
    OpportunityType,
    OrderSide,
    PositionManager,
    Symbol,
)
from arbitrage.instance import SUPERVISOR_SOCKET, Instance
from arbitrage.market_data import add_symbol
from arbitrage.orders import legs_of
from arbitrage.positions import AtomicOperation
from workers.control_socket import ControlServer
from workers.state_folder import instance_dir

FUTURES = Symbol("ETH", "USDT", is_futures=True)
LISTED = {
    ("mexc_spot", "ETHUSDT"), ("gateio_spot", "ETH_USDT"), ("gateio_futures", "ETH_USDT"),
    ("binance_futures", "ETHUSDT"),
}  # fmt: skip
CONFIGURED = {
    "exchanges": {
        "gateio": {
            "dialect": "gateio",
            "trade": False,
            "markets": {
                "spot": {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1", "symbols": ["SOL_USDT"]},
                "futures": {"rest": "http://127.0.0.1:2", "ws": "ws://127.0.0.1:2", "symbols": ["SOL_USDT"]},
            },
        }
    }
}


class Supervisor:
    """What answers for the supervisor, in the loop of the test: one that holds the loop up is never answered."""

    def __init__(self, instance: str) -> None:
        self.added: list[tuple[str, str]] = []
        self._server = ControlServer(instance_dir(instance, create=True) / SUPERVISOR_SOCKET, self._answer, print)

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("action") == "add":
            self.added.append((request["venue"], request["symbol"]))
            return {}
        if request["op"] == "execute":
            raise BadInput(" ".join(f"{leg['venue']} {leg['symbol']}" for leg in request["opportunity"]["legs"]))
        rows = [{"venue": venue, "pair": "ETH/USDT", "symbol": symbol, "removed": False} for venue, symbol in LISTED]
        return {"instruments": rows}

    async def __aenter__(self) -> Supervisor:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()


@pytest.fixture
def config(instance: str, state_dir: Path) -> ArbitrageConfig:
    sections = {
        "mexc": MexcPublicExchange().section(),
        "gateio": GateioPublicExchange(markets=("spot", "futures")).section(),
    }
    return ArbitrageConfig(engine_name=instance, enable_dry_run=True, settings={"exchanges": sections})


def opportunity(kind: OpportunityType, symbol: str, buy: str, sell: str) -> ArbitrageOpportunity:
    return ArbitrageOpportunity(
        opportunity_id="o", opportunity_type=kind, symbol=symbol, buy_exchange=buy, sell_exchange=sell,
        buy_price=Decimal(1), sell_price=Decimal(2), max_quantity=Decimal(1), profit_per_unit=Decimal(1),
        total_profit_estimate=Decimal(1), profit_margin_bps=Decimal(1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "symbol", "buy", "sell", "venues"),
    [
        (OpportunityType.SPOT_SPOT, "ETH/USDT", "mexc", "gateio", ["mexc_spot", "gateio_spot"]),
        (OpportunityType.SPOT_SPOT, FUTURES, "binance", "gateio", ["binance_futures", "gateio_futures"]),
        (OpportunityType.SPOT_SPOT, FUTURES, "mexc_spot", "gateio", ["mexc_spot", "gateio_futures"]),
        (OpportunityType.SPOT_FUTURES_HEDGE, FUTURES, "mexc", "gateio", ["mexc_spot", "gateio_futures"]),
    ],
)
def test_legs_go_where_the_symbol_says_unless_a_venue_is_named(
    config: ArbitrageConfig, kind: OpportunityType, symbol: str, buy: str, sell: str, venues: list[str]
) -> None:
    async def legs() -> dict[str, Any]:
        async with Supervisor(config.engine_name):
            return await legs_of(Instance(config), opportunity(kind, symbol, buy, sell))

    assert [leg["venue"] for leg in asyncio.run(legs())["legs"]] == venues


def test_a_leg_of_an_atomic_operation_goes_where_its_symbol_says() -> None:
    legs = AtomicOperation(OpportunityType.SPOT_FUTURES_HEDGE)
    for symbol, side in ((FUTURES, OrderSide.BUY), ("ETH/USDT", OrderSide.BUY), ("ETH/USDT", OrderSide.SELL)):
        legs.place_order("gateio", symbol, side, Decimal(1), Decimal(1))
    assert [leg["venue"] for leg in legs.legs] == ["gateio_futures", "gateio_spot", "gateio_futures"]


def test_a_futures_symbol_asks_for_the_futures_book_and_orders() -> None:
    asked: list[str] = []

    def book(venue: str, symbol: str) -> Any:
        asked.append(venue)
        raise BadInput(symbol)

    public = GateioPublicExchange(markets=("spot", "futures"))
    public.read_by(book)
    for symbol, market in ((FUTURES, ""), ("ETH/USDT", ""), (FUTURES, "spot"), ("ETH/USDT", "futures")):
        with pytest.raises(BadInput):
            asyncio.run(public.get_orderbook(symbol, market=market))
    assert asked == ["gateio_futures", "gateio_spot", "gateio_spot", "gateio_futures"]
    private = MexcPrivateExchange(api_key="k", secret_key="s")
    for question in (
        private.get_open_orders(FUTURES), private.get_order_status(FUTURES, "t-1"), private.get_trading_fees([FUTURES]),
    ):  # fmt: skip
        with pytest.raises(BadInput, match="found market 'futures', wanted some of spot"):
            asyncio.run(question)
    with pytest.raises(BadInput, match="found some of futures and spot"):
        asyncio.run(private.get_trading_fees([FUTURES, "ETH/USDT"]))


def test_a_futures_symbol_is_read_at_the_futures_alone() -> None:
    both = GateioPublicExchange(markets=("spot", "futures"), symbols=[FUTURES, Symbol("SOL/USDT")])
    assert both.venue_config("futures").symbols == ("ETH_USDT", "SOL_USDT")
    assert both.venue_config("spot").symbols == ("SOL_USDT",)
    assert list(GateioPublicExchange(markets=("spot", "futures"), symbols=[FUTURES]).markets) == ["futures"]
    with pytest.raises(BadInput, match="wanted 'futures' among markets"):
        GateioPublicExchange(symbols=[FUTURES])


def test_a_pair_is_added_at_the_futures_alone_while_the_loop_goes_on(config: ArbitrageConfig) -> None:
    async def add(symbol: str) -> tuple[list[str], list[tuple[str, str]]]:
        async with Supervisor(config.engine_name) as supervisor:
            return await add_symbol(Instance(config.engine_config()), symbol), supervisor.added

    doge = Symbol("DOGE", "USDT", is_futures=True)
    assert asyncio.run(add(doge)) == (["gateio_futures"], [("gateio_futures", "DOGE_USDT")])


def test_an_atomic_operation_asks_for_symbols_while_the_loop_goes_on(config: ArbitrageConfig) -> None:
    async def act() -> None:
        async with Supervisor(config.engine_name), PositionManager(config).atomic_operation() as operation:
            operation.place_order("gateio", "ETH/USDT", OrderSide.BUY, Decimal(1), Decimal(1))
            operation.place_order("gateio", "ETH/USDT", OrderSide.SELL, Decimal(1), Decimal(1))

    with pytest.raises(BadInput, match="gateio_spot ETH_USDT gateio_futures ETH_USDT"):
        asyncio.run(act())


def engine_on_file(**objects: Any) -> ArbitrageEngine:
    config = ArbitrageConfig(engine_name="t-merged", enable_dry_run=True, settings=CONFIGURED)
    return ArbitrageEngine(config, **{name: {ExchangeName.GATEIO: one} for name, one in objects.items()})  # type: ignore[arg-type]


def test_a_public_object_keeps_what_is_configured_and_it_does_not_name() -> None:
    plain = engine_on_file(public_exchanges=GateioPublicExchange()).config
    assert plain == engine_on_file().config and not plain.exchanges["gateio"].trade
    named = engine_on_file(public_exchanges=GateioPublicExchange(symbols=["ETH_USDT"])).config
    assert not named.exchanges["gateio"].trade
    assert [(venue.rest, venue.symbols) for venue in named.venues] == [
        ("http://127.0.0.1:1", ("ETH_USDT",)),
        ("http://127.0.0.1:2", ("ETH_USDT",)),
    ]
    spot = engine_on_file(public_exchanges=GateioPublicExchange(markets=("spot",))).config
    assert [(venue.name, venue.symbols) for venue in spot.venues] == [("gateio_spot", ("SOL_USDT",))]


def test_endpoints_of_an_object_take_the_place_of_the_configured_ones_and_of_nothing_else() -> None:
    here = {"spot": {"rest": "http://127.0.0.1:9", "ws": "ws://127.0.0.1:9", "symbols": ["ETH_USDT"]}}
    for objects in (
        {"public_exchanges": GateioPublicExchange(endpoints=here)},
        {"private_exchanges": GateioPrivateExchange(api_key="k", secret_key="s", endpoints=here)},
    ):
        config = engine_on_file(**objects).config
        assert not config.exchanges["gateio"].trade
        assert [(v.name, v.rest, v.symbols) for v in config.venues] == [
            ("gateio_spot", "http://127.0.0.1:9", ("ETH_USDT",))
        ]
