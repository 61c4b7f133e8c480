"""What a reload may change, and that one thing too many refuses it whole."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.detection.opportunity_record import OpportunityRecord
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import config_from_mapping
from pipeline.model.config_reload import changes_text, reload_changes
from pipeline.model.enums import Refusal
from pipeline.model.errors import ConfigInvalid
from pipeline.risk.manager import RiskManager
from tests.worlds.detector_world import DetectorWorld
from tests.worlds.execution_starts import ready_world

BASE: dict[str, Any] = {
    "engine_name": "t-x",
    "mode": "sim",
    "exchanges": {
        "aa": {
            "dialect": "mexc",
            "markets": {"spot": {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1", "symbols": ["S"]}},
        }
    },
}


def config(**sections: Any) -> EngineConfig:
    return config_from_mapping({**BASE, **sections})


def test_limits_and_thresholds_may_change() -> None:
    wanted = config(
        risk_limits={"max_daily_loss_usd": 7, "per_asset": {"BTC": {"max_exposure_usd": 3}}},
        detection={"cooldown_ms": 9, "execute_edge_bps": 4},
    )
    changes = reload_changes(config(), wanted)
    assert changes["risk_limits.max_daily_loss_usd"] == ("5000", "7")
    assert changes["detection.cooldown_ms"] == (250, 9)
    assert changes["detection.execute_edge_bps"] == (None, "4")
    assert changes["risk_limits.per_asset.BTC.max_exposure_usd"] == (None, "3")
    assert "detection.cooldown_ms 250 -> 9" in changes_text(changes)
    assert changes_text(reload_changes(wanted, wanted)) == "nothing changed"
    assert msgspec.json.decode(msgspec.json.encode(wanted), type=EngineConfig) == wanted, "it is handed over as JSON"


def test_one_path_that_needs_a_restart_refuses_all_and_is_named() -> None:
    wanted = config(
        engine_name="t-y",
        risk_limits={"max_daily_loss_usd": 7},
        processes={"feed": {"cpus": [1]}},
        execution={"durability": "power"},
    )
    with pytest.raises(ConfigInvalid) as caught:
        reload_changes(config(), wanted)
    paths = [error.split(":")[0] for error in caught.value.errors]
    assert {"engine_name", "execution.durability"} <= set(paths)
    assert any(path.startswith("processes") for path in paths)
    assert not any(path.startswith("risk_limits") for path in paths)


def test_the_gate_and_the_planner_take_other_limits() -> None:
    world = ready_world()
    core = world.core
    limits = msgspec.structs.replace(core.config.risk_limits, min_profit_margin_bps=Decimal(100_000))
    strict = msgspec.structs.replace(core.config, risk_limits=limits)
    core.context.now = world.now()
    assert isinstance(core.risk, RiskManager)
    before = core.risk.validate_opportunity_risk(world.offer("mexc_spot", "gateio_spot"))
    core.reconfigure(strict)
    after = core.risk.validate_opportunity_risk(world.offer("mexc_spot", "gateio_spot"))
    assert not hasattr(before, "refusal")
    assert getattr(after, "refusal", None) is Refusal.MOVED


def test_the_detector_takes_other_thresholds_and_keeps_its_books() -> None:
    setup = DetectorWorld(max_age_to_trade_ms=60_000, max_skew_ms=60_000)
    found: list[OpportunityRecord] = []
    detector = setup.detector(on_opportunity=found.append)
    limits = msgspec.structs.replace(detector.config.risk_limits, min_profit_margin_bps=Decimal(100_000))
    loose = detector.config
    detector.reconfigure(msgspec.structs.replace(loose, risk_limits=limits))
    setup.dislocate()
    detector.step(idle_ns=0)
    assert found == []
    detector.reconfigure(loose)
    setup.dislocate()
    detector.step(idle_ns=0)
    assert len(found) == 1
