"""The bytes themselves, what no client library shows: acks and refusals, login, limits, clocks, dead-man switch."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeVar

import aiohttp
import pytest

from pipeline.sim.exchange.faults import FaultRule
from pipeline.sim.wire.auth import hmac_sha256_hex, hmac_sha512_hex
from pipeline.sim.wire.gateio.auth import gate_api_text, gate_channel_text, gate_rest_text
from tests.worlds.client_support import HostedSim
from tests.worlds.later import mexc_push

T = TypeVar("T")
WATCHDOG_S = 240


def drive(body: Callable[[aiohttp.ClientSession], Awaitable[T]]) -> T:
    async def run() -> T:
        async with aiohttp.ClientSession() as session:
            return await asyncio.wait_for(body(session), WATCHDOG_S)

    return asyncio.run(run())


class Mexc:
    def __init__(self, sim: HostedSim, session: aiohttp.ClientSession) -> None:
        self.row = sim.info["venues"]["mexc_spot"]
        self.session = session

    async def send(self, method: str, path: str, query: str = "", shift_ms: int = 0, **kwargs: Any) -> tuple[int, Any]:
        stamp = int(time.time() * 1000) + shift_ms
        text = f"{query}{'&' if query else ''}timestamp={stamp}&recvWindow=5000"
        url = f"{self.row['rest']}{path}?{text}&signature={hmac_sha256_hex(self.row['api_secret'], text.encode())}"
        async with self.session.request(method, url, headers={"X-MEXC-APIKEY": self.row["api_key"]}, **kwargs) as reply:
            return reply.status, await reply.json()


class Gate:
    def __init__(self, sim: HostedSim, session: aiohttp.ClientSession, venue: str = "gateio_spot") -> None:
        self.row = sim.info["venues"][venue]
        self.prefix = "futures" if venue.endswith("futures") else "spot"
        self.session = session

    async def send(
        self, method: str, path: str, body: Any = None, query: str = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        text = json.dumps(body).encode() if body is not None else b""
        stamp = str(int(time.time()))
        sign = hmac_sha512_hex(self.row["api_secret"], gate_rest_text(method, f"/api/v4{path}", query, text, stamp))
        own = {"KEY": self.row["api_key"], "Timestamp": stamp, "SIGN": sign}
        url = f"{self.row['rest']}{path}{'?' if query else ''}{query}"
        async with self.session.request(method, url, data=text, headers=own | headers) as reply:
            return reply.status, await reply.json(), dict(reply.headers)

    def login(self, request_id: str = "login") -> dict[str, Any]:
        stamp, channel = str(int(time.time())), f"{self.prefix}.login"
        sign = hmac_sha512_hex(self.row["api_secret"], gate_api_text(channel, b"", stamp))
        payload = {"api_key": self.row["api_key"], "signature": sign, "timestamp": stamp, "req_id": request_id}
        return {"time": int(stamp), "channel": channel, "event": "api", "payload": payload}

    def call(self, kind: str, param: Any, request_id: str = "r1", header: Any = None) -> dict[str, Any]:
        payload = {"req_id": request_id, "req_param": param} | ({"req_header": header} if header else {})
        return {"time": int(time.time()), "channel": f"{self.prefix}.{kind}", "event": "api", "payload": payload}

    def private(self, channel: str, payload: list[str] | None) -> dict[str, Any]:
        now = int(time.time())
        sign = hmac_sha512_hex(self.row["api_secret"], gate_channel_text(channel, "subscribe", now))
        request: dict[str, Any] = {"time": now, "id": 7, "channel": channel, "event": "subscribe"}
        request["auth"] = {"method": "api_key", "KEY": self.row["api_key"], "SIGN": sign}
        return request if payload is None else request | {"payload": payload}


async def text_of(socket: aiohttp.ClientWebSocketResponse) -> Any:
    return json.loads(await socket.receive_str())


def test_mexc_socket_answers_pings_acks_and_refusals_as_recorded(sim: HostedSim) -> None:
    url = sim.info["venues"]["mexc_spot"]["ws"]
    depth, unknown = "spot@public.aggre.depth.v3.api.pb@10ms@BTCUSDT", "spot@public.aggre.depth.v3.api.pb@10ms@NOPE"

    async def body(session: aiohttp.ClientSession) -> list[Any]:
        async with session.ws_connect(url) as socket:
            replies = []
            for request in (
                {"method": "ping"},
                {"method": "SUBSCRIPTION", "params": [unknown], "id": 4},
                {"method": "SUBSCRIPTION", "params": ["spot@private.orders.v3.api.pb"]},
                {"method": "SUBSCRIPTION", "params": [depth], "id": 1},
            ):
                await socket.send_json(request)
                replies.append(await text_of(socket))
            previous = 0
            for _ in range(20):
                depths = mexc_push.PushDataV3ApiWrapper.FromString(await socket.receive_bytes()).publicAggreDepths
                assert not previous or int(depths.fromVersion) == previous + 1
                previous = int(depths.toVersion)
            return replies

    pong, refused, private, acked = drive(body)
    assert pong == {"id": 0, "code": 0, "msg": "PONG"}
    assert refused == {"id": 4, "code": 0, "msg": f"Not Subscribed successfully! [{unknown}].  Reason： Blocked! "}
    assert private["msg"].startswith("Not Subscribed successfully!")
    assert acked == {"id": 1, "code": 0, "msg": depth}


def test_mexc_limits_topics_messages_and_listen_keys(sim: HostedSim) -> None:
    url = sim.info["venues"]["mexc_spot"]["ws"]
    symbols = sim.info["venues"]["mexc_spot"]["symbols"]
    kinds = [f"spot@public.limit.depth.v3.api.pb@{{}}@{level}" for level in (5, 10, 20)]
    topics = [kind.format(symbol) for kind in kinds for symbol in symbols]
    topics += [f"spot@public.aggre.bookTicker.v3.api.pb@100ms@{symbol}" for symbol in symbols]

    async def body(session: aiohttp.ClientSession) -> tuple[Any, str, int]:
        async with session.ws_connect(url) as socket:
            await socket.send_json({"method": "SUBSCRIPTION", "params": topics})
            crowded = await text_of(socket)
        async with session.ws_connect(f"{url}?listenKey=nothing") as socket:
            invalid = await socket.receive_str()
        async with session.ws_connect(url) as socket:
            with contextlib.suppress(ConnectionError):
                for _ in range(130):
                    await socket.send_json({"method": "PING"})
            pongs = 0
            async for _ in socket:
                pongs += 1
            return crowded, invalid, pongs

    crowded, invalid, pongs = drive(body)
    assert pongs <= 100
    accepted, _, refused = crowded["msg"].partition(" Not Subscribed successfully! ")
    assert accepted.count("spot@public") == 30 and refused.count("spot@public") == len(topics) - 30
    assert invalid == "Invalid listen key"


def test_mexc_clock_window_content_and_id_rules(sim: HostedSim) -> None:
    async def body(session: aiohttp.ClientSession) -> list[tuple[int, Any]]:
        mexc = Mexc(sim, session)
        return [
            await mexc.send("GET", "/account", shift_ms=-6000),
            await mexc.send("GET", "/account", shift_ms=5000),
            await mexc.send("GET", "/order", "symbol=BTCUSDT"),
            await mexc.send("POST", "/order", "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=nan&price=1"),
            await mexc.send("POST", "/order", "symbol=NOPE&side=BUY&type=LIMIT&quantity=1&price=1"),
            await mexc.send("POST", "/order/test", "symbol=BTCUSDT&side=BUY&type=MARKET&quoteOrderQty=10"),
        ]

    late, early, no_id, bad_number, bad_symbol, tested = drive(body)
    assert late == (400, {"code": 700003, "msg": "Timestamp for this request is outside of the recvWindow."})
    assert early[1]["code"] == 700003
    assert no_id[1]["code"] == 700004
    assert bad_number[1]["code"] == 700004
    assert bad_symbol == (400, {"msg": "bad symbol", "code": 10007})
    assert tested == (200, {})


def test_mexc_placing_too_fast_is_429_with_retry_after(own_sim: HostedSim) -> None:
    async def body(session: aiohttp.ClientSession) -> list[int]:
        mexc = Mexc(own_sim, session)
        order = "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=0.001&price=50000"
        return [(await mexc.send("POST", "/order", order))[0] for _ in range(7)]

    statuses = drive(body)
    assert statuses[:5] == [200] * 5 and 429 in statuses[5:]


def test_mexc_read_only_key_may_look_but_not_trade(sim: HostedSim) -> None:
    async def body(session: aiohttp.ClientSession) -> tuple[Any, Any]:
        mexc = Mexc(sim, session)
        (reader,) = [key for key in mexc.row["keys"] if not key["can_trade"]]
        mexc.row = mexc.row | reader
        order = "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=0.001&price=50000"
        return await mexc.send("GET", "/account"), await mexc.send("POST", "/order", order)

    looked, traded = drive(body)
    assert looked[0] == 200
    assert traded == (403, {"msg": "No permission to access the endpoint.", "code": 700007})


@pytest.mark.parametrize("venue", ["gateio_spot", "gateio_futures"])
def test_gate_ws_api_acknowledges_first_and_answers_then(sim: HostedSim, venue: str) -> None:
    futures = venue == "gateio_futures"
    order = {"contract": "BTC_USDT", "size": 2, "price": "50000", "tif": "gtc", "text": "t-ws-1"}
    if not futures:
        order = {"currency_pair": "BTC_USDT", "side": "buy", "amount": "0.001", "price": "50000", "text": "t-ws-1"}

    async def body(session: aiohttp.ClientSession) -> list[Any]:
        gate = Gate(sim, session, venue)
        async with session.ws_connect(gate.row["ws_api"]) as socket:
            replies = []
            await socket.send_json(gate.call("order_place", order, "early"))
            replies.append(await text_of(socket))
            await socket.send_json(gate.login())
            replies.append(await text_of(socket))
            await socket.send_json(gate.call("order_place", order))
            replies += [await text_of(socket), await text_of(socket)]
            order_id = replies[-1]["data"]["result"]["id"]
            where = {} if futures else {"currency_pair": "BTC_USDT"}
            await socket.send_json(gate.call("order_status", {"order_id": str(order_id)} | where, "r2"))
            replies.append(await text_of(socket))
            await socket.send_json(gate.call("order_cancel", {"order_id": str(order_id)} | where, "r3"))
            replies.append(await text_of(socket))
            late = {"x-gate-exptime": str(int(time.time() * 1000) - 1)}
            await socket.send_json(gate.call("order_place", order, "r4", late))
            replies.append(await text_of(socket))
            return replies

    early, login, ack, placed, status, cancelled, late = drive(body)
    assert early["header"]["status"] == "400"
    assert early["data"]["errs"] == {"label": "AUTHENTICATION_FAILED", "message": "Not login"}
    assert login["header"]["status"] == "200"
    assert login["data"]["result"]["uid"] == sim.info["venues"][venue]["uid"]
    assert ack["ack"] is True and ack["request_id"] == "r1"
    assert ack["data"]["result"]["req_param"] == order
    assert placed.get("ack") is (False if futures else None) and placed["request_id"] == "r1"
    assert placed["data"]["result"]["status"] == "open" and placed["data"]["result"]["text"] == "t-ws-1"
    assert placed["header"]["x_gate_ratelimit_limit"] == (100 if futures else 10)
    assert status["data"]["result"]["id"] == placed["data"]["result"]["id"]
    assert cancelled["data"]["result"]["finish_as"] == "cancelled"
    assert late["header"]["status"] == "403" and late["data"]["errs"]["label"] == "REQUEST_EXPIRED"


def test_gate_spot_ws_trading_is_limited_to_ten_a_second(own_sim: HostedSim) -> None:
    order = {"currency_pair": "BTC_USDT", "side": "buy", "amount": "0.001", "price": "50000"}

    async def body(session: aiohttp.ClientSession) -> list[Any]:
        gate = Gate(own_sim, session)
        async with session.ws_connect(gate.row["ws_api"]) as socket:
            await socket.send_json(gate.login())
            await text_of(socket)
            for number in range(13):
                await socket.send_json(gate.call("order_place", order, f"r{number}"))
            replies = [await text_of(socket) for _ in range(23)]
            return [row for row in replies if "errs" in row["data"]]

    refused = drive(body)
    assert len(refused) == 3
    assert refused[0]["header"]["status"] == "429"
    assert refused[0]["data"]["errs"]["label"] == "TOO_MANY_REQUESTS"


def test_gate_subscriptions_are_acknowledged_refused_and_repeated_obu_is_an_alert(sim: HostedSim) -> None:
    url = sim.info["venues"]["gateio_spot"]["ws"]

    def request(channel: str, payload: list[str]) -> dict[str, Any]:
        return {"time": 1, "id": 9, "channel": channel, "event": "subscribe", "payload": payload}

    async def body(session: aiohttp.ClientSession) -> list[Any]:
        async with session.ws_connect(url) as socket:
            replies = []
            for message in (
                request("spot.trades", ["XRP_USDT", "NOPE_USDT"]),
                request("spot.order_book_update", ["XRP_USDT", "7ms"]),
                request("spot.orders", ["XRP_USDT"]),
                {"time": 1, "channel": "spot.ping"},
                request("spot.obu", ["ob.XRP_USDT.50"]),
            ):
                await socket.send_json(message)
                replies.append(await text_of(socket))
            full = await text_of(socket)
            await socket.send_json(request("spot.obu", ["ob.XRP_USDT.50"]))
            while True:
                reply = await text_of(socket)
                if reply["event"] == "subscribe":
                    return [*replies, full, reply]

    trades, interval, orders, pong, acked, full, alert = drive(body)
    assert trades["error"] == {"code": 2, "message": "unknown currency pair: NOPE_USDT"}
    assert trades["result"] == {"status": "fail"} and trades["id"] == 9
    assert interval["error"]["code"] == 2
    assert orders["error"]["code"] == 4
    assert (pong["channel"], pong["event"], pong["error"], pong["result"]) == ("spot.pong", "", None, None)
    assert acked["result"] == {"status": "success"} and acked["payload"] == ["ob.XRP_USDT.50"]
    assert full["result"]["full"] is True and "U" not in full["result"]
    assert alert["error"] == {"code": 2, "message": "Alert sub ob.XRP_USDT.50"}


@pytest.mark.parametrize(("venue", "payload"), [("gateio_spot", "20ms"), ("gateio_futures", "100ms")])
def test_gate_updates_of_a_narrow_window_rebuild_exactly_its_levels(
    own_sim: HostedSim, venue: str, payload: str
) -> None:
    """20 levels of a book of 40: after the opening, deltas alone keep the client at the venue's top 20."""
    gate_market = "futures" if venue.endswith("futures") else "spot"
    symbol = "BTC_USDT"
    topic = [symbol, payload] if gate_market == "spot" else [symbol, payload, "20"]
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})

    def take(levels: list[Any], side: dict[str, str]) -> None:
        for level in levels:
            price, size = (level["p"], str(level["s"])) if isinstance(level, dict) else level
            if size == "0":
                side.pop(price, None)
            else:
                side[price] = size

    def held() -> list[dict[str, Decimal]]:
        return [{price: Decimal(size) for price, size in side.items()} for side in sides]

    def wanted() -> list[dict[str, Decimal]]:
        venue_now = own_sim.venue(venue)
        row = venue_now.instruments[symbol]
        _, bids, asks = own_sim.call(lambda: venue_now.depth(symbol, 20))
        return [
            {
                row.price_text(price): Decimal(units) if gate_market == "futures" else row.qty(units)
                for price, units in levels
            }
            for levels in (bids, asks)
        ]

    async def body(session: aiohttp.ClientSession) -> int:
        row = own_sim.info["venues"][venue]
        last = 0
        async with session.ws_connect(row["ws"], headers={"X-Gate-Size-Decimal": "1"}) as socket:
            channel = f"{gate_market}.order_book_update"
            await socket.send_json({"time": 1, "channel": channel, "event": "subscribe", "payload": topic})
            await text_of(socket)
            for number in range(60):
                result = (await text_of(socket))["result"]
                if number == 40:
                    await asyncio.get_running_loop().run_in_executor(None, own_sim.freeze)
                    break
                if not result.get("full"):
                    assert not last or result["U"] == last + 1
                else:
                    sides[0].clear()
                    sides[1].clear()
                take(result["b"], sides[0])
                take(result["a"], sides[1])
                last = result["u"]
            while True:
                take(result["b"], sides[0])
                take(result["a"], sides[1])
                if held() == await asyncio.get_running_loop().run_in_executor(None, wanted):
                    return last
                result = (await text_of(socket))["result"]

    assert drive(body) > 0
    assert held() == wanted()


