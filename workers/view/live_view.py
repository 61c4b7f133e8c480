"""The live view of an instance with rich: feeds, books, opportunities and why not, operations, money, latency.

On a terminal one screen is redrawn twice a second; elsewhere a line of text is written every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.execution.results.counts import OpenTrips, OperationCounts
from workers.output import say
from workers.view.small_view import FULL_ROWS, small_screen
from workers.view.status import Reader
from workers.view.status_text import hedge_line, pnl_line, reason_lines, short, shown_state

REDRAW_S = 0.5
PLAIN_EVERY_S = 5.0
BOOKS_MAX = 12
REASONS_MAX = 4
HEDGES_MAX = 4
WHY_MAX = 80  # characters of what keeps an engine from trading, in a line of progress
WIDE = 72  # characters from which every column has room


def text_table(title: str, columns: list[str], rows: list[list[str]], keep: tuple[int, ...] = ()) -> RenderableType:
    """``keep``: the columns that a narrow terminal has room for (empty: all)."""
    wanted = keep or tuple(range(len(columns)))
    table = Table(title=title, title_justify="left", expand=True, pad_edge=False)
    for number in wanted:
        table.add_column(columns[number], justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[number] for number in wanted))
    return table


def _process_rows(reading: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, row in reading["processes"].items():
        state = row["state"] + (" parked" if row["parked"] else "")
        pinned = ",".join(map(str, row["cpus"] or [])) or "-"
        beat = "-" if row["beat_age_ms"] is None else f"{row['beat_age_ms']:.0f}"
        rows.append([name, str(row["pid"] or "-"), str(row["cpu"]), pinned, beat, state, str(row["restarts"])])
    return rows


def _feed_rows(reading: Mapping[str, Any]) -> list[list[str]]:
    names = ("messages", "applied", "gaps", "resyncs", "crossed", "books_whole", "connected")
    return [[venue, *(str(row.get(name, "-")) for name in names)] for venue, row in reading["feeds"].items()]


def _book_rows(reading: Mapping[str, Any], most: int = BOOKS_MAX) -> list[list[str]]:
    """Books by pair, those that are refused first, at most ``most``; the others are counted."""
    books = sorted(reading["books"], key=lambda row: (not _refused(row), row["pair"], row["venue"]))
    rows = []
    for row in books[:most]:
        bid, ask = ("-" if row[side] is None else f"{row[side]:f} x {row[f'{side}_qty']:f}" for side in ("bid", "ask"))
        age = "unproved" if row["age_ms"] is None else f"{row['age_ms']:.0f}"
        rows.append([row["pair"], row["venue"], bid, ask, age if row["tradable"] else "refused"])
    if len(books) > most:
        refused = sum(map(_refused, books[most:]))
        rows.append([f"and {len(books) - most} more, {refused or 'none'} of them refused", "", "", "", ""])
    return rows


def _refused(book: dict[str, Any]) -> bool:
    """Whether the book is traded on by nobody, whatever its age: flags, another row's epoch, no proof."""
    return not book["tradable"] or book["age_ms"] is None


