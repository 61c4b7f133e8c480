"""The book of a simulated instrument: price-time priority, consumption, own orders."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sim.exchange.order_book import ASK, BID, Changes, SimBook, Take


def book_of(bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> SimBook:
    book = SimBook(1000)
    for price, units in bids:
        book.set_level(BID, price, units)
    for price, units in asks:
        book.set_level(ASK, price, units)
    return book


def test_taker_walks_from_the_best_price_and_never_past_its_limit() -> None:
    book = book_of([(99, 5)], [(101, 3), (102, 4), (103, 9)])
    assert book.take(BID, 10, 102, 0) == [Take(101, 3, None), Take(102, 4, None)]
    assert book.top(ASK, 5) == [(103, 9)]
    assert book.top(BID, 5) == [(99, 5)]


def test_sides_are_listed_best_first() -> None:
    book = book_of([(97, 1), (99, 2), (98, 3)], [(103, 1), (101, 2), (102, 3)])
    assert book.top(BID, 2) == [(99, 2), (98, 3)]
    assert book.top(ASK, 2) == [(101, 2), (102, 3)]


def test_trade_reaches_an_own_order_only_after_what_stood_before_it() -> None:
    book = book_of([(99, 5)], [(101, 10)])
    resting = book.rest(1, ASK, 101, 4)
    assert book.visible(ASK, 101) == 14
    trades, fills = book.trade(BID, 8)
    assert trades == [(101, 8)] and fills == []
    book.set_level(ASK, 101, 7)  # five more units join, behind the own order
    trades, fills = book.trade(BID, 5)
    assert fills == [(resting, 3)]
    assert resting.left == 1
    assert book.visible(ASK, 101) == 6


def test_cancels_of_others_move_an_own_order_forward() -> None:
    book = book_of([], [(101, 10)])
    resting = book.rest(1, ASK, 101, 4)
    book.set_level(ASK, 101, 2)
    assert resting.ahead == 2
    _, fills = book.trade(BID, 3)
    assert fills == [(resting, 1)]


def test_quotes_that_cross_an_own_order_fill_it_at_the_better_price_first() -> None:
    book = book_of([(90, 5)], [(110, 5)])
    far = book.rest(1, ASK, 102, 4)
    near = book.rest(2, ASK, 101, 4)
    left, fills = book.cross(BID, 102, 6)
    assert left == 0
    assert fills == [(near, 4), (far, 2)]
    assert book.best_ask() == 102 and far.left == 2


def test_own_taker_stops_before_an_own_resting_order() -> None:
    book = book_of([(90, 5)], [(101, 3), (103, 5)])
    book.rest(1, ASK, 102, 4)
    assert book.take(BID, 20, None, 0) == [Take(101, 3, None)]


def test_consumed_prices_are_barred_to_makers_until_the_refill_time() -> None:
    book = book_of([(90, 5)], [(101, 3), (102, 3), (103, 5)])
    book.take(BID, 5, None, 5_000)
    assert book.is_barred(ASK, 101, 4_999) and book.is_barred(ASK, 102, 4_999)
    assert book.is_barred(ASK, 100, 4_999), "a better price is barred too"
    assert not book.is_barred(ASK, 103, 4_999)
    assert not book.is_barred(ASK, 102, 5_000)
    assert not book.is_barred(BID, 90, 0)


def test_update_id_grows_by_one_per_changed_level() -> None:
    book = book_of([(99, 5)], [(101, 3)])
    assert book.update_id == 1002
    book.set_level(ASK, 101, 3)
    assert book.update_id == 1002, "no change, no update"
    book.take(BID, 2, None, 0)
    assert book.update_id == 1003


def test_sinks_hold_the_net_changes_as_visible_quantities() -> None:
    book = book_of([(99, 5)], [(101, 3)])
    sink = Changes()
    book.sinks.append(sink)
    book.set_level(ASK, 102, 7)
    book.rest(1, ASK, 102, 2)
    book.take(BID, 3, 101, 0)
    assert sink.asks == {102: 9, 101: 0} and sink.bids == {}


operations = st.lists(
    st.tuples(
        st.sampled_from(["set", "take", "trade", "rest", "withdraw", "cross"]),
        st.sampled_from([BID, ASK]),
        st.integers(90, 110),
        st.integers(0, 20),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(operations)
def test_any_sequence_keeps_the_book_whole(steps: list[tuple[str, int, int, int]]) -> None:
    """Prices listed = prices with quantity, quantities positive, own quantities consistent, sinks replay the book."""
    book = SimBook(1)
    sink = Changes()
    book.sinks.append(sink)
    own = []
    for kind, side, price, units in steps:
        if kind == "set":
            book.set_level(side, price, units)
        elif kind == "take":
            before = book.reachable(side, price)
            filled = sum(take.units for take in book.take(side, units, price, 0))
            assert filled == min(units, sum(got for _, got in before))
        elif kind == "trade":
            trades, fills = book.trade(side, units)
            assert sum(got for _, got in trades) <= units
            assert sum(got for _, got in fills) <= sum(got for _, got in trades)
        elif kind == "rest" and units:
            own.append(book.rest(len(own), side, price, units))
        elif kind == "withdraw" and own:
            book.withdraw(own[price % len(own)])
        elif kind == "cross":
            left, fills = book.cross(side, price, units)
            assert left + sum(got for _, got in fills) == units
        for row in own:
            assert row.left >= 0 and row.ahead >= 0
    for side, changed in ((BID, sink.bids), (ASK, sink.asks)):
        levels = dict(book.top(side, 1000))
        assert all(units > 0 for units in levels.values())
        assert levels == {price: units for price, units in changed.items() if units}
        assert book.prices(side) == sorted(levels)


def test_what_a_taker_consumes_stood_first_and_later_quotes_stand_behind_an_order_that_waited() -> None:
    book = book_of([], [(101, 100)])
    waiting = book.rest(1, ASK, 101, 5, owner=7)
    assert book.take(BID, 60, None, 0, owner=8) == [Take(101, 60, None)]
    book.set_level(ASK, 101, 120)  # eighty more join, behind
    assert book.reachable(BID, None, owner=8) == [(101, 125)]
    assert book.take(BID, 50, None, 0, owner=8) == [Take(101, 40, None), Take(101, 5, waiting), Take(101, 5, None)]


def test_a_taker_gets_what_stands_before_his_own_order_at_its_price_and_no_more() -> None:
    book = book_of([], [(101, 10), (102, 10)])
    other = book.rest(1, ASK, 101, 3, owner=7)
    book.rest(2, ASK, 101, 4, owner=8)
    assert book.takeable(BID, None, owner=8) == 13
    assert book.take(BID, 50, None, 0, owner=8) == [Take(101, 10, None), Take(101, 3, other)]
    assert book.top(ASK, 2) == [(101, 4), (102, 10)]


def test_a_smaller_order_keeps_its_place() -> None:
    book = book_of([], [(101, 10)])
    first = book.rest(1, ASK, 101, 8, owner=7)
    second = book.rest(2, ASK, 101, 8, owner=9)
    book.shrink(first, 2)
    assert book.visible(ASK, 101) == 20
    assert book.take(BID, 14, None, 0, owner=8) == [Take(101, 10, None), Take(101, 2, first), Take(101, 2, second)]
