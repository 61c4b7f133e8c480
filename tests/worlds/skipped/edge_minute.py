"""One venue behind an edge that answers everything with pages for a while, on skipped time.

    python -m tests.worlds.skipped.edge_minute VENUE SECONDS STATUS

Prints one JSON object by the venue's own ledger: how many pages there were, and how many seconds after the edge's end
an order was taken, and the account was read.
"""

from __future__ import annotations

from tests.worlds.skipped import clock

clock.install()  # before the modules below bind the kernel's clocks

import asyncio  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

from pipeline.model.clock import mono_ns  # noqa: E402
from pipeline.model.errors import VenueError  # noqa: E402
from tests.worlds.trading_venue import TradingVenue, trading_venue  # noqa: E402
from tests.worlds.waiting import until_async  # noqa: E402

SCENARIO = "seven_venues"
ASK_S, PLACE_S = 2.0, 0.5


async def ask(it: TradingVenue) -> None:
    """Reads the account again and again, as a poller does."""
    while True:
        with contextlib.suppress(VenueError):
            await it.client.balances()
        await asyncio.sleep(ASK_S)


async def place(it: TradingVenue) -> None:
    """Sends an order whenever the session takes one."""
    number = 0
    while True:
        number += 1
        if it.trading.connected and it.trading.can_place(1):
            with contextlib.suppress(VenueError):
                it.trading.place(it.buy(f"g{number}"))
        await asyncio.sleep(PLACE_S)


async def body(venue: str, seconds: float, status: int) -> dict[str, Any]:
    async with trading_venue(venue, SCENARIO) as it:
        rows = it.box.server.ledger.of_kind

        def first_s(operation: str) -> float | None:
            """Seconds from the edge's end to the first such request that met no fault."""
            found = [
                row["mono_ns"] for row in rows("request") if row["venue"] == venue and row["operation"] == operation
            ]
            later = [at_ns for at_ns in found if at_ns > over_ns]
            return (later[0] - over_ns) / 1e9 if later else None

        it.box.fault(kind="gateway_page", venue=venue, target="*", count=0, status=status)
        it.box.fault(kind="disconnect", venue=venue, target="all")
        users = [asyncio.create_task(ask(it)), asyncio.create_task(place(it))]
        await asyncio.sleep(seconds)
        it.box.server.faults.clear()
        over_ns = mono_ns()
        await until_async(lambda: first_s("place") is not None and first_s("balances") is not None, "orders again", 1e6)
        for user in users:
            user.cancel()
        pages = [row for row in rows("request") if row["venue"] == venue and "page_status" in row.get("fault", "")]
        return {"pages": len(pages), "order_s": first_s("place"), "account_s": first_s("balances")}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        print(json.dumps(runner.run(body(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))))