def _money_rows(reading: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for venue, assets in reading["balances"].items():
        for asset, row in assets.items():
            if row["free"] or row["locked"]:
                rows.append([f"{venue} {asset}", f"{row['free']:f}", f"{row['locked']:f}", f"{row['age_ms']:.0f}"])
    for row in reading["positions"]:
        rows.append([f"{row['venue']} {row['symbol']}", short(row["qty"]), f"@ {short(row['entry_price'])}", ""])
    return rows


def process_table(reading: Mapping[str, Any], narrow: bool) -> RenderableType:
    """One row a process."""
    columns = ["process", "pid", "cpu", "pinned", "beat ms", "state", "restarts"]
    return text_table("processes", columns, _process_rows(reading), (0, 4, 5) if narrow else ())


def feed_table(reading: Mapping[str, Any], narrow: bool) -> RenderableType:
    """One row a venue."""
    columns = ["venue", "messages", "applied", "gaps", "resyncs", "crossed", "books", "up"]
    return text_table("feeds", columns, _feed_rows(reading), (0, 1, 3, 6) if narrow else ())


def book_table(reading: Mapping[str, Any], narrow: bool, most: int = BOOKS_MAX) -> RenderableType:
    """At most ``most`` books, those that are refused first."""
    columns = ["pair", "venue", "bid", "ask", "proved ms ago"]
    return text_table("books", columns, _book_rows(reading, most), (0, 1, 4) if narrow else ())


def money_table(reading: Mapping[str, Any]) -> RenderableType:
    """Balances and positions."""
    return text_table("balances and positions", ["account", "free", "locked", "age ms"], _money_rows(reading))


def latency_table(reading: Mapping[str, Any], narrow: bool) -> RenderableType:
    """Tick to order, and every stage that has values."""
    rows = {"tick_to_order": reading["latency_us"]["tick_to_order"] or {}, **reading["latency_us"]["stages"]}
    stages = [
        [name, *(str(row[key]) for key in ("p50", "p99", "p999", "max", "n"))] for name, row in rows.items() if row
    ]
    columns = ["stage", "p50", "p99", "p99.9", "max", "n"]
    return text_table("latency, us", columns, stages, (0, 1, 2) if narrow else ())


def render(reading: dict[str, Any], headline: str, width: int = WIDE, height: int = FULL_ROWS) -> RenderableType:
    """One screen of a reading. Below 72 characters it has fewer columns, below 48 rows no tables."""
    if height < FULL_ROWS:
        return Text("\n".join(small_screen(reading, headline, width, height)), no_wrap=True, overflow="crop")
    found = reading["opportunities"]
    why_not = "why not: " + (", ".join(f"{name} {count}" for name, count in found["refused"].items()) or "none")
    orders = ", ".join(f"{name} {value}" for name, value in reading["orders"].items() if value)
    narrow = width < WIDE
    mode = str(reading["mode"] or "").upper()
    style = "bold red" if mode == "LIVE" or reading["state"] in ("halted", "stopped") else "bold"
    why = [line for row in reading["reasons"][:REASONS_MAX] for line in reason_lines(row)]
    return Group(
        Text(f"{reading['instance']}  {mode}  {shown_state(reading).upper()}  {headline}", style=style),
        *(Text(line, style="red") for line in why),
        Text(pnl_line(reading)),
        Text(f"operations        {OperationCounts.of(reading['operations']).text(OpenTrips.of(reading['hedges']))}"),
        process_table(reading, narrow),
        feed_table(reading, narrow),
        book_table(reading, narrow),
        # operations begun: "taken" shrinks for a moment when the executor refuses what the detector has counted as sent
        Text(f"opportunities: {found['detected']} episodes, {reading['orders'].get('entries', 0)} entered; {why_not}"),
        Text(f"executor: {orders}"),
        *(Text(f"hedge {hedge_line(row)}") for row in reading["hedges"][:HEDGES_MAX]),
        money_table(reading),
        latency_table(reading, narrow),
    )


def progress_text(reading: Mapping[str, Any]) -> str:
    """How a run is doing, in one line of words; what is 0 is left out."""
    counts = reading["orders"]
    names = {"entries": "entries", "orders_sent": "orders", "fills": "fills", "open_hedges": "hedges open"}
    names |= {"operations.won": "won", "operations.lost": "lost", "breakers": "breakers tripped"}
    parts = [f"{reading['opportunities']['detected']} episodes"]
    parts += [f"{counts[name]} {word}" for name, word in names.items() if counts.get(name)]
    parts += [] if counts.get("orders_sent") else ["nothing sent yet"]
    if cents := counts.get("daily_pnl_cents"):
        parts.append(f"P&L today {cents / 100:+.2f} USD")
    if (state := reading["state"]) in ("halted", "stopped"):
        why = reading["reasons"][0]["what"] if reading["reasons"] else state.upper()
        parts.append(why if len(why) <= WHY_MAX else f"{why[:WHY_MAX].rstrip()}... (arb status)")
    return ", ".join(parts)


class LiveView:
    """The view of a run in progress: :meth:`update` may be called often and draws when it is due."""

    def __init__(self, instance: str, config: dict[str, Any], *, enabled: bool, plain: bool) -> None:
        self._reader = Reader(instance)
        self._enabled = enabled
        self._plain = plain
        self._live: Live | None = None
        self._next_s = 0.0
        margin = config.get("risk_limits", {}).get("min_profit_margin_bps", "")
        self._terms = f"minimum margin {margin} bps" if margin else ""

    def __enter__(self) -> LiveView:
        if self._enabled:
            self._live = Live(console=Console(stderr=True), auto_refresh=False, screen=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, left: str) -> None:
        """Draw if it is due; ``left``: how far the run is, as text."""
        now = time.monotonic()
        if now < self._next_s:
            return
        if self._live is not None:
            self._next_s = now + REDRAW_S
            reading = self._reader.read()
            self._live.update(render(reading, f"{left}  {self._terms}", *self._live.console.size), refresh=True)
        elif self._plain:
            self._next_s = now + PLAIN_EVERY_S
            reading = self._reader.read()
            say(f"{left:>11}: {progress_text(reading)}")
