"""ccxt.pro (binanceusdm) on the simulated Binance USDⓈ-M: books, quotes, trades, own orders, WebSocket API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from tests.worlds.client_support import HostedSim, credentials, point
from tests.worlds.later import ccxt_pro
from tests.worlds.waiting import until_async

T = TypeVar("T")
VENUE = "binance_futures"
SYMBOL = "BTC/USDT:USDT"
WATCHDOG_S = 240


@pytest.fixture(scope="module")
def box() -> Iterator[HostedSim]:
    hosted = HostedSim("five_venues")
    yield hosted
    hosted.stop()


def drive(box: HostedSim, body: Callable[[Any], Awaitable[T]]) -> T:
    """Runs ``body(exchange)`` with a fresh client on a loop of its own."""

    async def run() -> T:
        exchange = point(ccxt_pro.binanceusdm(credentials(box, VENUE)), box, VENUE)
        try:
            await exchange.load_markets()
            return await asyncio.wait_for(body(exchange), WATCHDOG_S)
        finally:
            await exchange.close()

    return asyncio.run(run())


async def until(watch: Callable[..., Awaitable[Any]], found: Callable[[Any], bool], *args: Any) -> Any:
    while True:
        seen = await watch(*args)
        if found(seen):
            return seen


def test_watched_book_follows_and_is_never_crossed(box: HostedSim) -> None:
    async def body(exchange: Any) -> set[int]:
        nonces: set[int] = set()
        while len(nonces) < 8:
            book = await exchange.watch_order_book(SYMBOL)
            assert book["bids"][0][0] < book["asks"][0][0]
            nonces.add(book["nonce"])
        return nonces

    assert len(drive(box, body)) == 8


def test_watched_quotes_and_trades_come(box: HostedSim) -> None:
    async def body(exchange: Any) -> tuple[Any, Any]:
        return await exchange.watch_bids_asks([SYMBOL]), await exchange.watch_trades(SYMBOL)

    quotes, trades = drive(box, body)
    assert quotes[SYMBOL]["bid"] < quotes[SYMBOL]["ask"]
    assert trades and all(trade["side"] in ("buy", "sell") and trade["amount"] > 0 for trade in trades)


def test_watched_orders_trades_balance_and_positions_tell_of_a_fill_and_a_cancel(box: HostedSim) -> None:
    async def body(exchange: Any) -> None:
        book = await exchange.fetch_order_book(SYMBOL, 5)
        ended: dict[str, Any] = {}

        def is_over(rows: Any) -> bool:
            ended.update({row["clientOrderId"]: row for row in rows if row["status"] in ("closed", "canceled")})
            return {"taken1", "rested1"} <= ended.keys()

        watches = [
            asyncio.ensure_future(until(exchange.watch_orders, is_over, SYMBOL)),
            asyncio.ensure_future(exchange.watch_my_trades(SYMBOL)),
            asyncio.ensure_future(exchange.watch_balance()),
            asyncio.ensure_future(
                until(exchange.watch_positions, lambda rows: any(row["contracts"] == 0.01 for row in rows), [SYMBOL])
            ),
        ]
        venue = box.venue(VENUE)
        account = next(iter(venue.accounts.values()))
        await until_async(lambda: bool(venue._listeners.get(id(account))), "the user stream")
        high = float(exchange.price_to_precision(SYMBOL, book["asks"][0][0] * 1.01))
        low = float(exchange.price_to_precision(SYMBOL, book["bids"][0][0] * 0.97))
        own = {"timeInForce": "IOC", "clientOrderId": "taken1"}
        await exchange.create_order(SYMBOL, "limit", "buy", 0.01, high, own)
        rested = await exchange.create_order(SYMBOL, "limit", "buy", 0.01, low, {"clientOrderId": "rested1"})
        await exchange.cancel_order(rested["id"], SYMBOL)
        _, trades, balance, positions = await asyncio.gather(*watches)
        assert (ended["taken1"]["status"], ended["taken1"]["filled"]) == ("closed", 0.01)
        assert (ended["rested1"]["status"], ended["rested1"]["filled"]) == ("canceled", 0)
        assert any(trade["order"] == ended["taken1"]["id"] and trade["side"] == "buy" for trade in trades)
        assert balance["USDT"]["total"] > 0 and positions[0]["side"] == "long"
        await exchange.create_order(SYMBOL, "market", "sell", 0.01, None, {"reduceOnly": True})

    drive(box, body)


def test_orders_are_placed_queried_and_cancelled_over_the_websocket_api(box: HostedSim) -> None:
    async def body(exchange: Any) -> None:
        book = await exchange.fetch_order_book(SYMBOL, 5)
        low = float(exchange.price_to_precision(SYMBOL, book["bids"][0][0] * 0.97))
        placed = await exchange.create_order_ws(SYMBOL, "limit", "buy", 0.01, low)
        assert placed["status"] == "open"
        found = await exchange.fetch_order_ws(placed["id"], SYMBOL)
        assert (found["id"], found["price"], found["status"]) == (placed["id"], low, "open")
        assert (await exchange.cancel_order_ws(placed["id"], SYMBOL))["status"] == "canceled"
        assert (await exchange.fetch_balance_ws())["USDT"]["total"] > 0
        assert await exchange.fetch_positions_ws([SYMBOL]) == []

    drive(box, body)
