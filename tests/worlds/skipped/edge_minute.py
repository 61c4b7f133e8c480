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
import secrets  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from pipeline.model.clock import mono_ns  # noqa: E402
from pipeline.model.config_load import config_from_mapping  # noqa: E402
from pipeline.model.errors import VenueError  # noqa: E402
from shm.liveness import Liveness  # noqa: E402
from shm.logring import LogRing  # noqa: E402
from shm.metrics import Metrics  # noqa: E402
from shm.pages import AccountPage, CataloguePage  # noqa: E402
from shm.segment import cleanup_instance  # noqa: E402
from tests.worlds.trading_venue import TradingVenue, trading_venue  # noqa: E402
from tests.worlds.waiting import until_async  # noqa: E402
from workers.base import WorkerContext  # noqa: E402
from workers.poller import AccountWriter, VenuePoller  # noqa: E402

SCENARIO = "seven_venues"
PLACE_S = 0.5


@contextlib.contextmanager
def poller_of(it: TradingVenue) -> Iterator[VenuePoller]:
    """The account poller's own sweeps of the venue, on pages of their own."""
    instance = f"e-{secrets.token_hex(4)}"
    config = config_from_mapping({"engine_name": instance, "mode": "sim"})
    with contextlib.ExitStack() as stack:
        stack.callback(cleanup_instance, instance)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ctx = WorkerContext(
            config=config, instance=instance, process="poller", exchange="", state_dir=folder, restarts=0
        )
        ctx.liveness = Liveness.create(instance, "poller")
        ctx.log = LogRing.create(instance, "poller")
        ctx.metrics = Metrics.create(instance, "poller")
        account, catalogue = AccountPage.create(instance), CataloguePage.create(instance)
        for segment in (ctx.liveness, ctx.log, ctx.metrics, account, catalogue):
            stack.callback(segment.close)
        writer = AccountWriter(account, CataloguePage.attach(instance), [it.config])
        yield VenuePoller(ctx, it.config, it.client, writer)


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

        with poller_of(it) as poller:
            users = [asyncio.create_task(poller.run())]
            # Modes first: a venue changes none beside an open position, and no gate keeps the order below from it.
            await until_async(lambda: poller.swept, "the account's first page", 1e6)
            it.box.fault(kind="gateway_page", venue=venue, target="*", count=0, status=status)
            it.box.fault(kind="disconnect", venue=venue, target="all")
            users.append(asyncio.create_task(place(it)))
            await asyncio.sleep(seconds)
            it.box.server.faults.clear()
            over_ns = mono_ns()
            await until_async(lambda: None not in map(first_s, ("place", "balances")), "orders again", 1e6)
            for user in users:
                user.cancel()
            await asyncio.gather(*users, return_exceptions=True)
        pages = [row for row in rows("request") if row["venue"] == venue and "page_status" in row.get("fault", "")]
        return {"pages": len(pages), "order_s": first_s("place"), "account_s": first_s("balances")}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        print(json.dumps(runner.run(body(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))))
