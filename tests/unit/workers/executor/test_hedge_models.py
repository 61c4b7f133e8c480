"""What was learned of a pair's basis outlives the executor, and a damaged file does not stop its start."""

from __future__ import annotations

from pathlib import Path

from tests.worlds.execution_starts import ready_world
from workers.executor.hedge_models import FILE, HedgeModels


def test_models_go_on_in_the_next_run(tmp_path: Path) -> None:
    first = ready_world()
    first.run(130_000)
    learned = first.core.hedges.watch.states()
    assert len(learned) == 2
    HedgeModels(tmp_path, first.core.hedges.watch).save()
    second = ready_world()
    assert HedgeModels(tmp_path, second.core.hedges.watch).load() == ""
    assert second.core.hedges.watch.states() == learned


def test_a_damaged_or_missing_file_is_no_model(tmp_path: Path) -> None:
    world = ready_world()
    models = HedgeModels(tmp_path, world.core.hedges.watch)
    assert models.load() == ""
    models.save()
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2] + b"\xff")
    assert "learned anew" in models.load()
