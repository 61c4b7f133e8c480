"""Atomics: the right instructions are in the generated code, and the values are those of plain integers."""

from __future__ import annotations

import re
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm import atomics
from shm.atomics import (
    compare_exchange,
    copy_lines,
    cpu_pause,
    fence_acquire,
    fence_release,
    fence_seq_cst,
    fetch_add,
    load_acquire,
    load_relaxed,
    store_relaxed,
    store_release,
)
from shm.jit import JIT_DISABLED, njit
from tests.naive.shm import wrap64

INT64 = st.integers(-(2**63), 2**63 - 1)
jitted = pytest.mark.skipif(JIT_DISABLED, reason="NUMBA_DISABLE_JIT: there is no generated code")


def compiled(function, *args):  # type: ignore[no-untyped-def]
    """(LLVM IR, assembly) of ``function`` for these arguments, compiled afresh and not from the cache."""
    kernel = njit(cache=False)(function)
    kernel.compile(tuple(_type_of(a) for a in args))
    signature = kernel.signatures[0]
    return kernel.inspect_llvm(signature), kernel.inspect_asm(signature)


def _type_of(value):  # type: ignore[no-untyped-def]
    from numba import typeof

    return typeof(value)


WORDS = np.zeros(64, np.int64)


@jitted
def test_spin_on_load_acquire_reads_memory_in_the_loop() -> None:
    def spin(words):  # type: ignore[no-untyped-def]
        n = 0
        while load_acquire(words, 0) == 0:
            n += 1
        return n

    llvm, _ = compiled(spin, WORDS)
    assert re.search(r"load atomic i64, .* acquire, align 8", llvm)


@jitted
def test_loads_and_stores_carry_their_ordering() -> None:
    def both(words):  # type: ignore[no-untyped-def]
        store_relaxed(words, 1, load_relaxed(words, 0))
        store_release(words, 2, 7)

    llvm, _ = compiled(both, WORDS)
    assert re.search(r"load atomic i64, .* monotonic, align 8", llvm)
    assert re.search(r"store atomic i64 .* monotonic, align 8", llvm)
    assert re.search(r"store atomic i64 7, .* release, align 8", llvm)


@jitted
def test_relaxed_loads_are_not_merged() -> None:
    def twice(words):  # type: ignore[no-untyped-def]
        return load_relaxed(words, 0) - load_relaxed(words, 0)

    llvm, _ = compiled(twice, WORDS)
    body = llvm[llvm.index("twice") :]
    assert len(re.findall(r"load atomic i64, .* monotonic", body)) >= 2, "the two reads became one"


@jitted
def test_read_modify_write_is_locked() -> None:
    def rmw(words):  # type: ignore[no-untyped-def]
        old = fetch_add(words, 0, 3)
        return old if compare_exchange(words, 1, old, 9) else -1

    llvm, asm = compiled(rmw, WORDS)
    assert "atomicrmw add" in llvm and "seq_cst" in llvm
    assert re.search(r"cmpxchg .* acq_rel acquire", llvm)
    if atomics.X86:
        assert re.search(r"lock\s+xadd", asm) and re.search(r"lock\s+cmpxchg", asm)


@jitted
def test_fences_are_emitted_and_only_seq_cst_costs_an_instruction() -> None:
    def fences(words):  # type: ignore[no-untyped-def]
        fence_acquire()
        fence_release()
        fence_seq_cst()

    def light(words):  # type: ignore[no-untyped-def]
        fence_acquire()
        fence_release()

    heavy_llvm, heavy_asm = compiled(fences, WORDS)
    _, light_asm = compiled(light, WORDS)
    for ordering in ("acquire", "release", "seq_cst"):
        assert f"fence {ordering}" in heavy_llvm
    if atomics.X86:
        full = r"mfence|lock\s+or"
        assert re.search(full, heavy_asm) and not re.search(full, light_asm)


@jitted
def test_line_copies_are_volatile_and_spin_loops_pause() -> None:
    def copy(src, dst):  # type: ignore[no-untyped-def]
        copy_lines(src, 0, dst, 0, 2)
        cpu_pause()

    llvm, asm = compiled(copy, WORDS, WORDS)
    assert "load volatile <8 x i64>" in llvm and "store volatile <8 x i64>" in llvm
    if atomics.X86:
        assert re.search(r"\bpause\b", asm)


@jitted
def test_arrays_that_are_no_words_are_refused_at_compile_time() -> None:
    from numba.core.errors import TypingError

    for wrong in (np.zeros(8, np.float64), np.zeros((2, 8), np.int64).T, np.zeros(16, np.int64)[::2]):
        with pytest.raises(TypingError, match="C-contiguous int64"):
            load_acquire(wrong, 0)


@given(INT64, INT64)
@settings(deadline=None)
def test_words_wrap_as_two_complement(a: int, b: int) -> None:
    words = np.zeros(8, np.int64)
    store_relaxed(words, 3, a)
    assert fetch_add(words, 3, b) == a
    assert int(words[3]) == wrap64(a + b) == int(atomics.wrap_add(a, b))
    assert int(atomics.wrap_sub(a, b)) == wrap64(a - b)
    assert int(atomics.clz64(a)) == 64 - (a % 2**64).bit_length()


@given(INT64, INT64, INT64)
@settings(deadline=None)
def test_compare_exchange_stores_only_over_the_expected_value(found: int, expected: int, desired: int) -> None:
    words = np.full(4, found, np.int64)
    assert bool(compare_exchange(words, 2, expected, desired)) == (found == expected)
    assert words.tolist() == [found, found, desired if found == expected else found, found]


@given(st.floats(allow_nan=False))
@settings(deadline=None)
def test_float_bits_are_those_of_ieee_754(value: float) -> None:
    bits = int(atomics.f64_to_bits(value))
    assert bits == int(np.float64(value).view(np.int64))
    assert atomics.bits_to_f64(bits) == value


@given(st.integers(0, 8), st.integers(0, 24), st.integers(0, 24))
@settings(deadline=None)
def test_copy_lines_copies_whole_lines_and_nothing_beside(lines: int, source: int, target: int) -> None:
    src, dst = np.arange(1, 97, dtype=np.int64), np.zeros(96, np.int64)
    copy_lines(src, source, dst, target, lines)
    wanted = np.zeros(96, np.int64)
    wanted[target : target + lines * 8] = src[source : source + lines * 8]
    assert dst.tolist() == wanted.tolist()


def test_clocks_are_the_systems() -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    stamp = int(atomics.mono_ns())
    assert before <= stamp <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    before = time.time_ns()
    wall = int(atomics.wall_ns())
    assert before <= wall <= time.time_ns() + 1_000_000_000
    assert 0 <= int(atomics.current_cpu()) < 4096
    atomics.sched_yield()


@jitted
def test_concurrent_adds_lose_nothing() -> None:
    words = np.zeros(8, np.int64)
    rounds, threads = 200_000, 2

    @njit(cache=False)
    def add(words, rounds):  # type: ignore[no-untyped-def]
        for _ in range(rounds):
            fetch_add(words, 0, 1)
            while True:
                old = load_relaxed(words, 1)
                if compare_exchange(words, 1, old, old + 1):
                    break

    workers = [threading.Thread(target=add, args=(words, rounds)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert words[:2].tolist() == [threads * rounds] * 2
