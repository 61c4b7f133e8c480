"""The verdict of a long life, by what is known of it."""

from __future__ import annotations

from typing import Any

from bench.growth import goals_of, mix_of, template_of, traded_world

FOLD: dict[str, Any] = {
    "start_s": 2.0, "peak_mb": 300, "operations": 10, "first_fill_known": True, "another_known": False,
}  # fmt: skip


def said(found: dict[str, Any], *, fold_only: bool = False) -> dict[str, tuple[bool, str]]:
    return {goal.name: (goal.met, goal.found) for goal in goals_of(found, fold_only=fold_only)}


def test_the_life_has_what_the_demo_has() -> None:
    """Orders that fill in part and by several executions, repairs, hedges: each makes an operation dearer to keep."""
    template = [entry.record for entry in template_of(traded_world(6))]
    mix = mix_of(template)
    assert mix.keys() == {"orders filled in part", "orders of several fills", "repairs", "hedges"}
    assert all(mix.values()), mix
    said_of = {goal.name: goal.met for goal in goals_of({"life": {"operations": 1, "mix": mix}}, fold_only=True)}
    assert said_of["partials, repairs, hedges"]
    without = {
        goal.name: goal.met
        for goal in goals_of({"life": {"operations": 1, "mix": mix | {"repairs": 0}}}, fold_only=True)
    }
    assert not without["partials, repairs, hedges"]


def test_what_a_cut_run_has_not_seen_is_met_by_nothing() -> None:
    assert all(not found for _, found in said({}).values())
    begun = said({"life": {"operations": 10}, "fold": FOLD})
    assert begun["fold"] == (True, "2.0 of 5 s") and begun["READY"][1] == ""


def test_a_forgotten_fill_lost_operations_and_a_late_start_are_named() -> None:
    whole = {
        "life": {"operations": 10},
        "fold": FOLD,
        "executor": [{"ready_s": 5.5, "peak_mb": 700}, {"launch_s": 9.0, "peak_mb": 200}],
        "fold_after": {**FOLD, "operations": 9, "first_fill_known": False},
    }
    found = said(whole)
    assert found["READY"] == (False, "5.5 of 5 s") and found["memory"] == (False, "700 of 600 MB")
    assert not found["the first fill is known"][0] and not found["nothing forgotten"][0]
    assert "READY" not in said(whole, fold_only=True)
