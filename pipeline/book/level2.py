"""Sorted price levels of one side of a book, in blocks of 64, all levels kept.

A side is a directory of blocks, worst prices first, best last; inside a block keys rise too, so that the best level of
the side is the last one of the last block and work near the top moves almost nothing. ``key`` is the price for bids
and minus the price for asks: both sides rise towards the best. Zero quantity deletes; deleting what is not there does
nothing. A level is two words, key and quantity, side by side: one cache line to find and change it, one move to make
room for it.

Kernels take the private array of :mod:`pipeline.book.memory` and ``side``, the word offset of a side's header.
"""

from __future__ import annotations

from pipeline.book.memory import BLOCK_LEVELS, BLOCK_WORDS, BOOKS, COUNT_BITS, COUNT_MASK, DIRECTORY_CAP, ENTRY, SIDE
from shm.bytewords import get, move_words, put, step_if_below, step_if_not_above
from shm.jit import njit_bare as njit
from shm.words import Words

NO_ROOM = -1
FULL_SIDE = -2
_KEYS = BLOCK_LEVELS
_WORDS = BLOCK_WORDS
_ENTRY = ENTRY.WORDS
_BITS = COUNT_BITS
_MASK = COUNT_MASK
_HALF = BLOCK_LEVELS // 2


@njit
def take_block(mem: Words) -> int:
    """A free block's number, or ``NO_ROOM``."""
    free = get(mem, BOOKS.block_free)
    if free:
        block = free - 1
        put(mem, BOOKS.block_free, get(mem, get(mem, BOOKS.blocks_off) + block * _WORDS))
        return block
    used = get(mem, BOOKS.block_used)
    if used >= get(mem, BOOKS.block_count):
        return NO_ROOM
    put(mem, BOOKS.block_used, used + 1)
    return used


@njit
def give_block(mem: Words, block: int) -> None:
    """Puts a block back."""
    put(mem, get(mem, BOOKS.blocks_off) + block * _WORDS, get(mem, BOOKS.block_free))
    put(mem, BOOKS.block_free, block + 1)


@njit
def clear_side(mem: Words, side: int) -> None:
    """Removes every level."""
    entry = get(mem, side + SIDE.directory_off)
    for _ in range(get(mem, side + SIDE.blocks)):
        give_block(mem, get(mem, entry + 1) >> _BITS)
        entry += _ENTRY
    put(mem, side + SIDE.blocks, 0)


@njit(forceinline=True)
def find_entry(mem: Words, directory: int, blocks: int, key: int) -> int:
    """Word offset of the last entry whose first key is not above ``key``; of the first if there is none."""
    low = directory
    length = blocks
    while length > 1:
        half = length >> 1
        low += step_if_not_above(mem, low + half * _ENTRY, half * _ENTRY, key)
        length -= half
    return low


@njit(forceinline=True)
def find_level(mem: Words, base: int, count: int, key: int) -> int:
    """Word offset of the first of a block's ``count`` >= 1 levels whose key is not below ``key``; behind the last one
    if all are below."""
    low = base
    length = count
    while length > 1:
        half = length >> 1
        low += step_if_below(mem, low + 2 * half - 2, 2 * half, key)
        length -= half
    return low + step_if_below(mem, low, 2, key)


@njit
def insert_entry(mem: Words, side: int, entry: int, key: int, packed: int) -> None:
    """Opens the directory at word offset ``entry`` for a block; the caller made sure that there is room."""
    blocks = get(mem, side + SIDE.blocks)
    end = get(mem, side + SIDE.directory_off) + blocks * _ENTRY
    move_words(mem, entry + _ENTRY, entry, end - entry)
    put(mem, entry, key)
    put(mem, entry + 1, packed)
    put(mem, side + SIDE.blocks, blocks + 1)


