"""Each gate refuses what it is there for, in order, and counts it once per episode."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from pipeline.detection.memory import DETECTOR, DETECTOR_COUNTERS, DETECTOR_SETTINGS, FEED_READER
from pipeline.detection.opportunity_record import record_crc32, record_crc32_of
from pipeline.detection.topology import build_topology
from pipeline.execution.market import Instruments, UsdRates
from pipeline.model.enums import FeeAssetRule, Refusal, TradingStatus
from pipeline.rehearsal.detection_world import NOW, Listing, World, terms
from shm.bookring import conn_open, newest_offset
from shm.layout import BOOK, FLAG_CROSSED, FLAG_GAP, FLAG_HALTED, FLAG_UNPROVED, HEADER, LEG, OPPORTUNITY
from shm.layout_pages import CAT_FLAG_DEPOSIT, CAT_FLAG_ENDING, CAT_FLAG_WITHDRAW, CATALOGUE_CAPACITY, CATALOGUE_ROW

BIDS, ASKS = [(10_050, 30_000)], [(10_060, 30_000)]
LOW_BIDS, LOW_ASKS = [(9_990, 30_000)], [(10_000, 30_000)]
MS = 1_000_000


class NoBooks:
    """A market without any book."""

    def book(self, instrument_id: int) -> None:
        return None


def world(**changes: object) -> World:
    listings = changes.pop("listings", [Listing(feed=0), Listing(feed=1)])
    return World(listings, **changes)  # type: ignore[arg-type]


def edge_between(w: World, **second: int) -> None:
    """Instrument 0 can be bought at 100.00, instrument 1 sold at 100.50."""
    w.publish(0, LOW_BIDS, LOW_ASKS)
    w.publish(1, BIDS, ASKS, **second)


def end(w: World) -> None:
    """The edge disappears."""
    w.publish(0, LOW_BIDS, [(10_055, 30_000)])
    w.scan()


def refusals(w: World) -> dict[Refusal, int]:
    return {
        r: w.counter(DETECTOR_COUNTERS.refused + r)
        for r in Refusal
        if r < 32 and w.counter(DETECTOR_COUNTERS.refused + r)
    }


def test_a_clean_edge_is_pushed_once_with_everything_that_the_executor_needs() -> None:
    w = world()
    edge_between(w)
    (record,) = w.scan()
    assert w.scan() == []
    assert record[OPPORTUNITY.leg_count] == 2
    assert record[OPPORTUNITY.direction_key] == 0 * CATALOGUE_CAPACITY + 1
    assert record[OPPORTUNITY.crc32] == record_crc32_of(record) == record_crc32(record)
    buy, sell = (record[OPPORTUNITY.legs + k * LEG.WORDS :] for k in range(2))
    assert [int(buy[c]) for c in (LEG.instrument, LEG.side, LEG.limit_price_fp)] == [0, 1, 10_000]
    assert [int(sell[c]) for c in (LEG.instrument, LEG.side, LEG.limit_price_fp)] == [1, -1, 10_050]
    assert buy[LEG.qty_fp] == sell[LEG.qty_fp] == 30_000
    assert buy[LEG.book_seq] == 2 and buy[LEG.proof_mono_ns] == NOW
    assert record[OPPORTUNITY.edge_bps : OPPORTUNITY.edge_bps + 1].view(np.float64)[0] == pytest.approx(50.0)
    assert record[OPPORTUNITY.profit_quote : OPPORTUNITY.profit_quote + 1].view(np.float64)[0] == pytest.approx(3 * 0.5)
    end(w)
    assert (
        w.counter(DETECTOR_COUNTERS.opened),
        w.counter(DETECTOR_COUNTERS.pushed),
        w.counter(DETECTOR_COUNTERS.ended),
    ) == (1, 1, 0)


def test_a_fee_in_base_makes_the_sell_leg_smaller_than_the_buy_leg() -> None:
    w = world(listings=[Listing(feed=0, fee_ppm=1000, rule=FeeAssetRule.RECEIVED), Listing(feed=1)])
    edge_between(w)
    (record,) = w.scan()
    buy, sell = (record[OPPORTUNITY.legs + k * LEG.WORDS :] for k in range(2))
    assert (int(buy[LEG.qty_fp]), int(sell[LEG.qty_fp])) == (30_000, 29_970)


def gap(w: World) -> None:
    edge_between(w, flags=FLAG_GAP)


def crossed(w: World) -> None:
    edge_between(w, flags=FLAG_CROSSED | FLAG_UNPROVED)


def unproved_flag(w: World) -> None:
    edge_between(w, flags=FLAG_UNPROVED)


def halted(w: World) -> None:
    edge_between(w, flags=FLAG_HALTED)


def other_row_epoch(w: World) -> None:
    edge_between(w, row_epoch=2)


def book_of_another_instrument(w: World) -> None:
    edge_between(w)
    at = newest_offset(w.feeds, w.feed_words, int(w.rows[1, CATALOGUE_ROW.book_index]))
    w.feeds[at + BOOK.instrument] = 0


def dead_connection(w: World) -> None:
    edge_between(w)
    w.disconnect(1)


def newer_connection(w: World) -> None:
    edge_between(w)
    conn_open(w.feeds, w.feed_words, 0, 1, 0)


def dead_writer(w: World) -> None:
    edge_between(w)
    w.memory.feeds[1, FEED_READER.alive] = 0


def other_writer(w: World) -> None:
    edge_between(w)
    w.feeds[w.feed_words + HEADER.epoch] = 2


def old(w: World) -> None:
    edge_between(w)
    w.now(NOW + 101 * MS)
    w.frame(1, NOW + 101 * MS)


def skewed(w: World) -> None:
    w.mem[DETECTOR_SETTINGS.max_age_ns] = 10_000 * MS
    edge_between(w)
    w.now(NOW + 151 * MS)
    w.frame(1, NOW + 151 * MS)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (gap, Refusal.GAP),
        (crossed, Refusal.CROSSED),
        (unproved_flag, Refusal.UNPROVED),
        (halted, Refusal.HALTED),
        (other_row_epoch, Refusal.HALTED),
        (book_of_another_instrument, Refusal.NO_BOOK),
        (dead_connection, Refusal.UNPROVED),
        (newer_connection, Refusal.UNPROVED),
        (dead_writer, Refusal.WRITER_DEAD),
        (other_writer, Refusal.WRITER_DEAD),
        (old, Refusal.QUIET_UNPROVED),
        (skewed, Refusal.SKEW),
    ],
)
def test_a_book_that_is_not_proved_is_refused_under_its_gate(cause: Callable[[World], None], reason: Refusal) -> None:
    w = world()
    cause(w)
    assert w.scan() == []
    end(w)
    assert refusals(w) == {reason: 1}
    assert (
        w.counter(DETECTOR_COUNTERS.opened),
        w.counter(DETECTOR_COUNTERS.pushed),
        w.counter(DETECTOR_COUNTERS.ended),
    ) == (1, 0, 1)


def test_limits_of_age_and_skew_are_inclusive() -> None:
    w = world()
    edge_between(w)
    w.now(NOW + 100 * MS)
    assert len(w.scan()) == 1


@pytest.mark.parametrize(
    ("listing", "reason"),
    [
        ({"pair_id": -1}, Refusal.QUARANTINED),
        ({"status": TradingStatus.HALTED}, Refusal.STATUS),
        ({"status": TradingStatus.BUY_ONLY}, Refusal.STATUS),
        ({"flags": CAT_FLAG_WITHDRAW}, Refusal.STATUS),
        ({"flags": CAT_FLAG_DEPOSIT}, Refusal.STATUS),
        ({"flags": CAT_FLAG_DEPOSIT | CAT_FLAG_WITHDRAW | CAT_FLAG_ENDING}, Refusal.STATUS),
        ({"min_qty": 30_001}, Refusal.BELOW_MINIMUM),
        ({"lot": 40_000}, Refusal.BELOW_MINIMUM),
        ({"min_notional": 30_151}, Refusal.BELOW_MINIMUM),
    ],
)
def test_what_the_catalogue_forbids_is_refused(listing: dict[str, int], reason: Refusal) -> None:
    w = world(listings=[Listing(feed=0), Listing(feed=1, **listing)])  # type: ignore[arg-type]
    edge_between(w)
    assert w.scan() == []
    end(w)
    assert refusals(w) == {reason: 1}


@pytest.mark.parametrize(
    "listing", [{"status": TradingStatus.SELL_ONLY}, {"min_qty": 30_000}, {"min_notional": 30_150}]
)
def test_what_the_catalogue_allows_is_taken(listing: dict[str, int]) -> None:
    w = world(listings=[Listing(feed=0), Listing(feed=1, **listing)])  # type: ignore[arg-type]
    edge_between(w)
    assert len(w.scan()) == 1


def test_a_quarantined_dislocation_is_counted_at_once_and_only_once() -> None:
    w = world(listings=[Listing(feed=0), Listing(feed=1, pair_id=-1)])
    for _ in range(3):
        edge_between(w)
        w.scan()
        assert refusals(w) == {Refusal.QUARANTINED: 1}
    end(w)
    edge_between(w)
    w.scan()
    assert refusals(w) == {Refusal.QUARANTINED: 2}
    assert (w.counter(DETECTOR_COUNTERS.opened), w.counter(DETECTOR_COUNTERS.ended)) == (2, 2)


def test_a_pair_whose_exponents_differ_is_not_compared() -> None:
    w = world(listings=[Listing(feed=0), Listing(feed=1, price_exp=3)])
    edge_between(w)
    assert w.scan() == []
    assert w.counter(DETECTOR_COUNTERS.evaluations) == 0


def test_an_edge_below_the_execution_threshold_is_counted_not_pushed() -> None:
    w = world(terms=terms(execute_edge=Fraction(51, 10_000)))
    edge_between(w)
    assert w.scan() == []
    end(w)
    assert refusals(w) == {Refusal.BELOW_THRESHOLD: 1}


@pytest.mark.parametrize(
    ("buy", "sell", "taken"),
    [
        ({"buy": 1e6, "sell": 0}, {"buy": 0.0, "sell": 1_000_000}, True),
        ({"buy": 1e6, "sell": 0, "state": 0}, {"buy": 0.0, "sell": 1_000_000}, False),
        ({"buy": 0.0, "sell": 0}, {"buy": 0.0, "sell": 1_000_000}, False),
        ({"buy": float("nan"), "sell": 0}, {"buy": 0.0, "sell": 1_000_000}, False),
        ({"buy": -5.0, "sell": 0}, {"buy": 0.0, "sell": 1_000_000}, False),
        ({"buy": 1e6, "sell": 0}, {"buy": 0.0, "sell": 0}, False),
        ({"buy": 1e6, "sell": 0}, {"buy": 0.0, "sell": -7}, False),
        ({"buy": 1e6, "sell": 0}, None, False),  # the executor never wrote this row
    ],
)
def test_inventory_bounds_what_is_offered(buy: dict[str, float], sell: dict[str, float] | None, taken: bool) -> None:
    w = world(inventory=True)
    w.set_inventory(0, **buy)  # type: ignore[arg-type]
    if sell is not None:
        w.set_inventory(1, **sell)  # type: ignore[arg-type]
    edge_between(w)
    assert len(w.scan()) == int(taken)
    end(w)
    assert refusals(w) == ({} if taken else {Refusal.INVENTORY: 1})


def test_size_is_cut_to_the_inventory_of_the_sell_leg() -> None:
    w = world(inventory=True, listings=[Listing(feed=0, lot=100), Listing(feed=1, lot=70)])
    w.set_inventory(0, buy=1e6, sell=0)
    w.set_inventory(1, buy=0.0, sell=5_000)
    edge_between(w)
    (record,) = w.scan()
    assert record[OPPORTUNITY.legs + LEG.qty_fp] == 4_900  # whole number of 700


def test_a_missing_minimum_is_not_blamed_on_the_inventory() -> None:
    w = world(inventory=True, listings=[Listing(feed=0), Listing(feed=1, min_qty=40_000)])
    w.set_inventory(0, buy=1e6, sell=0)
    w.set_inventory(1, buy=0.0, sell=5_000)
    edge_between(w)
    w.scan()
    end(w)
    assert refusals(w) == {Refusal.BELOW_MINIMUM: 1}


def test_no_intent_before_the_book_is_later_than_our_own_fill() -> None:
    w = world(inventory=True)
    w.set_inventory(0, buy=1e6, sell=0)
    w.set_inventory(1, buy=0.0, sell=1_000_000, blocked_ns=NOW + 1)
    edge_between(w)
    assert w.scan() == []
    w.now(NOW + 1)
    w.publish(1, BIDS, ASKS)
    assert len(w.scan()) == 1


def test_a_full_queue_refuses_and_the_episode_may_go_out_later() -> None:
    w = world(queue_capacity=2, listings=[Listing(feed=f) for f in range(4)])
    w.publish(0, LOW_BIDS, LOW_ASKS)
    for feed in (1, 2, 3):
        w.publish(feed, BIDS, ASKS)
    assert len(w.scan()) == 2
    assert w.counter(DETECTOR_COUNTERS.pushed) == 2
    w.now(NOW + MS)
    assert len(w.scan()) == 1


def test_quotes_without_a_dollar_rate_are_not_traded() -> None:
    listings = [Listing(feed=f, pair="ETH/BTC") for f in range(2)]
    blind, rated = world(listings=listings), world(listings=listings, usd_rates={"BTC": 60_000.0})
    for w in (blind, rated):
        edge_between(w)
    assert blind.scan() == []
    assert len(rated.scan()) == 1


@pytest.mark.parametrize("quote", ["USD", "USDT", "USDC", "FDUSD", "TUSD", "DAI", "USDE", "PYUSD"])
def test_a_quote_counts_as_a_dollar_for_the_detector_where_it_does_for_the_gate(quote: str) -> None:
    """Without a book of the coin: what the gate cannot value it would refuse each time that it is offered."""
    w = world(listings=[Listing(feed=f, pair=f"ETH/{quote}") for f in range(2)])
    edge_between(w)
    known = UsdRates(Instruments(), NoBooks()).rate(quote) is not None
    assert len(w.scan()) == known


def test_the_notional_cap_holds_for_both_legs() -> None:
    w = world(terms=terms(max_notional_usd=150.0))
    edge_between(w)
    (record,) = w.scan()
    qty = int(record[OPPORTUNITY.legs + LEG.qty_fp])
    assert qty * 10_050 <= 150 * 10**6 < (qty + 1) * 10_050


def test_an_episode_is_counted_under_the_gate_that_it_came_furthest_to() -> None:
    w = world(inventory=True)
    w.set_inventory(0, buy=1e6, sell=0)
    w.set_inventory(1, buy=0.0, sell=0)
    edge_between(w, flags=FLAG_GAP)
    w.scan()
    w.publish(1, BIDS, ASKS)
    w.scan()
    w.disconnect(0)
    w.publish(1, BIDS, ASKS)
    w.scan()
    end(w)
    assert refusals(w) == {Refusal.INVENTORY: 1}


def test_an_unmapped_feed_has_no_books() -> None:
    w = world()
    edge_between(w)
    w.memory.feeds[1, FEED_READER.feed_off] = -1
    assert w.scan() == []
    assert w.counter(DETECTOR_COUNTERS.opened) == 0


# --- price of inventory ---


def test_a_price_of_inventory_raises_one_direction_and_lowers_the_other() -> None:
    w = world()
    there, back = 0 * CATALOGUE_CAPACITY + 1, 1 * CATALOGUE_CAPACITY + 0
    w.memory.set_price(there, 51_000, w.rows, w.terms)  # 51 bps, the edge is 50
    edge_between(w)
    assert w.scan() == []
    end(w)
    assert refusals(w) == {Refusal.BELOW_THRESHOLD: 1}, "counted as an episode all the same"
    w.memory.set_price(there, 49_000, w.rows, w.terms)
    edge_between(w)
    (record,) = w.scan()
    assert record[OPPORTUNITY.direction_key] == there
    end(w)
    w.memory.set_price(back, -120_000, w.rows, w.terms)  # buys at 100.60, sells at 99.90: loses 70 bps
    edge_between(w)
    taken = w.scan()
    assert [int(record[OPPORTUNITY.direction_key]) for record in taken] == [back]


def test_a_price_comes_to_a_memory_that_is_built_anew_and_leaves_others_alone() -> None:
    w = world()
    key = 0 * CATALOGUE_CAPACITY + 1
    w.memory.set_price(key, 7_500, w.rows, w.terms)
    fresh = build_topology(w.rows, w.terms, feed_count=2, book_capacity=w.books, prices_mbps={key: 7_500})
    at = int(w.mem[DETECTOR.directions_off])
    found = w.mem[at : at + fresh.directions.size].reshape(fresh.directions.shape)
    assert np.array_equal(found, fresh.directions)
    need = int(w.mem[DETECTOR.screen_by_buyer_off])
    assert np.array_equal(w.flt[need : need + fresh.screen_by_buyer.size], fresh.screen_by_buyer)
    w.memory.set_price(key, 0, w.rows, w.terms)
    assert np.array_equal(found, w.topology.directions)
    w.memory.set_price(9 * CATALOGUE_CAPACITY + 1, 5, w.rows, w.terms)  # an instrument that is not known (yet)
    assert np.array_equal(found, w.topology.directions)
