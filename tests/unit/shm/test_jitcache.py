"""Machine code on disk: found by content, never stale, and never a reason not to start."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shm import jit, jitcache
from shm.jit import JIT_DISABLED, njit
from shm.sources import ROOT, Sources

needs_jit = pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")

CHECKSUM = """
import numpy as np
from shm.checksum import crc32_words
crc32_words(np.zeros(8, dtype=np.int64), 0, 8, 0)
print(sum(crc32_words.stats.cache_misses.values()), sum(crc32_words.stats.cache_hits.values()))
"""
COMPILED, LOADED = ["1", "0"], ["0", "1"]  # misses and hits
#: Behind CHECKSUM: whether what lowers numpy's functions is loaded, and a kernel that is compiled and allocates.
LOWERING = """
import sys
from shm.jit import njit
print("numba.np.arraymath" in sys.modules)
print(njit(lambda values: values * 2)(np.arange(4))[3])
"""

VERDICT = """
import numpy as np
from pipeline.fast_entry import verdict
from pipeline.fast_entry.memory import LIMITS, ROW
from shm.layout import LEG, OPPORTUNITY
from shm.layout_pages import HALT
ints, halt, record = (np.zeros(4096, np.int64), np.zeros(HALT.END, np.int64),
                      np.zeros(OPPORTUNITY.WORDS, np.int64))
ints[LIMITS.row_count] = 2
ints[LIMITS.rows_off] = 1024
ints[LIMITS.venues] = 1
for k, side in enumerate((1, -1)):
    row, leg = 1024 + k * ROW.WORDS, OPPORTUNITY.legs + k * LEG.WORDS
    for column in (ROW.usable, ROW.can_buy, ROW.can_sell):
        ints[row + column] = 1
    record[leg + LEG.instrument], record[leg + LEG.side] = k, side
free = verdict._places(record, halt, ints, 0)
ints[1024 + ROW.busy] = 1
busy = verdict._places(record, halt, ints, 0)
print(free, busy, sum(verdict._places.stats.cache_misses.values()))
"""


def copy_of(target: Path, *rooms: str) -> Path:
    for room in ("shm", "pipeline"):
        if room in rooms:
            shutil.copytree(ROOT / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (target / room).mkdir(parents=True)
    return target


def run(checkout: Path, cache: Path, program: str) -> list[str]:
    environment = {**os.environ, "ARB_CACHE_DIR": str(cache), "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=checkout, env=environment, check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@needs_jit
def test_a_second_checkout_compiles_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(copy_of(tmp_path / "one", "shm"), cache, CHECKSUM) == COMPILED
    assert run(copy_of(tmp_path / "two", "shm"), cache, CHECKSUM) == LOADED


@needs_jit
def test_a_kernel_from_the_disk_loads_nothing_that_compiles_and_a_compilation_after_it_does(tmp_path: Path) -> None:
    cache, tree = tmp_path / "cache", copy_of(tmp_path / "one", "shm")
    assert run(tree, cache, CHECKSUM) == COMPILED
    assert run(tree, cache, f"{CHECKSUM}{LOWERING}") == [*LOADED, "False", "6"]


@needs_jit
def test_other_sources_are_compiled_for_themselves(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(copy_of(tmp_path / "one", "shm"), cache, CHECKSUM) == COMPILED
    other = copy_of(tmp_path / "two", "shm")
    with (other / "shm" / "checksum.py").open("a") as handle:
        handle.write("# another content\n")
    assert run(other, cache, CHECKSUM) == COMPILED


@needs_jit
def test_a_column_that_moves_is_read_where_it_lies_then(tmp_path: Path) -> None:
    """The verdict must not enter where an order of ours works; the column that says so is defined in another file."""
    cache = tmp_path / "cache"
    tree = copy_of(tmp_path / "tree", "shm", "pipeline")
    assert run(tree, cache, VERDICT) == ["True", "False", "1"]
    assert run(tree, cache, VERDICT) == ["True", "False", "0"]
    made = Sources(tree)
    files = [tree / name for name in made.closure("pipeline/fast_entry/verdict.py")]
    (declared,) = (path for path in files if "\nclass Row(Table, " in path.read_text())
    text = declared.read_text()
    line = re.search(r"^    busy = word\(.*\)\n", text, re.MULTILINE)[0]  # type: ignore[index]
    moved = text.replace(line, "").replace("\n\n\nROW = Row()", f"\n{line}\n\nROW = Row()")
    assert moved.index(line) > text.index(line)
    declared.write_text(moved)
    assert run(tree, cache, VERDICT) == ["True", "False", "1"]


# --- damaged files, folders that cannot be used ---


@njit
def _tripled(x: int) -> int:
    return 3 * x


@njit
def _with_a_callee(x: int) -> int:
    return int(_tripled(x)) + 1


class Heard:
    """What is said about machine code while one test runs."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.compiled: list[str] = []
        jitcache.report_to(self.sentences.append, self.compiled.append)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Heard]:
    monkeypatch.setattr(jitcache, "_REPORT", jitcache._Report())
    monkeypatch.setenv("ARB_CACHE_DIR", str(tmp_path / "cache"))
    yield Heard()
    jitcache.report_to(None)


