"""Cycles are fitted over all legs before anything is planned; the twin searches lot by lot."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.execution.cycle_plan import CycleLeg, fit_cycle
from pipeline.execution.events import BookView, Opportunity, OpportunityLeg
from pipeline.execution.market import Instruments
from pipeline.execution.plan import Plan, Planner, Rejected
from pipeline.model.enums import OpportunityType, OrderSide, Refusal
from pipeline.rehearsal.detection_world import Levels, book_record
from pipeline.rehearsal.instruments import rows_for, spec
from shm.layout import BOOK
from tests.naive import execution as naive
from tests.worlds.venue_model import make_config

MONO_NS = 1_000_000_000
SYMBOLS = (("BTC", "USDT"), ("ETH", "BTC"), ("ETH", "USDT"))


class Books:
    """Books by instrument id, all proved now."""

    def __init__(self, records: dict[int, list[int]]) -> None:
        self._records = records

    def book(self, instrument_id: int) -> BookView | None:
        return BookView(self._records[instrument_id], MONO_NS)


def plan_of(changes: dict[str, object]) -> Plan | Rejected:
    """Plan of the cycle USDT, BTC, ETH, USDT that gains 1 %, over up to 1.5 BTC and 30 ETH; ``changes``: of ETH/USDT.

    The opportunity asks for all that the books hold, as a detector would that matches nothing.
    """
    config = make_config()
    fine = {"lot": Decimal("0.01"), "min_qty": Decimal("0.01"), "min_notional": Decimal("0.0001"), "taker_fee_ppm": 0}
    specs = [
        spec("mexc_spot", base + quote, base, quote=quote, **(fine | (changes if base + quote == "ETHUSDT" else {})))
        for base, quote in SYMBOLS
    ]
    rows = rows_for(config, specs)
    sides = (1, 1, -1)
    levels = (("60000", "1.5"), ("0.05", "30"), ("3030", "30"))
    records, legs = {}, []
    for row, side, (price, qty) in zip(rows, sides, levels, strict=True):
        level = (int(Decimal(price).scaleb(row.price_exp)), int(Decimal(qty).scaleb(row.qty_exp)))
        words = book_record([level] if side < 0 else [], [level] if side > 0 else [])
        words[BOOK.row_epoch] = row.row_epoch
        records[row.instrument_id] = [int(word) for word in words]
        legs.append(
            OpportunityLeg(
                row.instrument_id, side, level[0], level[1], 1, 1, MONO_NS, MONO_NS, level[0], 1.0, row.row_epoch, 1
            )
        )
    kind = int(OpportunityType.TRIANGULAR)
    opportunity = Opportunity(1, kind, -1, 1, 1, 1, 100.0, 100.0, 1.0, 0, MONO_NS, tuple(legs))
    return Planner(config, Instruments(rows), Books(records)).plan(opportunity, MONO_NS)


@pytest.mark.parametrize(
    ("changes", "quantities"),
    [
        ({}, ["1.5", "30", "30"]),
        ({"max_qty": Decimal(1)}, ["0.05", "1", "1"]),  # was: 29 ETH naked
        ({"lot": Decimal(20), "min_qty": Decimal(20)}, ["1", "20", "20"]),  # was: 10 ETH naked
    ],
)
def test_the_last_leg_cuts_the_first(changes: dict[str, object], quantities: list[str]) -> None:
    plan = plan_of(changes)
    assert isinstance(plan, Plan), plan
    assert [leg.qty for leg in plan.legs] == [Decimal(qty) for qty in quantities]
    assert plan.edge_send_bps == pytest.approx(99.0099, abs=0.001)  # 900 of the 90900 that the last leg brings


def test_legs_that_fit_nowhere_make_no_plan() -> None:
    plan = plan_of({"lot": Decimal(31), "min_qty": Decimal(31)})
    assert isinstance(plan, Rejected) and plan.refusal is Refusal.BELOW_MINIMUM


level_lists = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 60)), min_size=1, max_size=4)
leg_parts = st.tuples(
    st.sampled_from(list(OrderSide)),
    level_lists,
    st.integers(1, 9),  # lot in quantity units
    st.sampled_from([0, 1000, 20_000]),  # fee from what is brought
    st.sampled_from([0, 1000]),  # fee of a buy in quote
)


def leg_of(
    side: OrderSide, steps: Levels, lot: int, brought_ppm: int, quote_ppm: int
) -> tuple[CycleLeg, list[tuple[Fraction, Fraction]]]:
    """A leg at prices about 1 and its levels (price, quantity) in real numbers."""
    price, levels = 1000, []
    for step, qty in steps:
        price += step * int(side)
        levels.append((price, qty))
    view = BookView([int(word) for word in book_record(*((levels, []) if side is OrderSide.SELL else ([], levels)))], 1)
    leg = CycleLeg(
        side=side,
        view=view,
        lot=Fraction(lot, 10),
        lot_fp=Fraction(lot),
        price_unit=1000,
        qty_unit=10,
        keep=1 - Fraction(brought_ppm, 10**6),
        cost=1 + Fraction(quote_ppm, 10**6),
        most=sum(qty for _, qty in levels) // lot,
    )
    return leg, [(Fraction(at, 1000), Fraction(qty, 10)) for at, qty in levels]


@given(st.tuples(leg_parts, leg_parts, leg_parts))
@settings(max_examples=300, deadline=None)
def test_the_fit_is_that_of_the_search_lot_by_lot(parts: tuple[tuple[OrderSide, Levels, int, int, int], ...]) -> None:
    legs, twins = [], []
    for side, steps, lot, brought_ppm, quote_ppm in parts:
        leg, levels = leg_of(side, steps, lot, brought_ppm, quote_ppm)
        legs.append(leg)

        def value(lots: int, levels: list[tuple[Fraction, Fraction]] = levels, lot: Fraction = leg.lot) -> Fraction:
            left, total = lots * lot, Fraction(0)
            for price, qty in levels:
                total, left = total + min(left, qty) * price, left - min(left, qty)
            return total

        def quantity(lots: int, lot: Fraction = leg.lot) -> Fraction:
            return lots * lot

        bought = side is OrderSide.BUY
        keep = 1 - Fraction(brought_ppm, 10**6)
        cost = 1 + Fraction(quote_ppm, 10**6) if bought else Fraction(1)
        taken, brought = (value, quantity) if bought else (quantity, value)

        def takes(lots: int, f: Callable[[int], Fraction] = taken, cost: Fraction = cost) -> Fraction:
            return f(lots) * cost

        def brings(lots: int, f: Callable[[int], Fraction] = brought, keep: Fraction = keep) -> Fraction:
            return f(lots) * keep

        twins.append((takes, brings, leg.most))
    assert fit_cycle(legs) == naive.cycle_lots(twins)
