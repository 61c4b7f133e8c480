"""A view that raises ends no executor: it is said once, counted, and everything else goes on."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.units import NS_PER_DAY
from shm.metrics import Metrics
from tests.worlds.execution_starts import ready_world
from tests.worlds.external_world import external_world, hedge
from workers.executor.publisher import PERIOD_NS, Publisher
from workers.executor.shown import Shown
from workers.executor.views import CoreViews
from workers.executor_file import read_executor_state


def test_what_was_realised_yesterday_is_not_shown_as_of_today(tmp_path: Path) -> None:
    world = ready_world()
    publisher, ledger = Publisher(world.core, tmp_path, lambda level, text: None), world.core.ledger
    world.core.context.now = world.now()
    ledger.day, ledger.day_pnl, ledger.total_pnl = world.now().wall_ns // NS_PER_DAY, Decimal(5), Decimal(9)
    for today in (5, 0):
        pnl = publisher.state().pnl
        assert pnl is not None and (pnl["realised_today"], pnl["realised"]) == (today, 9)
        ledger.day -= 1


def test_a_view_that_is_broken_ends_no_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = external_world()
    hedge(world)
    world.core.context.now = world.now()
    said: list[str] = []
    metrics = Metrics.private("executor")
    shown = Shown(
        Publisher(world.core, tmp_path, lambda level, text: said.append(text)),
        metrics,
        lambda *line: said.append(line[1]),
    )
    hedges = CoreViews.hedges

    def broken(views: CoreViews) -> list[dict[str, Any]]:
        raise KeyError("a row")

    async def body() -> None:
        monkeypatch.setattr(CoreViews, "hedges", broken)
        for tick in range(100):
            shown.tick(tick * PERIOD_NS // 4)
        await shown.publish()
        await shown.publish(stopped=True)
        assert [text for text in said if "cannot be shown" in text and "KeyError: 'a row'" in text] and len(said) <= 2
        assert metrics.value("views_failed") > 3 and read_executor_state(tmp_path) is None
        monkeypatch.setattr(CoreViews, "hedges", hedges)
        await shown.publish()
        state = read_executor_state(tmp_path)
        assert state is not None and len(state.hedges) == 1

    asyncio.run(body())
