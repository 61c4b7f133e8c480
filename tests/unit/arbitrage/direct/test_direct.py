"""Direct exchanges of every dialect on its simulated venues: books, trades, account, orders, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal

import pytest
from msgspec.structs import replace

from arbitrage.direct.composite import CompositeExchange
from arbitrage.direct.config import ConnectionConfig, RequestConfig, create_market_data_config, create_trading_config
from arbitrage.direct.factory import FullExchangeFactory
from arbitrage.direct.rest import RestClient, create_trading_client
from arbitrage.direct.structs import Order
from arbitrage.exchanges import PrivateExchangeInterface, private_class, public_class
from examples import direct_exchanges
from pipeline.conformance.venue import Checked, checked_venue
from pipeline.exchanges.rest_client import RestVenueClient
from pipeline.exchanges.transport import shared_budgets
from pipeline.model.clock import mono_ns
from pipeline.model.config import EngineConfig
from pipeline.model.dialects import dialect_names, facts_of
from pipeline.model.enums import OrderSide, OrderState, TimeInForce
from pipeline.model.errors import AuthRefused, BadInput, OutcomeUnknown, VenueRejected
from pipeline.model.fixedpoint import quantize_up
from tests.worlds.exchange_world import world

MARKETS = [(dialect, market) for dialect in dialect_names() for market in facts_of(dialect).markets]
TRADED = [(dialect, market) for dialect, market in MARKETS if facts_of(dialect).trade]
PAIR = "BTC/USDT"
ANSWER_S = 60.0  # no answer of a venue on a busy host takes so long
PATIENT = ConnectionConfig(connect_timeout=ANSWER_S, total_timeout=ANSWER_S)
SILENCE_S = 600.0
EVERY = pytest.mark.parametrize(("dialect", "market"), MARKETS, ids=[f"{d}_{m}" for d, m in MARKETS])
EVERY_TRADED = pytest.mark.parametrize(("dialect", "market"), TRADED, ids=[f"{d}_{m}" for d, m in TRADED])


@asynccontextmanager
async def direct(dialect: str, market: str) -> AsyncIterator[tuple[Checked, CompositeExchange]]:
    async with checked_venue(dialect, market) as it, CompositeExchange(it.config, it.key) as exchange:
        yield it, exchange
    assert shared_budgets.joined() is None, "the program's part ends with its last object"


@EVERY
def test_market_data_of_every_dialect(dialect: str, market: str) -> None:
    async def body() -> None:
        async with direct(dialect, market) as (_, exchange):
            spec = await exchange.get_symbol_info(PAIR)
            assert (spec.base, spec.quote) == ("BTC", "USDT") and await exchange.get_symbol_info(spec.symbol) is spec
            book = await exchange.get_orderbook(PAIR, limit=5)
            assert 0 < len(book.bids) <= 5 and 0 < len(book.asks) <= 5
            assert book.bids[0][0] < book.asks[0][0] and list(book.bids) == sorted(book.bids, reverse=True)
            assert list(book.asks) == sorted(book.asks) and all(qty > 0 for _, qty in book.bids + book.asks)
            stream = exchange.subscribe_orderbook(PAIR)
            async with aclosing(stream):
                followed = [await anext(stream) for _ in range(3)]
            assert all(one.symbol == spec.symbol and one.bids[0][0] < one.asks[0][0] for one in followed)
            assert len({(one.bids, one.asks) for one in followed}) > 1
            trades = await exchange.get_recent_trades(PAIR, limit=10)
            assert len(trades) <= 10 and all(one.qty > 0 and one.price > 0 for one in trades)
            stamps = [one.venue_wall_ms for one in trades]
            assert stamps == sorted(stamps, reverse=True)
            assert (await exchange.health_check()).status == "healthy"

    asyncio.run(body())


@EVERY_TRADED
def test_an_order_of_every_dialect_lives_and_ends(dialect: str, market: str) -> None:
    async def body() -> None:
        async with direct(dialect, market) as (_, exchange):
            spec = await exchange.get_symbol_info(PAIR)
            balances = await exchange.get_balances()
            assert balances["USDT"].free > 0 and (await exchange.get_account()).balances.keys() == balances.keys()
            book = await exchange.get_orderbook(PAIR)
            qty = quantize_up(Decimal(50) / book.asks[0][0], spec.lot)
            resting = await exchange.place_order(PAIR, OrderSide.BUY, qty, book.bids[-1][0] * Decimal("0.9"))
            found = await exchange.get_order_status(resting)
            assert found is not None and found.state is OrderState.OPEN and found.qty == qty
            assert (await exchange.cancel_order(resting)).cancelled is True
            ended = await exchange.get_order_status(resting)
            assert ended is not None and ended.state is OrderState.CANCELLED and ended.is_done
            again = await exchange.cancel_order(resting)
            assert again.cancelled is False and again.reason
            taken = await exchange.place_order(
                PAIR, OrderSide.BUY, qty, book.asks[0][0] * Decimal("1.02"), tif=TimeInForce.IOC
            )
            filled = await exchange.get_order_status(taken)
            assert filled is not None and filled.state is OrderState.FILLED and filled.filled_qty == qty
            fees = await exchange.get_trading_fees([PAIR])
            assert fees[spec.symbol].taker >= 0
            with pytest.raises(VenueRejected):
                await exchange.place_order(PAIR, OrderSide.BUY, qty * 10**6, book.bids[0][0])
            with pytest.raises(BadInput, match="at least"):
                await exchange.place_order(PAIR, OrderSide.BUY, spec.lot / 2, book.bids[0][0])

    asyncio.run(body())


def test_an_order_without_an_answer_is_unknown_and_sent_once() -> None:
    async def body() -> None:
        async with direct(*TRADED[0]) as (it, exchange):
            book = await exchange.get_orderbook(PAIR)
            spec = await exchange.get_symbol_info(PAIR)
            qty = quantize_up(Decimal(50) / book.asks[0][0], spec.lot)
            it.fault(kind="http_error_after", target="place")
            order = await exchange.place_order(
                PAIR, OrderSide.BUY, qty, book.asks[0][0] * Decimal("1.02"), tif=TimeInForce.IOC
            )
            assert order.state is OrderState.UNKNOWN and order.reason
            found = await exchange.get_order_status(order)
            assert found is not None and found.filled_qty == qty

    asyncio.run(body())


def hurry(seconds: float) -> None:
    """The running loop's clock goes forward: its timers of that time are due."""
    loop = asyncio.get_running_loop()
    time_s = loop.time
    loop.time = lambda: time_s() + seconds  # type: ignore[method-assign]