def fresh() -> Any:
    """The kernel as another process would have it: nothing in memory."""
    return njit(_with_a_callee.py_func)


def misses(kernel: Any) -> int:
    return sum(kernel.stats.cache_misses.values())


def the_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache").rglob("*.code")
    return path


@needs_jit
def test_a_damaged_file_counts_as_absent(heard: Heard, tmp_path: Path) -> None:
    assert fresh()(5) == 16
    path = the_file(tmp_path)
    good = path.read_bytes()
    size = len(good)
    cases = [good[:length] for length in (0, 1, 12, 13, 44, 45, 46, size // 2, size - 1)]
    for place in (0, 20, 50, size // 3, size // 2, size - 1):
        cases.append(good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :])
    cases += [good + b"\0", good[:13], bytes(size), good[:45] + b"\x80\x04" * 50]
    for number, case in enumerate(cases, 1):
        path.write_bytes(case)
        kernel = fresh()
        assert kernel(5) == 16
        assert misses(kernel) == 1, case[:80]
        assert jitcache._REPORT.damaged == number
        assert path.read_bytes()[: len(jitcache.MAGIC)] == jitcache.MAGIC
        again = fresh()
        assert (again(5), misses(again)) == (16, 0), "it was not replaced"
    assert len(heard.sentences) == 1 and "1 damaged file, compiled again" in heard.sentences[0]
    assert len(heard.compiled) == len(cases) + 1
    jitcache.say_total()
    assert heard.sentences[1:] == [f"{len(cases)} damaged files in all, compiled again"]


@needs_jit
def test_a_kernel_that_comes_after_the_start_is_named_compiled_or_loaded(heard: Heard) -> None:
    assert fresh()(5) == 16 and heard.sentences == []
    jitcache.loaded_all()
    assert fresh()(5) == 16
    (loaded,) = heard.sentences
    assert loaded.startswith("_with_a_callee of ") and "came after the start" in loaded
    assert njit(_tripled.py_func)(2) == 6
    assert len(heard.sentences) == 2


@needs_jit
def test_a_whole_file_of_something_else_counts_as_damaged(heard: Heard, tmp_path: Path) -> None:
    """Its digest is right, its pickle is not: as after an error of ours."""
    fresh()(5)
    path = the_file(tmp_path)
    for payload in (b"", b"\x80\x04", b"\x80\x04N.", b"cnowhere\nnothing\n.", b"\x80\x04]."):
        path.write_bytes(jitcache.MAGIC + jitcache._digest(payload) + payload)
        kernel = fresh()
        assert (kernel(5), misses(kernel)) == (16, 1)
    assert jitcache._REPORT.damaged == 5


@needs_jit
def test_a_file_in_place_of_the_folder_is_said_once(heard: Heard, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    for _ in range(2):
        kernel = fresh()
        assert (kernel(5), misses(kernel)) == (16, 1)
    assert not jitcache.can_keep()
    (sentence,) = heard.sentences
    assert str(tmp_path / "cache") in sentence and "ARB_CACHE_DIR" in sentence
    assert jitcache._REPORT.damaged == 0


@needs_jit
def test_a_full_disk_is_said_once_and_leaves_nothing_half_written(heard: Heard, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # no file grows further, like on a disk without room
    try:
        kept = jitcache.can_keep()
        results = [(kernel(5), misses(kernel)) for kernel in (fresh(), fresh())]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (kept, results, len(heard.sentences)) == (False, [(16, 1), (16, 1)], 1)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@contextlib.contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Root too: this thread gives up the right to write where nobody may (capability 1) for the time."""
    libc, header = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x2008_0522, 0)  # the version of the call; this thread
    sets = (ctypes.c_uint32 * 6)()  # what is in force, what may be, what is inherited: 32 bits each, twice
    assert libc.capget(header, sets) == 0
    before = sets[0]
    sets[0] = before & ~(1 << 1)
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0


@needs_jit
def test_a_folder_that_may_not_be_written_is_still_read(heard: Heard, tmp_path: Path) -> None:
    fresh()(5)
    folder = the_file(tmp_path).parent
    folder.chmod(0o500)
    with bound_by_permissions():
        with pytest.raises(PermissionError):
            (folder / "new").touch()
        kernel = fresh()
        assert (kernel(5), misses(kernel), heard.sentences) == (16, 0, [])
        assert (kernel(5.0), len(heard.sentences)) == (16.0, 1)
    folder.chmod(0o700)


# --- what must not be kept ---


def _elsewhere(folder: Path) -> Any:
    """A kernel out of a file that the caller's own file does not import."""
    path = folder / "elsewhere.py"
    path.write_text("def fourfold(x):\n    return 4 * x\n")
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return njit(names["fourfold"])


@needs_jit
def test_a_callee_that_the_key_does_not_cover_keeps_the_code_off_the_disk(
    heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callee = _elsewhere(tmp_path)
    monkeypatch.setitem(_with_a_callee.py_func.__globals__, "_tripled", callee)
    with pytest.warns(UserWarning, match=r"calls functions of files .*elsewhere\.py"):
        assert fresh()(5) == 21
    assert list((tmp_path / "cache").rglob("*.code")) == []


@needs_jit
def test_kernels_given_as_arguments_keep_the_code_off_the_disk(heard: Heard, tmp_path: Path) -> None:
    def applied(kernel: Any, x: int) -> int:
        return int(kernel(x))

    with pytest.warns(UserWarning, match="other kernels"):
        assert njit(applied)(_elsewhere(tmp_path), 5) == 20
    assert list((tmp_path / "cache").rglob("applied*")) == []


@needs_jit
def test_argument_types_and_closures_have_files_of_their_own(heard: Heard, tmp_path: Path) -> None:
    def plus(offset: int) -> Any:
        return njit(lambda x: x + offset)

    for offset in (1, 2):
        for x in (5, 5.5):
            assert plus(offset)(x) == x + offset
            again = plus(offset)
            assert (again(x), misses(again)) == (x + offset, 0)
    assert len(list((tmp_path / "cache").rglob("*.code"))) == 4


# --- numba's version ---


def test_the_range_of_numba_is_the_one_that_is_installed_by() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lower, upper = (".".join(map(str, version)) for version in (jit.NUMBA_FROM, jit.NUMBA_BELOW))
    assert f"numba>={lower},<{upper}" in wanted


@pytest.mark.parametrize("found", ["0.69.0", "1.0", "0.64.3"])
def test_another_numba_is_refused_in_words(tmp_path: Path, found: str) -> None:
    """Here by what its package says of itself: it is read before numba is imported."""
    package = tmp_path / f"numba-{found}.dist-info"
    package.mkdir()
    (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: numba\nVersion: {found}\n")
    done = subprocess.run(
        [sys.executable, "-c", "import shm.jit"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"found {found}, wanted numba>=0.65,<0.69" in last and "-m pip install 'numba>=" in last
