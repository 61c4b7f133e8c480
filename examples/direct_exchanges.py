"""Exchanges asked directly, without an engine: ``python -m examples.direct_exchanges``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from decimal import Decimal

from arbitrage import OrderSide, PrivateExchangeInterface, SimulatedExchanges, Symbol
from arbitrage.direct.composite import CompositeExchange
from arbitrage.direct.config import create_market_data_config
from arbitrage.direct.factory import FullExchangeFactory
from arbitrage.direct.rest import create_trading_client

BTC = Symbol("BTC", "USDT")


async def look_at_the_market(exchange: CompositeExchange) -> Decimal:
    """The best ask of three books as they change."""
    stream = exchange.subscribe_orderbook(BTC)
    best = Decimal(0)
    async with aclosing(stream):
        for _ in range(3):
            book = await anext(stream)
            best = book.asks[0][0]
            print(f"{book.venue} {book.symbol}: {book.bids[0][0]} / {best}")
    trades = await exchange.get_recent_trades(BTC, limit=3)
    print(f"{exchange.exchange_name}: {len(trades)} newest trades")
    return best


async def place_and_cancel(exchange: CompositeExchange) -> bool | None:
    """An order far from the market, asked for and cancelled; whether the venue says that it is."""
    balances = await exchange.get_balances()  # asked now: never kept
    print(f"{exchange.exchange_name}: {balances['USDT'].free} USDT")
    info, book = await asyncio.gather(exchange.get_symbol_info(BTC), exchange.get_orderbook(BTC))
    price = book.bids[0][0] * Decimal("0.9")
    order = await exchange.place_order(BTC, OrderSide.BUY, max(info.min_qty, Decimal(50) / price), price)
    status = await exchange.get_order_status(order)
    print(f"{order.client_id}: {status.state.name if status is not None else 'not found'}")
    return (await exchange.cancel_order(order)).cancelled


async def main(exchanges: Mapping[str, PrivateExchangeInterface], names: tuple[str, ...]) -> dict[str, bool | None]:
    """Both steps on every venue, side by side; whether each order was cancelled, by venue."""
    async with FullExchangeFactory(exchanges) as factory:
        opened = await factory.create_multiple_exchanges(names, symbols=[BTC])
        await asyncio.gather(*(look_at_the_market(exchange) for exchange in opened.values()))
        cancelled = await asyncio.gather(*(place_and_cancel(exchange) for exchange in opened.values()))
        for exchange in opened.values():
            print(f"{exchange.exchange_name}: {(await exchange.health_check()).status}")
    return dict(zip(opened, cancelled, strict=True))


async def rest_client(exchange: PrivateExchangeInterface, path: str) -> float:
    """One question of the venue's documents; the average response time in seconds."""
    async with create_trading_client(exchange.venue_config(), exchange.hand_over()) as client:
        answer = await client.get(path, config=create_market_data_config())
        print(f"{path}: {answer}")
        metrics = client.get_metrics()
        print(f"Average response time: {metrics.avg_response_time or 0:.3f}s, success rate {metrics.success_rate} %")
        return metrics.avg_response_time or 0.0


async def on_simulated_exchanges() -> None:
    """All of it where no key is needed."""
    async with SimulatedExchanges() as simulated:
        own = {name.value: exchange for name, exchange in simulated.private_exchanges.items()}
        await main(own, ("mexc_spot", "gateio_spot", "gateio_futures"))
        await rest_client(own["gateio"], "/spot/time")


if __name__ == "__main__":
    asyncio.run(on_simulated_exchanges())