async def resting(exchange: CompositeExchange, client_id: str = "") -> Order:
    spec, book = await exchange.get_symbol_info(PAIR), await exchange.get_orderbook(PAIR)
    qty, price = quantize_up(Decimal(50) / book.asks[0][0], spec.lot), book.bids[-1][0] * Decimal("0.9")
    return await exchange.place_order(PAIR, OrderSide.BUY, qty, price, client_id=client_id)


def test_two_cancels_of_one_order_get_one_answer_and_who_gives_up_takes_it_from_nobody() -> None:
    async def body() -> None:
        async with direct(*TRADED[0]) as (_, exchange):
            order = await resting(exchange)
            first, second, third = (asyncio.create_task(exchange.cancel_order(order)) for _ in range(3))
            await asyncio.sleep(0)
            first.cancel()
            answers = await asyncio.gather(second, third)
            assert [answer.cancelled for answer in answers] == [True, True]
            assert first.cancelled() and not exchange._waiting

    asyncio.run(body())


def test_an_order_whose_caller_gave_up_is_listed_until_its_status_is_found() -> None:
    async def body() -> None:
        async with direct(*TRADED[0]) as (_, exchange):
            spec, book = await exchange.get_symbol_info(PAIR), await exchange.get_orderbook(PAIR)
            qty, price = quantize_up(Decimal(50) / book.asks[0][0], spec.lot), book.bids[-1][0] * Decimal("0.9")
            sending = exchange.place_order(PAIR, OrderSide.BUY, qty, price, client_id="mine1")
            named = asyncio.create_task(sending)
            await asyncio.sleep(0)  # it is sent, and its answer is waited for
            named.cancel()
            await asyncio.gather(named, return_exceptions=True)
            (lost,) = exchange.unanswered_orders
            assert lost.client_id == "mine1" and lost.symbol and lost.qty
            with pytest.raises(BadInput, match="mine1"):
                await resting(exchange, "mine1")
            while (found := await exchange.get_order_status(lost)) is None:
                pass
            assert found.state is OrderState.OPEN and not exchange.unanswered_orders
            assert (await exchange.cancel_order(lost)).cancelled is True
            assert (await resting(exchange)).state is OrderState.OPEN and not exchange.unanswered_orders

    asyncio.run(body())


