"""Sorted price levels of one side of a book, in blocks of 64, all levels kept.

A side is a directory of blocks, worst prices first, best last; inside a block keys rise too, so that the best level of
the side is the last key of the last block and work near the top moves almost nothing. ``key`` is the price for bids
and minus the price for asks: both sides rise towards the best. Zero quantity deletes; deleting what is not there does
nothing.

Kernels take the private array of :mod:`pipeline.book.state` and ``side``, the word offset of a side's header.
"""

from __future__ import annotations

from pipeline.book import state as st
from shm.bytewords import move_words
from shm.jit import njit
from shm.words import Words

NO_ROOM = -1
_KEYS = st.BLOCK_LEVELS
_WORDS = st.BLOCK_WORDS
_ENTRY = st.ENTRY_WORDS
_BITS = st.COUNT_BITS
_MASK = st.COUNT_MASK
_HALF = st.BLOCK_LEVELS // 2
_BACK = 4  # blocks looked at from the best end before a binary search


@njit
def take_block(mem: Words) -> int:
    """A free block's number, or ``NO_ROOM``."""
    free = mem[st.H_BLOCK_FREE]
    if free:
        block = free - 1
        mem[st.H_BLOCK_FREE] = mem[mem[st.H_BLOCK_OFF] + block * _WORDS]
        return block
    used = mem[st.H_BLOCK_USED]
    if used >= mem[st.H_BLOCK_COUNT]:
        return NO_ROOM
    mem[st.H_BLOCK_USED] = used + 1
    return used


@njit
def give_block(mem: Words, block: int) -> None:
    """Puts a block back."""
    mem[mem[st.H_BLOCK_OFF] + block * _WORDS] = mem[st.H_BLOCK_FREE]
    mem[st.H_BLOCK_FREE] = block + 1


@njit
def clear_side(mem: Words, side: int) -> None:
    """Removes every level."""
    entry = mem[side + st.SIDE_DIRECTORY]
    for _ in range(mem[side + st.SIDE_BLOCKS]):
        give_block(mem, mem[entry + 1] >> _BITS)
        entry += _ENTRY
    mem[side + st.SIDE_BLOCKS] = 0
    mem[side + st.SIDE_LEVELS] = 0


@njit
def find_entry(mem: Words, directory: int, blocks: int, key: int) -> int:
    """Index of the last block whose first key is not above ``key``; 0 if there is none (``blocks`` > 0)."""
    i = blocks - 1
    stop = max(0, i - _BACK)
    while i > stop:
        if mem[directory + i * _ENTRY] <= key:
            return i
        i -= 1
    low = 0
    high = i + 1
    while high - low > 1:
        middle = (low + high) >> 1
        if mem[directory + middle * _ENTRY] <= key:
            low = middle
        else:
            high = middle
    return low


@njit
def find_key(mem: Words, base: int, count: int, key: int) -> int:
    """Position of the first key not below ``key`` in a block of ``count`` keys; ``count`` if all are below."""
    low = base
    length = count
    while length > 1:
        half = length >> 1
        if mem[low + half - 1] < key:
            low += half
        length -= half
    if length == 1 and mem[low] < key:
        low += 1
    return low - base


@njit
def insert_entry(mem: Words, side: int, index: int, key: int, packed: int) -> None:
    """Opens the directory at ``index`` for a block; the caller made sure that there is room."""
    blocks = mem[side + st.SIDE_BLOCKS]
    entry = mem[side + st.SIDE_DIRECTORY] + index * _ENTRY
    if index < blocks:
        move_words(mem, entry + _ENTRY, entry, (blocks - index) * _ENTRY)
    mem[entry] = key
    mem[entry + 1] = packed
    mem[side + st.SIDE_BLOCKS] = blocks + 1


@njit
def remove_entry(mem: Words, side: int, index: int) -> None:
    """Frees the block at directory ``index`` and closes the gap."""
    blocks = mem[side + st.SIDE_BLOCKS]
    entry = mem[side + st.SIDE_DIRECTORY] + index * _ENTRY
    give_block(mem, mem[entry + 1] >> _BITS)
    if index + 1 < blocks:
        move_words(mem, entry, entry + _ENTRY, (blocks - index - 1) * _ENTRY)
    mem[side + st.SIDE_BLOCKS] = blocks - 1


