"""The executor's questions: each gets an answer, whatever goes wrong; who asked waits for it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

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
        told: Any = event
        assert type(event) is answer and "KeyError" in told.error
        for name in ("venue", "symbol", "client_id", "token", "amount", "symbols"):
            assert getattr(told, name, None) == (getattr(question, name, None) if hasattr(told, name) else None)

    asyncio.run(body())
