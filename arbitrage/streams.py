"""Opportunities and fills of a running instance, as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from arbitrage.market_data import MarketDataAggregator
from arbitrage.names import Symbol
from pipeline.execution.journal import JournalReader
from pipeline.execution.records import FillRecord
from pipeline.model.clock import mono_ns, wall_ns
from pipeline.model.enums import OpportunityType
from pipeline.model.structs import ArbitrageOpportunity
from workers.recorder.process import RingReader


async def opportunities(
    instance: str, market: MarketDataAggregator, poll_s: float
) -> AsyncIterator[ArbitrageOpportunity]:
    """Offers of the detector from the first ``anext`` on. A reader that is too slow misses the oldest."""
    shared = market.shared
    ring = RingReader(instance, shared.instruments, None, newest=True)
    while True:
        shared.refresh()
        rows = ring.poll()
        for row in rows:
            found = _opportunity(row)
            if found is not None:
                yield found
        if not rows:
            await asyncio.sleep(poll_s)


def _opportunity(row: tuple[Any, ...]) -> ArbitrageOpportunity | None:
    """A row of the recorder's reader as a user's opportunity; None for an exit, and for an instrument that the
    catalogue does not have yet. Buy: the first leg that buys, sell: the last one that sells."""
    number, _, _, name, pair, edge_bps, _, profit, _, legs_json = row
    legs = msgspec.json.decode(legs_json, type=list[dict[str, Any]])
    buys = [leg for leg in legs if leg["side"] == "buy"]
    sells = [leg for leg in legs if leg["side"] == "sell"]
    kind = OpportunityType[str(name).upper()]
    if kind is OpportunityType.HEDGE_EXIT or not buys or not sells or not all(leg["venue"] for leg in legs):
        return None
    buy, sell = buys[0], sells[-1]
    quantity = min(Decimal(buy["qty"]), Decimal(sell["qty"]))
    worth = Decimal(repr(profit))
    return ArbitrageOpportunity(
        opportunity_id=str(number),
        opportunity_type=kind,
        symbol=Symbol(pair),
        buy_exchange=buy["venue"],
        sell_exchange=sell["venue"],
        buy_price=Decimal(buy["limit_price"]),
        sell_price=Decimal(sell["limit_price"]),
        max_quantity=quantity,
        profit_per_unit=worth / quantity,
        total_profit_estimate=worth,
        profit_margin_bps=Decimal(repr(edge_bps)),
    )


async def fills(journal: Path, poll_s: float) -> AsyncIterator[FillRecord]:
    """Fills that are booked from the first ``anext`` on."""
    began_ns, began_wall_ns = mono_ns(), wall_ns()
    reader, caught_up = JournalReader(journal), False
    try:
        while True:
            entries = await asyncio.to_thread(reader.poll)
            for entry in entries:
                # at first, what was booked before; monotonic times of an earlier boot of the host mean nothing
                fresh = caught_up or (entry.mono_ns >= began_ns and entry.wall_ns >= began_wall_ns)
                if fresh and isinstance(entry.record, FillRecord):
                    yield entry.record
            if not entries:
                caught_up = True
                await asyncio.sleep(poll_s)
    finally:
        reader.close()
