"""Books that have to be read anew: all at once, and while the venue refuses or says nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from pipeline.exchanges.transport import rest
from tests.worlds.exchange_world import TRADED
from tests.worlds.feed_bench import Bench, on
from tests.worlds.waiting import until_async as until
from workers.feed import warm


@pytest.fixture(scope="module", autouse=True)
def machine_code() -> None:
    """Kernels are compiled (or loaded) before any loop runs: a blocked loop would look like a stalled venue."""
    warm(["mexc", "gateio"])


@pytest.mark.parametrize("name", TRADED)
def test_gaps_of_every_book_at_once_are_filled_within_the_budget(name: str) -> None:
    async def scenario(it: Bench) -> None:
        for row in it.rows:
            await it.moved(row)
        before = it.feed.books.counters.snapshots
        for row in it.rows:
            it.box.fault(kind="drop_delta", venue=name, target="depth", symbol=row.spec.symbol)
        await until(lambda: it.feed.books.counters.gaps >= len(it.rows), "a gap of each")
        await until(it.all_tradable, "whole books again")
        await it.equal()
        assert it.feed.books.counters.snapshots - before <= 4 * len(it.rows), "asked for each, not again and again"
        requests = it.box.server.ledger.of_kind("request")
        assert not [row for row in requests if row["detail"].get("status") == 429]

    on(name, scenario)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "http_error", "status": 500, "count": 2},
        {"kind": "rate_limit", "retry_after_s": 0.5, "count": 1},
        {"kind": "delay_response", "delay_ms": 5000, "count": 1},
    ],
    ids=lambda fault: str(fault["kind"]),
)
def test_snapshots_that_fail_are_asked_again_with_backoff(
    fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "Pool", partial(rest.Pool, total_s=2.0))  # an answer that does not come is given up then

    async def scenario(it: Bench) -> None:
        symbol = it.rows[0].spec.symbol
        await it.moved(it.rows[0])
        it.box.fault(venue="mexc_spot", target="depth", **fault)
        it.box.fault(kind="drop_delta", venue="mexc_spot", target="depth", symbol=symbol)
        await until(lambda: it.feed.counters.snapshots_failed >= fault["count"], "failed snapshots")
        others = it.rows[1:]
        assert all(it.feed.books.is_synced(row.book_index) for row in others)
        await until(it.all_tradable, "whole books again")

    on("mexc_spot", scenario)
