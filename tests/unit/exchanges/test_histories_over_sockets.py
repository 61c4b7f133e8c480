"""The same lists over real sockets: our clients ask the simulated venues, which serve them as the venues do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TypeVar

from pipeline.exchanges.base import VenueClient
from pipeline.exchanges.factory import make_venue
from pipeline.model.clock import wall_ms
from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.model.structs import ForcedClose, MoneyMove
from pipeline.sim.exchange.orders import SimOrderRequest
from tests.worlds.exchange_world import World, world

D = Decimal
BTC = "BTC_USDT"
Answer = TypeVar("Answer")


def _short(exchange: World, qty: Decimal) -> None:
    venue = exchange.server.venues["gateio_futures"]
    account = next(iter(venue.accounts.values()))
    request = SimOrderRequest(
        symbol=BTC, side=OrderSide.SELL, kind=OrderKind.MARKET, tif=TimeInForce.IOC, qty=qty, client_id=""
    )
    venue.place(account, request)


async def _moves(exchange: World, venue: str, since_ms: int) -> list[MoneyMove]:
    return await _with(exchange, venue, lambda client: client.money_moves(since_ms))


async def _with(exchange: World, venue: str, ask: Callable[[VenueClient], Awaitable[Answer]]) -> Answer:
    client: VenueClient = make_venue(exchange.venue(venue), exchange.credentials(venue))
    try:
        return await ask(client)
    finally:
        await client.close()


def test_deposits_and_withdrawals_are_listed_with_their_ids_and_orders_are_not() -> None:
    async def body() -> None:
        async with world() as exchange:
            since_ms = wall_ms()
            for venue in ("gateio_spot", "mexc_spot", "gateio_futures"):
                exchange.fault(kind="deposit", venue=venue, asset="USDT", amount=1500)
                exchange.fault(kind="withdraw", venue=venue, asset="USDT", amount=40)
            exchange.fault(kind="manual_order", venue="gateio_spot", symbol=BTC, amount="0.01")
            _short(exchange, D("0.01"))
            for venue, reasons, lists in (
                ("gateio_spot", ["deposit", "withdraw"], ["account_book", "account_book"]),
                ("mexc_spot", ["deposit", "withdraw"], ["deposits", "withdrawals"]),
                ("gateio_futures", ["transfer", "transfer"], ["account_book", "account_book"]),
            ):
                found = [row for row in await _moves(exchange, venue, since_ms) if abs(row.amount) in (1500, 40)]
                assert [(row.asset, row.amount) for row in found] == [("USDT", D(1500)), ("USDT", D(-40))], venue
                assert [row.reason for row in found] == reasons
                assert [row.listed_in for row in found] == lists
                assert len({row.witness for row in found}) == 2
                assert all(abs(row.venue_wall_ms - since_ms) < 60_000 for row in found)
                everything = await _moves(exchange, venue, since_ms)
                assert all(row.reason in ("deposit", "withdraw", "transfer") for row in everything), "and no order"

    asyncio.run(body())


def test_forced_closes_are_listed_with_order_and_cause() -> None:
    async def body() -> None:
        async with world() as exchange:
            since_ms = wall_ms()
            _short(exchange, D("0.02"))
            exchange.fault(kind="adl", venue="gateio_futures", symbol=BTC, amount=0.01)
            exchange.fault(kind="liquidate", venue="gateio_futures", symbol=BTC, amount=0)
            found: list[ForcedClose] = await _with(
                exchange, "gateio_futures", lambda client: client.forced_closes(since_ms)
            )
            account = next(iter(exchange.server.venues["gateio_futures"].accounts.values()))
            assert {(row.cause, row.order_id, row.price) for row in found} == {
                (close.kind, str(close.order_id), round(close.fill_price, 12)) for close in account.forced
            }
            assert {row.cause for row in found} == {"liquidation", "adl"}
            later = await _with(exchange, "gateio_futures", lambda client: client.forced_closes(since_ms + 3_600_000))
            assert later == []

    asyncio.run(body())