@njit
def compact(mem: Words, side: int) -> None:
    """Packs a side's levels into full blocks; frees the rest."""
    directory = get(mem, side + SIDE.directory_off)
    blocks = get(mem, side + SIDE.blocks)
    pool = get(mem, BOOKS.blocks_off)
    to = directory
    to_count = 0
    for entry in range(directory, directory + blocks * _ENTRY, _ENTRY):
        packed = get(mem, entry + 1)
        base = pool + (packed >> _BITS) * _WORDS
        for k in range(packed & _MASK):
            if to_count == _KEYS:
                to += _ENTRY
                to_count = 0
            # Written never overtakes read: both run over the same blocks and the written ones are full.
            block = get(mem, to + 1) >> _BITS
            target = pool + block * _WORDS + 2 * to_count
            put(mem, target, get(mem, base + 2 * k))
            put(mem, target + 1, get(mem, base + 2 * k + 1))
            to_count += 1
            put(mem, to + 1, (block << _BITS) | to_count)
    kept = (to - directory) // _ENTRY + (1 if to_count else 0)
    for entry in range(directory + kept * _ENTRY, directory + blocks * _ENTRY, _ENTRY):
        give_block(mem, get(mem, entry + 1) >> _BITS)
    for entry in range(directory, directory + kept * _ENTRY, _ENTRY):
        put(mem, entry, get(mem, pool + (get(mem, entry + 1) >> _BITS) * _WORDS))
    put(mem, side + SIDE.blocks, kept)


@njit
def make_room(mem: Words, side: int, entry: int, key: int, qty: int) -> int:
    """Room beside the full block at word offset ``entry`` for a level with ``key``: 0 made, 1 the level itself went
    into a new block, else a refusal without a change of levels.

    A full block is split in halves; but behind the best one an empty one begins, because new best prices come there.
    """
    if get(mem, side + SIDE.blocks) == DIRECTORY_CAP:
        compact(mem, side)
        return 0 if get(mem, side + SIDE.blocks) * 4 <= DIRECTORY_CAP * 3 else FULL_SIDE
    block = take_block(mem)
    if block == NO_ROOM:
        return NO_ROOM
    pool = get(mem, BOOKS.blocks_off)
    old = get(mem, entry + 1) >> _BITS
    source = pool + old * _WORDS
    target = pool + block * _WORDS
    end = get(mem, side + SIDE.directory_off) + get(mem, side + SIDE.blocks) * _ENTRY
    if entry + _ENTRY == end and get(mem, source + 2 * _KEYS - 2) < key:
        put(mem, target, key)
        put(mem, target + 1, qty)
        insert_entry(mem, side, end, key, (block << _BITS) | 1)
        return 1
    move_words(mem, target, source + 2 * _HALF, 2 * (_KEYS - _HALF))
    put(mem, entry + 1, (old << _BITS) | _HALF)
    insert_entry(mem, side, entry + _ENTRY, get(mem, target), (block << _BITS) | (_KEYS - _HALF))
    return 0


@njit
def first_level(mem: Words, side: int, key: int, qty: int) -> int:
    """The first level of an empty side: 0 or ``NO_ROOM``."""
    block = take_block(mem)
    if block == NO_ROOM:
        return NO_ROOM
    base = get(mem, BOOKS.blocks_off) + block * _WORDS
    put(mem, base, key)
    put(mem, base + 1, qty)
    insert_entry(mem, side, get(mem, side + SIDE.directory_off), key, (block << _BITS) | 1)
    return 0


@njit
def remove_level(mem: Words, side: int, entry: int, base: int, at: int) -> None:
    """Removes the level at word offset ``at`` of the block of ``entry``."""
    packed = get(mem, entry + 1)
    count = packed & _MASK
    if count == 1:
        blocks = get(mem, side + SIDE.blocks)
        end = get(mem, side + SIDE.directory_off) + blocks * _ENTRY
        give_block(mem, packed >> _BITS)
        move_words(mem, entry, entry + _ENTRY, end - entry - _ENTRY)
        put(mem, side + SIDE.blocks, blocks - 1)
        return
    move_words(mem, at, at + 2, base + 2 * count - at - 2)
    put(mem, entry + 1, packed - 1)
    put(mem, entry, get(mem, base))


