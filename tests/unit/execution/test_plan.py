"""The planner's integers against fractions: limits on the tick, two legs matched on their lots."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from fractions import Fraction

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.execution.plan import Planner, Rejected, _matched, _untradable, grid_of
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OrderSide
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import InstrumentSpec
from pipeline.model.units import PPM
from tests.naive import execution as naive
from tests.worlds.execution_starts import ready_world
from tests.worlds.execution_world import make_config

STEPS = st.sampled_from([Decimal(text) for text in ("0.00000001", "0.001", "0.005", "0.01", "0.03", "0.5", "1", "100")])


def row_of(
    *, tick: Decimal = Decimal("0.01"), lot: Decimal = Decimal("0.01"), fee_ppm: int = 0, received: bool = False
) -> InstrumentRow:
    spec = InstrumentSpec(
        venue="gateio_spot",
        symbol="BTC_USDT",
        base="BTC",
        quote="USDT",
        kind=InstrumentKind.SPOT,
        tick=tick,
        lot=lot,
        taker_fee_ppm=fee_ppm,
        fee_rule=FeeAssetRule.RECEIVED if received else FeeAssetRule.QUOTE,
    )
    return InstrumentRow(
        instrument_id=0,
        venue_id=0,
        feed_id=0,
        book_index=0,
        pair_id=0,
        base_asset_id=0,
        quote_asset_id=1,
        price_exp=8,
        qty_exp=10,
        row_epoch=1,
        spec=spec,
    )


@given(
    wanted=st.integers(1, 2**61),
    best=st.integers(1, 2**61),
    slippage=st.decimals(0, 500, places=3),
    tick=STEPS,
    side=st.sampled_from(list(OrderSide)),
)
def test_limit_is_the_fractions_one(wanted: int, best: int, slippage: Decimal, tick: Decimal, side: OrderSide) -> None:
    planner = Planner(make_config(limits={"max_slippage_bps": slippage}), None, None)  # type: ignore[arg-type]
    ticks = planner._limit_ticks(wanted, grid_of(row_of(tick=tick)), side, best)
    expected = naive.limit_price(
        Fraction(wanted, 10**8),
        Fraction(best, 10**8),
        Fraction(slippage),
        Fraction(tick),
        buy=side is OrderSide.BUY,
    )
    assert ticks * Fraction(tick) == expected


def test_a_refused_size_says_what_was_found_and_what_the_venue_takes() -> None:
    grid = grid_of(row_of())
    least = msgspec.structs.replace(grid.row.spec, min_qty=Decimal("0.0001"), min_notional=Decimal(5))
    bounded = dataclasses.replace(grid, row=msgspec.structs.replace(grid.row, spec=least))
    assert _untradable(bounded, Decimal("0.0000"), Decimal("3098.26")) == (
        "gateio_spot BTC_USDT: found 0 at 3098.26, wanted at least 0.0001 BTC and 5 USDT"
    )
    assert _untradable(grid, Decimal(0), Decimal(1)).endswith("wanted at least one lot")


def test_a_price_that_left_says_where_it_is_now() -> None:
    world = ready_world()
    opportunity = world.offer("mexc_spot", "gateio_spot")
    far = msgspec.structs.replace(opportunity.legs[0], limit_price_fp=1)
    context = world.core.context
    planner = Planner(context.config, context.instruments, context.market)
    found = planner.plan(msgspec.structs.replace(opportunity, legs=(far, opportunity.legs[1])), world.now_ns)
    assert isinstance(found, Rejected) and "is the best price now, 0.00000001 is the limit of this BUY" in found.detail


@given(
    lots=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    buy_lot=st.sampled_from([Decimal("0.01"), Decimal("0.03"), Decimal("0.05"), Decimal(1)]),
    sell_lot=st.sampled_from([Decimal("0.01"), Decimal("0.02"), Decimal("0.1"), Decimal(1)]),
    fee_ppm=st.sampled_from([0, 1, 400, 2000, 100_000]),
    received=st.booleans(),
    buy=st.sampled_from([0, 1]),
)
def test_matched_legs_are_the_fractions_ones(
    lots: tuple[int, int], buy_lot: Decimal, sell_lot: Decimal, fee_ppm: int, received: bool, buy: int
) -> None:
    bought = grid_of(row_of(lot=buy_lot, fee_ppm=fee_ppm, received=received))
    sold = grid_of(row_of(lot=sell_lot))
    counts = [0, 0]
    counts[buy], counts[1 - buy] = lots
    grids = [sold, bought] if buy else [bought, sold]
    found = _matched(grids, counts, buy=buy)
    keep = Fraction(PPM - fee_ppm, PPM) if received else Fraction(1)
    expected = naive.matched(
        lots[0] * Fraction(buy_lot), lots[1] * Fraction(sell_lot), Fraction(buy_lot), Fraction(sell_lot), keep
    )
    assert [found[buy] * Fraction(buy_lot), found[1 - buy] * Fraction(sell_lot)] == expected


def test_a_step_that_the_books_cannot_hold_is_not_exact() -> None:
    assert grid_of(row_of()).exact
    assert not grid_of(row_of(tick=Decimal("0.0000000015"))).exact
    assert not grid_of(row_of(lot=Decimal("0.00000000000000000015"))).exact
