"""``arb top`` as an application, driven by textual's own pilot: what is on the screen, in every size, by every key."""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from pipeline.virtual.margin_storm import Storm, storm_world
from pipeline.virtual.world import VirtualWorld
from shm.errors import ShmError
from tests.worlds.waiting import WAIT_S, until_async
from workers.executor.publisher import Publisher
from workers.executor_file import write_executor_state
from workers.report.recent import NOTHING_YET, Recent
from workers.state_folder import instance_dir
from workers.view.status import Reader
from workers.view.top_app import TABS, TopApp, banner

SIZES = ((80, 24), (200, 60))
TRADE = {
    "at": "2026-01-02T03:04:05Z", "id": "r7-1", "pair": "BTC/USDT", "type": "spot_spot", "outcome": "completed",
    "pnl": Decimal("1.25"), "asset": "USDT", "expected_bps": 60.0, "realised_bps": 55.5,
}  # fmt: skip
REFUSED = {"at": "2026-01-02T03:04:06Z", "opportunity": 9, "pair": "ETH/USDT", "reason": "skew", "detail": "160 ms"}
RECENT = Recent([], [TRADE], [REFUSED])
Step = Callable[[TopApp, Pilot[None]], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def hedged() -> VirtualWorld:
    """A core with an open hedge."""
    world = storm_world(Storm(), 1, up=True)
    world.run(2500)
    world.core.context.now = world.now()
    return world


@pytest.fixture
def reading(hedged: VirtualWorld, state_dir: Path, instance: str) -> dict[str, Any]:
    """What ``arb status`` reads of a core with an open hedge that has stopped in order, and books that are as many as
    no screen has room for."""
    folder = instance_dir(instance, create=True)
    (folder / "run.json").write_bytes(msgspec.json.encode({"state": "stopped", "mode": "sim"}))
    (folder / "lock").touch()
    write_executor_state(folder, Publisher(hedged.core, folder, lambda level, text: None).state(stopped=True))
    book = {"venue": "v", "bid": Decimal(1), "ask": Decimal(2), "bid_qty": Decimal(3), "ask_qty": Decimal(4)}
    books = [
        {**book, "pair": f"P{number:03}/USDT", "symbol": "", "age_ms": 5.0, "tradable": True} for number in range(90)
    ]
    return {**Reader(instance).read(), "books": books}


def screen(app: TopApp) -> str:
    """The text that is on the screen, a line of it a line."""
    svg = app.export_screenshot()
    rows: dict[float, list[tuple[float, str]]] = {}
    for kind, x, y, text in re.findall(r'<text class="([^"]*)"[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', svg):
        if kind.endswith("-title"):  # of the picture, not of the screen
            continue
        rows.setdefault(float(y), []).append((float(x), html.unescape(text).replace("\xa0", " ")))
    return "\n".join("".join(text for _, text in sorted(row)) for _, row in sorted(rows.items()))


async def shown(app: TopApp, pilot: Pilot[None], *texts: str) -> str:
    """The screen, once it shows all of it: a process that is kept off its CPU looks as if it had nothing to do."""
    give_up = time.monotonic() + WAIT_S
    while True:
        await pilot.pause()
        drawn = screen(app)
        missing = [text for text in texts if text not in drawn]
        if not missing:
            return drawn
        assert time.monotonic() < give_up, (missing, drawn)


def driven(reading: dict[str, Any], step: Step, size: tuple[int, int] = (120, 50), recent: Recent = RECENT) -> None:
    async def run() -> None:
        app = TopApp(lambda: reading, lambda: recent)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await step(app, pilot)

    asyncio.run(run())


@pytest.mark.parametrize("size", SIZES)
def test_every_tab_shows_what_it_is_about_in_every_size(reading: dict[str, Any], size: tuple[int, int]) -> None:
    wanted = {
        "overview": ["why not", "P&L"],
        "books": ["P000/USDT"],
        "found": ["ETH/USDT", "skew"],
        "trades": ["BTC/USDT", "completed", "1.2500 USDT"],
        "held": [str(reading["positions"][0]["symbol"]), "open hedges:"],
        "latency": ["latency, us"],
        "processes": ["processes"],
    }
    assert wanted.keys() == TABS.keys()

    async def step(app: TopApp, pilot: Pilot[None]) -> None:
        for number, name in enumerate(TABS, 1):
            await pilot.press(str(number))
            drawn = await shown(app, pilot, "SIMULATED - no real money", reading["instance"], *wanted[name])
            assert len(drawn.splitlines()) <= size[1]

    driven(reading, step, size)


def test_real_money_and_a_halt_are_told_in_words_and_colours_on_every_tab(reading: dict[str, Any]) -> None:
    live = {**reading, "mode": "live", "state": "ready", "phase": "ready", "halted": False}
    halted = {**live, "state": "halted", "halted": True, "halt_reason": "by hand"}
    seen: dict[str, str] = {}

    def look(words: str, tabs: int = 1) -> Step:
        async def step(app: TopApp, pilot: Pilot[None]) -> None:
            line = app.query_one("#banner")
            for _ in range(tabs):
                assert words in (await shown(app, pilot, words)).splitlines()[0]
                assert line.size.height == 1 and line.region.y == 0
                await pilot.press("right")
                await pilot.pause()
            seen[words] = f"{line.styles.background} {line.styles.color} {line.styles.text_style}"

        return step

    driven(live, look("LIVE - real money", len(TABS)), SIZES[0])
    driven(halted, look("HALTED  LIVE - real money"), SIZES[0])
    driven({**live, "mode": "paper"}, look("PAPER - real books, no real money"), SIZES[0])
    assert len(set(seen.values())) == 3, seen


def test_the_banner_tells_a_halt_before_what_stops_and_that_before_real_money(reading: dict[str, Any]) -> None:
    live = {**reading, "mode": "live", "phase": "ready", "halted": False}
    assert banner({**live, "state": "ready"})[1] == banner({**live, "state": "degraded"})[1] == "live"
    assert banner({**live, "state": "stopped"})[1] == "stopped"
    assert banner({**live, "state": "stopped", "halted": True, "halt_reason": None})[1] == "halted"
    assert banner({**live, "state": "halted"})[1] == "halted", "what nothing explains, without a latch"
    assert banner({**live, "mode": None, "state": "ready"})[0].startswith("mode not known")


def test_keys_go_round_the_tabs_scroll_pause_read_and_leave(reading: dict[str, Any]) -> None:
    reads: list[int] = []

    async def run() -> None:
        def read() -> dict[str, Any]:
            reads.append(1)
            return reading

        app = TopApp(read, lambda: NOTHING_YET)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("left")
            await shown(app, pilot, "processes")
            await pilot.press("right", "right")
            assert "P089/USDT" not in await shown(app, pilot, "P000/USDT")
            await pilot.press("end")
            await pilot.wait_for_animation()
            await shown(app, pilot, "P089/USDT")  # what has no room is scrolled to
            await pilot.press("p")
            assert "(paused)" in (await shown(app, pilot, "(paused)")).splitlines()[0]
            before = len(reads)
            await app._look_again()
            assert len(reads) == before
            await pilot.press("r")
            await until_async(lambda: len(reads) == before + 1, "asked for, it is read though it is paused")
            await pilot.press("p", "q")
        assert app.return_code == 0

    asyncio.run(run())


def test_ctrl_c_leaves_the_view_as_an_interruption(reading: dict[str, Any]) -> None:
    async def run() -> None:
        app = TopApp(lambda: reading, lambda: NOTHING_YET)
        async with app.run_test() as pilot:
            await pilot.press("ctrl+c")
        assert app.return_code == 130

    asyncio.run(run())


def test_an_instance_that_cannot_be_read_just_now_is_told_and_looked_at_again(reading: dict[str, Any]) -> None:
    broken = [True]

    async def run() -> None:
        def read() -> dict[str, Any]:
            if broken[0]:
                raise ShmError("the memory of another build")
            return reading

        app = TopApp(read, lambda: NOTHING_YET)
        async with app.run_test() as pilot:
            said = "cannot be read: the memory of another build"
            assert (await shown(app, pilot, said)).splitlines()[0] == said
            broken[0] = False
            await app.look()
            assert "SIMULATED" in (await shown(app, pilot, "SIMULATED")).splitlines()[0]

    asyncio.run(run())
