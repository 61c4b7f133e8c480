"""Simulated exchanges that cannot start leave nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from arbitrage import SimulatedExchanges
from workers.demo.simulator import SimulatorError


def test_exchanges_that_cannot_start_leave_neither_process_nor_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    simulated = SimulatedExchanges(scenario=str(tmp_path / "absent.yaml"))
    with pytest.raises(SimulatorError, match=r"absent\.yaml"):
        simulated.start()
    assert list(tmp_path.iterdir()) == [] and simulated._process is None
