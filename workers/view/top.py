"""``arb top``: the live view of any instance from any shell, also of one whose processes have ended."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.live import Live

from workers.control_plane.instances import ledger_path
from workers.output import emit
from workers.report.recent import read_recent
from workers.view.live_view import REDRAW_S, render
from workers.view.status import Reader


def run_top(instance: str, *, once: bool, plain: bool, as_json: bool) -> None:
    """The application until it is left; ``once`` draws one screen; ``plain``, or where there is no terminal to press
    keys on, redraws one screen until Ctrl-C; ``as_json`` prints one reading instead."""
    reader = Reader(instance)
    if as_json:
        emit(reader.read(), as_json=True, text=str)
    elif once:
        console = Console()
        console.print(render(reader.read(), "", console.width))
    elif plain or not (sys.stdin.isatty() and sys.stdout.isatty()):
        _redraw(reader)
    else:
        from workers.view.top_app import TopApp  # imported here: textual takes a quarter of a second

        ledger = ledger_path(instance)
        TopApp(reader.read, lambda: read_recent(ledger, time.time_ns())).run()


def _redraw(reader: Reader) -> None:
    with Live(auto_refresh=False, screen=True) as live:
        try:
            while True:
                live.update(
                    render(reader.read(), "Ctrl-C ends this view, not the engine", *live.console.size), refresh=True
                )
                time.sleep(REDRAW_S)
        except KeyboardInterrupt:
            return
