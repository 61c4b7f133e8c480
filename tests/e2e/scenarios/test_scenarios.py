"""The scenarios about what happens after an entry, as ``arb demo`` runs them: money agrees, what stays open is named,
and what the scenario is about has happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.worlds.instance_rig import arb

pytestmark = pytest.mark.e2e

Fields = dict[str, Any]


def a_standing_edge_was_traded_and_a_standing_basis_was_not(fields: Fields) -> bool:
    return (
        fields["dislocations"]["offered"] == 0
        and fields["operations"]["completed"] > 0
        and fields["hedges"]["opened"] == 0
    )


def others_traded_and_moved_money(fields: Fields) -> bool:
    external = fields["external"]
    return (
        external["fills"].get("order", 0) >= 3
        and external["held_by_others"].get("ETH") == "0.3"
        and "BTC" not in external["held_by_others"]  # sold, and bought back
        and external["money"] == {"USDT": "-1000"}
        and fields["opportunities"]["refused"].get("breaker", 0) > 0  # an id of an engine's form
    )


def funding_was_booked_and_a_hedge_left(fields: Fields) -> bool:
    return bool(fields["funding"]["payments"] and fields["hedges"]["closed"])


def a_hedge_was_liquidated_and_left_no_leg(fields: Fields) -> bool:
    held = {row["futures"] for row in fields["open_hedges"]}
    return fields["external"]["fills"].get("liquidation", 0) > 0 and "gateio_futures ETH_USDT" not in held


SHOWN: dict[str, Callable[[Fields], bool]] = {
    "drift": a_standing_edge_was_traded_and_a_standing_basis_was_not,
    "foreign_orders": others_traded_and_moved_money,
    "funding_turn": funding_was_booked_and_a_hedge_left,
    "liquidation": a_hedge_was_liquidated_and_left_no_leg,
}


#: What waits for funding times and for a fall of prices is shown within a minute or two only; of the others one will do
#: for the slice.
MARKS = {scenario: pytest.mark.slice if scenario == "foreign_orders" else pytest.mark.campaign for scenario in SHOWN}


RUNS = [pytest.param(scenario, 1, marks=mark) for scenario, mark in MARKS.items()]
RUNS += [pytest.param(scenario, seed, marks=pytest.mark.campaign) for scenario in SHOWN for seed in (2, 3)]


@pytest.mark.parametrize(("scenario", "seed"), RUNS)
def test_a_scenario_shows_what_it_is_about_and_its_money_agrees(
    scenario: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first seed in short: a funding rate is known as soon as it has turned. The others as a user runs them."""
    lengths_s = (30, 60, 120)  # longer only where the machine is too busy for it all
    if seed == 1:
        monkeypatch.setenv("ARB_TEST_CATALOGUE_REFRESH_S", "1")
        lengths_s = (20, 60, 120)
    for seconds in lengths_s:
        done = arb("demo", "--scenario", scenario, "--seed", str(seed), "--seconds", str(seconds), "--json")
        assert done.returncode == 0, done.stderr
        fields = msgspec.json.decode(done.stdout, type=Fields)
        assert fields["violations"] == [] and fields["flat"] is True
        assert fields["pnl"]["equal"] is True and fields["pnl"]["engine"] == fields["pnl"]["venue"]
        assert fields["operations"]["unresolved"] == 0
        assert len(fields["open_hedges"]) == fields["hedges"]["opened"] - fields["hedges"]["closed"]
        if SHOWN[scenario](fields):
            break
    assert SHOWN[scenario](fields), done.stdout
