"""Every trouble that a seed may draw is one that the simulated venues of the demo take."""

from __future__ import annotations

import asyncio
import random

from pipeline.sim.control import check_names
from pipeline.sim.exchange.faults import FaultRule
from tests.worlds.exchange_world import world
from workers.kills.plan import venue_trouble


def test_every_trouble_names_what_its_venue_has() -> None:
    async def names() -> dict[str, list[str]]:
        async with world() as demo:
            return demo.server.listed()

    listed = asyncio.run(names())
    for seed in range(2000):
        rule = FaultRule.parse(venue_trouble(random.Random(seed)))
        check_names(rule, listed)
