"""Answers of an edge (CDN, WAF) before the venue, on every path: questions, orders, upgrades of private streams."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiohttp import web
from picows import WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from pipeline.exchanges import rest_client
from pipeline.exchanges.base import HttpCall
from pipeline.exchanges.factory import make_trading, make_venue
from pipeline.exchanges.mexc.order_session import _PrivateStream as MexcStream
from pipeline.exchanges.rest_client import RestVenueClient
from pipeline.exchanges.transport.backoff import ReconnectPauses
from pipeline.exchanges.transport.gateway_watch import GatewayWatch
from pipeline.exchanges.transport.rest import RestTransport
from pipeline.exchanges.transport.throttle import Limit, Throttle
from pipeline.exchanges.transport.websocket import open_ws
from pipeline.model.enums import OrderState
from pipeline.model.errors import (
    AuthRefused,
    ClockRefused,
    GatewayRefused,
    OutcomeUnknown,
    RateLimited,
    VenueError,
    VenueRejected,
)
from pipeline.model.structs import Credentials, OrderUpdate
from pipeline.model.venue_events import OutcomeKind, PlaceOutcome, SessionState
from tests.worlds.exchange_world import SESSIONS, TRADED, Events, market_of, world
from tests.worlds.trading_venue import trading_venue
from tests.worlds.waiting import until_async as until

#: Where the question for a venue's time is asked.
CLIENTS = {
    "mexc_spot": "mexc.rest_client",
    "gateio_spot": "gateio.rest_client",
    "gateio_futures": "gateio.rest_client",
    "binance_spot": "binance.market_client",
    "binance_futures": "binance.market_client",
    "bybit_spot": "bybit.market_client",
    "bybitperp_futures": "bybit.market_client",
}


def test_answers_of_a_rate_limit_are_counted_and_those_of_gateways_apart() -> None:
    watch = GatewayWatch(Throttle({"order": Limit(10, 1.0)}))
    watch.note(RateLimited("slower", retry_after_s=1.0), "order")
    watch.note(GatewayRefused("a page", code=403), "order")
    watch.note(None, "order")
    assert (watch.rate_limited, watch.count) == (1, 1)


@pytest.mark.parametrize("name", TRADED)
def test_pages_to_upgrades_are_outlasted_and_never_a_refused_key(name: str) -> None:
    """More refusals than any key would get: the sessions come back by themselves."""

    async def body() -> None:
        async with trading_venue(name) as it:
            it.box.fault(kind="gateway_page", venue=name, target="private", count=2)
            it.box.fault(kind="gateway_page", venue=name, target="public", count=2)
            it.box.fault(kind="disconnect", venue=name, target="all")
            await until(lambda: bool(it.events.of(SessionState, state="down")), "the end of the sessions")
            await until(lambda: it.trading.gateway_answers >= 2, "pages")
            assert "HTTP 403" in it.trading.why_down()
            await until(lambda: it.trading.connected, "the sessions again")
            it.trading.place(it.buy("g1"))
            await it.events.one(OrderUpdate, client_id="g1", state=OrderState.FILLED)

    asyncio.run(body())


def test_a_planned_change_that_is_refused_pauses_as_a_reconnection_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old connection serves on; the edge is not asked again at every ping."""
    pings: list[None] = []
    reported: list[object] = []

    class LongPauses(ReconnectPauses):
        def next_s(self, error: VenueError | None = None) -> float:
            reported.append(error)
            return 1e6

    def ping(_stream: MexcStream) -> bytes:
        pings.append(None)
        return b'{"method":"PING"}'

    monkeypatch.setattr("pipeline.exchanges.stream_session.ReconnectPauses", LongPauses)
    monkeypatch.setattr(MexcStream, "ping_interval_s", 0.01)
    monkeypatch.setattr(MexcStream, "ping", ping)

    async def body() -> None:
        async with trading_venue("mexc_spot") as it:
            it.box.fault(kind="gateway_page", venue="mexc_spot", target="private", count=10**6)
            monkeypatch.setattr(MexcStream, "life_s", 1e-6)
            await until(lambda: it.trading.gateway_answers > 0, "a page to the planned change")
            seen = len(pings)
            await until(lambda: len(pings) > seen + 20, "pings of the old connection")
            assert it.trading.gateway_answers == 1 and it.trading.connected
            assert [type(error) for error in reported] == [GatewayRefused]

    asyncio.run(body())


def test_a_page_to_an_order_leaves_it_unknown_and_rests_order_entry() -> None:
    async def body() -> None:
        async with trading_venue("mexc_spot") as it:
            it.box.fault(kind="gateway_page", venue="mexc_spot", target="place", count=1)
            it.trading.place(it.buy("g1"))
            outcome = await it.events.one(PlaceOutcome, client_id="g1")
            assert outcome.kind is OutcomeKind.UNKNOWN and isinstance(outcome.error, GatewayRefused)
            assert not it.trading.can_place(1), "the edge is not knocked with at once"
            await until(lambda: it.trading.can_place(1), "order entry again")
            it.trading.place(it.buy("g2"))
            assert (await it.events.one(PlaceOutcome, client_id="g2")).kind is OutcomeKind.ACKED

    asyncio.run(body())


