"""The simulated exchanges as a child process: what they say when they are ready."""

from __future__ import annotations

from pathlib import Path

from workers.demo.simulator import SimulatorProcess


def test_the_simulator_says_where_it_is_controlled(tmp_path: Path) -> None:
    simulator = SimulatorProcess(seed=1, scenario="null_flat", log=tmp_path / "sim.log")
    try:
        control = simulator.wait_ready()["control"]
        assert f"arb sim: control: {control}: curl {control} says" in (tmp_path / "sim.log").read_text()
        assert simulator.control("/faults?kind=funding")["kinds"]["funding"]["example"]["venue"] == "gateio_futures"
    finally:
        simulator.stop()
