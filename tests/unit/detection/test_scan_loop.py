"""The loop: same episodes as the twin, nothing lost when lapped, proofs and reports taken in."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.detection.memory import DETECTOR_COUNTERS, DETECTOR_SETTINGS, OPENED_RING
from pipeline.detection.scan_loop import IDLE, RAN_OUT, REFRESH, YIELD, scan_loop
from pipeline.detection.topology import DIRECTION
from pipeline.model.enums import FeeAssetRule, InstrumentKind, Refusal
from pipeline.rehearsal.detection_world import NOW, Listing, World, terms
from shm.atomics import mono_ns
from shm.layout import HEADER, LEG, NOTICE_CAPACITY, OPPORTUNITY
from shm.layout_pages import CATALOGUE, CATALOGUE_CAPACITY, CATALOGUE_ROW
from tests.naive.detection import EpisodeTwin, Member

MS = 1_000_000
FEES = [0, 500, 2_000]
BIDS, ASKS = [(10_050, 30_000)], [(10_060, 30_000)]
LOW_BIDS, LOW_ASKS = [(9_990, 30_000)], [(10_000, 30_000)]

listing_sets = st.lists(
    st.builds(
        Listing,
        kind=st.sampled_from([InstrumentKind.SPOT, InstrumentKind.SPOT, InstrumentKind.PERPETUAL]),
        fee_ppm=st.sampled_from(FEES),
        rule=st.sampled_from(list(FeeAssetRule)),
    ),
    min_size=2,
    max_size=5,
)
updates = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.one_of(st.none(), st.integers(9_950, 10_060)),
        st.one_of(st.none(), st.integers(9_940, 10_050)),
    ),
    max_size=40,
)


def member_of(listing: Listing) -> Member:
    spot = listing.kind is InstrumentKind.SPOT
    in_base = spot and listing.rule is FeeAssetRule.RECEIVED
    return Member(
        buy_base=listing.fee_ppm if in_base else 0,
        buy_quote=0 if in_base else listing.fee_ppm,
        sell=listing.fee_ppm,
        is_spot=spot,
    )


def begun(w: World, before: int) -> list[tuple[int, int]]:
    """(buy, sell) of the episodes that opened since ``before``."""
    found = []
    for number in range(before, w.counter(DETECTOR_COUNTERS.opened)):
        row = w.topology.directions[int(w.memory.opened[number % OPENED_RING])]
        found.append((int(row[DIRECTION.buy]), int(row[DIRECTION.sell])))
    return found


@given(listing_sets, updates, st.sampled_from([Fraction(0), Fraction(3, 10_000), Fraction(-2, 1_000)]))
@settings(max_examples=150, deadline=None)
def test_episodes_are_those_of_the_plain_twin(
    listings: list[Listing], changes: list[tuple[int, int | None, int | None]], threshold: Fraction
) -> None:
    for feed, listing in enumerate(listings):
        listing.feed = feed
    w = World(listings, terms=terms(min_edge=threshold, execute_edge=threshold))
    twin = EpisodeTwin([member_of(listing) for listing in listings], threshold)
    w.scan()
    for step, (which, bid, ask) in enumerate(changes):
        member = which % len(listings)
        before = w.counter(DETECTOR_COUNTERS.opened)
        w.now(NOW + step * MS)
        w.publish(member, [] if bid is None else [(bid, 100)], [] if ask is None else [(ask, 100)])
        w.scan()
        assert sorted(begun(w, before)) == sorted(twin.update(member, bid, ask))
        assert w.counter(DETECTOR_COUNTERS.active) == len(twin.open) == int(np.count_nonzero(w.memory.episodes[:, 0]))
        assert int(w.memory.group_open.sum()) == len(twin.open)
    refused = sum(w.counter(DETECTOR_COUNTERS.refused + code) for code in range(32))
    assert w.counter(DETECTOR_COUNTERS.ended) == refused
    still_open = sum(1 for row in w.memory.episodes if row[0] == 1)
    assert (
        w.counter(DETECTOR_COUNTERS.opened)
        == w.counter(DETECTOR_COUNTERS.pushed) + w.counter(DETECTOR_COUNTERS.ended) + still_open
    )


def pair_world(**changes: object) -> World:
    return World([Listing(feed=0), Listing(feed=1)], **changes)  # type: ignore[arg-type]


def test_an_update_looks_only_at_its_own_pair() -> None:
    listings = [Listing(feed=0, pair=f"C{k}/USDT") for k in range(8)] + [Listing(feed=1, pair="C3/USDT")]
    w = World(listings)
    for instrument in range(8):
        w.publish(instrument, BIDS, ASKS)
    w.scan()
    evaluations = w.counter(DETECTOR_COUNTERS.evaluations)
    w.publish(8, LOW_BIDS, LOW_ASKS)
    (record,) = w.scan()
    assert w.counter(DETECTOR_COUNTERS.evaluations) == evaluations + 1
    assert record[OPPORTUNITY.direction_key] == 8 * CATALOGUE_CAPACITY + 3


def test_a_quiet_market_costs_no_evaluation() -> None:
    w = pair_world()
    for _ in range(100):
        w.publish(0, LOW_BIDS, LOW_ASKS)
        w.publish(1, LOW_BIDS, LOW_ASKS)
        w.scan()
    assert w.counter(DETECTOR_COUNTERS.evaluations) == 0
    assert w.counter(DETECTOR_COUNTERS.events) >= 200


def test_a_lapped_reader_looks_at_every_book_and_counts_the_lap() -> None:
    listings = [Listing(feed=0, pair="A/USDT"), Listing(feed=0, pair="B/USDT"), Listing(feed=1, pair="B/USDT")]
    w = World(listings)
    w.publish(0, LOW_BIDS, LOW_ASKS)
    w.scan()
    w.publish(1, LOW_BIDS, LOW_ASKS)  # its notice will be overwritten
    w.publish(2, BIDS, ASKS)
    for _ in range(NOTICE_CAPACITY + 1):
        w.publish(0, LOW_BIDS, LOW_ASKS)
    found = w.scan()
    assert w.counter(DETECTOR_COUNTERS.laps) == 1
    assert [int(record[OPPORTUNITY.direction_key]) for record in found] == [1 * CATALOGUE_CAPACITY + 2]
    assert w.scan() == [] and w.counter(DETECTOR_COUNTERS.laps) == 1


def test_a_proof_that_comes_later_makes_a_refused_episode_tradable() -> None:
    w = pair_world()
    w.publish(0, LOW_BIDS, LOW_ASKS)
    w.scan()
    w.now(NOW + 200 * MS)
    w.publish(1, BIDS, ASKS)
    assert w.scan() == []  # instrument 0 was last proved 200 ms ago
    rechecks = w.counter(DETECTOR_COUNTERS.rechecks)
    assert w.scan() == []
    assert w.counter(DETECTOR_COUNTERS.rechecks) == rechecks  # nothing new came: not looked at again before its time
    w.now(NOW + 200 * MS + 50_000)
    w.frame(0, NOW + 200 * MS + 40_000)
    (record,) = w.scan()
    assert record[OPPORTUNITY.trigger_recv_mono_ns] == NOW + 200 * MS + 40_000
    assert record[OPPORTUNITY.legs + LEG.proof_mono_ns] == NOW + 200 * MS + 40_000


def test_an_open_episode_is_looked_at_again_by_the_timer() -> None:
    w = pair_world(inventory=True)
    w.publish(0, LOW_BIDS, LOW_ASKS)
    w.publish(1, BIDS, ASKS)
    assert w.scan() == []
    w.set_inventory(0, buy=1e6, sell=0)
    w.set_inventory(1, buy=0.0, sell=1_000_000)
    assert w.scan() == []
    w.now(NOW + 1 * MS)
    assert len(w.scan()) == 1


def test_a_new_writer_is_noticed_and_its_books_are_all_looked_at() -> None:
    w = pair_world()
    w.publish(0, LOW_BIDS, LOW_ASKS)
    w.publish(1, BIDS, ASKS)
    assert len(w.scan()) == 1
    epochs = w.counter(DETECTOR_COUNTERS.epochs)
    w.feeds[w.feed_words + HEADER.epoch] = 7
    assert w.scan() == []
    assert w.counter(DETECTOR_COUNTERS.epochs) == epochs + 1


def test_a_direction_is_pushed_again_only_after_report_and_cooldown_and_as_a_new_episode() -> None:
    w = pair_world()
    w.publish(0, LOW_BIDS, LOW_ASKS)
    w.publish(1, BIDS, ASKS)
    (record,) = w.scan()
    key = int(record[OPPORTUNITY.direction_key])
    w.now(NOW + 90 * MS)
    w.publish(0, LOW_BIDS, LOW_ASKS)
    w.publish(1, BIDS, ASKS)
    assert w.scan() == []  # no report yet
    w.report(key, NOW + 400 * MS)
    assert w.scan() == []
    w.now(NOW + 399 * MS)
    w.publish(0, LOW_BIDS, LOW_ASKS)
    w.publish(1, BIDS, ASKS)
    assert w.scan() == []  # cooling down
    w.now(NOW + 400 * MS)
    w.frame(0, NOW + 400 * MS)
    assert len(w.scan()) == 1
    assert (w.counter(DETECTOR_COUNTERS.opened), w.counter(DETECTOR_COUNTERS.pushed)) == (2, 2)


def test_a_new_episode_within_the_cooldown_is_refused() -> None:
    w = pair_world()
    w.publish(0, LOW_BIDS, LOW_ASKS)
    w.publish(1, BIDS, ASKS)
    assert len(w.scan()) == 1
    w.publish(1, LOW_BIDS, LOW_ASKS)
    w.scan()
    w.publish(1, BIDS, ASKS)
    assert w.scan() == []
    w.publish(1, LOW_BIDS, LOW_ASKS)
    w.scan()
    assert w.counter(DETECTOR_COUNTERS.refused + Refusal.COOLDOWN) == 1


def test_reports_of_unknown_directions_are_ignored() -> None:
    w = pair_world()
    for key in (-77, 4095 * CATALOGUE_CAPACITY + 4095, 2**62, 0 * CATALOGUE_CAPACITY + 2):
        w.report(key, NOW)
    assert w.scan() == []


def test_notices_of_unlisted_books_are_counted() -> None:
    w = World([Listing(feed=0)])
    w.rows[0, CATALOGUE_ROW.book_index] = 9  # published at a place that the topology does not know
    w.scan()
    w.publish(0, BIDS, ASKS)
    w.scan()
    assert w.counter(DETECTOR_COUNTERS.unknown_book) == 1


def live(w: World, *, idle_ns: int, for_ns: int) -> int:
    w.mem[DETECTOR_SETTINGS.now_ns] = 0
    return int(scan_loop(w.ports, w.mem, w.flt, mono_ns() + for_ns, idle_ns, YIELD))


def test_the_loop_comes_back_when_idle_at_its_deadline_or_for_a_new_catalogue() -> None:
    w = pair_world()
    assert live(w, idle_ns=0, for_ns=10**12) == IDLE
    assert live(w, idle_ns=10**12, for_ns=0) == RAN_OUT
    catalogue = np.zeros(CATALOGUE.END, dtype=np.int64)
    catalogue[CATALOGUE.version] = 5
    w.ports = w.ports._replace(catalogue=catalogue)
    assert live(w, idle_ns=10**12, for_ns=10**12) == REFRESH
