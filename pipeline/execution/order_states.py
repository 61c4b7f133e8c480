"""The states of one order as a table: a join of evidence that never goes back.

Evidence comes in any order, twice, and late: a fill before the acknowledgement, NEW after FILLED, CANCELED before the
last trade. So a state is not a step but the *most that is known*: merging is taking the higher of two ranks, which is
commutative, associative and idempotent, and can never regress::

    rank 0  INTENT                     journalled
    rank 1  SENT                       bytes left
    rank 2  UNKNOWN                    no answer in time; positive evidence still lifts it
    rank 3  OPEN
    rank 4  PARTIALLY_FILLED
    rank 5  NOT_SENT REJECTED EXPIRED  ended with nothing filled
    rank 6  CANCELLED                  ended, possibly part-filled
    rank 7  FILLED                     ended, everything filled

Two rules stand beside the ranks, because quantities are stronger evidence than states:

* an ending with nothing filled is contradicted by any fill: it becomes CANCELLED (or FILLED when nothing is left);
* among the three endings of rank 5 the first one stays (they mean the same to the money).

Source: the order states that Binance, MEXC, Gate.io and Bybit document; the lattice is ours.
"""

from __future__ import annotations

from decimal import Decimal

from pipeline.model.enums import OrderState

#: Order of evidence: a higher rank replaces a lower one.
RANK: dict[OrderState, int] = {
    OrderState.INTENT: 0,
    OrderState.SENT: 1,
    OrderState.UNKNOWN: 2,
    OrderState.OPEN: 3,
    OrderState.PARTIALLY_FILLED: 4,
    OrderState.NOT_SENT: 5,
    OrderState.REJECTED: 5,
    OrderState.EXPIRED: 5,
    OrderState.CANCELLED: 6,
    OrderState.FILLED: 7,
}

#: (known, evidence) -> state, for every pair of states
MERGE: dict[tuple[OrderState, OrderState], OrderState] = {
    (known, evidence): evidence if RANK[evidence] > RANK[known] else known
    for known in OrderState
    for evidence in OrderState
}

#: Endings with nothing filled.
EMPTY_ENDINGS = frozenset({OrderState.NOT_SENT, OrderState.REJECTED, OrderState.EXPIRED})


def merge(known: OrderState, evidence: OrderState) -> OrderState:
    """The state after ``evidence``: the one of higher rank, ``known`` on a tie."""
    return MERGE[known, evidence]


def with_quantity(state: OrderState, filled: Decimal, qty: Decimal) -> OrderState:
    """The state that the filled quantity forces: no fill may contradict the state that is shown.

    ``filled``: base coin, the larger of the proved fills and the cumulative quantity that the venue reported.
    """
    if filled <= 0:
        return state
    if filled >= qty:
        return OrderState.FILLED
    if state in EMPTY_ENDINGS:
        return OrderState.CANCELLED
    return merge(state, OrderState.PARTIALLY_FILLED)
