"""Fixtures that every test may use, and the two ways in which property tests choose their examples."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

REPO = Path(__file__).resolve().parent.parent

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


def captures_path() -> Path:
    """Folder of recorded market data: ``ARB_CAPTURES``, else ``shared/captures`` beside the checkout."""
    return Path(os.environ.get("ARB_CAPTURES") or REPO.parent / "shared" / "captures")


@pytest.fixture(scope="session")
def captures_dir() -> Path:
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
