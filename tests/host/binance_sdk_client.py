"""Binance's own SDKs and python-binance, unchanged but for their URLs, by the Python of an environment of their own.

Reads the simulated venues by name (the simulator's own description of them) from stdin; prints what each step found as
one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.metadata import version

from binance.client import Client
from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
    DerivativesTradingUsdsFutures,
)
from binance_sdk_spot.spot import Spot

SYMBOL = "BTCUSDT"
PUSHES_S = 30.0


def root(url, scheme):
    return f"{scheme}://{url.split('://', 1)[1].split('/', 1)[0]}"


def spot_rest(row):
    api = Spot(
        config_rest_api=ConfigurationRestAPI(
            api_key=row["api_key"], api_secret=row["api_secret"], base_path=root(row["rest"], "http"), timeout=60_000
        )
    ).rest_api
    book = api.depth(SYMBOL, limit=20).data()
    listed = [one.symbol for one in api.exchange_info().data().symbols]
    price = round(float(book.bids[0][0]) * 0.97, 2)
    placed = api.new_order(
        SYMBOL, "BUY", "LIMIT", time_in_force="GTC", quantity=0.01, price=price, new_client_order_id="sdk1"
    ).data()
    resting = [one.client_order_id for one in api.get_open_orders(SYMBOL).data()]
    cancelled = api.delete_order(SYMBOL, orig_client_order_id="sdk1").data()
    taken = api.new_order(
        SYMBOL, "BUY", "LIMIT", time_in_force="IOC", quantity=0.01, price=round(float(book.asks[0][0]) * 1.02, 2)
    ).data()
    trades = api.my_trades(SYMBOL).data()
    balances = {one.asset: one.free for one in api.get_account().data().balances}
    return {
        "levels": len(book.bids),
        "listed": SYMBOL in listed,
        "price": price,
        "placed": placed.status,
        "resting": resting,
        "cancelled": cancelled.status,
        "taken": taken.status,
        "traded": [one.order_id for one in trades] == [taken.order_id] * len(trades) and bool(trades),
        "assets": sorted(set(balances) & {"BTC", "USDT"}),
        "time": api.time().data().server_time > 0,
    }


async def spot_ws_api(row, price):
    client = Spot(
        config_ws_api=ConfigurationWebSocketAPI(
            api_key=row["api_key"], api_secret=row["api_secret"], stream_url=row["ws_api"], timeout=60_000
        )
    )
    connection = await client.websocket_api.create_connection()
    placed = await connection.order_place(
        symbol=SYMBOL,
        side="BUY",
        type="LIMIT",
        time_in_force="GTC",
        price=price,
        quantity=0.01,
        new_client_order_id="sdk2",
    )
    status = await connection.order_status(symbol=SYMBOL, orig_client_order_id="sdk2")
    cancelled = await connection.order_cancel(symbol=SYMBOL, orig_client_order_id="sdk2")
    await connection.close_connection(close_session=True)
    return {
        "placed": placed.data().result.status,
        "found": status.data().result.status,
        "cancelled": cancelled.data().result.status,
    }


async def pushed(stream):
    found = asyncio.get_running_loop().create_future()
    stream.on("message", lambda data: found.done() or found.set_result(data))
    return await asyncio.wait_for(found, PUSHES_S)


async def spot_streams(row):
    client = Spot(config_ws_streams=ConfigurationWebSocketStreams(stream_url=root(row["ws"], "ws")))
    connection = await client.websocket_streams.create_connection()
    depth = await pushed(await connection.diff_book_depth(symbol=SYMBOL.lower(), update_speed="100ms"))
    await connection.close_connection(close_session=True)
    return {"symbol": depth.s, "ids": depth.u >= depth.U}


def futures_rest(row):
    api = DerivativesTradingUsdsFutures(
        config_rest_api=ConfigurationRestAPI(
            api_key=row["api_key"], api_secret=row["api_secret"], base_path=root(row["rest"], "http"), timeout=60_000
        )
    ).rest_api
    book = api.order_book(SYMBOL, limit=20).data()
    price = round(float(book.bids[0][0]) * 0.97, 1)
    placed = api.new_order(
        SYMBOL, "BUY", "LIMIT", time_in_force="GTC", quantity=0.01, price=price, new_client_order_id="sdk3"
    ).data()
    resting = [one.client_order_id for one in api.current_all_open_orders(SYMBOL).data()]
    cancelled = api.cancel_order(SYMBOL, orig_client_order_id="sdk3").data()
    taken = api.new_order(
        SYMBOL,
        "BUY",
        "LIMIT",
        time_in_force="IOC",
        quantity=0.01,
        price=round(float(book.asks[0][0]) * 1.02, 1),
        new_order_resp_type="RESULT",
    ).data()
    held = [one.position_amt for one in api.position_information_v3(SYMBOL).data()]
    assets = [one.asset for one in api.futures_account_balance_v3().data()]
    return {
        "levels": len(book.bids),
        "price": price,
        "placed": placed.status,
        "resting": resting,
        "cancelled": cancelled.status,
        "taken": taken.status,
        "held": held,
        "assets": assets,
        "listed": SYMBOL in [one.symbol for one in api.exchange_information().data().symbols],
    }


async def futures_streams(row, price):
    """A book's updates on one route, and on another what becomes of an order."""
    rest = ConfigurationRestAPI(
        api_key=row["api_key"], api_secret=row["api_secret"], base_path=root(row["rest"], "http"), timeout=60_000
    )
    api = DerivativesTradingUsdsFutures(config_rest_api=rest).rest_api
    client = DerivativesTradingUsdsFutures(
        config_ws_streams=ConfigurationWebSocketStreams(stream_url=f"{row['ws']}/stream")
    )
    connection = await client.websocket_streams.create_connection()
    depth = await pushed(await connection.diff_book_depth_streams(symbol=SYMBOL.lower(), update_speed="100ms"))
    own = await connection.user_data(api.start_user_data_stream().data().listen_key)
    waiting = asyncio.ensure_future(pushed(own))
    await asyncio.sleep(0)  # it listens from here on
    await asyncio.to_thread(
        api.new_order,
        SYMBOL,
        "BUY",
        "LIMIT",
        time_in_force="GTC",
        quantity=0.01,
        price=price,
        new_client_order_id="sdk4",
    )
    update = await waiting
    await connection.close_connection(close_session=True)
    return {"symbol": depth.s, "ids": depth.u >= depth.U, "own": str(update)}


