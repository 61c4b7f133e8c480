"""What the catalogue tells of a venue whose list of announced ends cannot be read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.workers.control_plane.test_catalogue import Rig


@pytest.fixture(name="rig")
def _rig(instance: str) -> Iterator[Rig]:
    rig = Rig(instance)
    yield rig
    rig.page.close()


def test_a_list_of_announced_ends_that_cannot_be_read_is_said_once_and_costs_no_rows(rig: Rig) -> None:
    rig.venues["gateio_spot"].ends_fault = "HTTP 503"
    for _ in range(2):
        assert rig.load() == [] and rig.service.told()["ends_unknown"] == {"gateio_spot": "HTTP 503"}
    assert [line for line in rig.said if "announced ends" in line] == [
        "warning: alert: gateio_spot: announced ends of trading cannot be read, those known stand: HTTP 503"
    ]
    rig.venues["gateio_spot"].ends_fault = ""
    assert rig.load() == [] and rig.service.told()["ends_unknown"] == {}
    assert rig.said[-1] == "info: gateio_spot: announced ends of trading are read again"
