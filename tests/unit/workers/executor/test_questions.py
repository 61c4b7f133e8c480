"""The executor's questions: each gets an answer, whatever goes wrong; who asked waits for it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.execution.events import (
    AddMargin,
    BalancesAnswer,
    CoreEvent,
    FetchBalances,
    FetchFills,
    FetchFunding,
    FetchMoney,
    FetchRiskTiers,
    FillsAnswer,
    FundingAnswer,
    MarginAnswer,
    MoneyAnswer,
    QueryAnswer,
    QueryOrder,
    Question,
    RiskTiersAnswer,
    SweepAnswer,
    SweepVenue,
)
from pipeline.model.errors import (
    AuthRefused,
    ClockRefused,
    InsufficientBalance,
    OutcomeUnknown,
    RateLimited,
    VenueUnavailable,
)
from tests.worlds.exchange_world import world
from tests.worlds.waiting import until_async as until
from workers.executor.venues import Questions


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (QueryOrder("v", "S", "c1", ""), QueryAnswer),
        (FetchFills("v", "S", 0), FillsAnswer),
        (FetchFunding("v", 0), FundingAnswer),
        (FetchMoney("v", 0), MoneyAnswer),
        (SweepVenue("v", ("S",), 0, "start"), SweepAnswer),
        (FetchBalances(7, ("v",)), BalancesAnswer),
        (AddMargin("v", "S", Decimal(1)), MarginAnswer),
        (FetchRiskTiers("v", "S"), RiskTiersAnswer),
    ],
)
def test_an_error_that_no_venue_made_is_an_answer_as_well(question: Question, answer: type) -> None:
    """Here: no client has that venue."""

    async def body() -> None:
        got: list[CoreEvent] = []
        questions = Questions(dict, asyncio.get_running_loop())
        questions.start(got.append)
        questions.ask(question)
        await until(lambda: bool(got), "an answer")
        questions.close()
        (event,) = got
        reported: Any = event
        assert type(event) is answer and "KeyError" in reported.error
        for name in ("venue", "symbol", "client_id", "token", "amount", "symbols"):
            assert getattr(reported, name, None) == (getattr(question, name, None) if hasattr(reported, name) else None)

    asyncio.run(body())


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (InsufficientBalance("v: too little"), True),
        (OutcomeUnknown("v: HTTP 503"), False),
        (TimeoutError(), False),
        (VenueUnavailable("v: no connection"), False),
        (RateLimited("v: 429", retry_after_s=1.0), False),
        (ClockRefused("v: -1021"), False),
        (AuthRefused("v: -2015"), True),
    ],
)
def test_only_the_venues_own_no_refuses_a_margin(error: Exception, refused: bool) -> None:
    class Client:
        async def add_margin(self, symbol: str, amount: Decimal) -> None:
            raise error

        async def close(self) -> None:
            pass

    async def body() -> None:
        got: list[Any] = []
        clients: Any = {"v": Client()}
        questions = Questions(lambda: clients, asyncio.get_running_loop())
        questions.start(got.append)
        questions.ask(AddMargin("v", "S", Decimal(1)))
        await until(lambda: bool(got), "an answer")
        questions.close()
        assert got[0].error and got[0].refused is refused

    asyncio.run(body())


@pytest.mark.parametrize("name", ["mexc_spot", "gateio_futures"])
def test_balances_are_as_old_as_the_question(name: str) -> None:
    """An order that settles while the answer is on its way is not in them: it would be spent twice."""

    async def body() -> None:
        async with world() as box:
            got: list[Any] = []
            client = make_venue(box.venue(name), box.credentials(name))
            questions = Questions(lambda: {name: client}, asyncio.get_running_loop())
            questions.start(got.append)
            for question in (FetchBalances(7, (name,)), SweepVenue(name, (), 0, "test")):
                got.clear()
                known = len(box.server.ledger.of_kind("request"))
                questions.ask(question)
                await until(lambda: bool(got), "an answer")
                seen = [r for r in box.server.ledger.of_kind("request")[known:] if r["operation"] == "balances"]
                assert got[0].balances and len(seen) == 1
                assert all(balance.recv_mono_ns <= seen[0]["mono_ns"] for balance in got[0].balances)
            questions.close()
            await client.close()

    asyncio.run(body())
