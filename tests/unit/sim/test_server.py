"""The simulator's server on real loopback sockets: what it prints, control, faults, engine settings."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from pipeline.model.enums import InstrumentKind
from pipeline.sim.exchange.fault_kinds import FAULT_KINDS
from pipeline.sim.scenarios.specs import load_scenario
from pipeline.sim.server import SimExchangeServer, serve_until_stopped
from tests.worlds.waiting import until_async

BINANCE = {
    "name": "binance_small",
    "exchanges": {
        "binance": {
            "dialect": "binance",
            "venues": {
                "spot": {"kind": "spot", "balances": {"USDT": "1000"}},
                "futures": {"kind": "futures", "balances": {"USDT": "1000"}},
            },
        }
    },
    "pairs": {
        "BTC/USDT": {
            "price": 60000,
            "rate_per_s": 60,
            "vol_bps": 1,
            "spread_bps": 0.3,
            "top_usd": 5000,
            "level_usd": 3000,
            "listings": {
                "binance_spot": {"symbol": "BTCUSDT", "tick": "0.01", "lot": "0.00001", "min_notional": "5"},
                "binance_futures": {"symbol": "BTCUSDT", "tick": "0.1", "lot": "0.001"},
            },
        }
    },
}


def serve(
    body: Callable[[SimExchangeServer, dict[str, Any], aiohttp.ClientSession], Awaitable[None]], **options: Any
) -> None:
    async def run() -> None:
        server = SimExchangeServer(
            options.get("scenario", BINANCE), options.get("seed", 1), waits=options.get("waits", False)
        )
        info = await server.start()
        try:
            async with aiohttp.ClientSession() as client:
                await body(server, info, client)
        finally:
            await server.stop()
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1, "nothing is left running"

    asyncio.run(run())


async def bare_get(url: str) -> tuple[int, str]:
    """(status, Retry-After) of one GET on its own connection, (0, "") if it was cut: aiohttp would ask again."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    try:
        text = (await reader.read()).decode()
    except ConnectionError:
        return 0, ""
    finally:
        writer.close()
    if not text:
        return 0, ""
    lines = text.partition("\r\n\r\n")[0].split("\r\n")
    retry = [line.partition(": ")[2] for line in lines if line.lower().startswith("retry-after")]
    return int(lines[0].split(" ")[1]), retry[0] if retry else ""


async def fetch(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.get(url) as answer:
        return await answer.json()


def test_demo_prints_what_the_command_promises_and_configures_an_engine() -> None:
    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        assert info["ready"] and info["control"].startswith("http://127.0.0.1:")
        assert set(info["venues"]) == {"mexc_spot", "gateio_spot", "gateio_futures"}
        for row in info["venues"].values():
            assert row["rest"].startswith("http://127.0.0.1:") and row["ws"].startswith("ws://127.0.0.1:")
            assert row["api_key"] and row["api_secret"] and row["uid"] and row["symbols"]
        spot, futures = info["venues"]["gateio_spot"], info["venues"]["gateio_futures"]
        assert spot["api_key"] == futures["api_key"] and spot["uid"] == futures["uid"], "one account of one exchange"
        config = server.engine_config("t-1")
        assert config["engine_name"] == "t-1" and config["mode"] == "sim"
        assert list(config["exchanges"]) == ["mexc", "gateio"]
        assert set(config["exchanges"]["gateio"]["markets"]) == {"spot", "futures"}
        assert config["risk_limits"]["min_profit_margin_bps"] == "3"
        assert (await fetch(client, f"{info['control']}/health"))["ready"]

    serve(body, scenario="demo")


def test_keys_are_fresh_in_every_run() -> None:
    keys = []

    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        keys.append(info["venues"]["binance_spot"]["api_secret"])

    serve(body)
    serve(body)
    assert keys[0] != keys[1]


def test_streams_and_snapshots_of_both_binance_markets_align() -> None:
    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        for name, path in (("binance_spot", "/stream"), ("binance_futures", "/public/stream")):
            venue = info["venues"][name]
            prefix = "/api/v3" if name == "binance_spot" else "/fapi/v1"
            rest = f"{venue['rest']}{prefix}"
            deltas: list[dict[str, Any]] = []
            async with client.ws_connect(f"{venue['ws']}{path}") as stream:
                request = {"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms", "btcusdt@bookTicker"], "id": 1}
                await stream.send_json(request)
                assert (await stream.receive_json()) == {"result": None, "id": 1}
                snapshot: dict[str, Any] = {}
                while len(deltas) < 4:
                    row = await stream.receive_json()
                    if row["stream"].endswith("depth@100ms"):
                        deltas.append(row["data"])
                        if not snapshot:
                            snapshot = await fetch(client, f"{rest}/depth?symbol=BTCUSDT&limit=20")
            last = snapshot["lastUpdateId"]
            assert len(snapshot["bids"]) == 20
            assert any(row["U"] <= last + 1 <= row["u"] + 1 for row in deltas)
            for before, after in itertools.pairwise(deltas):
                assert after["U"] == before["u"] + 1
                if name == "binance_futures":
                    assert after["pu"] == before["u"]
            row = (await fetch(client, f"{rest}/exchangeInfo"))["symbols"][0]
            assert row["symbol"] == "BTCUSDT" and {rule["filterType"] for rule in row["filters"]} >= {"LOT_SIZE"}
            assert (await fetch(client, f"{rest}/depth?symbol=NOPE"))["code"] == -1121

    serve(body)