def python_binance(spot, futures):
    Client.API_URL = f"{root(spot['rest'], 'http')}/api"
    Client.FUTURES_URL = f"{root(futures['rest'], 'http')}/fapi"
    client = Client(spot["api_key"], spot["api_secret"], ping=True)
    book = client.get_order_book(symbol=SYMBOL, limit=20)
    price = f"{float(book['bids'][0][0]) * 0.97:.2f}"
    placed = client.order_limit_buy(symbol=SYMBOL, quantity="0.01", price=price, newClientOrderId="pb1")
    found = client.get_order(symbol=SYMBOL, origClientOrderId="pb1")
    cancelled = client.cancel_order(symbol=SYMBOL, origClientOrderId="pb1")
    perp = Client(futures["api_key"], futures["api_secret"], ping=False)
    contract = perp.futures_create_order(
        symbol=SYMBOL, side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.01", price=price[:-1]
    )
    gone = perp.futures_cancel_order(symbol=SYMBOL, orderId=contract["orderId"])
    return {
        "levels": len(book["bids"]),
        "placed": placed["status"],
        "found": found["status"],
        "cancelled": cancelled["status"],
        "free": client.get_asset_balance(asset="USDT")["free"] > "0",
        "contract": contract["status"],
        "contract gone": gone["status"],
        "klines": len(client.get_klines(symbol=SYMBOL, interval="1m", limit=3)) > 0,
    }


def main():
    venues = json.load(sys.stdin)
    spot, futures = venues["binance_spot"], venues["binance_futures"]
    steps = {
        "spot_rest": lambda: spot_rest(spot),
        "spot_ws_api": lambda: asyncio.run(spot_ws_api(spot, found["spot_rest"]["price"])),
        "spot_streams": lambda: asyncio.run(spot_streams(spot)),
        "futures_rest": lambda: futures_rest(futures),
        "futures_streams": lambda: asyncio.run(futures_streams(futures, found["futures_rest"]["price"])),
        "python_binance": lambda: python_binance(spot, futures),
    }
    found = {}
    for name, step in steps.items():
        found[name] = step()
    names = ("binance-sdk-spot", "binance-sdk-derivatives-trading-usds-futures", "python-binance")
    found["versions"] = {name: version(name) for name in names}
    json.dump(found, sys.stdout)


main()