@pytest.mark.parametrize("name", TRADED)
def test_a_429_to_a_book_question_stops_no_order_and_no_cancel(name: str) -> None:
    async def body() -> None:
        async with trading_venue(name) as it:
            it.box.fault(kind="rate_limit", venue=name, target="depth", count=1, retry_after_s=3600.0)
            with pytest.raises(RateLimited):
                await it.client.depth_snapshot(it.box.venue(name).symbols[0])
            throttle = it.client.transport.throttle
            silent = {bucket for bucket in throttle.buckets if throttle.delay_s(bucket) > 0}
            assert len(silent) == 1 and not silent & {"order", "cancel", "query", "private"}
            it.trading.place(it.buy("g1"))
            assert (await it.events.one(PlaceOutcome, client_id="g1")).kind is OutcomeKind.ACKED

    asyncio.run(body())


@pytest.mark.parametrize("name", TRADED)
def test_a_page_to_a_question_is_the_gateways_and_the_next_one_is_answered(name: str) -> None:
    async def body() -> None:
        async with trading_venue(name) as it:
            it.box.fault(kind="gateway_page", venue=name, target="balances", count=1)
            with pytest.raises(GatewayRefused) as caught:
                await it.client.balances()
            assert not isinstance(caught.value, VenueRejected)
            assert await it.client.balances()

    asyncio.run(body())


@pytest.mark.parametrize("name", TRADED)
def test_pages_to_the_question_for_the_time_cost_nothing_that_is_signed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_client, "CLOCK_SYNC_INTERVAL_NS", 0)

    async def body() -> None:
        async with trading_venue(name) as it:
            await it.client.server_time_ms()
            it.box.fault(kind="gateway_page", target="time", count=0)  # futures ask the spot market for it
            for _ in range(3):
                assert await it.client.balances()
            asked = [row for row in it.box.server.ledger.rows if row.get("operation") == "time" and row.get("fault")]
            assert len(asked) == 1, "not with each of them"
            await it.trading.close()
            await it.trading.connect()
            it.trading.place(it.buy("g1"))
            await it.events.one(OrderUpdate, client_id="g1", state=OrderState.FILLED)

    asyncio.run(body())