def test_gate_futures_sizes_are_numbers_without_and_text_with_the_decimal_header(sim: HostedSim) -> None:
    async def body(session: aiohttp.ClientSession) -> tuple[Any, Any, Any]:
        gate = Gate(sim, session, "gateio_futures")
        _, plain, _ = await gate.send("GET", "/futures/usdt/contracts/BTC_USDT")
        _, text, _ = await gate.send("GET", "/futures/usdt/contracts/BTC_USDT", **{"X-Gate-Size-Decimal": "1"})
        url = gate.row["rest"] + "/futures/usdt/order_book?contract=BTC_USDT&limit=1"
        async with session.get(url, headers={"X-Gate-Size-Decimal": "1"}) as reply:
            return plain, text, await reply.json()

    plain, text, book = drive(body)
    assert plain["order_size_min"] == 1 and text["order_size_min"] == "1"
    assert isinstance(book["asks"][0]["s"], str) and set(book["asks"][0]) == {"p", "s"}
    assert isinstance(book["current"], float) and "id" not in book


def test_gate_replies_carry_budget_headers_and_expired_requests_are_refused(sim: HostedSim) -> None:
    async def body(session: aiohttp.ClientSession) -> tuple[Any, Any, Any]:
        gate = Gate(sim, session)
        good = await gate.send("GET", "/spot/accounts")
        late = await gate.send("GET", "/spot/accounts", **{"x-gate-exptime": str(int(time.time() * 1000) - 1)})
        order = {"currency_pair": "BTC_USDT", "side": "buy", "amount": "0.001", "price": "50000", "text": "x-1"}
        return good, late, await gate.send("POST", "/spot/orders", order)

    good, late, text = drive(body)
    assert good[0] == 200 and good[2]["X-Gate-RateLimit-Limit"] == "200"
    assert int(good[2]["X-Out-Time"]) >= int(good[2]["X-In-Time"])
    assert late[0] == 403 and late[1]["label"] == "REQUEST_EXPIRED"
    assert text[0] == 400 and text[1]["label"] == "INVALID_PARAM_VALUE"


