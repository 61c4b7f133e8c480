"""What a machine can judge of the tree: import direction, forbidden calls, docstrings, light packages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
ROOMS = ("shm", "pipeline", "workers")

#: A room may import only rooms above it in this list (and itself).
ORDER = (
    "shm",
    "pipeline.model",
    "pipeline.templates",
    "pipeline.book",
    "pipeline.detection",
    "pipeline.execution",
    "pipeline.risk",
    "pipeline.fast_entry",
    "pipeline.recovery",
    "pipeline.core",
    "pipeline.exchanges",
    "pipeline.sim",
    "pipeline",
    "workers",
)
#: Files that may read a clock of their own.
CLOCKS = ("shm/", "pipeline/model/clock.py", "pipeline/sim/", "workers/")
#: Files that may open sockets or run an event loop.
SOCKETS = (
    "pipeline/exchanges/",
    "pipeline/sim/",
    "workers/",
    "pipeline/market_data.py",
    "pipeline/paper.py",
    "pipeline/recovery/",
)


def sources() -> list[Path]:
    return [path for room in ROOMS for path in sorted((REPO / room).rglob("*.py"))]


def room_of(module: str) -> str:
    for room in sorted(ORDER, key=len, reverse=True):
        if module == room or module.startswith(room + "."):
            return room
    return ""


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


def test_a_room_imports_only_rooms_above_it() -> None:
    wrong = []
    for path in sources():
        here = room_of(".".join(path.relative_to(REPO).with_suffix("").parts))
        for module, line in imports(path):
            there = room_of(module)
            if there and ORDER.index(there) > ORDER.index(here):
                wrong.append(f"{path.relative_to(REPO)}:{line} {here} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_numba_is_imported_only_behind_the_cache_folder() -> None:
    wrong = [
        f"{path.relative_to(REPO)}:{line}"
        for path in sources()
        if path.relative_to(REPO).parts[0] != "shm"
        for module, line in imports(path)
        if module.split(".")[0] == "numba"
    ]
    assert not wrong, f"import njit from shm.jit instead: {wrong}"


def test_clocks_and_sockets_stay_in_their_modules() -> None:
    wrong = []
    for path in sources():
        name = str(path.relative_to(REPO))
        for module, line in imports(path):
            top = module.split(".")[0]
            if top == "time" and not name.startswith(CLOCKS):
                wrong.append(f"{name}:{line} {module}: use pipeline.model.clock")
            if top in ("socket", "asyncio", "aiohttp", "picows", "uvloop") and not name.startswith(SOCKETS):
                wrong.append(f"{name}:{line} {module}: sockets and loops live in transports and workers")
    assert not wrong, "\n".join(wrong)


def test_nothing_waits_by_wait_for() -> None:
    """Until Python 3.12 ``asyncio.wait_for`` loses a cancellation that comes together with its result: the task lives
    on, and whoever waits for its end waits for ever. ``asyncio.timeout`` does not."""
    wrong = [str(path.relative_to(REPO)) for path in sources() if "asyncio.wait_for(" in path.read_text()]
    assert not wrong, f"use asyncio.timeout: {wrong}"


def test_modules_public_functions_and_classes_have_docstrings() -> None:
    wrong = []
    for path in sources():
        tree = ast.parse(path.read_text())
        if not ast.get_docstring(tree):
            wrong.append(f"{path.relative_to(REPO)}:1 module")
    assert not wrong, "\n".join(wrong)


def test_the_tree_holds_no_machine_paths_unfinished_marks_or_registry_addresses() -> None:
    forbidden = re.compile(r"/root/|/home/\w+/|\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError|https?://[^ \"]+/simple/")
    listed = subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True).stdout.split()
    wrong = []
    for name in listed:
        path = REPO / name
        if path == Path(__file__) or not path.is_file() or path.suffix in (".lock",):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if forbidden.search(line):
                wrong.append(f"{name}:{number} {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


def test_lock_files_carry_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-test.lock"):
        text = (REPO / name).read_text()
        assert "://" not in text
        pins = [line for line in text.splitlines() if "==" in line and not line.startswith(" ")]
        assert pins and all(line.rstrip().endswith("\\") for line in pins), name


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("workers.detector", ("asyncio", "aiohttp")),
        ("pipeline", ("numba", "aiohttp", "asyncio")),
        ("workers", ("numba", "aiohttp", "asyncio")),
        ("workers.cli.main", ("numba", "aiohttp")),
    ],
)
def test_importing_a_light_module_loads_nothing_heavy(module: str, forbidden: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
