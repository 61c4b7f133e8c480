"""Writes what the reference decoder found in a frame into the books' memory, in the form in which a scanner leaves its
own events, so that the same kernels apply it."""

from __future__ import annotations

from pipeline.book.codec import Decoded, Number, OutOfRange, exact_price, exact_qty
from pipeline.book.memory import BOOK_ROW, BOOKS, EVENT, LEVEL, LEVEL_CAP
from shm.words import Words


def write_event(mem: Words, decoded: Decoded, slot: int) -> None:
    """Writes a decoded event as a scanner would have left it, numbers already in the fixed point of the book in
    ``slot``. ``slot`` -1: no book of ours, nothing but the topic counts.

    Raises ``PricePrecision`` or ``OutOfRange`` for numbers that the book cannot hold, or too many levels.
    """
    mem[BOOKS.event : BOOKS.event + EVENT.WORDS] = 0
    mem[EVENT.topic], mem[EVENT.scaled], mem[EVENT.slot] = decoded.topic, 1, slot
    if slot < 0:
        return
    row = int(mem[BOOKS.rows_off]) + slot * BOOK_ROW.WORDS
    price_exp, qty_exp = int(mem[row + BOOK_ROW.price_exp]), int(mem[row + BOOK_ROW.qty_exp])
    mult, mult_exp = int(mem[row + BOOK_ROW.multiplier]), int(mem[row + BOOK_ROW.multiplier_exp])
    levels = decoded.bids + decoded.asks
    if len(levels) > LEVEL_CAP:
        raise OutOfRange(f"{len(levels)} levels in one frame")
    inexact = 0
    at = BOOKS.levels
    for price, qty in levels:
        qty_fp, cut = exact_qty(qty, qty_exp, mult, mult_exp)
        mem[at + LEVEL.price] = exact_price(price, price_exp)
        mem[at + LEVEL.qty] = qty_fp
        inexact += cut
        at += LEVEL.WORDS
    for k, number in enumerate(decoded.tick):
        mem[EVENT.tick + 2 * k] = _tick_number(number, k, price_exp, (qty_exp, mult, mult_exp))
    mem[EVENT.first_id], mem[EVENT.last_id], mem[EVENT.previous_id] = decoded.first, decoded.last, decoded.previous
    mem[EVENT.full], mem[EVENT.time] = int(decoded.full), decoded.time
    mem[EVENT.inexact] = inexact
    mem[EVENT.bid_off], mem[EVENT.bid_count] = BOOKS.levels, len(decoded.bids)
    mem[EVENT.ask_off] = BOOKS.levels + len(decoded.bids) * LEVEL.WORDS
    mem[EVENT.ask_count] = len(decoded.asks)


def _tick_number(number: Number | None, k: int, price_exp: int, qty_rule: tuple[int, int, int]) -> int:
    """Price (``k`` even) or quantity of a ticker in fixed point; 0 = empty side."""
    if number is None or number[0] == 0:
        return 0
    return exact_qty(number, *qty_rule)[0] if k % 2 else exact_price(number, price_exp)
