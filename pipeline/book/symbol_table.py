"""The symbols of a venue's books in private memory: written by Python, looked up by the kernel ``find_symbol``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.book import memory as st
from pipeline.book.frame_kernels import symbol_hash
from shm.words import Words


def write_symbol(mem: Words, symbol: str, slot: int) -> None:
    """Puts a symbol of at most ``SYMBOL_BYTES`` bytes into the table (at most half full, so there is room)."""
    base, mask = int(mem[st.H_SYMBOL_OFF]), int(mem[st.H_SYMBOL_MASK])
    key = np.frombuffer(symbol.encode().ljust(st.SYMBOL_BYTES, b"\0"), dtype="<i8")
    i = int(symbol_hash(int(key[0]), int(key[1]), int(key[2]))) & mask
    while mem[base + i * st.SYMBOL_ENTRY_WORDS + st.SY_SLOT]:
        i = (i + 1) & mask
    entry = base + i * st.SYMBOL_ENTRY_WORDS
    mem[entry : entry + st.SYMBOL_WORDS] = key
    mem[entry + st.SY_SLOT] = slot + 1


def rewrite_symbols(mem: Words, slots: Mapping[str, int]) -> None:
    """Builds the table anew from ``slots`` (symbol -> slot): removals are rare, and deletion marks would stay for
    ever."""
    base, mask = int(mem[st.H_SYMBOL_OFF]), int(mem[st.H_SYMBOL_MASK])
    mem[base : base + (mask + 1) * st.SYMBOL_ENTRY_WORDS] = 0
    for symbol, slot in slots.items():
        write_symbol(mem, symbol, slot)
