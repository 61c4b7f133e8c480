"""What ``arb hedges`` shows of an open hedge, on a running core and the simulator's venues."""

from __future__ import annotations

from decimal import Decimal

from pipeline.equity_watch import EquityWatch
from pipeline.virtual.margin_storm import FUTURES, SPOT, SYMBOL, Storm, storm_world
from tests.worlds.execution_starts import ready_world
from workers.demo.summary_text import _hedge as demo_hedge
from workers.executor.views import CoreViews
from workers.executor_file import amount
from workers.last_run.journal_rows import left_by_journal
from workers.view.small_view import _hedge
from workers.view.status_text import exposure_line, hedge_line, hedge_total_line, position_line, short

D = Decimal


def test_a_hedge_shows_entry_age_funding_marks_result_and_the_way_to_its_liquidation() -> None:
    world = storm_world(Storm(), 1, up=True)
    world.run(2500)
    for name in (SPOT, FUTURES):
        world.market.move(name, SYMBOL, world.market.quotes[name, SYMBOL].mid * D("1.1"))
    world.run(500)
    watch = EquityWatch(world.core)
    watch.look(world.instruments)
    views = CoreViews(world.core, watch)
    (row,) = views.hedges()
    for field in ("entry_spot_price", "entry_futures_price", "age_s", "funding", "spot_mark", "futures_mark"):
        assert row[field] is not None, field
    assert row["unrealised"] is not None and row["age_s"] > 2
    position = world.core.risk.gate.margin.readings[FUTURES, SYMBOL].position
    reported = position.liquidation_price
    assert reported
    percent = (reported - position.mark_price) / position.mark_price * 100
    assert abs(row["liquidation_distance_pct"] - percent) < D("0.01") and 19 < percent < 22
    line = hedge_line(row)
    assert f"{row['liquidation_distance_pct']} % of the mark away" in line
    assert "entered at" in line and "marks" in line and "unrealised" in line and "open for" in line
    (position_row,) = views.positions()
    assert (position_row["age_s"], position_row["funding"]) == (row["age_s"], row["funding"])
    shown = position_line(position_row)
    for part in (f"{row['liquidation_distance_pct']} % of the mark away", "mark", "unrealised", "funding", "open for"):
        assert part in shown
    side, other = ("long", "short") if row["spot_side"] == "buy" else ("short", "long")
    assert f"{side} {short(row['qty'])} {row['base']} {SPOT} {SYMBOL}, {other} {FUTURES} {SYMBOL}" in line
    assert f"next funding in {row['next_stamp_s'] / 60:.0f} min" in line
    assert "next funding in 4 s at" in hedge_line({**row, "next_stamp_s": 4.2})
    assert f"leaves at {short(row['leaves_at_bps'])}" in line
    (left,) = left_by_journal(world.core.ledger)["hedges"]
    assert hedge_line(left).startswith(line.partition(", entered")[0]), "after a kill, by the journal alone"
    assert hedge_total_line([row]) == ""
    small = _hedge(row)
    for part in (f"mark {short(row['futures_mark'])}", f"P&L {amount(row['unrealised'])}", "funding 0.00", " s, "):
        assert part in small
    assert small.endswith(f"{row['liquidation_distance_pct']} % to liquidation")
    journalled = {"operation_id": row["hedge_id"], "qty": row["qty"], "base": row["base"], "spot": "s", "futures": "f"}
    both = {**row, **journalled}
    assert demo_hedge(both) == line, "the demo's summary too"
    double = f"unrealised {amount(2 * row['unrealised'])} USDT, funding {amount(2 * row['funding'])} USDT"
    assert hedge_total_line([row, row]) == f"total of 2 hedges: {double}"


def test_coins_that_a_trade_moved_between_venues_are_shown_as_no_open_hedge() -> None:
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_spot", D(2)))
    world.run(2000)
    core = world.core
    core.context.now = world.now()
    watch = EquityWatch(core)
    watch.look(core.context.instruments)
    figures = watch.figures()
    assert figures is not None and figures.hedging.hedged > 100 and not core.ledger.hedges
    line = exposure_line({"pnl": figures.fields("USDT")})
    assert f"{amount(figures.hedging.hedged)} USDT stand against each other (open hedges, and coins that" in line
    assert "hedged" not in line
