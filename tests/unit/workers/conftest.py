"""What the tests of the processes share."""

from __future__ import annotations

import pytest

from tests.worlds.waiting import WAIT_S
from workers import halting


@pytest.fixture(autouse=True)
def patient_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow is no disk that hangs: a test of one that hangs says so itself."""
    monkeypatch.setattr(halting, "DISK_S", WAIT_S)
