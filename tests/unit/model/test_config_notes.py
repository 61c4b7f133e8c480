"""What is said of configurations that are valid and probably not meant."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.model.config import TRUSTED_COINS, DetectionConfig, EngineConfig, RiskLimits
from pipeline.model.config_load import config_from_mapping, load_with_origins
from pipeline.model.config_notes import config_notes
from pipeline.model.config_reload import reload_changes
from workers.live_rules import live_errors


@pytest.mark.parametrize(
    ("size", "limit", "edge_bps", "execute_bps", "least", "reported"),
    [
        ("2000", "10000", "50", None, "0.50", False),
        ("100", "10000", "50", None, "0.50", False),
        ("99", "10000", "50", None, "0.50", True),
        ("2000", "99", "50", None, "0.50", True),
        ("99", "10000", "50", "60", "0.50", False),
        ("99", "10000", "60", "50", "0.50", True),
        ("2000", "10000", "0", None, "0", False),
        ("2000", "10000", "-1", None, "0", True),
    ],
)
def test_a_least_profit_beyond_the_largest_entry_at_the_least_edge_is_told(
    size: str, limit: str, edge_bps: str, execute_bps: str | None, least: str, reported: bool
) -> None:
    execute = None if execute_bps is None else Decimal(execute_bps)
    config = EngineConfig(
        detection=DetectionConfig(max_notional_usd=Decimal(size), execute_edge_bps=execute),
        risk_limits=RiskLimits(
            max_position_size_usd=Decimal(limit), min_profit_margin_bps=Decimal(edge_bps), min_profit_usd=Decimal(least)
        ),
    )
    assert len(config_notes(config)) == reported


def test_settings_of_a_venue_that_is_not_traded_are_told() -> None:
    market = {"rest": "https://localhost", "ws": "wss://localhost", "symbols": ["BTCUSDT"]}
    data = {
        "exchanges": {
            name: {"dialect": "mexc", "trade": name == "a", "markets": {"spot": market}} for name in ("a", "b")
        },
        "risk_limits": {"per_venue": {"a_spot": {"max_exposure_usd": 5}, "b_spot": {"max_exposure_usd": 5}}},
        "fees": {"b_spot": {"taker_ppm": 1}},
    }
    config = config_from_mapping(data)
    assert [venue.name for venue in config.venues] == ["a_spot", "b_spot"]
    assert [venue.name for venue in config.trading_venues] == ["a_spot"] and config.trading_exchanges == ("a",)
    assert config_notes(config) == [
        "risk_limits.per_venue.b_spot: exchanges.b.trade is false, so it does not count",
        "fees.b_spot: exchanges.b.trade is false, so it does not count",
    ]


def test_a_canary_narrows_every_limit_is_told_and_is_widened_by_a_reload() -> None:
    wide = {
        "risk_limits": {
            "per_venue": {"gateio_spot": {"max_exposure_usd": 900}},
            "per_asset": {"BTC": {"enabled": False}},
        },
        "exchanges": {"gateio": {"dialect": "gateio", "markets": {"spot": {"rest": "https://h/a", "ws": "wss://h/a"}}}},
    }
    own, canary = config_from_mapping(wide), config_from_mapping({**wide, "canary": {}})
    limits = canary.risk_limits
    assert canary.detection.max_notional_usd == 10 and limits.max_open_operations == 1
    assert limits.max_total_exposure_usd == limits.max_position_size_usd == limits.warn_exposure_usd == 40
    assert (limits.max_daily_loss_usd, limits.total_loss_usd) == (2, 8)
    assert (canary.naked_usd_s, own.naked_usd_s) == (10 * 15, 2000 * 15), "where none is set, by the largest entry"
    assert limits.per_venue["gateio_spot"].max_exposure_usd == 40 and limits.per_asset["BTC"].max_exposure_usd is None
    assert limits.min_profit_usd == Decimal("0.0025"), "0.50 of 2000 USD, for 10: as strict in bps, or it never trades"
    assert canary.as_canary() == canary and own.as_canary() == own
    narrow = {**wide, "risk_limits": {"max_total_exposure_usd": 20, "max_daily_loss_usd": 1}, "canary": {}}
    kept = config_from_mapping(narrow).risk_limits
    assert (kept.max_total_exposure_usd, kept.max_daily_loss_usd) == (20, 1), "the smaller one holds"
    assert "canary: entries of at most 10 USD, 40 USD in all, 2 USD a day" in config_notes(canary)[0]
    assert not any("canary" in note for note in config_notes(own))
    changes = reload_changes(canary, own)
    assert changes["detection.max_notional_usd"][1] == "2000" and "canary.max_notional_usd" in changes
    assert not [line for line in live_errors(canary) if "above" in line], (
        "narrowed like the rest, or live would refuse them"
    )


@pytest.mark.parametrize(
    ("notional", "position", "least", "wanted"),
    [
        ("2000", "10000", "5", "0.025"),
        ("200", "10000", "5", "0.25"),  # 250 bps of the largest entry, before and after
        ("2000", "100", "2", "0.2"),  # no entry is larger than the position
        ("7", "10000", "0.50", "0.50"),  # smaller than the canary's: nothing shrinks
        ("30", "10000", "-3", "-1"),
    ],
)
def test_the_least_profit_under_a_canary_is_as_strict_in_bps(
    notional: str, position: str, least: str, wanted: str
) -> None:
    config = config_from_mapping(
        {
            "detection": {"max_notional_usd": notional},
            "risk_limits": {"max_position_size_usd": position, "min_profit_usd": least},
            "canary": {},
        }
    )
    assert config.risk_limits.min_profit_usd == Decimal(wanted)
    assert config.as_canary() == config


def test_trusted_coins_are_added_and_a_list_that_leaves_some_out_is_told() -> None:
    added = config_from_mapping({"detection": {"also_trusted_coins": ["NOVA"]}})
    assert added.detection.every_trusted_coin == {*TRUSTED_COINS, "NOVA"} and config_notes(added) == []
    replaced = config_from_mapping({"detection": {"trusted_coins": ["NOVA", "BTC"], "also_trusted_coins": ["ETH"]}})
    assert replaced.detection.every_trusted_coin == {"NOVA", "BTC", "ETH"}
    (note,) = config_notes(replaced)
    assert "leaves out ADA, BNB, DOGE" in note and "ETH" not in note and "also_trusted_coins adds" in note


def test_a_value_that_the_canary_narrows_says_so(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("canary: {}\nrisk_limits: {max_daily_loss_usd: 500, max_total_exposure_usd: 30}\n")
    _, origins = load_with_origins(path, {})
    assert origins["risk_limits.max_daily_loss_usd"] == "canary, narrower than 500"
    assert origins["detection.max_notional_usd"] == "canary, narrower than 2000"
    assert origins["risk_limits.max_total_exposure_usd"] == f"file {path}", "the own one is the smaller"
    least = origins["risk_limits.min_profit_usd"]
    assert least.startswith("canary, in proportion") and "0.50" in least and "narrower" not in least