def test_gate_dead_man_switch_cancels_what_is_not_kept_alive(own_sim: HostedSim) -> None:
    order = {"currency_pair": "BTC_USDT", "side": "buy", "amount": "0.001", "price": "50000"}

    async def body(session: aiohttp.ClientSession) -> Any:
        gate = Gate(own_sim, session)
        async with session.ws_connect(gate.row["ws"]) as socket:
            await socket.send_json(gate.private("spot.orders", ["BTC_USDT"]))
            assert (await text_of(socket))["result"] == {"status": "success"}
            _, placed, _ = await gate.send("POST", "/spot/orders", order)
            await gate.send("POST", "/spot/countdown_cancel_all", {"timeout": 5, "currency_pair": "BTC_USDT"})
            while True:
                (item,) = (await text_of(socket))["result"]
                if item["event"] == "finish":
                    return placed, item

    placed, item = drive(body)
    assert (item["id"], item["finish_as"], item["left"]) == (placed["id"], "cancelled", "0.001")
    assert "status" not in item and isinstance(item["create_time_ms"], str)


def test_gate_futures_private_items_carry_numbers_and_need_the_users_id(sim: HostedSim) -> None:
    async def body(session: aiohttp.ClientSession) -> tuple[Any, dict[str, Any]]:
        gate = Gate(sim, session, "gateio_futures")
        seen: dict[str, Any] = {}
        async with session.ws_connect(gate.row["ws"]) as socket:
            await socket.send_json(gate.private("futures.orders", ["1", "!all"]))
            refused = await text_of(socket)
            for channel in ("orders", "usertrades", "positions"):
                await socket.send_json(gate.private(f"futures.{channel}", [gate.row["uid"], "!all"]))
                assert (await text_of(socket))["result"] == {"status": "success"}
            await socket.send_json(gate.private("futures.balances", [gate.row["uid"]]))
            assert (await text_of(socket))["result"] == {"status": "success"}
            opening = {"contract": "DOGE_USDT", "size": 4, "price": "0", "tif": "ioc"}
            status, _, _ = await gate.send("POST", "/futures/usdt/orders", opening)
            assert status == 201
            while len(seen) < 4 or seen["futures.orders"].get("status") != "finished":
                push = await text_of(socket)
                seen[push["channel"]] = push["result"][0]
            closing = {"contract": "DOGE_USDT", "size": 0, "close": True, "price": "0", "tif": "ioc"}
            await gate.send("POST", "/futures/usdt/orders", closing)
        return refused, seen

    refused, seen = drive(body)
    assert refused["error"]["code"] == 2
    assert isinstance(seen["futures.orders"]["fill_price"], float) and seen["futures.orders"]["left"] == 0
    assert isinstance(seen["futures.usertrades"]["price"], str)
    assert isinstance(seen["futures.usertrades"]["fee"], float)
    assert isinstance(seen["futures.balances"]["balance"], float)
    assert seen["futures.positions"]["size"] != 0