@pytest.mark.parametrize("waits", [False, True])
def test_timed_faults_of_a_scenario_count_from_the_start_or_from_the_word_to_begin(waits: bool) -> None:
    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        def armed() -> list[str]:
            return [row["fault"] for row in server.ledger.of_kind("fault")]

        for left in (int(waits), 0):
            async with client.post(f"{info['control']}/begin", json={}) as answer:
                assert (await answer.json())["begun"] == left
        await until_async(lambda: bool(armed()), "the timed fault")
        assert armed() == ["clock_skew"]

    fault = {"kind": "clock_skew", "venue": "*", "delay_ms": 5, "at_s": 0.01}
    serve(body, scenario={**BINANCE, "faults": [fault]}, waits=waits)


def test_a_posted_rule_that_waits_for_its_time_is_shown_and_can_be_taken_back() -> None:
    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        faults = f"{info['control']}/faults"
        fall = {"kind": "move_price", "symbol": "BTC/USDT", "amount": "-30%", "at_s": 3600}
        late = {"kind": "stall", "venue": "binance_spot", "target": "private", "at_s": 0.01}
        skews = [{"kind": "clock_skew", "delay_ms": skew, "at_s": at_s} for skew, at_s in ((7, 3600), (9, 0.02))]
        async with client.post(faults, json=[fall, fall, late, *skews]) as answer:
            assert await answer.json() == {"ids": [1, 2, 3, 4, 5]}
        for taken_back, status in ((4, 200), (1, 200), (1, 404)):
            async with client.delete(f"{faults}/{taken_back}") as answer:
                assert answer.status == status
        await until_async(lambda: server.venues["binance_spot"].skew_ms == 9, "the other skew")
        armed = (await fetch(client, faults))["armed"]
        assert [(row["kind"], row["rule_id"], row["at_s"]) for row in armed] == [
            ("stall", 3, 0),
            ("move_price", 2, 3600),
        ]
        async with client.delete(faults) as answer:
            assert await answer.json() == {"cleared": True}
        assert (await fetch(client, faults))["armed"] == []
        assert [row["fault"] for row in server.ledger.of_kind("fault")] == ["stall", "clock_skew"]

    serve(body)


def test_request_faults_reach_the_wire_and_the_ledger() -> None:
    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        url = f"{info['venues']['binance_spot']['rest']}/api/v3/depth?symbol=BTCUSDT"
        faults = [
            {"kind": "http_error", "target": "depth", "status": 503},
            {"kind": "rate_limit", "target": "depth", "after": 1, "retry_after_s": 2},
            {"kind": "drop_request", "target": "depth", "after": 2},
            {"kind": "drop_response", "target": "depth", "after": 3},
            {"kind": "http_error_after", "target": "depth", "after": 4, "status": 504},
        ]
        async with client.post(f"{info['control']}/faults", json=faults) as answer:
            assert len((await answer.json())["ids"]) == 5
        outcomes = [await bare_get(url) for _ in range(6)]
        assert outcomes == [(503, ""), (429, "2"), (0, ""), (0, ""), (504, ""), (200, "")]
        rows = (await fetch(client, f"{info['control']}/ledger?kind=request"))["rows"]
        depth = [row for row in rows if row["operation"] == "depth"]
        assert len(depth) >= 6 and depth[0]["fault"] == "status=503" and depth[0]["symbol"] == "BTCUSDT"
        async with client.post(f"{info['control']}/faults", json={"kind": "nonsense"}) as answer:
            assert answer.status == 400
        idle = {"kind": "cancel_orders", "venue": "binance_spot", "symbol": "BTCUSDT"}
        async with client.post(
            f"{info['control']}/faults", json=[idle, {"kind": "clock_skew", "venue": "binance_spot"}]
        ) as answer:
            reported = await answer.json()
        nothing = ["cancel_orders found nothing to act on: venue binance_spot, symbol BTCUSDT"]
        assert reported == {"ids": [0, 1], "touched_nothing": nothing}
        async with client.get(info["control"]) as answer:
            assert "POST /faults" in await answer.text(), "the URL alone says what can be asked"

    serve(body)


