"""Fixtures that every test may use, and the two ways in which property tests choose their examples."""

from __future__ import annotations

import gc
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.paths import captures_path
from tests.slow import SLOW

# "fixed" is the default: the same examples in every run and on every machine, no time limit, a failure as it is found.
# "random" is scripts/fuzz: other examples in every run, shrunk to the shortest.
settings.register_profile(
    "fixed",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],  # it measures the machine
)
settings.register_profile(
    "random",
    derandomize=False,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fixed")

# pytest rewrites every test module's asserts: 15 s for all of them, unless they are kept in __pycache__.
sys.dont_write_bytecode = False


def pytest_collection_finish(session: pytest.Session) -> None:
    """Thousands of collected tests live to the end: without them, each collection of garbage is a short one."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of the slow files and folders."""
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def captures_dir() -> Path:
    """The folder of recorded market data; without it the test is skipped."""
    path = captures_path()
    if not path.is_dir():
        pytest.skip(f"no recorded market data at {path}; set ARB_CAPTURES to the folder that has it")
    return path


@pytest.fixture
def instance() -> Iterator[str]:
    """A random instance name; its shared-memory segments are gone afterwards."""
    name = f"t-{secrets.token_hex(4)}"
    yield name
    for leftover in Path("/dev/shm").glob(f"arb.{name}.*"):
        leftover.unlink(missing_ok=True)


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private ``ARB_STATE_DIR`` for this test and the processes that it starts."""
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("ARB_STATE_DIR", str(path))
    return path