@njit(forceinline=True)
def set_level(mem: Words, side: int, key: int, qty: int) -> int:
    """Sets the quantity at ``key``; 0 deletes. Returns 0, ``NO_ROOM`` (grow and repeat) or ``FULL_SIDE``.

    Repeating a whole update after growth is harmless: quantities are absolute.
    """
    blocks = get(mem, side + SIDE.blocks)
    if blocks == 0:
        return first_level(mem, side, key, qty) if qty else 0
    pool = get(mem, BOOKS.blocks_off)
    entry = find_entry(mem, get(mem, side + SIDE.directory_off), blocks, key)
    packed = get(mem, entry + 1)
    count = packed & _MASK
    base = pool + (packed >> _BITS) * _WORDS
    at = find_level(mem, base, count, key)
    end = base + 2 * count
    if at < end and get(mem, at) == key:
        if qty:
            put(mem, at + 1, qty)
        else:
            remove_level(mem, side, entry, base, at)
        return 0
    if qty == 0:
        return 0
    for _ in range(3):  # at most: compaction, split, room
        if count < _KEYS:
            break
        room = make_room(mem, side, entry, key, qty)
        if room:
            return 0 if room == 1 else room
        entry = find_entry(mem, get(mem, side + SIDE.directory_off), get(mem, side + SIDE.blocks), key)
        packed = get(mem, entry + 1)
        count = packed & _MASK
        base = pool + (packed >> _BITS) * _WORDS
        at = find_level(mem, base, count, key)
        end = base + 2 * count
    move_words(mem, at + 2, at, end - at)
    put(mem, at, key)
    put(mem, at + 1, qty)
    put(mem, entry + 1, packed + 1)
    put(mem, entry, get(mem, base))
    return 0


@njit
def best_level(mem: Words, side: int) -> int:
    """Word offset of the best level (key, quantity); 0 when the side is empty."""
    blocks = get(mem, side + SIDE.blocks)
    if blocks == 0:
        return 0
    packed = get(mem, get(mem, side + SIDE.directory_off) + (blocks - 1) * _ENTRY + 1)
    return get(mem, BOOKS.blocks_off) + (packed >> _BITS) * _WORDS + 2 * (packed & _MASK) - 2


@njit
def best_key(mem: Words, side: int) -> int:
    """Key of the best level; 0 when the side is empty (no key is 0: prices are positive)."""
    at = best_level(mem, side)
    return get(mem, at) if at else 0


@njit
def best_qty(mem: Words, side: int) -> int:
    """Quantity of the best level; 0 when the side is empty."""
    at = best_level(mem, side)
    return get(mem, at + 1) if at else 0


@njit
def copy_top(mem: Words, side: int, sign: int, prices: int, qtys: int, depth: int) -> int:
    """Writes up to ``depth`` best levels (best first) to word offsets ``prices`` and ``qtys``; returns how many.

    ``sign`` turns a key back into a price: 1 for bids, -1 for asks.
    """
    directory = get(mem, side + SIDE.directory_off)
    pool = get(mem, BOOKS.blocks_off)
    done = 0
    entry = directory + (get(mem, side + SIDE.blocks) - 1) * _ENTRY
    while entry >= directory and done < depth:
        packed = get(mem, entry + 1)
        count = packed & _MASK
        level = pool + (packed >> _BITS) * _WORDS + 2 * count - 2
        for _ in range(min(count, depth - done)):
            put(mem, prices + done, sign * get(mem, level))
            put(mem, qtys + done, get(mem, level + 1))
            done += 1
            level -= 2
        entry -= _ENTRY
    return done
