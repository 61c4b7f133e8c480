"""ccxt and ccxt.pro, unchanged but for the URL, on the simulated Bybit: market data of spot and linear."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from pipeline.conformance.venue import EXCHANGE, scenario_of
from tests.worlds.client_support import HostedSim, point
from tests.worlds.later import ccxt, ccxt_pro

T = TypeVar("T")
WATCHDOG_S = 240
SYMBOLS = {"spot": "XRP/USDT", "futures": "XRP/USDT:USDT"}
BOTH = pytest.mark.parametrize("market", list(SYMBOLS))


@pytest.fixture
def box() -> Iterator[HostedSim]:
    hosted = HostedSim(scenario_of("bybit"))
    yield hosted
    hosted.stop()


def test_markets_books_tickers_and_trades_are_parsed(box: HostedSim) -> None:
    bybit = point(ccxt.bybit(), box, f"{EXCHANGE}_spot")
    bybit.load_markets()
    for market, symbol in SYMBOLS.items():
        found = bybit.market(symbol)
        row = box.venue(f"{EXCHANGE}_{market}").instruments["XRPUSDT"]
        assert found["active"] and (found["spot"], found["linear"] is True) == (market == "spot", market == "futures")
        assert (found["precision"]["price"], found["precision"]["amount"]) == (float(row.tick), float(row.lot))
        book = bybit.fetch_order_book(symbol, 20)
        assert len(book["bids"]) == 20 and book["bids"][0][0] < book["asks"][0][0]
        ticker = bybit.fetch_ticker(symbol)
        assert ticker["bid"] < ticker["ask"] and ticker["last"] > 0
        for trade in bybit.fetch_trades(symbol):
            assert trade["side"] in ("buy", "sell") and trade["amount"] > 0
    assert abs(bybit.fetch_time() - bybit.milliseconds()) < 5_000
    with pytest.raises(ccxt.BadRequest):
        bybit.public_get_v5_market_orderbook({"category": "spot", "symbol": "NOSUCH"})


def drive(box: HostedSim, market: str, body: Callable[[Any], Awaitable[T]]) -> T:
    async def run() -> T:
        exchange = point(ccxt_pro.bybit(), box, f"{EXCHANGE}_{market}")
        try:
            return await asyncio.wait_for(body(exchange), WATCHDOG_S)
        finally:
            await exchange.close()

    return asyncio.run(run())


@BOTH
def test_a_watched_book_equals_the_venues_after_deltas(box: HostedSim, market: str) -> None:
    """The market is stopped and single levels move, so that both books can be compared whole."""
    venue = f"{EXCHANGE}_{market}"
    box.freeze()

    async def body(exchange: Any) -> int:
        compared = 0
        await exchange.watch_order_book(SYMBOLS[market])
        for index in range(4):
            box.nudge(venue, "XRPUSDT", index)
            book = await exchange.watch_order_book(SYMBOLS[market])
            bids, asks = box.depth(venue, "XRPUSDT", 50)
            if [row[:2] for row in book["bids"]] == bids and [row[:2] for row in book["asks"]] == asks:
                compared += 1
        return compared

    assert drive(box, market, body) > 0


@BOTH
def test_trades_are_watched(box: HostedSim, market: str) -> None:
    async def body(exchange: Any) -> Any:
        return await exchange.watch_trades(SYMBOLS[market])

    (first, *_) = drive(box, market, body)
    assert first["symbol"] == SYMBOLS[market] and first["amount"] > 0 and first["side"] in ("buy", "sell")