def test_an_order_without_an_answer_is_listed_and_a_cancel_of_it_ends_that() -> None:
    async def body() -> None:
        async with direct(*TRADED[0]) as (it, exchange):
            it.fault(kind="http_error_after", target="place")
            order = await resting(exchange)
            assert order.state is OrderState.UNKNOWN
            assert [one.client_id for one in exchange.unanswered_orders] == [order.client_id]
            assert (await exchange.cancel_order(order)).cancelled is True
            assert not exchange.unanswered_orders

    asyncio.run(body())


def test_what_cannot_be_opened_leaves_no_part_in_the_budgets() -> None:
    async def body() -> None:
        async with checked_venue(*TRADED[0]) as it:
            broken = replace(it.config, dialect="nowhere")
            for one in (CompositeExchange(broken), RestClient(broken)):
                with pytest.raises(Exception, match="nowhere"):
                    await one.__aenter__()
                assert shared_budgets.joined() is None
        with pytest.raises(BadInput, match="wanted a venue of the configuration"):
            await FullExchangeFactory().create_exchange("nowhere_spot", EngineConfig())

    asyncio.run(body())


def test_questions_of_exchange_objects_obey_silences_of_other_processes() -> None:
    async def body() -> None:
        async with checked_venue("mexc", "spot") as it:
            endpoints = {"spot": {"rest": it.config.rest, "ws": it.config.ws, "symbols": list(it.config.symbols)}}
            exchange = public_class("mexc")(endpoints=endpoints)
            assert await exchange.get_server_time() > 0 and shared_budgets.joined() is None
            async with CompositeExchange(exchange.venue_config()) as other:
                assert isinstance(other._client, RestVenueClient)
                other._client.transport.throttle.silence(3600.0)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await exchange.get_server_time()

    asyncio.run(body())


def test_a_silence_is_waited_for_and_is_no_missing_answer() -> None:
    """On a clock of the budgets that stands still, so that no unit leaves its window meanwhile."""

    async def body() -> None:
        async with checked_venue("mexc", "spot") as it, RestClient(it.config, connection=PATIENT) as client:
            assert client._client is not None
            throttle = client._client.transport.throttle
            now_ns, looked = mono_ns(), asyncio.Event()

            def clock_ns() -> int:
                looked.set()
                return now_ns

            async def look() -> None:
                looked.clear()
                assert not asked.done(), "it waits for the end of the silence"
                await looked.wait()

            def spent() -> float:
                return throttle._windows["public"].over(now_ns, 0.0) + 270

            throttle._clock_ns = clock_ns
            throttle.silence(SILENCE_S)
            brief = RequestConfig(timeout=ANSWER_S, max_retries=0)
            asked = asyncio.create_task(client.get("/time", config=brief))
            asked.add_done_callback(lambda _: looked.set())
            await look()
            hurry(SILENCE_S / 2)  # a timeout that ran by now would end it
            for _ in range(3):
                await look()
            now_ns += int(SILENCE_S * 1e9)
            assert (await asked)["serverTime"] > 0
            assert throttle.delay_s("public", 0) == 0.0 and spent() == 1
            await client.get("/ticker/24hr", config=brief)
            assert spent() == 1 + 40, "the heaviest of its kind"
            light = RequestConfig(timeout=ANSWER_S, weight=2)
            await client.get("/ticker/24hr", {"symbol": it.config.symbols[0]}, config=light)
            assert spent() == 1 + 40 + 2

    asyncio.run(body())


def test_a_feed_that_dies_of_a_bug_ends_its_books_with_it() -> None:
    async def body() -> None:
        async with direct("bybit", "spot") as (_, exchange):
            assert (await exchange.get_orderbook(PAIR)).update_id == 0, "its books by REST have no number"
            stream = exchange.subscribe_orderbook(PAIR)
            async with aclosing(stream):
                await anext(stream)

                async def broken() -> None:
                    raise ZeroDivisionError("a bug")

                assert exchange._books is not None
                exchange._books._feed._group.create_task(broken())
                with pytest.raises(ExceptionGroup) as caught:
                    async for _book in stream:
                        pass
                assert caught.value.subgroup(ZeroDivisionError) is not None

    asyncio.run(body())


