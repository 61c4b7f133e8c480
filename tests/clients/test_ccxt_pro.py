"""ccxt.pro streams: watched books equal the simulator's, quotes, trades, own orders, own trades, balances, positions.

Also Gate.io's WebSocket order entry as ccxt drives it. Streams are awaited with a watchdog, never with a sleep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from tests.worlds.client_support import HostedSim, credentials, point
from tests.worlds.later import ccxt, ccxt_pro

T = TypeVar("T")
WATCHDOG_S = 240
SNAPSHOT_DELAY = 25  # ccxt asks MEXC for the snapshot when so many deltas wait and another one comes

CASES = {
    "mexc": ("mexc", "mexc_spot", "XRP/USDT", "XRPUSDT", {}),
    "gate": ("gate", "gateio_spot", "XRP/USDT", "XRP_USDT", {}),
    "swap": ("gate", "gateio_futures", "XRP/USDT:USDT", "XRP_USDT", {"options": {"defaultType": "swap"}}),
}
ALL = pytest.mark.parametrize("case", list(CASES))


def drive(sim: HostedSim, case: str, body: Callable[[Any], Awaitable[T]]) -> T:
    """Runs ``body(exchange)`` with a fresh ccxt.pro client on a loop of its own."""
    kind, venue, _, _, options = CASES[case]

    async def run() -> T:
        exchange = point(getattr(ccxt_pro, kind)(credentials(sim, venue) | options), sim, venue)
        try:
            return await asyncio.wait_for(body(exchange), WATCHDOG_S)
        finally:
            await exchange.close()

    return asyncio.run(run())


@ALL
def test_watched_book_equals_the_simulators_book(case: str, own_sim: HostedSim) -> None:
    """The market is stopped and single levels move, so that both books can be compared whole.

    While ccxt fetches the MEXC snapshot nothing moves: it compares ``fromVersion`` alone and so loses the part of a
    delta that lies after a snapshot in its middle.
    """
    _, venue, symbol, native, _ = CASES[case]
    own_sim.freeze()
    multiplier = float(own_sim.venue(venue).instruments[native].multiplier)

    def cached(exchange: Any) -> int:
        """Deltas that wait for the snapshot."""
        return len(exchange.orderbooks[symbol].cache) if symbol in exchange.orderbooks else 0

    def sides_of(book: Any) -> list[Any]:
        return [[[price, round(qty * multiplier, 9)] for price, qty in book[side]] for side in ("bids", "asks")]

    def wanted() -> list[Any]:
        return [[[price, round(qty, 9)] for price, qty in side] for side in own_sim.depth(venue, native, 1000)]

    async def body(exchange: Any) -> Any:
        loop = asyncio.get_running_loop()
        await exchange.load_markets()
        watching = asyncio.ensure_future(exchange.watch_order_book(symbol))
        book, count = None, 0
        while book is None or count < 34 or sides_of(book) != await loop.run_in_executor(None, wanted):
            before = cached(exchange)
            fetching = case == "mexc" and book is None and before > SNAPSHOT_DELAY
            if not fetching and (book is None or count < 34):
                await loop.run_in_executor(None, own_sim.nudge, venue, native, count)
                count += 1
            while not watching.done() and (fetching or 0 < before == cached(exchange)):
                await asyncio.wait([watching], timeout=0.02)
            done, _ = await asyncio.wait([watching], timeout=0.12)
            if done:
                book = watching.result()
                watching = asyncio.ensure_future(exchange.watch_order_book(symbol))
        watching.cancel()
        return exchange.orderbooks[symbol]

    watched = drive(own_sim, case, body)
    assert sides_of(watched) == wanted()
    assert all(len(side) > 20 for side in wanted())


@ALL
def test_watched_book_of_the_moving_market_is_never_crossed_and_follows(case: str, own_sim: HostedSim) -> None:
    _, _, symbol, _, _ = CASES[case]
    symbol = symbol.replace("XRP", "BTC")

    async def body(exchange: Any) -> set[int]:
        nonces: set[int] = set()
        while len(nonces) < 8:
            book = await exchange.watch_order_book(symbol)
            assert book["bids"][0][0] < book["asks"][0][0]
            nonces.add(book["nonce"])
        return nonces

    assert len(drive(own_sim, case, body)) == 8


@ALL
def test_watched_quotes_and_trades_come(case: str, sim: HostedSim) -> None:
    _, _, symbol, _, _ = CASES[case]
    symbol = symbol.replace("XRP", "BTC")

    async def body(exchange: Any) -> tuple[Any, Any, Any]:
        ticker = await exchange.watch_ticker(symbol)
        trades = await exchange.watch_trades(symbol)
        if case == "mexc":  # its watch_bids_asks still asks for a JSON channel that the venue has shut
            return ticker, trades, {symbol: ticker}
        assert symbol in await exchange.watch_tickers([symbol])
        return ticker, trades, await exchange.watch_bids_asks([symbol])

    ticker, trades, quotes = drive(sim, case, body)
    assert ticker["symbol"] == symbol and ticker["bid"] < ticker["ask"]
    assert trades and all(trade["side"] in ("buy", "sell") and trade["amount"] > 0 for trade in trades)
    quote = quotes[symbol]
    assert quote["bid"] < quote["ask"] and quote["bidVolume"] > 0 and quote["askVolume"] > 0


@ALL
def test_watched_orders_trades_and_balance_tell_of_a_fill_and_a_cancel(case: str, sim: HostedSim) -> None:
    _, _, symbol, _, _ = CASES[case]
    amount = 200 if case != "swap" else 20

    async def until(watch: Callable[..., Awaitable[Any]], found: Callable[[Any], bool], *args: Any) -> Any:
        while True:
            seen = await watch(*args)
            if found(seen):
                return seen

    async def body(exchange: Any) -> tuple[Any, Any, Any, Any]:
        subscribed = _acknowledged(exchange, 3)
        await exchange.load_markets()
        book = await exchange.fetch_order_book(symbol, 5)
        filled: dict[str, Any] = {}
        orders: dict[str, Any] = {}

        def order_is(wanted: str, key: str) -> Callable[[Any], bool]:
            def found(rows: Any) -> bool:
                for row in rows:
                    orders[row["id"]] = row
                return key in filled and orders.get(filled[key], {}).get("status") == wanted

            return found

        balance = asyncio.ensure_future(exchange.watch_balance())
        done = asyncio.ensure_future(until(exchange.watch_orders, order_is("closed", "taken"), symbol))
        trades = asyncio.ensure_future(exchange.watch_my_trades(symbol))
        await subscribed.wait()
        price = exchange.price_to_precision(symbol, book["asks"][0][0] * 1.01)
        placed = await exchange.create_order(symbol, "limit", "buy", amount, float(price), {"timeInForce": "IOC"})
        filled["taken"] = placed["id"]
        if not done.done() and orders.get(placed["id"], {}).get("status") == "closed":
            done.cancel()
        else:
            await done
        own, changed = await trades, await balance
        gone = asyncio.ensure_future(until(exchange.watch_orders, order_is("canceled", "rested"), symbol))
        low = exchange.price_to_precision(symbol, book["bids"][0][0] * 0.97)
        resting = await exchange.create_order(symbol, "limit", "buy", amount, float(low))
        filled["rested"] = resting["id"]
        await exchange.cancel_order(resting["id"], symbol)
        await gone
        return orders[placed["id"]], own, changed, orders[resting["id"]]

    taken, own, changed, rested = drive(sim, case, body)
    assert taken["filled"] == amount and taken["status"] == "closed"
    assert any(trade["order"] == taken["id"] and trade["side"] == "buy" for trade in own)
    assert changed["USDT"]["total"] > 0
    assert rested["status"] == "canceled" and rested["filled"] == 0


def _acknowledged(exchange: Any, count: int) -> asyncio.Event:
    """Set once the venue has acknowledged ``count`` subscriptions: Gate.io's event, MEXC's echo."""
    seen: list[Any] = []
    enough = asyncio.Event()
    handle = exchange.handle_message

    def listen(client: Any, message: Any) -> Any:
        if isinstance(message, dict):
            is_echo = message.get("code") == 0 and str(message.get("msg", "")).startswith("spot@private")
            if is_echo or (message.get("event") == "subscribe" and not message.get("error")):
                seen.append(message)
        if len(seen) >= count:
            enough.set()
        return handle(client, message)

    exchange.handle_message = listen
    return enough


@ALL
def test_watched_candles_follow_the_trades(case: str, sim: HostedSim) -> None:
    _, venue, symbol, native, _ = CASES[case]
    symbol, native = symbol.replace("XRP", "BTC"), native.replace("XRP", "BTC")

    async def body(exchange: Any) -> list[float]:
        while True:
            candles = await exchange.watch_ohlcv(symbol, "1m")
            if candles[-1][5] > 0:
                return list(candles[-1])

    started_ms, opened, high, low, close, volume = drive(sim, case, body)
    row = sim.venue(venue).instruments[native]
    start_s = int(started_ms) // 1000
    (own,) = sim.call(lambda: sim.venue(venue).candles[native].between(60, start_s, start_s))
    assert started_ms % 60_000 == 0 and opened == float(own.open)
    assert float(own.low) <= low <= min(opened, close) and max(opened, close) <= high <= float(own.high)
    # ccxt takes ``v``, which is the quote volume on Gate.io spot.
    assert volume <= float(own.quote if case == "gate" else own.base / row.multiplier)


def test_watched_positions_follow_a_trade(sim: HostedSim) -> None:
    """By the testnet's path: ccxt recognises the market of a socket by its URL."""
    symbol = "SOL/USDT:USDT"

    async def body(exchange: Any) -> Any:
        url = exchange.urls["api"]["swap"]["usdt"]
        exchange.urls["api"]["swap"]["usdt"] = url.replace("/v4/ws/usdt", "/v4/ws/futures/usdt")
        subscribed = _acknowledged(exchange, 1)
        await exchange.load_markets()
        await exchange.watch_positions([symbol])
        watching = asyncio.ensure_future(exchange.watch_positions([symbol]))
        await subscribed.wait()
        await exchange.create_order(symbol, "market", "sell", 3)
        positions = await watching
        await exchange.create_order(symbol, "market", "buy", 3, params={"reduceOnly": True})
        return positions

    (position,) = drive(sim, "swap", body)
    assert (position["symbol"], position["side"], position["contracts"]) == (symbol, "short", 3)