def arm(sim: HostedSim, **fields: Any) -> None:
    sim.call(lambda: sim.server.arm(FaultRule.parse(fields)))


def test_gate_futures_tell_of_what_the_venue_closes(sim: HostedSim) -> None:
    channels = ("liquidates", "auto_deleverages", "position_closes")

    async def body(session: aiohttp.ClientSession) -> dict[str, Any]:
        gate = Gate(sim, session, "gateio_futures")
        seen: dict[str, Any] = {}
        async with session.ws_connect(gate.row["ws"]) as socket:
            for channel in channels:
                await socket.send_json(gate.private(f"futures.{channel}", [gate.row["uid"], "!all"]))
                assert (await text_of(socket))["result"] == {"status": "success"}
            opening = {"contract": "XRP_USDT", "size": 5, "price": "0", "tif": "ioc"}
            for kind, amount in (("adl", "20"), ("liquidate", "0")):
                if kind == "adl":
                    assert (await gate.send("POST", "/futures/usdt/orders", opening))[0] == 201
                await asyncio.to_thread(arm, sim, kind=kind, venue="gateio_futures", symbol="XRP_USDT", amount=amount)
            while len(seen) < 3:
                push = await text_of(socket)
                seen[push["channel"]] = push["result"][0]
        return seen

    seen = drive(body)
    deleveraged, liquidated = seen["futures.auto_deleverages"], seen["futures.liquidates"]
    assert (deleveraged["trade_size"], deleveraged["position_size"]) == (-2, 3) and "order_id" not in deleveraged
    assert (liquidated["size"], liquidated["left"], liquidated["leverage"]) == (3, 0, 10.0)
    assert seen["futures.position_closes"]["text"] == f"liq-{liquidated['order_id']}"


