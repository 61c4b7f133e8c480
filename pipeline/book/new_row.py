"""The row of a book that begins: untouched, with its exponents and multiplier."""

from __future__ import annotations

from decimal import Decimal

from pipeline.book.level2 import clear_side
from pipeline.book.memory import ASK, BID, BOOK_ROW, BOOKS, DIRECTORY_WORDS, HORIZON_NONE, SIDE
from shm.words import Words


def clear_levels(mem: Words, row: int) -> None:
    """Empties both sides of the book at word ``row``; their room is free again."""
    for side in (BID, ASK):
        clear_side(mem, row + BOOK_ROW.sides + side * SIDE.WORDS)


def write_row(
    mem: Words,
    slot: int,
    *,
    book_index: int,
    instrument_id: int,
    price_exp: int,
    qty_exp: int,
    row_epoch: int,
    qty_multiplier: Decimal,
) -> None:
    """Writes the row of ``slot`` anew. ``qty_multiplier``: base coins per unit of quantity, positive."""
    sign, digits, exponent = qty_multiplier.normalize().as_tuple()
    assert not sign and isinstance(exponent, int), f"multiplier must be positive: {qty_multiplier}"
    row = int(mem[BOOKS.rows_off]) + slot * BOOK_ROW.WORDS
    mem[row : row + BOOK_ROW.WORDS] = 0
    mem[row + BOOK_ROW.used] = 1
    mem[row + BOOK_ROW.instrument] = instrument_id
    mem[row + BOOK_ROW.book_index] = book_index
    mem[row + BOOK_ROW.price_exp] = price_exp
    mem[row + BOOK_ROW.qty_exp] = qty_exp
    mem[row + BOOK_ROW.multiplier] = int("".join(map(str, digits))) * 10 ** max(0, exponent)
    mem[row + BOOK_ROW.multiplier_exp] = max(0, -exponent)
    mem[row + BOOK_ROW.row_epoch] = row_epoch
    mem[row + BOOK_ROW.conn] = -1
    mem[row + BOOK_ROW.horizon : row + BOOK_ROW.horizon + 2] = HORIZON_NONE
    for side in (BID, ASK):
        directory = int(mem[BOOKS.directories_off]) + (slot * 2 + side) * DIRECTORY_WORDS
        mem[row + BOOK_ROW.sides + side * SIDE.WORDS + SIDE.directory_off] = directory