@pytest.mark.parametrize("silence", [False, True])
@pytest.mark.parametrize("name", SESSIONS)
def test_a_process_that_never_heard_the_time_trades_all_the_same(
    name: str, silence: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages, or nothing at all, to the question for the time: a session starts by our own clock, and says so."""
    monkeypatch.setattr(f"pipeline.exchanges.{CLIENTS[name]}.TIME_ANSWER_S", 0.05)

    async def body() -> None:
        async with trading_venue(name, market_of(name)) as it:
            rule = {"kind": "delay_request", "delay_ms": 60_000.0} if silence else {"kind": "gateway_page"}
            it.box.fault(**rule, target="time", count=0)
            config, credentials = it.box.venue(name), it.box.credentials(name)
            fresh, client = make_trading(config, credentials, it.events), make_venue(config, credentials)
            assert await client.balances()
            await fresh.connect()
            up = it.events.of(SessionState, state="up")[-1]
            assert up.clock_known is name.startswith("gateio"), "its login tells the time"
            fresh.place(it.buy("g1"))
            await it.events.one(OrderUpdate, client_id="g1", state=OrderState.FILLED)
            asked = [row for row in it.box.server.ledger.rows if row.get("operation") == "time" and row.get("fault")]
            assert len(asked) <= 3, "each client once, and not with each question"
            await fresh.close()
            await client.close()

    asyncio.run(body())


@pytest.mark.parametrize("name", SESSIONS)
def test_by_a_wrong_clock_of_ours_nothing_is_taken_and_the_venues_refusal_is_told(name: str) -> None:
    """Where a login is not bound to the time (listen keys, Bybit's), an order is: refused, so that none is in doubt."""

    async def body() -> None:
        async with trading_venue(name, market_of(name)) as it:
            it.box.fault(kind="gateway_page", target="time", count=0)
            it.box.fault(kind="clock_skew", venue=name, delay_ms=-3_600_000.0)
            client = make_venue(it.box.venue(name), it.box.credentials(name))
            assert isinstance(client, RestVenueClient)
            with pytest.raises(VenueRejected) as caught:
                await client.balances()
            assert client.is_clock_error(caught.value)
            events = Events()
            fresh = make_trading(it.box.venue(name), it.box.credentials(name), events)
            with contextlib.suppress(VenueRejected):
                await fresh.connect()
            if fresh.connected:
                fresh.place(it.buy("g1"))
                outcome = await events.one(PlaceOutcome, client_id="g1")
                assert outcome.kind is OutcomeKind.REJECTED and isinstance(outcome.error, ClockRefused)
            else:
                assert name in (*TRADED, "binance_spot")
            await fresh.close()
            await client.close()

    asyncio.run(body())


def test_a_wrong_key_is_still_a_refused_key() -> None:
    async def body() -> None:
        async with world() as box:
            wrong = Credentials(api_key="wrongkey", api_secret="secret", uid="1")
            for name in TRADED:
                trading = make_trading(box.venue(name), wrong, Events())
                with pytest.raises(AuthRefused):
                    await trading.connect()
                await trading.close()

    asyncio.run(body())


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns


def test_the_silence_after_pages_grows_and_ends_with_the_venues_own_answer() -> None:
    clock = Clock()
    throttle = Throttle({"order": Limit(100, 1), "query": Limit(100, 1)}, clock_ns=clock)
    watch = GatewayWatch(throttle, clock_ns=clock)
    page = GatewayRefused("page", code=403)
    pauses = []
    for _ in range(60):
        watch.note(page, "query")
        watch.note(page, "query")  # left before the silence: does not lengthen it
        pauses.append(throttle.delay_s("query"))
        assert throttle.delay_s("order") == 0.0, "the other buckets go on"
        clock.now_ns += int(pauses[-1] * 1e9) + 1
    assert watch.count == 120 and watch.since_mono_ns == 1_000_000_000
    assert pauses[-1] > 2 * pauses[0] and all(0 < pause <= 300 for pause in pauses)
    watch.note(VenueRejected("own code"), "query")
    assert watch.since_mono_ns == 0
    watch.note(page, "query")
    assert throttle.delay_s("query") <= 1.0
    clock.now_ns += 2_000_000_000
    watch.note(GatewayRefused("busy", code=503), "query")
    assert throttle.delay_s("query") == 0.0, "who asks paces himself after a 5xx"
    watch.note(GatewayRefused("maintenance", code=503, retry_after_s=30), "query")
    assert throttle.delay_s("query") == pytest.approx(30)
    watch.note(RateLimited("429", retry_after_s=50), "query")
    assert throttle.delay_s("query") == pytest.approx(50)
    assert throttle.delay_s("order") == 0.0, "a limit of one endpoint stops no order"
    watch.note(RateLimited("418", retry_after_s=500, of_address=True), "query")
    assert throttle.delay_s("order") == pytest.approx(500)


def test_a_path_that_is_refused_for_long_is_not_asked_sooner_because_another_answers() -> None:
    clock = Clock()
    throttle = Throttle({"order": Limit(100, 1), "query": Limit(100, 1)}, clock_ns=clock)
    watch = GatewayWatch(throttle, clock_ns=clock)
    pauses = []
    for _ in range(60):
        watch.note(GatewayRefused("page", code=403), "query")
        pauses.append(throttle.delay_s("query"))
        clock.now_ns += int(pauses[-1] * 1e9) + 1
        watch.note(None, "order")
    assert pauses[-1] > 2 * pauses[0] and watch.since_mono_ns == 1_000_000_000


def test_a_compressed_frame_that_was_not_negotiated_fails_the_connection() -> None:
    class Server(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            transport.send(WSMsgType.TEXT, b"plain")
            transport.send(WSMsgType.TEXT, b"\xaa\x56\x2a\xcd", True, True)

    async def body() -> None:
        got: list[bytes] = []
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def listener(_request: WSUpgradeRequest) -> WSListener:
            return Server()

        server = await ws_create_server(listener, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await open_ws(
            f"ws://127.0.0.1:{port}/",
            venue="v",
            on_frame=lambda payload, _text, _at: got.append(bytes(payload)),
            on_close=ended.set_result,
        )
        assert "not negotiated" in await ended
        assert got == [b"plain"]
        server.close()

    asyncio.run(body())


def test_a_compressed_answer_that_was_not_asked_for_is_no_answer() -> None:
    async def squeezed(_request: web.Request) -> web.Response:
        response = web.json_response({"a": 1})
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async def body() -> None:
        app = web.Application()
        app.router.add_get("/", squeezed)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        transport = RestTransport(f"http://{host}:{port}", venue="v", throttle=Throttle({"q": Limit(1, 1)}))
        with pytest.raises(OutcomeUnknown, match="compressed"):
            await transport.send(lambda: HttpCall(method="GET", target="/"), bucket="q")
        await transport.close()
        await runner.cleanup()

    asyncio.run(body())


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    """Signed headers go to no other place, whatever an answer says."""
    asked: list[str] = []

    async def moved(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/there"})

    async def body() -> None:
        app = web.Application()
        app.router.add_get("/{path}", moved)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        transport = RestTransport(f"http://{host}:{port}", venue="v", throttle=Throttle({"q": Limit(1, 1)}))
        reply = await transport.send(lambda: HttpCall(method="GET", target="/here"), bucket="q")
        assert reply.status == 302 and asked == ["/here"]
        await transport.close()
        await runner.cleanup()

    asyncio.run(body())