def test_the_control_url_says_what_can_be_broken_and_what_a_wrong_rule_lacks() -> None:
    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        async def refused(rule: Any) -> dict[str, Any]:
            async with client.post(f"{info['control']}/faults", json=rule) as answer:
                assert answer.status == 400
                said: dict[str, Any] = await answer.json()
                assert said["all_kinds"] == "GET /faults" and said["example"]
                return said

        kinds = (await fetch(client, f"{info['control']}/faults"))["kinds"]
        assert kinds["stall"]["fields"]["duration_ms"]["unit"] == "ms"
        assert {"deposit", "withdraw", "liquidate", "adl", "manual_order", "funding", "change_mode"} <= set(kinds)
        said = await refused({"kind": "funding", "symbol": "BTCUSDT", "rate": "36"})
        assert said["error"].startswith("funding: found rate, which it does not read; it reads venue, symbol, amount")
        own = {"venue": "binance_futures", "symbol": "BTCUSDT", "amount": "0.0015"}
        assert said["example"] == kinds["funding"]["example"] == {"kind": "funding", **own}
        assert said["fields"] == kinds["funding"]["fields"]
        for rule, words in (
            ({"kind": "stall", "venue": "binance"}, "stall: venue: found binance, wanted * or one of binance_spot"),
            ({"kind": "halt_symbol", "symbol": "BTC_USDT"}, "symbol: found BTC_USDT, wanted one of BTCUSDT"),
            ({"kind": "nonsense"}, "kind: found 'nonsense', wanted one of adl, "),
            (7, "a rule: found 7, wanted an object with a kind"),
            ({"kind": "move_price", "symbol": "BTC/USDT", "amount": "-100%"}, "move_price: amount: found -100%"),
            (
                {"kind": "move_price", "symbol": "BTC/USDT", "amount": "-150%", "at_s": 5},
                "move_price: amount: found -150%",
            ),
        ):
            assert words in (await refused(rule))["error"]
        said = await refused([{"kind": "clock_skew", "delay_ms": 5}, {"kind": "liquidate", "amount": "0.00003"}])
        assert said["done_before"] == [2], "what came before the wrong one is done"
        async with client.post(f"{info['control']}/faults", data="kind=stall") as answer:
            assert answer.status == 400 and "wanted one rule or a list" in (await answer.json())["error"]
        rise = {"kind": "move_price", "symbol": "BTC/USDT", "amount": "3%"}
        before = server.venues["binance_spot"].mark_price("BTCUSDT")
        async with client.post(f"{info['control']}/faults", json=rise) as answer:
            assert (await answer.json())["ids"] == [2]
        await until_async(
            lambda: server.venues["binance_spot"].mark_price("BTCUSDT") > before * Decimal("1.02"), "the rise"
        )
        other = {"kind": "move_price", "symbol": "DOGE/USDT", "amount": "3%"}
        async with client.post(f"{info['control']}/faults", json=other) as answer:
            assert (await answer.json())["touched_nothing"] == ["move_price found nothing to act on: symbol DOGE/USDT"]

    serve(body)


def test_disconnect_closes_streams_and_refused_handshakes_say_so() -> None:
    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        url = f"{info['venues']['binance_spot']['ws']}/ws/btcusdt@depth@100ms"
        async with client.ws_connect(url) as stream:
            await stream.receive()
            async with client.post(f"{info['control']}/faults", json={"kind": "disconnect"}) as answer:
                assert answer.status == 200
            while not stream.closed:
                message = await stream.receive()
                if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR):
                    break
        await client.post(f"{info['control']}/faults", json={"kind": "refuse_connect", "status": 403})
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.ws_connect(url)
        assert caught.value.status == 403
        async with client.ws_connect(url) as stream:
            assert (await stream.receive()).type is aiohttp.WSMsgType.TEXT

    serve(body)


@pytest.mark.parametrize("kind", ["corrupt", "bad_number", "refuse_connect", "gateway_page"])
def test_a_fault_of_frames_or_handshakes_hits_the_sockets_that_it_targets(kind: str) -> None:
    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        url = f"{info['venues']['binance_spot']['ws']}/ws/btcusdt@depth@100ms"
        targets = set(FAULT_KINDS[kind].fields["target"].choices) & {"private", "public"}
        for target in sorted(targets):  # the other sockets' first
            async with client.post(f"{info['control']}/faults", json={"kind": kind, "target": target}) as answer:
                assert answer.status == 200
            with contextlib.suppress(aiohttp.WSServerHandshakeError):
                async with client.ws_connect(url) as stream:
                    await stream.receive()
            (rule,) = server.faults.rules + server.faults.retired
            assert bool(rule.hits) == (target == "public")
            server.faults.clear()
            server.faults.retired.clear()

    serve(body)


