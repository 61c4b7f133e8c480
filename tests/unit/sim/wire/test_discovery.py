"""Wire dialects are found by their folders."""

from __future__ import annotations

import pytest

from pipeline.model.dialects import dialect_names
from pipeline.model.errors import ConfigInvalid
from pipeline.sim.scenarios.specs import load_scenario
from pipeline.sim.wire.dialect import Dialect
from pipeline.sim.wire.discovery import load_dialect


@pytest.mark.parametrize("name", dialect_names())
def test_every_folder_with_an_exchange_module_names_its_dialect(name: str) -> None:
    assert issubclass(load_dialect(name), Dialect)


def test_the_packaged_scenario_names_folders_that_exist() -> None:
    scenario = load_scenario("demo")
    assert {spec.dialect for spec in scenario.exchanges.values()} <= set(dialect_names())


def test_an_unknown_dialect_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigInvalid, match=r"acme.*binance.*gateio.*mexc"):
        load_dialect("acme")