@njit
def compact(mem: Words, side: int) -> None:
    """Packs a side's levels into full blocks; frees the rest."""
    directory = mem[side + st.SIDE_DIRECTORY]
    blocks = mem[side + st.SIDE_BLOCKS]
    pool = mem[st.H_BLOCK_OFF]
    to = 0
    to_count = 0
    for index in range(blocks):
        packed = mem[directory + index * _ENTRY + 1]
        base = pool + (packed >> _BITS) * _WORDS
        for k in range(packed & _MASK):
            if to_count == _KEYS:
                to += 1
                to_count = 0
            target = pool + (mem[directory + to * _ENTRY + 1] >> _BITS) * _WORDS
            mem[target + to_count] = mem[base + k]
            mem[target + _KEYS + to_count] = mem[base + _KEYS + k]
            to_count += 1
            # Written never overtakes read: both run over the same blocks and the written ones are full.
            mem[directory + to * _ENTRY + 1] = ((mem[directory + to * _ENTRY + 1] >> _BITS) << _BITS) | to_count
    kept = to + 1 if to_count else to
    for index in range(kept, blocks):
        give_block(mem, mem[directory + index * _ENTRY + 1] >> _BITS)
    for index in range(kept):
        entry = directory + index * _ENTRY
        mem[entry] = mem[pool + (mem[entry + 1] >> _BITS) * _WORDS]
    mem[side + st.SIDE_BLOCKS] = kept


@njit
def split(mem: Words, side: int, index: int) -> int:
    """Makes room beside the full block at directory ``index``: moves its upper half to a new block after it.

    The best block is not halved: a new, empty one follows it, because new best prices come at its end.
    Returns 0, or ``NO_ROOM`` without a change when no block is free.
    """
    block = take_block(mem)
    if block == NO_ROOM:
        return NO_ROOM
    pool = mem[st.H_BLOCK_OFF]
    entry = mem[side + st.SIDE_DIRECTORY] + index * _ENTRY
    old = mem[entry + 1] >> _BITS
    source = pool + old * _WORDS
    target = pool + block * _WORDS
    move_words(mem, target, source + _HALF, _KEYS - _HALF)
    move_words(mem, target + _KEYS, source + _KEYS + _HALF, _KEYS - _HALF)
    mem[entry + 1] = (old << _BITS) | _HALF
    insert_entry(mem, side, index + 1, mem[target], (block << _BITS) | (_KEYS - _HALF))
    return 0


@njit
def append_block(mem: Words, side: int, key: int, qty: int) -> int:
    """A new block behind the best one, holding one level. Returns 0 or ``NO_ROOM``."""
    block = take_block(mem)
    if block == NO_ROOM:
        return NO_ROOM
    base = mem[st.H_BLOCK_OFF] + block * _WORDS
    mem[base] = key
    mem[base + _KEYS] = qty
    insert_entry(mem, side, mem[side + st.SIDE_BLOCKS], key, (block << _BITS) | 1)
    mem[side + st.SIDE_LEVELS] += 1
    return 0


@njit
def make_directory_room(mem: Words, side: int) -> int:
    """Ensures room for one more block in the directory; ``NO_ROOM`` - 1 when the side is at its bound."""
    if mem[side + st.SIDE_BLOCKS] < st.DIRECTORY_CAP:
        return 0
    compact(mem, side)
    if mem[side + st.SIDE_BLOCKS] * 4 > st.DIRECTORY_CAP * 3:
        return NO_ROOM - 1
    return 1


