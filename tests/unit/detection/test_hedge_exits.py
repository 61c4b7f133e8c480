"""Exits of open hedges in the detector: the comparison, what an update offers, exits before entries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.detection.hedge_exits import EXIT_COOLDOWN_NS, HEDGE_EXIT, leaves_exactly, may_leave
from pipeline.detection.memory import DETECTOR, DETECTOR_COUNTERS, DETECTOR_SETTINGS
from pipeline.model.enums import InstrumentKind
from pipeline.rehearsal.detection_world import NOW, Listing, World
from shm.jit import direct
from shm.layout import LEG, OPPORTUNITY
from shm.layout_pages import CATALOGUE_CAPACITY, EXIT_ROW, INVENTORY
from shm.pages import write_row
from tests.naive.detection import ExitTwin, hedge_leaves

SPOT, FUTURES, OTHER = 0, 1, 2  # OTHER: a second spot venue of the same pair
prices = st.one_of(st.integers(1, 10**6), st.integers(1, 2**62 - 1))


def exit_world() -> World:
    w = World(
        [Listing(), Listing(feed=1, kind=InstrumentKind.PERPETUAL), Listing(feed=2)],
        inventory=True,
    )
    for instrument in range(3):
        w.set_inventory(instrument, buy=1e12, sell=10**9)
    return w


def set_exits(w: World, *exits: tuple[int, int, int, int]) -> None:
    """(bought, sold, milli-bps, s) of leaving, as the executor writes them."""
    rows = np.zeros((len(exits), EXIT_ROW.WORDS), dtype=np.int64)
    for row, (buy, sell, milli_bps, s) in zip(rows, exits, strict=True):
        row[EXIT_ROW.direction_key] = buy * CATALOGUE_CAPACITY + sell
        row[EXIT_ROW.threshold_milli_bps] = milli_bps
        row[EXIT_ROW.side] = s
        row[EXIT_ROW.qty_fp] = 700
        row[EXIT_ROW.state] = 1
    free = np.zeros(EXIT_ROW.WORDS, dtype=np.int64)
    for index in range(4):
        row = rows[index] if index < len(rows) else free
        write_row(w.ports.inventory, INVENTORY.exits + index * EXIT_ROW.WORDS, row)
    w.ports.inventory[INVENTORY.exit_version] += 1
    w.scan()


def offered(found: list[np.ndarray]) -> list[tuple[int, int]]:
    keys = [int(r[OPPORTUNITY.direction_key]) for r in found if r[OPPORTUNITY.type] == HEDGE_EXIT]
    return [divmod(key, CATALOGUE_CAPACITY) for key in keys]


@pytest.mark.parametrize(
    ("futures", "milli_bps", "s", "wanted"),
    [
        (60060, 10_000, 1, True),
        (60061, 10_000, 1, False),
        (59970, -5_000, 1, True),
        (59971, -5_000, 1, False),
        (59940, 10_000, -1, True),
        (59939, 10_000, -1, False),
        (60030, -5_000, -1, True),
        (60029, -5_000, -1, False),
    ],
)
def test_the_kernel_decides_worked_cases(futures: int, milli_bps: int, s: int, wanted: bool) -> None:
    assert bool(direct(leaves_exactly, futures, 60000, milli_bps, s)(futures, 60000, milli_bps, s)) is wanted


_exact = direct(leaves_exactly, 1, 1, 1, 1)
_screen = direct(may_leave, 1.0, 1.0, 1, 1)


@settings(max_examples=500)
@given(prices, prices, st.integers(-(2**53) + 1, 2**53 - 1), st.sampled_from([1, -1]))
def test_the_kernel_equals_rationals_and_the_screen_drops_nothing(
    futures: int, spot: int, milli_bps: int, s: int
) -> None:
    wanted = hedge_leaves(futures, spot, milli_bps, s)
    assert bool(_exact(futures, spot, milli_bps, s)) is wanted
    assert _screen(float(futures), float(spot), milli_bps, s) or not wanted


@settings(max_examples=300)
@given(st.integers(10**15, 2**62 - 1), st.integers(-(10**6), 10**6), st.integers(-2, 2), st.sampled_from([1, -1]))
def test_both_are_right_next_to_the_threshold(spot: int, milli_bps: int, ticks: int, s: int) -> None:
    futures = spot + s * (milli_bps * spot // 10**7) + ticks
    if not 0 < futures < 2**62:
        return
    wanted = hedge_leaves(futures, spot, milli_bps, s)
    assert bool(_exact(futures, spot, milli_bps, s)) is wanted
    assert _screen(float(futures), float(spot), milli_bps, s) or not wanted


updates = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(9_980, 10_020),
        st.integers(1, 15),
        st.booleans(),
        st.integers(0, 40_000_000),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(updates, st.integers(-20_000, 20_000), st.integers(-20_000, 20_000))
def test_updates_offer_what_the_twin_offers(
    steps: list[tuple[int, int, int, bool, int]], long_milli_bps: int, short_milli_bps: int
) -> None:
    w = exit_world()
    exits = [(FUTURES, SPOT, long_milli_bps, 1), (OTHER, FUTURES, short_milli_bps, -1)]
    set_exits(w, *exits)
    twin = ExitTwin(exits, EXIT_COOLDOWN_NS)
    now_ns = NOW
    for instrument, bid, spread, one_sided, wait_ns in steps:
        now_ns += wait_ns
        w.now(now_ns)
        for feed in range(3):
            w.frame(feed, now_ns)
        ask = None if one_sided else bid + spread
        w.publish(instrument, [(bid, 30_000)], [] if ask is None else [(ask, 30_000)])
        assert sorted(offered(w.scan())) == sorted(twin.update(instrument, bid, ask, now_ns))


def test_the_offer_names_both_legs_and_what_leaving_gains() -> None:
    w = exit_world()
    set_exits(w, (FUTURES, SPOT, -5_000, 1))
    w.publish(SPOT, [(10_000, 30_000)], [(10_001, 30_000)])
    w.publish(FUTURES, [(9_980, 30_000)], [(9_990, 30_000)])
    (found,) = [r for r in w.scan() if r[OPPORTUNITY.type] == HEDGE_EXIT]
    legs = found[OPPORTUNITY.legs :].reshape(-1, LEG.WORDS)
    assert [(int(leg[LEG.instrument]), int(leg[LEG.side])) for leg in legs[:2]] == [(FUTURES, 1), (SPOT, -1)]
    assert [int(leg[LEG.best_price_fp]) for leg in legs[:2]] == [9_990, 10_000]
    assert found[OPPORTUNITY.edge_bps : OPPORTUNITY.edge_bps + 1].view(np.float64)[0] == pytest.approx(5.0)
    assert w.counter(DETECTOR_COUNTERS.exits) == 1


def test_while_a_hedge_is_open_its_exit_direction_is_no_entry() -> None:
    w = exit_world()
    edge = ([(10_000, 30_000)], [(10_001, 30_000)]), ([(9_900, 30_000)], [(9_905, 30_000)])
    w.publish(SPOT, *edge[0])
    w.publish(FUTURES, *edge[1])
    assert [int(r[OPPORTUNITY.type]) for r in w.scan()] == [1]  # the opposite hedge would be entered
    set_exits(w, (FUTURES, SPOT, -200_000, 1))  # not deep enough to leave
    w.now(NOW + 10**9)
    for instrument in (SPOT, FUTURES):
        w.publish(instrument, *edge[instrument])
    assert w.scan() == []
    set_exits(w, (FUTURES, SPOT, -5_000, 1))
    w.publish(SPOT, *edge[0])
    assert [int(r[OPPORTUNITY.type]) for r in w.scan()] == [HEDGE_EXIT]
    set_exits(w)
    w.publish(SPOT, *edge[0])
    assert [int(r[OPPORTUNITY.type]) for r in w.scan()] == [1]  # what the exit left of the depth may be an entry


def test_an_old_or_skewed_book_offers_no_exit() -> None:
    w = exit_world()
    set_exits(w, (FUTURES, SPOT, -5_000, 1))
    w.publish(SPOT, [(10_000, 30_000)], [(10_001, 30_000)])
    w.now(NOW + 10**9)
    w.publish(FUTURES, [(9_980, 30_000)], [(9_990, 30_000)])
    assert w.scan() == []
    w.mem[DETECTOR_SETTINGS.max_age_ns] = 10**10
    w.publish(FUTURES, [(9_980, 30_000)], [(9_990, 30_000)])
    assert w.scan() == []
    w.frame(0, NOW + 10**9)
    w.publish(FUTURES, [(9_980, 30_000)], [(9_990, 30_000)])
    assert len(w.scan()) == 1


def test_removing_the_last_exit_leaves_nothing_to_look_at() -> None:
    w = exit_world()
    set_exits(w, (FUTURES, SPOT, 0, 1), (SPOT, FUTURES, 0, -1))
    assert w.mem[DETECTOR.exit_count] == 2 and w.memory.group_open[0] == 2
    set_exits(w)
    assert w.mem[DETECTOR.exit_count] == 0 and w.memory.group_open[0] == 0
