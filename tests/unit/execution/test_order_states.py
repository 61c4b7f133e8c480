"""Order evidence is a join: any order, any repetition, never backward."""

from __future__ import annotations

import random
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from pipeline.execution.order_states import EMPTY_ENDINGS, MERGE, RANK, merge, with_quantity
from pipeline.model.enums import OrderState
from tests.naive import execution as naive

states = st.sampled_from(list(OrderState))
one_empty_ending = st.sampled_from(sorted(EMPTY_ENDINGS)).flatmap(
    lambda ending: st.lists(
        st.sampled_from([s for s in OrderState if s not in EMPTY_ENDINGS or s is ending]), max_size=8
    )
)


def test_the_table_has_every_pair() -> None:
    assert set(MERGE) == {(a, b) for a in OrderState for b in OrderState}


@given(states, states, states)
def test_merging_never_goes_back_and_repeats_change_nothing(a: OrderState, b: OrderState, c: OrderState) -> None:
    assert RANK[merge(a, b)] == max(RANK[a], RANK[b])
    assert merge(merge(a, b), b) is merge(a, b)
    assert RANK[merge(merge(a, b), c)] == RANK[merge(a, merge(b, c))]


@given(one_empty_ending, st.integers(0, 10), st.randoms(use_true_random=False))
def test_any_order_of_evidence_ends_in_the_same_state(
    evidence: list[OrderState], filled: int, rng: random.Random
) -> None:
    qty = Decimal(10)
    results = set()
    for _ in range(4):
        rng.shuffle(evidence)
        state = OrderState.INTENT
        for heard in evidence:
            state = with_quantity(merge(state, heard), Decimal(filled), qty)
        results.add(with_quantity(state, Decimal(filled), qty))
    assert results == {naive.final_state(evidence, Decimal(filled), qty)}


@given(states, st.integers(0, 12))
def test_no_fill_contradicts_the_state_that_is_shown(state: OrderState, filled: int) -> None:
    shown = with_quantity(state, Decimal(filled), Decimal(10))
    if filled >= 10:
        assert shown is OrderState.FILLED
    elif filled:
        assert shown not in EMPTY_ENDINGS
        assert RANK[shown] >= RANK[OrderState.PARTIALLY_FILLED]


def test_unknown_is_not_an_end_and_positive_evidence_lifts_it() -> None:
    assert not OrderState.UNKNOWN.is_terminal
    assert merge(OrderState.UNKNOWN, OrderState.OPEN) is OrderState.OPEN
    assert merge(OrderState.OPEN, OrderState.UNKNOWN) is OrderState.OPEN
    assert merge(OrderState.FILLED, OrderState.OPEN) is OrderState.FILLED
