"""Scenario files: inheritance, refusal of what is wrong, what the packaged ones promise."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.model.errors import ConfigInvalid
from pipeline.sim.scenarios.specs import load_scenario, scenario_names


@pytest.mark.parametrize("name", scenario_names())
def test_packaged_scenarios_load(name: str) -> None:
    found = load_scenario(name)
    assert found.name == name and found.description
    binance, bybit = ["binance_spot", "binance_futures"], ["bybit_spot", "bybitperp_futures"]
    wanted = {"four_venues": binance[:1], "five_venues": binance, "seven_venues": binance + bybit}
    more = wanted.get(name, [])
    assert found.venue_names == ["mexc_spot", "gateio_spot", "gateio_futures", *more]
    assert found.expect_no_orders == name.startswith("null_")
    assert len(found.pairs) >= 6


def test_demo_has_real_multipliers_small_fees_and_same_ticker_traps() -> None:
    demo = load_scenario("demo")
    multipliers = {
        pair: row.listings["gateio_futures"].multiplier
        for pair, row in demo.pairs.items()
        if "gateio_futures" in row.listings
    }
    assert multipliers["BTC/USDT"] == Decimal("0.0001")
    assert multipliers["ETH/USDT"] == Decimal("0.01")
    assert multipliers["DOGE/USDT"] == Decimal("10")
    assert all(0 <= demo.venue(name).taker_fee_ppm <= 200 for name in demo.venue_names)
    mexc, gate = demo.venue("mexc_spot"), demo.venue("gateio_spot")
    for coin in ("NOVA", "ORB"):
        assert mexc.coins[coin].networks != gate.coins[coin].networks


def test_extends_merges_mappings_and_null_removes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: demo\ndislocations: {half_life_ms: 7}\npairs: {ORB/USDT: null, BTC/USDT: {price: 70000}}\n",
        encoding="utf-8",
    )
    found = load_scenario(path)
    assert found.name == "mine" and "ORB/USDT" not in found.pairs
    assert found.pairs["BTC/USDT"].price == 70000 and found.pairs["BTC/USDT"].listings
    assert found.dislocations.half_life_ms == 7 and found.dislocations.rate_per_s == 3


@pytest.mark.parametrize(
    ("over", "text"),
    [
        ({"colour": "red"}, "colour"),
        ({"pairs": {"BTC/USDT": {"price": -1}}}, "must be positive"),
        ({"pairs": {"BTC/USDT": {"listings": {"kraken_spot": {"symbol": "X", "tick": 1, "lot": 1}}}}}, "kraken_spot"),
        ({"pairs": {"BTC/USDT": {"clustering": 1.0}}}, "clustering"),
        ({"dislocations": {"half_life_ms": 0}}, "half_life_ms"),
        ({"exchanges": {"mexc": {"venues": {"options": {"kind": "spot"}}}}}, "options"),
    ],
)
def test_wrong_scenarios_are_refused_with_the_place(over: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigInvalid, match=text):
        load_scenario({"extends": "demo", "name": "mine", **over})


def test_unknown_name_lists_the_packaged_ones() -> None:
    with pytest.raises(ConfigInvalid, match="null_flat"):
        load_scenario("no_such_scenario")


def test_circle_of_extends_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text(f"extends: {path}\n", encoding="utf-8")
    with pytest.raises(ConfigInvalid, match="circle"):
        load_scenario(path)


def test_some_venues_of_a_market_keep_its_pairs_and_refuse_unknown_names() -> None:
    five = load_scenario("five_venues")
    two = five.only(["binance_futures", "mexc_spot"])
    assert two.venue_names == ["mexc_spot", "binance_futures"] and two.pairs.keys() == five.pairs.keys()
    assert set(two.pairs["BTC/USDT"].listings) == {"mexc_spot", "binance_futures"}
    assert not five.pairs["ETH/BTC"].listings.keys() - {"mexc_spot", "gateio_spot"}
    for names in ([], ["mexc_spot", "kraken_spot"]):
        with pytest.raises(ConfigInvalid, match="wanted some of mexc_spot, "):
            five.only(names)


def test_a_scenario_says_when_the_last_thing_has_happened_that_it_has_prepared() -> None:
    lasts = {name: load_scenario(name).lasts_s() for name in ("demo", "foreign_orders", "liquidation", "funding_turn")}
    assert lasts == {"demo": 0, "foreign_orders": 13, "liquidation": 109, "funding_turn": 73}
    lasting: list[tuple[dict[str, object], float]] = [
        ({"kind": "move_price", "symbol": "BTC/USDT", "amount": "3%", "duration_ms": 60_000}, 70),
        ({"kind": "announce_delisting", "symbol": "BTC_USDT", "delay_ms": 5000, "duration_ms": 30_000}, 45),
        ({"kind": "clock_skew", "delay_ms": 90_000}, 10),  # no time that passes
        ({"kind": "stall", "duration_ms": 90_000}, 10),  # armed
    ]
    for rule, lasts_s in lasting:
        assert load_scenario({"extends": "demo", "faults": [{**rule, "at_s": 10}]}).lasts_s() == lasts_s, rule
