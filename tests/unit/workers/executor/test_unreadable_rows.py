"""Sweeps over real sockets while the simulated venue lists a row of ours that cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.exchanges.gateio.orders import TEXT_PREFIX
from pipeline.execution.events import (
    FILL_LISTS,
    FORCED_LISTS,
    ORDER_LISTS,
    POSITION_LISTS,
    CoreEvent,
    FetchFills,
    FetchMoney,
    FillsAnswer,
    MoneyAnswer,
    Question,
    SweepAnswer,
    SweepVenue,
)
from pipeline.model.clock import wall_ms
from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.orders import SimOrderRequest
from pipeline.sim.wire.gateio import closed_rows, futures_rows, spot_rows, wallet
from pipeline.sim.wire.mexc import formats
from tests.worlds.exchange_world import World, world
from tests.worlds.waiting import until_async as until
from workers.executor.venues import Questions

D = Decimal
SYMBOLS = {
    "mexc_spot": ("BTCUSDT", "ETHUSDT"),
    "gateio_spot": ("BTC_USDT", "ETH_USDT"),
    "gateio_futures": ("BTC_USDT", "ETH_USDT"),
}
ROWS = {"mexc_spot": formats, "gateio_spot": spot_rows, "gateio_futures": futures_rows}


def text_of(venue: str, client_id: str) -> str:
    """Our id as the venue knows it."""
    return client_id if venue == "mexc_spot" else TEXT_PREFIX + client_id


def place(box: World, venue: str, symbol: str, client_id: str) -> None:
    sim, text = box.server.venues[venue], text_of(venue, client_id)
    request = SimOrderRequest(
        symbol=symbol, side=OrderSide.SELL, kind=OrderKind.MARKET, tif=TimeInForce.IOC, qty=D("0.02"),
        client_id=text,
    )  # fmt: skip
    sim.place(next(iter(sim.accounts.values())), request)


async def ask(box: World, venue: str, question: Question) -> Any:
    """The answer to one question, by a client of our own."""
    got: list[CoreEvent] = []
    client = make_venue(box.venue(venue), box.credentials(venue))
    questions = Questions(lambda: {venue: client}, asyncio.get_running_loop())
    questions.start(got.append)
    questions.ask(question)
    await until(lambda: bool(got), "an answer")
    questions.close()
    return got[0]


def odd(patch: pytest.MonkeyPatch, module: Any, name: str, which: Callable[[Any], bool], **change: Any) -> None:
    """The venue's rows of ``module.name(subject, ...)`` are otherwise where ``which(subject)``."""
    make = getattr(module, name)

    def changed(subject: Any, *args: Any, **named: Any) -> dict[str, Any]:
        row: dict[str, Any] = make(subject, *args, **named)
        return row | change if which(subject) else row

    patch.setattr(module, name, changed)


@pytest.mark.parametrize("venue", SYMBOLS)
def test_an_unreadable_order_and_fill_of_ours_cost_a_sweep_nothing_else(
    venue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = SYMBOLS[venue]
    odd(
        monkeypatch, ROWS[venue], "order_row", lambda order: order.client_id == text_of(venue, "a1x1"), status="no word"
    )
    odd(monkeypatch, ROWS[venue], "trade_row", lambda trade: trade.client_id == text_of(venue, "a1x3"), price="much")

    async def body() -> SweepAnswer:
        async with world() as box:
            since_ms = wall_ms() - 60_000
            for symbol, client_id in ((first, "a1x1"), (first, "a1x2"), (second, "a1x3"), (second, "a1x4")):
                place(box, venue, symbol, client_id)
            answer = await ask(box, venue, SweepVenue(venue, (first, second), since_ms, "test"))
            assert isinstance(answer, SweepAnswer)
            return answer

    answer = asyncio.run(body())
    assert answer.error == "" and answer.symbols == (first, second)
    assert {order.client_id for order in answer.orders} == {"a1x2", "a1x3", "a1x4"}
    assert {fill.client_id for fill in answer.fills} == {"a1x1", "a1x2", "a1x4"}
    missing = {(row.what, row.name, row.client_id) for row in answer.unreadable}
    assert missing == {(ORDER_LISTS, first, "a1x1"), (FILL_LISTS, second, "a1x3")}
    assert answer.balances, "and what is asked after them is asked"


def test_an_unreadable_position_and_forced_close_cost_a_sweep_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    venue, (first, second) = "gateio_futures", SYMBOLS["gateio_futures"]
    odd(monkeypatch, futures_rows, "position_row", lambda row: row.symbol == first, entry_price="?")
    odd(monkeypatch, closed_rows, "deleverage_row", lambda close: close.symbol == second, time=None)

    async def body() -> SweepAnswer:
        async with world() as box:
            since_ms = wall_ms() - 60_000
            for symbol in (first, second):
                place(box, venue, symbol, "a1x1")
            for symbol in (first, second):
                box.fault(kind="adl", venue=venue, symbol=symbol, amount=0.01)
            answer = await ask(box, venue, SweepVenue(venue, (first, second), since_ms, "test"))
            assert isinstance(answer, SweepAnswer)
            return answer

    answer = asyncio.run(body())
    assert answer.error == ""
    assert [position.symbol for position in answer.positions] == [second]
    assert [row.symbol for row in answer.forced] == [first]
    missing = [(row.what, row.name) for row in answer.unreadable]
    assert missing == [(POSITION_LISTS, first), (FORCED_LISTS, second)]


def test_fills_and_money_that_can_be_read_are_told_with_what_could_not(monkeypatch: pytest.MonkeyPatch) -> None:
    venue, (first, _) = "gateio_spot", SYMBOLS["gateio_spot"]
    odd(monkeypatch, spot_rows, "trade_row", lambda trade: trade.client_id == "t-a1x1", amount=None)
    odd(monkeypatch, wallet, "_book_row", lambda entry: entry.change == 40, change=None)

    async def body() -> tuple[FillsAnswer, MoneyAnswer]:
        async with world() as box:
            since_ms = wall_ms() - 60_000
            for client_id in ("a1x1", "a1x2"):
                place(box, venue, first, client_id)
            for amount in (1500, 40):
                box.fault(kind="deposit", venue=venue, asset="USDT", amount=amount)
            fills = await ask(box, venue, FetchFills(venue, first, since_ms))
            return fills, await ask(box, venue, FetchMoney(venue, since_ms))

    fills, money = asyncio.run(body())
    assert {fill.client_id for fill in fills.fills} == {"a1x2"} and "RowsUnreadable" in fills.error
    amounts = {move.amount for move in money.moves}
    assert D(1500) in amounts and D(40) not in amounts and "RowsUnreadable" in money.error
