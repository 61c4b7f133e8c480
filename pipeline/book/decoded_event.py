"""An event of the reference decoder into the books' private memory, for the same kernels that take scanned ones."""

from __future__ import annotations

from pipeline.book import memory as st
from pipeline.book.codec import Decoded, Number, OutOfRange, exact_price, exact_qty
from shm.words import Words


def write_event(mem: Words, decoded: Decoded, slot: int) -> None:
    """Writes a decoded event as a scanner would have left it, numbers already in the fixed point of the book in
    ``slot``. ``slot`` -1: no book of ours, nothing but the topic counts.

    Raises ``PricePrecision`` or ``OutOfRange`` for numbers that the book cannot hold, or too many levels.
    """
    mem[st.EV : st.EV + st.EVENT_WORDS] = 0
    mem[st.EV_TOPIC], mem[st.EV_SCALED], mem[st.EV_SLOT] = decoded.topic, 1, slot
    if slot < 0:
        return
    row = int(mem[st.H_BOOK_OFF]) + slot * st.BOOK_WORDS
    price_exp, qty_exp = int(mem[row + st.B_PRICE_EXP]), int(mem[row + st.B_QTY_EXP])
    mult, mult_exp = int(mem[row + st.B_MULT]), int(mem[row + st.B_MULT_EXP])
    levels = decoded.bids + decoded.asks
    if len(levels) > st.LEVEL_CAP:
        raise OutOfRange(f"{len(levels)} levels in one frame")
    inexact = 0
    at = st.LEVELS
    for price, qty in levels:
        qty_fp, cut = exact_qty(qty, qty_exp, mult, mult_exp)
        mem[at + st.LV_PRICE] = exact_price(price, price_exp)
        mem[at + st.LV_QTY] = qty_fp
        inexact += cut
        at += st.LEVEL_WORDS
    for k, number in enumerate(decoded.tick):
        mem[st.EV_TICK + 2 * k] = _tick_number(number, k, price_exp, (qty_exp, mult, mult_exp))
    mem[st.EV_FIRST], mem[st.EV_LAST], mem[st.EV_PREVIOUS] = decoded.first, decoded.last, decoded.previous
    mem[st.EV_FULL], mem[st.EV_TIME] = int(decoded.full), decoded.time
    mem[st.EV_INEXACT] = inexact
    mem[st.EV_BID_OFF], mem[st.EV_BID_COUNT] = st.LEVELS, len(decoded.bids)
    mem[st.EV_ASK_OFF] = st.LEVELS + len(decoded.bids) * st.LEVEL_WORDS
    mem[st.EV_ASK_COUNT] = len(decoded.asks)


def _tick_number(number: Number | None, k: int, price_exp: int, qty_rule: tuple[int, int, int]) -> int:
    """Price (``k`` even) or quantity of a ticker in fixed point; 0 = empty side."""
    if number is None or number[0] == 0:
        return 0
    return exact_qty(number, *qty_rule)[0] if k % 2 else exact_price(number, price_exp)