@pytest.mark.parametrize("case", ["gate", "swap"])
def test_orders_are_placed_queried_and_cancelled_over_the_websocket_api(case: str, sim: HostedSim) -> None:
    _, _, symbol, _, _ = CASES[case]
    amount = 200 if case == "gate" else 20

    async def body(exchange: Any) -> tuple[Any, Any, Any, Any]:
        await exchange.load_markets()
        book = await exchange.fetch_order_book(symbol, 5)
        high = float(exchange.price_to_precision(symbol, book["asks"][0][0] * 1.01))
        low = float(exchange.price_to_precision(symbol, book["bids"][0][0] * 0.97))
        taken = await exchange.create_order_ws(symbol, "limit", "buy", amount, high, {"timeInForce": "IOC"})
        resting = await exchange.create_order_ws(symbol, "limit", "buy", amount, low)
        found = await exchange.fetch_order_ws(resting["id"], symbol)
        cheaper = float(exchange.price_to_precision(symbol, low * 0.99))
        amended = await exchange.edit_order_ws(resting["id"], symbol, "limit", "buy", amount * 2, cheaper)
        assert (amended["id"], amended["price"], amended["amount"]) == (resting["id"], cheaper, amount * 2)
        gone = await exchange.cancel_order_ws(resting["id"], symbol)
        more = await exchange.create_order_ws(symbol, "limit", "buy", amount, low)
        swept = await exchange.cancel_all_orders_ws(symbol)
        assert [row["id"] for row in swept] == [more["id"]]
        with pytest.raises(ccxt.OrderNotFound):
            await exchange.cancel_order_ws("12", symbol)
        with pytest.raises(ccxt.InsufficientFunds if case == "gate" else ccxt.ExchangeError):
            await exchange.create_order_ws(symbol, "limit", "buy", 900_000, low)
        if case == "swap":
            listed = await exchange.fetch_closed_orders_ws(symbol)
            assert gone["id"] in [row["id"] for row in listed]
        return taken, resting, found, gone

    taken, resting, found, gone = drive(sim, case, body)
    assert taken["status"] == "closed" and taken["filled"] == amount
    assert found["id"] == resting["id"] and found["status"] == "open"
    assert gone["status"] == "canceled"
