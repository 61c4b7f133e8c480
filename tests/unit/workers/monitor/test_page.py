"""The page: read over a real socket; mode and halt in words, everything escaped, no script, no secret."""

from __future__ import annotations

import asyncio
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.worlds.execution_world import Faults, World
from workers.monitor.page import HEADERS, page_html
from workers.monitor.server import MonitorServer
from workers.recorder.sqlite_ledger import SqliteLedger
from workers.report.recent import NOTHING_YET, read_recent
from workers.view.status import Reader

NASTY = '<img src=x onerror="alert(1)">&'


class Tags(HTMLParser):
    """Tags and texts of a page; every tag that is opened must be closed."""

    VOID = ("meta", "link", "line", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def reading_of(instance: str, **changed: Any) -> dict[str, Any]:
    return {**Reader(instance).read(), "alerts": [], "targets": {}, "mode": "paper", **changed}


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("live", "LIVE - real money"),
        ("paper", "PAPER - real books, no real money"),
        ("sim", "SIMULATED - no real money"),
    ],
)
def test_mode_and_halt_stand_there_in_words(mode: str, words: str, state_dir: Path, instance: str) -> None:
    page = Tags(page_html(reading_of(instance, mode=mode), NOTHING_YET, 0))
    assert page.open == [] and words in page.text and "HALTED" not in page.text
    others = {"LIVE - real money", "PAPER - real books, no real money", "SIMULATED - no real money"} - {words}
    assert not any(other in page.text for other in others)
    halted = Tags(page_html(reading_of(instance, mode=mode, halted=True, halt_reason="by hand"), NOTHING_YET, 0))
    assert "HALTED: by hand" in halted.text and words in halted.text
    title = halted.text[: halted.text.index("\n")]
    assert title == f"HALTED {mode.upper()}: {instance}"
    assert "mode not known" in Tags(page_html(reading_of(instance, mode=None), NOTHING_YET, 0)).text


def test_what_others_have_written_is_text_and_nothing_is_loaded_from_elsewhere(state_dir: Path, instance: str) -> None:
    reason = {"what": NASTY, "since": None, "solve": NASTY}
    book = {"venue": NASTY, "symbol": NASTY, "pair": "", "bid": None, "bid_qty": None, "ask": None, "ask_qty": None}
    reading = reading_of(
        instance,
        halted=True,
        halt_reason=NASTY,
        reasons=[reason],
        notes=[reason],
        books=[{**book, "age_ms": None, "tradable": False}],
        alerts=[{"severity": "critical", "what": NASTY, "standing": True}],
        opportunities={"detected": 3, "taken": 1, "open": 0, "refused": {NASTY: 2}},
        latency_us={"tick_to_order": {"p50": 3.0, "n": 2}, "stages": {NASTY: {"p50": 1.0, "n": 1}}},
    )
    page = Tags(page_html(reading, NOTHING_YET, 0))
    assert page.open == [] and page.text.count(NASTY) >= 7
    tags = [tag for tag, _ in page.found]
    assert "img" not in tags and "script" not in tags and "form" not in tags
    loaded = [attributes.get("href") or attributes.get("src") for tag, attributes in page.found if tag != "a"]
    assert [url for url in loaded if url] == ["/style.css"]
    assert not any(name.startswith("on") or name == "style" for _, attributes in page.found for name in attributes)
    assert ("meta", {"http-equiv": "refresh", "content": "2"}) in page.found


def test_trades_refusals_and_equity_come_from_the_ledger(state_dir: Path, instance: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    assert read_recent(path, 0) == NOTHING_YET
    world = World(3, Faults(partial=0.4, no_fill=0.3, reject=0.1))
    world.run(100)
    for turn in range(30):
        world.feed(world.offer(*[("mexc_spot", "gateio_spot"), ("gateio_spot", "gateio_futures")][turn % 2]))
        world.run(400)
    ledger = SqliteLedger(path)
    ledger.apply(world.entries, None)
    now = time.time_ns()
    for second in range(3):
        pnl = {"asset": "USDT", "equity": 100 + second, "daily": 1, "trading": 1, "inventory": 0, "realised": 1}
        ledger.equity(now - second * 10**9, pnl)
    ledger.close()
    recent = read_recent(path, now)
    assert len(recent.trades) == 25 and [value for _, value in recent.equity] == [102, 101, 100]
    stamps = [row["at"] for row in recent.trades]
    assert stamps == sorted(stamps, reverse=True)
    page = Tags(page_html(reading_of(instance), recent, now))
    for row in recent.trades:
        assert row["id"] in page.text
    assert any(tag == "polyline" for tag, _ in page.found)


def test_the_page_is_served_with_a_policy_that_allows_its_own_style_alone() -> None:
    async def main() -> None:
        server = MonitorServer(lambda: b"", lambda: (True, {}), str, lambda: "<p>x</p>")
        assert await server.start(0)
        try:
            async with aiohttp.ClientSession() as session:
                for path, kind in (("/", "text/html"), ("/style.css", "text/css")):
                    async with session.get(f"http://127.0.0.1:{server.port}{path}") as reply:
                        assert (reply.status, reply.content_type) == (200, kind)
                        assert {name: reply.headers[name] for name in HEADERS} == HEADERS
                async with session.post(f"http://127.0.0.1:{server.port}/") as reply:
                    assert reply.status == 405
        finally:
            await server.close()

    asyncio.run(main())
    assert "script" not in HEADERS["Content-Security-Policy"] and "'unsafe" not in HEADERS["Content-Security-Policy"]
