"""``arb top`` on a terminal: tabs and keys over one reading of an instance, which is made again twice a second.

The first line says mode and state in words, and in colours of their own where it is real money or a halt; it stays on
every tab. Nothing here changes the instance: what decides is a command.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static, TabbedContent, TabPane

from pipeline.execution.results.counts import OpenTrips, OperationCounts
from shm.errors import ShmError
from workers.exit_codes import EXIT_INTERRUPTED
from workers.report.recent import NOTHING_YET, Recent
from workers.view.live_view import (
    REDRAW_S,
    WIDE,
    book_table,
    feed_table,
    latency_table,
    money_table,
    process_table,
    text_table,
)
from workers.view.small_view import small_lines
from workers.view.status_text import (
    MODE_WORDS,
    answer_lines,
    change_line,
    exposure_line,
    hedge_line,
    hedge_total_line,
    loss_line,
    note_line,
    pnl_line,
    position_line,
    short,
    shown_state,
)

LEDGER_EVERY_S = 2.0  # trades are read from the ledger, which is a file
TRADES_WIDE = 110  # characters from which a trade has all its columns
TWO_COLUMNS = 150  # characters from which the overview has two columns of tables
ROOM_ROWS = 40  # rows of the overview from which it has tables
HEAD_ROWS = 5  # banner, tabs and keys
TABS = {
    "overview": "Overview",
    "books": "Books",
    "found": "Found",
    "trades": "Trades",
    "held": "Held",
    "latency": "Latency",
    "processes": "Processes",
}
Draw = Callable[[Mapping[str, Any], Recent, int, int], RenderableType]


def banner(reading: Mapping[str, Any]) -> tuple[str, str]:
    """(text, class) of the first line: a halt before everything else, then what the mode means for money."""
    state, mode = shown_state(reading), str(reading["mode"] or "")
    words = MODE_WORDS.get(mode, "mode not known")
    if reading["halted"]:
        return f"HALTED  {words}  {reading['instance']}  {reading['halt_reason'] or ''}", "halted"
    worst = state if state == "halted" else "stopped"
    kind = worst if state not in ("ready", "degraded") else "live" if mode == "live" else state
    return f"{words}  {state.upper()}  {reading['instance']}", kind


def _overview(reading: Mapping[str, Any], recent: Recent, width: int, height: int) -> RenderableType:
    del recent
    if height < ROOM_ROWS:
        return Text("\n".join(small_lines(reading, width, height)), no_wrap=True, overflow="crop")
    money = [pnl_line(reading), loss_line(reading), exposure_line(reading), change_line(reading)]
    first = [*answer_lines(reading)[1:], *(line for line in money if line), _counts(reading)]
    narrow = width < WIDE
    parts = [process_table(reading, narrow), feed_table(reading, narrow), book_table(reading, narrow)]
    more = [_refused_table(reading), money_table(reading), latency_table(reading, narrow)]
    if width < TWO_COLUMNS:
        return Group(Text("\n".join(first)), *parts, *more)
    grid = Table.grid(expand=True, padding=(0, 2))
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(Group(*parts), Group(*more))
    return Group(Text("\n".join(first)), grid)


def _counts(reading: Mapping[str, Any]) -> str:
    return f"operations        {OperationCounts.of(reading['operations']).text(OpenTrips.of(reading['hedges']))}"


def _refused_table(reading: Mapping[str, Any]) -> RenderableType:
    found = reading["opportunities"]
    rows = sorted(found["refused"].items(), key=lambda item: -item[1])
    title = f"{found['detected']} episodes, {reading['orders'].get('entries', 0)} entered; why not:"
    return text_table(title, ["reason", "count"], [[reason, str(count)] for reason, count in rows])


def _books(reading: Mapping[str, Any], recent: Recent, width: int, height: int) -> RenderableType:
    del recent, height
    return book_table(reading, width < WIDE, most=len(reading["books"]))


def _found(reading: Mapping[str, Any], recent: Recent, width: int, height: int) -> RenderableType:
    del height
    columns = ["at", "opportunity", "pair", "reason", "detail"]
    rows = [[_clock(row["at"]), *(str(row[name]) for name in columns[1:])] for row in recent.refusals]
    last = text_table(
        "refused last by the executor (arb why OPPORTUNITY)", columns, rows, (0, 2, 3) if width < WIDE else ()
    )
    return Group(_refused_table(reading), last)


def _trades(reading: Mapping[str, Any], recent: Recent, width: int, height: int) -> RenderableType:
    del height
    columns = ["at", "pair", "type", "outcome", "P&L", "expected bps", "realised bps", "id"]
    rows = [
        [
            _clock(row["at"]),
            row["pair"],
            row["type"],
            row["outcome"],
            "-" if row["pnl"] is None else f"{row['pnl']:.4f} {row['asset']}",
            *("-" if row[name] is None else f"{row[name]:.1f}" for name in ("expected_bps", "realised_bps")),
            row["id"],
        ]
        for row in recent.trades
    ]
    table = text_table(
        "operations, the newest first (arb why ID)", columns, rows, () if width >= TRADES_WIDE else (0, 1, 3, 4)
    )
    return Group(Text(f"{_counts(reading)}\n{pnl_line(reading)}"), table)


def _held(reading: Mapping[str, Any], recent: Recent, width: int, height: int) -> RenderableType:
    del recent, width, height
    hedges = [hedge_line(row) for row in reading["hedges"]]
    lines = ["open hedges:", *(hedges or ["  none"]), hedge_total_line(reading["hedges"]), "positions:"]
    lines += [position_line(row) for row in reading["positions"]] or ["  none"]
    return Group(Text("\n".join(line for line in lines if line)), money_table(reading))


def _latency(reading: Mapping[str, Any], recent: Recent, width: int, height: int) -> RenderableType:
    del recent, height
    return latency_table(reading, width < WIDE)


def _processes(reading: Mapping[str, Any], recent: Recent, width: int, height: int) -> RenderableType:
    del recent, height
    notes = [note_line(row) for row in reading["notes"]]
    parts = [process_table(reading, width < WIDE), feed_table(reading, width < WIDE)]
    return Group(*parts, Text("\n".join([*notes, *map(str, reading["messages"])])))


def _clock(at: str | None) -> str:
    """The time of day of an ISO time."""
    return short("") if at is None else at.partition("T")[2].removesuffix("Z")


DRAWN: dict[str, Draw] = {
    "overview": _overview,
    "books": _books,
    "found": _found,
    "trades": _trades,
    "held": _held,
    "latency": _latency,
    "processes": _processes,
}


class TopApp(App[None]):
    """The application. ``read``: one reading, as ``arb status --json``; ``recent``: the ledger's newest rows. Both may
    take their time: they are asked off the event loop."""

    CSS = """
    #banner { height: 1; padding: 0 1; text-style: bold; background: #124d1a; color: #ffffff; }
    #banner.degraded { background: #ffd98a; color: #402600; }
    #banner.stopped { background: #6b3d00; color: #ffffff; }
    #banner.live { background: #a40000; color: #ffffff; }
    #banner.halted { background: #000000; color: #ffd400; text-style: bold reverse; }
    TabbedContent { height: 1fr; }
    TabPane { padding: 0; }
    VerticalScroll { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Leave"),
        Binding("p", "pause", "Pause"),
        Binding("r", "look", "Now"),
        *(Binding(str(number), f"tab('{name}')", show=False) for number, name in enumerate(TABS, 1)),
        Binding("left", "step(-1)", show=False, priority=True),
        Binding("right", "step(1)", "Next tab", priority=True),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, read: Callable[[], dict[str, Any]], recent: Callable[[], Recent]) -> None:
        super().__init__()
        self._read, self._read_recent = read, recent
        self._reading: dict[str, Any] | None = None
        self._recent, self._recent_due_s = NOTHING_YET, 0.0
        self._paused = self._looking = False

    def compose(self) -> ComposeResult:
        """The parts of the screen."""
        yield Static("reading ...", id="banner", markup=False)
        with TabbedContent():
            for number, (name, title) in enumerate(TABS.items(), 1):
                with TabPane(f"{number} {title}", id=name), VerticalScroll():
                    yield Static("", id=f"{name}-text", markup=False)
        yield Footer()

    async def on_mount(self) -> None:
        """The first look, and then one every ``REDRAW_S``."""
        await self.look()
        self.set_interval(REDRAW_S, self._look_again)

    async def _look_again(self) -> None:
        if not self._paused:
            await self.look()

    async def look(self) -> None:
        """Read the instance and show it; a look that is still under way is waited for by nobody."""
        if self._looking:
            return
        self._looking = True
        try:
            now = time.monotonic()
            if now >= self._recent_due_s:
                self._recent_due_s = now + LEDGER_EVERY_S
                self._recent = await asyncio.to_thread(self._read_recent)
            self._reading = await asyncio.to_thread(self._read)
        except ShmError as error:  # memory of another build, or that goes just now: the next look may succeed
            for line in self.query("#banner").results(Static):
                line.update(f"cannot be read: {error}")
        else:
            self.show()
        finally:
            self._looking = False

    def show(self) -> None:
        """Draw the reading: the banner, and the tab that is open."""
        if self._reading is None or not self.query("#banner"):  # left while the instance was read
            return
        text, kind = banner(self._reading)
        line = self.query_one("#banner", Static)
        line.update(f"{text}  (paused)" if self._paused else text)
        line.set_classes(kind)
        name = self.query_one(TabbedContent).active or next(iter(TABS))
        width, height = self.size.width - 2, self.size.height - HEAD_ROWS
        self.query_one(f"#{name}-text", Static).update(DRAWN[name](self._reading, self._recent, width, height))

    def on_tabbed_content_tab_activated(self) -> None:
        """Another tab is open: it is drawn at once, and the keys scroll it."""
        self.show()
        self.query_one(f"#{self.query_one(TabbedContent).active} VerticalScroll").focus()

    def on_resize(self) -> None:
        """What fits changes with the size."""
        self.show()

    def action_interrupt(self) -> None:
        """Leave, with the exit code of Ctrl-C."""
        self.exit(return_code=EXIT_INTERRUPTED)

    def action_tab(self, name: str) -> None:
        """Open a tab."""
        self.query_one(TabbedContent).active = name

    def action_step(self, steps: int) -> None:
        """The tab beside the open one, round and round."""
        names = list(TABS)
        tabs = self.query_one(TabbedContent)
        tabs.active = names[(names.index(tabs.active) + steps) % len(names)]

    def action_pause(self) -> None:
        """Hold the reading still, or go on."""
        self._paused = not self._paused
        self.show()

    async def action_look(self) -> None:
        """Read now, also while paused."""
        await self.look()
