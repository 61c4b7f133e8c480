"""One simulator for the request tests, one of its own for each stream test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.worlds.client_support import HostedSim


@pytest.fixture(scope="module")
def sim() -> Iterator[HostedSim]:
    hosted = HostedSim()
    yield hosted
    hosted.stop()


@pytest.fixture(autouse=True)
def fresh_budgets(request: pytest.FixtureRequest) -> None:
    if "sim" in request.fixturenames:
        request.getfixturevalue("sim").forget_budgets()


@pytest.fixture
def own_sim() -> Iterator[HostedSim]:
    hosted = HostedSim()
    yield hosted
    hosted.stop()
