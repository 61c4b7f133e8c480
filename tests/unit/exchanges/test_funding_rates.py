"""Funding rates near their stamps, written into rows that keep all else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.exchanges.funding_rates import FundingRates
from pipeline.model.enums import FeeAssetRule, InstrumentKind
from pipeline.model.errors import VenueUnavailable
from pipeline.model.instruments import InstrumentRow, VenueRef, build_rows
from pipeline.model.structs import FundingTerms, InstrumentSpec

STAMP_S = 1_795_000_000
VENUE, BTC, ETH = "gateio_futures", "BTC_USDT", "ETH_USDT"


def contract(symbol: str, stamp_s: int) -> InstrumentSpec:
    return InstrumentSpec(
        venue=VENUE,
        symbol=symbol,
        base=symbol.partition("_")[0],
        quote="USDT",
        kind=InstrumentKind.PERPETUAL,
        tick=Decimal("0.1"),
        lot=Decimal("0.0001"),
        multiplier=Decimal("0.0001"),
        taker_fee_ppm=500,
        fee_rule=FeeAssetRule.QUOTE,
        funding_rate_ppb=100,
        funding_next_wall_s=stamp_s,
        reference_price=Decimal(60_000),
    )


class Rows:
    """Rows of two contracts, of which one has its stamp soon, and the venue that tells of them."""

    def __init__(self) -> None:
        specs = [contract(BTC, STAMP_S), contract(ETH, STAMP_S + 7200)]
        self.rows = build_rows(specs, [VenueRef(name=VENUE, venue_id=0, feed_id=0, trade=True)])
        self.terms: dict[str, FundingTerms] = {}
        self.down = False
        self.said: list[str] = []
        clients: Any = {VENUE: self}
        self.rates = FundingRates(clients, lambda: self.rows, self.write, lambda *line: self.said.append(line[1]))

    async def funding_terms(self, symbols: Sequence[str]) -> dict[str, FundingTerms]:
        if self.down:
            raise VenueUnavailable("no answer")
        return {symbol: self.terms[symbol] for symbol in symbols if symbol in self.terms}

    def write(self, row: InstrumentRow) -> None:
        self.rows[row.instrument_id] = row

    def read(self, wall_s: int) -> InstrumentSpec:
        """The first contract's row after a reading of what is due."""
        asyncio.run(self.rates.read(self.rates.due(wall_s)))
        return self.rows[0].spec


def test_rates_are_due_before_a_stamp_and_after_it_until_the_venue_says_the_next_one() -> None:
    it = Rows()
    due = [left for left in range(600, -600, -1) if it.rates.due(STAMP_S - left)]
    assert due == [*range(160, 0, -1), *range(-2, -60, -1)]
    assert it.rates.due(STAMP_S - 70) == {VENUE: [BTC]}
    it.terms[BTC] = FundingTerms(-40, STAMP_S + 3600)
    assert it.read(STAMP_S + 2).funding_next_wall_s == STAMP_S + 3600 and not it.rates.due(STAMP_S + 5)


def test_a_reading_changes_rate_and_stamp_alone_and_keeps_a_stamp_that_is_not_said() -> None:
    it = Rows()
    before = it.rows[0].spec
    it.terms[BTC] = FundingTerms(-50, 0)
    assert it.read(STAMP_S - 70) == msgspec.structs.replace(before, funding_rate_ppb=-50)
    assert it.rows[1].spec == contract(ETH, STAMP_S + 7200)


def test_a_venue_that_does_not_answer_keeps_its_rates_and_is_told_of_once() -> None:
    it = Rows()
    it.down, before = True, it.rows[0].spec
    assert [it.read(STAMP_S - 70) for _ in range(3)] == [before] * 3
    assert it.said == [f"{VENUE}: funding rates cannot be read before their stamp: no answer"]


def test_they_are_asked_for_at_their_pace_and_one_reading_at_a_time() -> None:
    it = Rows()

    async def body() -> list[int]:
        asked: list[int] = []
        started: list[asyncio.Task[None]] = []

        def start(work: Any) -> asyncio.Task[None]:
            asked.append(left_s)
            started.append(asyncio.ensure_future(work))
            return started[-1]

        for left_s in range(200, 100, -1):
            it.rates.look(STAMP_S - left_s, start)
            if started and not 125 < left_s <= 140:  # the one of 140 takes its time
                await started[-1]
        return asked

    assert asyncio.run(body()) == [160, 150, 140, 124, 114, 104]
