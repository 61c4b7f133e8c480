"""The plan of CPUs: nobody outside the host's set, spinners alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.config_load import config_from_mapping
from workers.control_plane.cores import plan_cores


@given(st.lists(st.integers(0, 127), min_size=1, max_size=64, unique=True), st.integers(1, 20))
def test_plans_stay_within_the_host_and_spinners_are_alone(cpus: list[int], feeds: int) -> None:
    names = [f"x{n}" for n in range(feeds)]
    plan, words = plan_cores(sorted(cpus), names)
    assert words
    for settings in plan.values():
        assert set(settings["cpus"]) <= set(cpus)
    for name, settings in plan.items():
        if settings.get("wait") == "spin":
            others = [set(other["cpus"]) for other_name, other in plan.items() if other_name != name]
            assert all(not set(settings["cpus"]) & other for other in others)
    exchanges = {
        name: {"dialect": "mexc", "markets": {"spot": {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1"}}}
        for name in names
    }
    config_from_mapping({"mode": "sim", "exchanges": exchanges, "processes": plan})


def test_two_cpus_split_between_reading_and_deciding() -> None:
    plan, words = plan_cores([0, 1], ["mexc", "gateio"])
    assert plan["feed.mexc"] == plan["feed.gateio"] == {"cpus": [0]}
    assert plan["detector"] == plan["executor"] == {"cpus": [1]}
    assert "too few to spin" in words


def test_one_cpu_pins_nothing() -> None:
    assert plan_cores([3], ["mexc"])[0] == {}
