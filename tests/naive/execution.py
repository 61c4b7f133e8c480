"""Slow, obvious twins of the execution room: the proved read of a book, order evidence, positions by replaying lots."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from pipeline.model.enums import OrderState
from shm import layout as ly

Words = npt.NDArray[np.int64]


def read_proved(words: Words, feed_off: int, book_index: int, out: Words) -> int:
    """Newest book and its proof, for a segment that nobody writes meanwhile."""
    capacity = int(words[feed_off + ly.FEED_BOOK_CAPACITY])
    if not 0 <= book_index < capacity:
        return -1
    ring = feed_off + ly.FEED_BOOK_OFF + book_index * ly.BOOK_RING_WORDS
    count = int(words[ring + ly.BOOK_HEAD_COUNT])
    if count == 0:
        return -1
    slot = ring + ly.BOOK_HEAD_WORDS + ((count - 1) % ly.BOOK_SLOTS) * ly.BOOK_RECORD_WORDS
    record = words[slot : slot + ly.BOOK_RECORD_WORDS]
    out[:] = record
    if int(record[ly.BR_WRITER_EPOCH]) != int(words[feed_off + ly.SEG_EPOCH]):
        return 0
    conn = int(record[ly.BR_CONN])
    if not 0 <= conn < ly.CONN_CAPACITY:
        return 0
    row = words[feed_off + ly.FEED_CONN_OFF + conn * ly.CONN_WORDS :][: ly.CONN_WORDS]
    if row[ly.CONN_ALIVE] != 1 or row[ly.CONN_GENERATION] != record[ly.BR_CONN_GENERATION]:
        return 0
    other_topic = int(row[ly.CONN_LAST_FRAME_MONO_NS]) - int(row[ly.CONN_CROSS_TOPIC_LAG_NS])
    return max(int(record[ly.BR_RECV_MONO_NS]), other_topic)


def final_state(evidence: Iterable[OrderState], filled: Decimal, qty: Decimal) -> OrderState:
    """What all evidence together says of an order, told in words instead of ranks."""
    heard = set(evidence)
    if filled >= qty or OrderState.FILLED in heard:
        return OrderState.FILLED
    empty = heard & {OrderState.NOT_SENT, OrderState.REJECTED, OrderState.EXPIRED}
    if OrderState.CANCELLED in heard or (empty and filled > 0):
        return OrderState.CANCELLED
    if empty:
        return next(iter(empty))
    if filled > 0 or OrderState.PARTIALLY_FILLED in heard:
        return OrderState.PARTIALLY_FILLED
    for state in (OrderState.OPEN, OrderState.UNKNOWN, OrderState.SENT):
        if state in heard:
            return state
    return OrderState.INTENT


def realised_profit(executions: Iterable[tuple[Decimal, Decimal]]) -> tuple[Fraction, Fraction]:
    """(realised profit, open quantity) of (signed quantity, price) executions at average cost, in exact fractions."""
    qty = cost = realised = Fraction(0)
    for signed, price in executions:
        left, at = Fraction(signed), Fraction(price)
        if qty and (qty > 0) != (left > 0):
            closed = min(abs(left), abs(qty))
            sign = 1 if qty > 0 else -1
            released = cost * closed / abs(qty)
            realised += sign * closed * at - released
            cost -= released
            qty -= sign * closed
            left += sign * closed
        qty += left
        cost += left * at
    return realised, qty


def limit_price(wanted: Fraction, best: Fraction, slippage_bps: Fraction, tick: Fraction, *, buy: bool) -> Fraction:
    """The better for us of the wanted limit and the slippage bound, on the tick, never worse than either."""
    if buy:
        bound = best * (1 + slippage_bps / 10_000)
        return min(wanted, bound) // tick * tick
    bound = best * (1 - slippage_bps / 10_000)
    return -(-max(wanted, bound) // tick) * tick


def matched(bought: Fraction, sold: Fraction, buy_lot: Fraction, sell_lot: Fraction, keep: Fraction) -> list[Fraction]:
    """[buy, sell] on their lots: the largest sale that the buy delivers, the smallest buy that delivers it.

    Searches lot by lot, downwards for the sale and upwards for the buy.
    """
    bought, sold = bought // buy_lot * buy_lot, sold // sell_lot * sell_lot
    while sold > bought * keep or (keep == 1 and sold % buy_lot):
        sold -= sell_lot
    needed = Fraction(0)
    while needed * keep < sold:
        needed += buy_lot
    return [min(bought, needed), sold]
