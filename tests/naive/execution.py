"""Slow, obvious twins of the execution package: proved read of a book, order evidence, positions by replaying lots."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from pipeline.model.enums import OrderState
from shm.layout import BOOK, BOOK_RING, BOOK_SLOTS, CONN_CAPACITY, CONNECTION, FEED, FLAG_OWN_PROOF, HEADER

Words = npt.NDArray[np.int64]


def read_proved(words: Words, feed_off: int, book_index: int, out: Words) -> int:
    """Newest book and its proof, for a segment that nobody writes meanwhile."""
    capacity = int(words[feed_off + FEED.book_capacity])
    if not 0 <= book_index < capacity:
        return -1
    ring = feed_off + FEED.books + book_index * BOOK_RING.WORDS
    count = int(words[ring + BOOK_RING.count])
    if count == 0:
        return -1
    slot = ring + BOOK_RING.records + ((count - 1) % BOOK_SLOTS) * BOOK.WORDS
    record = words[slot : slot + BOOK.WORDS]
    out[:] = record
    if int(record[BOOK.writer_epoch]) != int(words[feed_off + HEADER.epoch]):
        return 0
    conn = int(record[BOOK.conn])
    if not 0 <= conn < CONN_CAPACITY:
        return 0
    row = words[feed_off + FEED.connections + conn * CONNECTION.WORDS :][: CONNECTION.WORDS]
    if row[CONNECTION.alive] != 1 or row[CONNECTION.generation] != record[BOOK.conn_generation]:
        return 0
    other_topic = int(row[CONNECTION.last_frame_mono_ns]) - int(row[CONNECTION.cross_topic_lag_ns])
    own = int(record[BOOK.recv_mono_ns])
    return own if int(record[BOOK.flags]) & FLAG_OWN_PROOF else max(own, other_topic)


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


def cycle_lots(legs: list[tuple[Callable[[int], Fraction], Callable[[int], Fraction], int]]) -> list[int] | None:
    """Lots of three legs (what so many lots take, what they bring, most lots): the most of the last leg for which the
    legs before it have enough, each of them the fewest that are; None when there are none or too much is left over.

    Searches lot by lot.
    """
    for last in range(legs[2][2], 0, -1):
        lots = [0, 0, last]
        for k in (1, 0):
            wanted = legs[k + 1][0](lots[k + 1])
            enough = [n for n in range(1, legs[k][2] + 1) if legs[k][1](n) >= wanted]
            if not enough:
                break
            lots[k] = enough[0]
        if all(lots):
            over = [1 - legs[k + 1][0](lots[k + 1]) / legs[k][1](lots[k]) for k in (0, 1)]
            return lots if max(over) <= Fraction(1, 100) else None
    return None