@njit
def set_level(mem: Words, side: int, key: int, qty: int) -> int:
    """Sets the quantity at ``key``; 0 deletes. Returns 0, ``NO_ROOM`` (grow and repeat) or ``NO_ROOM - 1`` (bound).

    Repeating a whole update after growth is harmless: quantities are absolute.
    """
    blocks = mem[side + st.SIDE_BLOCKS]
    if blocks == 0:
        if qty == 0:
            return 0
        return append_block(mem, side, key, qty)
    directory = mem[side + st.SIDE_DIRECTORY]
    index = find_entry(mem, directory, blocks, key)
    entry = directory + index * _ENTRY
    packed = mem[entry + 1]
    count = packed & _MASK
    base = mem[st.H_BLOCK_OFF] + (packed >> _BITS) * _WORDS
    at = find_key(mem, base, count, key)
    if at < count and mem[base + at] == key:
        if qty:
            mem[base + _KEYS + at] = qty
            return 0
        mem[side + st.SIDE_LEVELS] -= 1
        if count == 1:
            remove_entry(mem, side, index)
            return 0
        rest = count - at - 1
        if rest:
            move_words(mem, base + at, base + at + 1, rest)
            move_words(mem, base + _KEYS + at, base + _KEYS + at + 1, rest)
        mem[entry + 1] = packed - 1
        if at == 0:
            mem[entry] = mem[base]
        return 0
    if qty == 0:
        return 0
    if count == _KEYS:
        room = make_directory_room(mem, side)
        if room < 0:
            return room
        if room == 0:
            if index == blocks - 1 and at == count:
                return append_block(mem, side, key, qty)
            if split(mem, side, index) < 0:
                return NO_ROOM
        return insert_split(mem, side, key, qty)
    insert_at(mem, side, entry, base, at, count, key, qty)
    return 0


@njit
def insert_at(mem: Words, side: int, entry: int, base: int, at: int, count: int, key: int, qty: int) -> None:
    """Inserts into a block that has room."""
    rest = count - at
    if rest:
        move_words(mem, base + at + 1, base + at, rest)
        move_words(mem, base + _KEYS + at + 1, base + _KEYS + at, rest)
    mem[base + at] = key
    mem[base + _KEYS + at] = qty
    mem[entry + 1] += 1
    if at == 0:
        mem[entry] = key
    mem[side + st.SIDE_LEVELS] += 1


@njit
def insert_split(mem: Words, side: int, key: int, qty: int) -> int:
    """Inserts an absent key after a split or a compaction; splits once more if compaction left the block full."""
    directory = mem[side + st.SIDE_DIRECTORY]
    for _ in range(2):
        index = find_entry(mem, directory, mem[side + st.SIDE_BLOCKS], key)
        entry = directory + index * _ENTRY
        packed = mem[entry + 1]
        count = packed & _MASK
        if count < _KEYS:
            base = mem[st.H_BLOCK_OFF] + (packed >> _BITS) * _WORDS
            insert_at(mem, side, entry, base, find_key(mem, base, count, key), count, key, qty)
            return 0
        if split(mem, side, index) < 0:
            return NO_ROOM
    return NO_ROOM


@njit
def best_key(mem: Words, side: int) -> int:
    """Key of the best level; 0 when the side is empty (no key is 0: prices are positive)."""
    blocks = mem[side + st.SIDE_BLOCKS]
    if blocks == 0:
        return 0
    packed = mem[mem[side + st.SIDE_DIRECTORY] + (blocks - 1) * _ENTRY + 1]
    return mem[mem[st.H_BLOCK_OFF] + (packed >> _BITS) * _WORDS + (packed & _MASK) - 1]


@njit
def best_qty(mem: Words, side: int) -> int:
    """Quantity of the best level; 0 when the side is empty."""
    blocks = mem[side + st.SIDE_BLOCKS]
    if blocks == 0:
        return 0
    packed = mem[mem[side + st.SIDE_DIRECTORY] + (blocks - 1) * _ENTRY + 1]
    return mem[mem[st.H_BLOCK_OFF] + (packed >> _BITS) * _WORDS + _KEYS + (packed & _MASK) - 1]


@njit
def copy_top(mem: Words, side: int, sign: int, prices: int, qtys: int, depth: int) -> int:
    """Writes up to ``depth`` best levels (best first) to word offsets ``prices`` and ``qtys``; returns how many.

    ``sign`` turns a key back into a price: 1 for bids, -1 for asks.
    """
    directory = mem[side + st.SIDE_DIRECTORY]
    pool = mem[st.H_BLOCK_OFF]
    done = 0
    index = mem[side + st.SIDE_BLOCKS] - 1
    while index >= 0 and done < depth:
        packed = mem[directory + index * _ENTRY + 1]
        base = pool + (packed >> _BITS) * _WORDS
        count = packed & _MASK
        some = min(count, depth - done)
        last = base + count - 1
        for k in range(some):
            mem[prices + done + k] = sign * mem[last - k]
            mem[qtys + done + k] = mem[last + _KEYS - k]
        done += some
        index -= 1
    return done
