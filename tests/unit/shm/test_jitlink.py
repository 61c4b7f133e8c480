"""Parts and wholes: one compilation of a tree of kernels, whatever calls what, in whatever order, from the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shm import bookring, liveness, logring, metrics, pages, queue
from shm.jit import JIT_DISABLED, direct, njit
from shm.warm import warm
from shm.words import Words
from tests.paths import REPO

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")


@njit(cache=False)
def leaf(words: Words, i: int) -> int:
    return int(words[i] + 1)


@njit(cache=False)
def branch(words: Words, i: int) -> int:
    return leaf(words, i) * 2 + leaf(words, i + 1)


@njit(cache=False)
def root(words: Words) -> int:
    return branch(words, 0) + leaf(words, 2) + branch(words, 1)


@njit(cache=False)
def mixed(value: float) -> float:
    return value + min(2, 3)


@njit(cache=False)
def twice(words: Words) -> float:
    return mixed(leaf(words, 0)) + mixed(0.5)


@njit(cache=False)
def refuses(value: int) -> int:
    if value < 0:
        raise ValueError("below zero")
    return value


@njit(cache=False)
def passes_on(value: int) -> int:
    return refuses(value) + 1


def test_a_callee_is_a_part_and_has_no_machine_code_of_its_own() -> None:
    words = np.array([10, 20, 30], dtype=np.int64)
    assert root(words) == (11 * 2 + 21) + 31 + (21 * 2 + 31)
    assert not branch.overloads and not leaf.overloads
    assert len(root.overloads) == 1


def test_a_part_can_be_called_from_python_before_and_after() -> None:
    words = np.array([1, 2, 3], dtype=np.int64)
    assert leaf(words, 0) == 2
    assert branch(words, 0) == 2 * 2 + 3
    assert leaf(words, 2) == 4
    assert direct(leaf, words, 0)(words, 1) == 3


def test_a_callee_is_made_for_each_set_of_types_and_not_for_constants() -> None:
    assert twice(np.array([4], dtype=np.int64)) == (5 + 2) + (0.5 + 2)
    assert len(mixed.get_call_template.__self__._made) == 2
    assert len(leaf.get_call_template.__self__._made) == 1


def test_an_exception_of_a_part_reaches_python() -> None:
    assert passes_on(3) == 4
    with pytest.raises(ValueError, match="below zero"):
        passes_on(-1)


def test_machine_code_of_a_whole_holds_its_parts() -> None:
    root(np.zeros(3, dtype=np.int64))
    (assembly,) = root.inspect_asm().values()
    functions = [line.split()[1] for line in assembly.splitlines() if "@function" in line and "test_jitlink" in line]
    assert len(functions) == 2 and all("4root" in name for name in functions)  # itself, and its wrapper for Python


def test_a_whole_comes_from_the_cache_without_its_parts(tmp_path: Path) -> None:
    """The second process finds on disk what the first one compiled, and compiles nothing."""
    program = (
        "import numpy as np\n"
        "from shm.bookring import init_feed, publish_book, read_book\n"
        "from shm.layout import BOOK, feed_segment_words\n"
        "words = np.zeros(feed_segment_words(1), dtype=np.int64)\n"
        "record = np.arange(BOOK.WORDS, dtype=np.int64)\n"
        "init_feed(words, 0, 1)\n"
        "publish_book(words, 0, 0, record)\n"
        "out = np.zeros(BOOK.WORDS, dtype=np.int64)\n"
        "assert read_book(words, 0, 0, out) > 0\n"
        "print(sum(publish_book.stats.cache_misses.values()), int(out.sum()))\n"
    )
    environment = {**os.environ, "ARB_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(REPO)}
    run = [sys.executable, "-c", program]
    first, second = (
        subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    )
    assert (first[0], second[0]) == ("1", "0")


def test_what_python_calls_is_compiled_by_warm() -> None:
    warm()
    called = (bookring.publish_book, liveness.beat, logring.read_slot, metrics.bucket_high, pages.read_row, queue.push)
    assert all(kernel.signatures for kernel in called)