def test_who_has_no_key_sends_nothing_and_a_closed_one_says_so() -> None:
    async def body() -> None:
        async with checked_venue(*TRADED[0]) as it:
            exchange = CompositeExchange(it.config)
            with pytest.raises(BadInput, match="closed"):
                await exchange.get_orderbook(PAIR)
            async with exchange:
                with pytest.raises(AuthRefused, match="no key"):
                    await exchange.place_order(PAIR, OrderSide.BUY, Decimal(1), Decimal(1))
                with pytest.raises(BadInput, match="lists"):
                    await exchange.get_symbol_info("NOPE/USDT")
        async with FullExchangeFactory() as factory:
            with pytest.raises(BadInput, match="wanted EXCHANGE_MARKET"):
                await factory.create_exchange("nowhere_spot")

    asyncio.run(body())


def test_a_rest_client_asks_again_counts_and_signs() -> None:
    async def body() -> None:
        async with checked_venue("binance", "spot") as it:
            fast = RequestConfig(timeout=ANSWER_S, max_retries=2)
            async with create_trading_client(it.config, it.key, replace(PATIENT, connector_limit=7)) as client:
                it.fault(kind="http_error", target="ticker", count=1)
                price = await client.get("/api/v3/ticker/price", {"symbol": it.config.symbols[0]}, config=fast)
                assert Decimal(price["price"]) > 0
                account, broken = await client.batch_request(
                    [
                        ("/api/v3/account", {}, replace(create_trading_config(), timeout=ANSWER_S)),
                        (
                            "/api/v3/ticker/price",
                            {"symbol": "NOPE"},
                            replace(create_market_data_config(), timeout=ANSWER_S),
                        ),
                    ]
                )
                assert account["balances"] and isinstance(broken, VenueRejected)
                metrics = client.get_metrics()
                assert (metrics.requests, metrics.failures, metrics.retries) == (4, 2, 1)
                assert metrics.success_rate == 50.0 and metrics.avg_response_time is not None
                assert (await client.health_check()).status == "healthy"
                it.fault(kind="http_error", target="ticker", count=9)
                with pytest.raises(OutcomeUnknown):
                    await client.get("/api/v3/ticker/price", {}, config=RequestConfig(max_retries=0))
            async with RestClient(it.config) as client:
                with pytest.raises(BadInput, match="no key"):
                    await client.get("/api/v3/account", config=create_trading_config())

    asyncio.run(body())


def test_the_example_runs_on_every_venue_of_the_demo() -> None:
    async def body() -> None:
        async with world() as box:
            own: dict[str, PrivateExchangeInterface] = {}
            for name, entry in box.info.items():
                exchange, market = name.rsplit("_", 1)
                urls = {key: entry[key] for key in ("rest", "ws", "ws_private", "ws_api") if entry.get(key)}
                key = box.credentials(name)
                endpoints = {
                    **(own[exchange].markets if exchange in own else {}),
                    market: {**urls, "symbols": entry["symbols"]},
                }
                own[exchange] = private_class(exchange)(
                    api_key=key.api_key, secret_key=key.api_secret, uid=key.uid, endpoints=endpoints
                )
            cancelled = await direct_exchanges.main(own, tuple(box.info))
            assert cancelled == dict.fromkeys(box.info, True)
            assert await direct_exchanges.rest_client(own["gateio"], "/spot/time") > 0

    asyncio.run(body())


def test_configurations_of_the_documents_and_what_is_no_configuration() -> None:
    market, trading, pool = create_market_data_config(), create_trading_config(), ConnectionConfig()
    assert (market.timeout, market.max_retries, market.require_auth) == (5.0, 2, False)
    assert (trading.timeout, trading.max_retries, trading.require_auth) == (10.0, 3, True)
    assert (pool.connector_limit, pool.connector_limit_per_host, pool.connect_timeout, pool.total_timeout) == (
        100,
        30,
        5.0,
        30.0,
    )
    for make in (lambda: ConnectionConfig(connect_timeout=0), lambda: RequestConfig(max_retries=-1)):
        with pytest.raises(BadInput, match="found"):
            make()
