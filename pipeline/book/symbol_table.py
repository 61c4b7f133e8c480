"""The symbols of a venue's books in private memory: written by Python, looked up by kernels (open addressing)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.book.memory import BOOKS, SYMBOL, SYMBOL_BYTES, SYMBOL_TEXT_WORDS
from shm.bytewords import load8
from shm.jit import njit_bare as njit
from shm.words import Words


@njit
def symbol_hash(a: int, b: int, c: int) -> int:
    """Mixes the three words of a symbol; not negative."""
    # Folded to 31 bits first, so that no product overflows.
    h = ((a ^ (a >> 32)) & 0x7FFFFFFF) * 0x5BD1E995
    h ^= ((b ^ (b >> 32)) & 0x7FFFFFFF) * 0x2545F491
    h ^= ((c ^ (c >> 32)) & 0x7FFFFFFF) * 0x1E3779B1
    return (h ^ (h >> 29)) & 0x7FFFFFFF


@njit
def symbol_words(mem: Words, at: int, length: int) -> tuple[int, int, int]:
    """The symbol at byte index ``at`` as three zero-padded words (``length`` <= 24)."""
    a = load8(mem, at)
    if length < 8:
        return a & ((1 << (8 * length)) - 1), 0, 0
    if length == 8:
        return a, 0, 0
    b = load8(mem, at + 8)
    if length < 16:
        return a, b & ((1 << (8 * (length - 8))) - 1), 0
    if length == 16:
        return a, b, 0
    c = load8(mem, at + 16)
    if length < 24:
        c &= (1 << (8 * (length - 16))) - 1
    return a, b, c


@njit
def find_symbol(mem: Words, at: int, length: int) -> int:
    """Slot in BOOKS of the book of the symbol at byte index ``at`` of the memory; -1 if there is none."""
    if length < 1 or length > SYMBOL_BYTES:
        return -1
    a, b, c = symbol_words(mem, at, length)
    mask = mem[BOOKS.symbol_mask]
    base = mem[BOOKS.symbols_off]
    i = symbol_hash(a, b, c) & mask
    for _ in range(mask + 1):
        entry = base + i * SYMBOL.WORDS
        slot: int = mem[entry + SYMBOL.slot]
        if slot == 0:
            return -1
        if mem[entry] == a and mem[entry + 1] == b and mem[entry + 2] == c:
            return slot - 1
        i = (i + 1) & mask
    return -1


def write_symbol(mem: Words, symbol: str, slot: int) -> None:
    """Puts a symbol of at most ``SYMBOL_BYTES`` bytes into the table (at most half full, so there is room)."""
    base, mask = int(mem[BOOKS.symbols_off]), int(mem[BOOKS.symbol_mask])
    key = np.frombuffer(symbol.encode().ljust(SYMBOL_BYTES, b"\0"), dtype="<i8")
    i = int(symbol_hash(int(key[0]), int(key[1]), int(key[2]))) & mask
    while mem[base + i * SYMBOL.WORDS + SYMBOL.slot]:
        i = (i + 1) & mask
    entry = base + i * SYMBOL.WORDS
    mem[entry : entry + SYMBOL_TEXT_WORDS] = key
    mem[entry + SYMBOL.slot] = slot + 1


def rewrite_symbols(mem: Words, slots: Mapping[str, int]) -> None:
    """Builds the table anew from ``slots`` (symbol -> slot): removals are rare, and deletion marks would stay for
    ever."""
    base, mask = int(mem[BOOKS.symbols_off]), int(mem[BOOKS.symbol_mask])
    mem[base : base + (mask + 1) * SYMBOL.WORDS] = 0
    for symbol, slot in slots.items():
        write_symbol(mem, symbol, slot)
