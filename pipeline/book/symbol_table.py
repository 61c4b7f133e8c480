"""The symbols of a venue's books in private memory: written by Python, looked up by the kernel ``find_symbol``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.book.frame_kernels import symbol_hash
from pipeline.book.memory import BOOKS, SYMBOL, SYMBOL_BYTES, SYMBOL_TEXT_WORDS
from shm.words import Words


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
