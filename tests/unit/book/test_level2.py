"""Block storage of levels against a dict, through splits, merging into full blocks, growth and its bound."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.book import level2
from pipeline.book.memory import (
    BLOCK_LEVELS,
    BLOCK_WORDS,
    BOOK_ROW,
    BOOKS,
    COUNT_BITS,
    COUNT_MASK,
    DIRECTORY_CAP,
    ENTRY,
    SIDE,
    grown,
    new_memory,
)
from pipeline.book.symbol_table import symbol_hash
from shm.words import Words


def memory(blocks: int) -> tuple[Words, int]:
    mem = new_memory(1, 0, blocks=blocks)
    side = int(mem[BOOKS.rows_off]) + BOOK_ROW.sides
    mem[side + SIDE.directory_off] = mem[BOOKS.directories_off]
    return mem, side


def contents(mem: Words, side: int) -> list[tuple[int, int]]:
    """All (key, qty), worst first, checking the directory on the way."""
    out: list[tuple[int, int]] = []
    directory = int(mem[side + SIDE.directory_off])
    for index in range(int(mem[side + SIDE.blocks])):
        entry = directory + index * ENTRY.WORDS
        packed = int(mem[entry + 1])
        base = int(mem[BOOKS.blocks_off]) + (packed >> COUNT_BITS) * BLOCK_WORDS
        count = packed & COUNT_MASK
        assert 0 < count <= BLOCK_LEVELS and mem[entry] == mem[base]
        out += [(int(mem[base + 2 * k]), int(mem[base + 2 * k + 1])) for k in range(count)]
    return out


def blocks_held(mem: Words, side: int) -> int:
    """Blocks in use or free must be all that were ever taken."""
    free, at = 0, int(mem[BOOKS.block_free])
    while at:
        free += 1
        at = int(mem[int(mem[BOOKS.blocks_off]) + (at - 1) * BLOCK_WORDS])
    assert free + int(mem[side + SIDE.blocks]) == mem[BOOKS.block_used]
    return free


def check(mem: Words, side: int, wanted: dict[int, int]) -> None:
    assert contents(mem, side) == sorted(wanted.items())
    blocks_held(mem, side)
    best = max(wanted, default=0)
    assert level2.best_key(mem, side) == best
    assert level2.best_qty(mem, side) == wanted.get(best, 0)


@settings(max_examples=60, deadline=None)
@given(
    keys=some.lists(some.tuples(some.integers(-150, 150).filter(bool), some.integers(0, 3)), max_size=400),
    start=some.integers(0, 300),
)
def test_any_sequence_of_levels_equals_a_dict(keys: list[tuple[int, int]], start: int) -> None:
    mem, side = memory(64)
    wanted: dict[int, int] = {}
    for key in range(1, start + 1):
        assert level2.set_level(mem, side, key * 3, key) == 0
        wanted[key * 3] = key
    for key, qty in keys:
        assert level2.set_level(mem, side, key, qty) == 0
        if qty:
            wanted[key] = qty
        else:
            wanted.pop(key, None)
    check(mem, side, wanted)


def test_long_random_work_equals_a_dict_and_leaks_no_block() -> None:
    draw = random.Random(7)
    mem, side = memory(600)
    wanted: dict[int, int] = {}
    for step in range(30_000):
        key = draw.randrange(1, 9000) if draw.random() < 0.5 else 9000 - int(draw.expovariate(0.05)) or 1
        qty = draw.randrange(0, 5)
        assert level2.set_level(mem, side, key, qty) == 0
        if qty:
            wanted[key] = qty
        else:
            wanted.pop(key, None)
        if step % 5000 == 4999:
            check(mem, side, wanted)
    level2.clear_side(mem, side)
    check(mem, side, {})


def test_compaction_keeps_every_level_and_frees_blocks() -> None:
    mem, side = memory(200)
    wanted = {}
    for key in range(6000, 0, -1):  # each new worst price: blocks split in halves
        level2.set_level(mem, side, key, key)
        wanted[key] = key
    for key in range(1, 6001, 3):
        level2.set_level(mem, side, key, 0)
        del wanted[key]
    before = int(mem[side + SIDE.blocks])
    level2.compact(mem, side)
    check(mem, side, wanted)
    assert mem[side + SIDE.blocks] == -(-len(wanted) // BLOCK_LEVELS) < before
    for key in range(1, 6001, 3):
        assert level2.set_level(mem, side, key, 1) == 0
        wanted[key] = 1
    check(mem, side, wanted)


def test_no_free_block_is_told_and_the_levels_stay() -> None:
    mem, side = memory(1)
    for key in range(1, BLOCK_LEVELS + 1):
        assert level2.set_level(mem, side, key, 1) == 0
    assert level2.set_level(mem, side, 1000, 1) == level2.NO_ROOM
    assert level2.set_level(mem, side, 0 - 5, 1) == level2.NO_ROOM
    assert [key for key, _ in contents(mem, side)] == list(range(1, BLOCK_LEVELS + 1))
    bigger = grown(mem)
    assert level2.set_level(bigger, side, 1000, 1) == 0
    assert level2.best_key(bigger, side) == 1000


def test_a_side_at_its_bound_compacts_and_then_refuses() -> None:
    capacity = DIRECTORY_CAP * BLOCK_LEVELS
    mem, side = memory(DIRECTORY_CAP + 8)
    refused = 0
    for key in range(capacity + 10, 0, -1):
        done = level2.set_level(mem, side, key, 1)
        assert done in (0, level2.FULL_SIDE)
        refused += done != 0
        if refused:
            break
    assert refused and len(contents(mem, side)) >= capacity // 2
    blocks_held(mem, side)


def test_top_levels_come_best_first_on_both_sides() -> None:
    mem, side = memory(64)
    for key in range(1, 101):
        level2.set_level(mem, side, -key, key)
    out = BOOKS.record
    assert level2.copy_top(mem, side, -1, out, out + 20, 20) == 20
    assert list(mem[out : out + 20]) == list(range(1, 21))
    assert list(mem[out + 20 : out + 40]) == list(range(1, 21))


def test_symbol_hash_stays_inside_its_table() -> None:
    for words in ((-1, -1, -1), (2**63 - 1, -(2**63), 5), (0, 0, 0)):
        assert 0 <= symbol_hash(*words) < 2**31


def test_growth_moves_no_offset() -> None:
    mem = new_memory(3, 40, blocks=2)
    bigger = grown(mem)
    assert len(bigger) - len(mem) == 2 * BLOCK_WORDS
    assert [int(w) for w in bigger[: BOOKS.event] if w] != [] and bigger[BOOKS.blocks_off] == mem[BOOKS.blocks_off]