def test_a_fault_of_one_symbol_leaves_orders_alone_that_name_another_in_their_body() -> None:
    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        for venue, path, name in (
            ("gateio_spot", "/spot/orders", "currency_pair"),
            ("gateio_futures", "/futures/usdt/orders", "contract"),
        ):
            rule = {"kind": "http_error", "venue": venue, "target": "place", "symbol": "ETH_USDT"}
            async with client.post(f"{info['control']}/faults", json=rule) as answer:
                assert answer.status == 200
            for symbol, status in (("BTC_USDT", 400), ("ETH_USDT", 503)):  # 400: it is not signed
                url = f"{info['venues'][venue]['rest']}{path}"
                async with client.post(url, json={name: symbol, "text": "t-1"}) as answer:
                    assert answer.status == status, symbol

    serve(body, scenario="demo")


def test_spoilt_numbers_and_bursts_reach_the_stream() -> None:
    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        url = f"{info['venues']['binance_spot']['ws']}/ws/btcusdt@depth@100ms"
        async with client.ws_connect(url) as stream:
            await stream.receive()
            rule = {"kind": "bad_number", "target": "public", "text": "1e999"}
            await client.post(f"{info['control']}/faults", json=rule)
            while '"1e999"' not in (await stream.receive()).data:
                pass  # one that was on its way
            assert '"1e999"' not in (await stream.receive()).data
            async with client.post(f"{info['control']}/faults", json={"kind": "burst", "amount": "50"}) as answer:
                assert (await answer.json())["ids"] == [100]
            rows = [await stream.receive_json() for _ in range(3)]
            assert max(row["u"] - row["U"] for row in rows) > 60, "a burst is one large delta, conflated"

    serve(body)


def test_control_gives_the_ledger_in_pages_of_text_decimals() -> None:
    async def body(server: SimExchangeServer, info: dict[str, Any], client: aiohttp.ClientSession) -> None:
        page = await fetch(client, f"{info['control']}/ledger?kind=entry,balance")
        assert {row["kind"] for row in page["rows"]} == {"entry", "balance"}
        entry = next(row for row in page["rows"] if row["kind"] == "entry")
        assert entry["postings"][0][2] == "1000" and entry["postings"][1][2] == "-1000"
        rest = await fetch(client, f"{info['control']}/ledger?since={page['last_seq']}&kind=entry")
        assert rest["rows"] == []
        summary = await fetch(client, f"{info['control']}/summary")
        assert summary["venues"]["binance_spot"]["balances"]["USDT"]["free"] == "1000"
        assert summary["orders"] == 0 and summary["changes"] == {}
        async with client.post(f"{info['control']}/plant", json={"pair": "BTC/USDT", "edge_bps": 20}) as answer:
            assert (await answer.json())["planted"]
        offered = await fetch(client, f"{info['control']}/dislocations?all=1")
        assert offered["offered"] == 1 and offered["all"][0]["edge_bps"] == 20
        for wrong, words in (
            ("/ledger?since=x", "since and limit want whole numbers"),
            ("/ledger?kinds=fill", "/ledger: found kinds, wanted some of since, kind, limit"),
            ("/versions?pair=a", "wanted some of venue, symbol, depth, first, last"),
            ("/dislocations?some=1", "wanted some of all"),
            ("/faults?kind=a", "kind: found a, wanted one of adl, "),
            ("/ledgers", "found GET /ledgers, wanted one of DELETE /faults, "),
        ):
            async with client.get(f"{info['control']}{wrong}") as answer:
                assert answer.status in (400, 404) and words in (await answer.json())["error"]
        assert list((await fetch(client, f"{info['control']}/faults?kind=stall"))["kinds"]) == ["stall"]
        for plant, words in (
            ({"pair": "XX/USDT"}, "pair: found XX/USDT, wanted one of BTC/USDT"),
            ({"pair": "BTC/USDT", "edge": 3}, "unknown field `edge`; wanted pair, edge_bps, usd, life_ms"),
        ):
            async with client.post(f"{info['control']}/plant", json=plant) as answer:
                assert answer.status == 400 and words in (await answer.json())["error"]

    serve(body)


def test_run_until_sigterm_reports_ready_and_stops() -> None:
    async def run() -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []

        def on_ready(info: dict[str, Any]) -> None:
            seen.append(info)
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)

        await serve_until_stopped(SimExchangeServer(BINANCE, 1), on_ready)
        return seen

    (info,) = asyncio.run(run())
    assert info["ready"] and info["seed"] == 1


def test_futures_venues_carry_the_kind_and_funding_of_their_contracts() -> None:
    demo = load_scenario("demo")
    assert demo.venue("gateio_futures").instrument_kind is InstrumentKind.PERPETUAL
    assert demo.pairs["BTC/USDT"].listings["gateio_futures"].funding_interval_s == 28800
