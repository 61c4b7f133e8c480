"""Whole instances in tests: state in a folder of the test's own, random names, nothing left behind."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.worlds.instance_rig import Rig, arb, ready_rig


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``ARB_STATE_DIR`` in the test's folder; no ``ARB_*`` of the caller's shell reaches the engine."""
    for name in ("ARB_MODE", "ARB_ENGINE_NAME", "ARB_CONFIG", "ARB_CRASH_AT", "ARB_CRASH_MARKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def running() -> Iterator[Rig]:
    """A READY instance on the demo's venues."""
    with ready_rig() as rig:
        yield rig


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the operator of its instance would see (a fixture is not told of the failure)."""
    report = yield
    rig = getattr(item, "funcargs", {}).get("running")
    if report.when == "call" and report.failed and isinstance(rig, Rig):
        report.sections.append(("arb status", arb("status", "--instance", rig.instance).stdout))
    return report
