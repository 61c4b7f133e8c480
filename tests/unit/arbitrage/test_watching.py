"""Watches: what their stop does with callbacks that are still running."""

from __future__ import annotations

import asyncio

import pytest

import arbitrage.watching
from arbitrage.watching import Watch


async def look() -> None:
    """Nothing is news."""


@pytest.fixture(autouse=True)
def _no_time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arbitrage.watching, "CALLBACKS_END_S", 0.05)


@pytest.mark.parametrize("started", [True, False], ids=["started", "never started"])
def test_a_callback_that_hangs_does_not_outlive_the_stop(started: bool) -> None:
    called: list[str] = []

    async def hangs(news: str) -> None:
        called.append(news)
        await asyncio.Event().wait()

    async def scene() -> set[str]:
        watch = Watch("risk", look)
        if started:
            await watch.start()
        watch.tell(hangs, "hung")
        watch.tell(called.append, "called")
        await watch.stop()
        assert watch.callback_errors == 0
        return {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}

    assert asyncio.run(scene()) == set() and called == ["hung", "called"]


def test_a_callback_may_stop_its_watch() -> None:
    async def scene() -> list[str]:
        watch, called = Watch("risk", look), list[str]()
        ended = asyncio.Event()

        async def stops() -> None:
            await watch.stop()
            called.append("stopped")
            ended.set()

        await watch.start()
        watch.tell(stops)
        await ended.wait()
        return called

    assert asyncio.run(scene()) == ["stopped"]
