"""Books by REST: what a piece of a recording begins with."""

from __future__ import annotations

import asyncio

import pytest

from tests.worlds.feed_bench import Bench, on
from tests.worlds.waiting import until_async as until
from workers.feed import warm


@pytest.fixture(scope="module", autouse=True)
def machine_code() -> None:
    """Kernels are compiled (or loaded) before any loop runs: a blocked loop would look like a stalled venue."""
    warm(["gateio"])


def test_each_piece_of_a_recording_begins_with_every_book() -> None:
    """Also where the last one has just begun, and where nothing has happened in a market since."""

    async def scenario(it: Bench) -> None:
        counters, books = it.feed.counters, len(it.rows)
        for pieces in (1, 2):
            it.feed.snapshots.renew()
            await until(lambda: counters.deepened >= pieces * books, "every book")  # noqa: B023
        assert it.box.server.market is not None
        it.box.server.market.stop()
        it.feed.snapshots.renew()
        await until(lambda: counters.deepened >= 3 * books, "every book at rest")
        assert it.feed.synced and not it.feed.snapshots._renewing

    on("gateio_spot", scenario)


def test_a_piece_of_a_recording_needs_a_snapshot_that_was_asked_for_in_it() -> None:
    """Updates behind one that was on its way already may stand in the piece before."""

    async def scenario(it: Bench) -> None:
        first, snapshots, depth = it.rows[0], it.feed.snapshots, it.feed.client.depth_snapshot
        asked, answers = list[str](), asyncio.Event()

        async def late(symbol: str) -> bytes:
            asked.append(symbol)
            payload = await depth(symbol)
            await answers.wait()
            return payload

        it.feed.client.depth_snapshot = late  # type: ignore[method-assign]
        snapshots.keep_updates_for_snapshot(first.book_index)  # near its horizon
        await until(lambda: asked == [first.spec.symbol], "its question")
        snapshots.renew()
        answers.set()
        await until(lambda: not snapshots._renewing, "every book")
        assert asked.count(first.spec.symbol) > 1

    on("gateio_spot", scenario)
