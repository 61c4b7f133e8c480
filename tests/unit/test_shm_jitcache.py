"""Machine code is found again by content: another folder and newer files of the same sources compile nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba

from shm.jit import ROOT
from shm.jitcache import ContentLocator

PROGRAM = """
import numpy as np
from shm.checksum import crc32_words
crc32_words(np.zeros(8, dtype=np.int64), 0, 8, 0)
print(sum(crc32_words.stats.cache_misses.values()), sum(crc32_words.stats.cache_hits.values()))
"""
COMPILED, LOADED = [1, 0], [0, 1]  # misses and hits


def _copy(target: Path) -> Path:
    shutil.copytree(ROOT / "shm", target / "shm", ignore=shutil.ignore_patterns("__pycache__"))
    (target / "pipeline").mkdir()
    return target


def _misses_and_hits(checkout: Path, cache: Path) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=checkout,
        env={**os.environ, "ARB_CACHE_DIR": str(cache), "PYTHONPATH": str(checkout)},
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return [int(count) for count in done.stdout.split()]


def test_a_second_checkout_compiles_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert _misses_and_hits(_copy(tmp_path / "one"), cache) == COMPILED
    assert _misses_and_hits(_copy(tmp_path / "two"), cache) == LOADED


def test_other_sources_are_compiled_for_themselves(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert _misses_and_hits(_copy(tmp_path / "one"), cache) == COMPILED
    other = _copy(tmp_path / "two")
    with (other / "shm" / "checksum.py").open("a") as handle:
        handle.write("# another content\n")
    assert _misses_and_hits(other, cache) == COMPILED


def test_functions_outside_of_the_tree_are_somebody_elses() -> None:
    def mine() -> None:
        return None

    assert ContentLocator.from_function(mine, __file__) is None
    assert ContentLocator.from_function(numba.njit, numba.__file__) is None
