"""This checkout obeys its rules. ``python -m tests.tidy`` prints all breaches by room."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import REPO
from tests.slow import SLOW
from tests.tidy.rules import CHECKS
from tests.tidy.tree import Tree, load


@pytest.fixture(scope="module")
def tree() -> Tree:
    return load(REPO)


@pytest.mark.parametrize("rule", CHECKS)
def test_the_tree_obeys(rule: str, tree: Tree) -> None:
    findings = CHECKS[rule](tree, REPO)
    assert not findings, "\n" + "\n".join(map(str, sorted(findings)))


@pytest.mark.parametrize("path", SLOW)
def test_what_is_listed_as_slow_is_there(path: str) -> None:
    file, _, test = path.partition("::")
    assert (REPO / file).exists() and (not test or f"def {test}" in (REPO / file).read_text())


def test_lock_files_carry_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-test.lock", "tests/host/binance_sdk.txt"):
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
        ("workers.cli.app", ("numba", "aiohttp")),
        ("workers.cli.main", ("numpy", "asyncio", "typer")),
        ("workers.demo.simulator_server", ("numpy",)),
    ],
)
def test_importing_a_light_module_loads_nothing_heavy(module: str, forbidden: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