@pytest.mark.parametrize("kind", ["drop_response", "http_error_after", "http_error", "rate_limit"])
def test_gate_ws_api_faults_leave_exactly_the_promised_truth(own_sim: HostedSim, kind: str) -> None:
    arm(own_sim, kind=kind, venue="gateio_spot", target="place")
    order = {"currency_pair": "BTC_USDT", "side": "buy", "amount": "0.001", "price": "50000", "text": "t-lost"}

    async def body(session: aiohttp.ClientSession) -> list[Any]:
        gate = Gate(own_sim, session)
        replies = []
        async with session.ws_connect(gate.row["ws_api"]) as socket:
            await socket.send_json(gate.login())
            await text_of(socket)
            await socket.send_json(gate.call("order_place", order))
            async for message in socket:
                replies.append(json.loads(message.data))
                if "errs" in replies[-1]["data"]:
                    break
        return replies

    replies = drive(body)
    venue = own_sim.venue("gateio_spot")
    account = next(iter(venue.accounts.values()))
    executed = own_sim.call(lambda: venue.order(account, "BTC_USDT", client_id="t-lost")) is not None
    assert executed is (kind in ("drop_response", "http_error_after"))
    wanted = {"drop_response": [], "http_error_after": ["503"], "http_error": ["503"], "rate_limit": ["429"]}
    assert [row["header"]["status"] for row in replies if "errs" in row["data"]] == wanted[kind]


def test_mexc_order_that_is_executed_without_an_answer_is_found_by_its_client_id(own_sim: HostedSim) -> None:
    arm(own_sim, kind="drop_response", venue="mexc_spot", target="place")
    order = "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=0.001&price=50000&newClientOrderId=lost_1"

    async def body(session: aiohttp.ClientSession) -> tuple[int, Any]:
        mexc = Mexc(own_sim, session)
        with pytest.raises(aiohttp.ClientError):
            await mexc.send("POST", "/order", order)
        return await mexc.send("GET", "/order", "symbol=BTCUSDT&origClientOrderId=lost_1")

    status, found = drive(body)
    assert status == 200 and (found["status"], found["clientOrderId"]) == ("NEW", "lost_1")
