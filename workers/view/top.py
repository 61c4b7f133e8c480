"""``arb top``: the live view of any instance from any shell, also of one whose processes have ended."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.live import Live

from workers.control_plane.instances import ledger_path
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from workers.output import emit, to_json, write
from workers.report.recent import read_recent
from workers.view.live_view import REDRAW_S, render
from workers.view.status import Reader


def run_top(instance: str, *, once: bool, plain: bool, as_json: bool) -> int:
    """The application until it is left; ``plain``, or where there is no terminal to press keys on, redraws one screen
    until Ctrl-C; ``as_json`` writes a reading a line instead. ``once``: one screen or reading, judged as `arb status`
    does. The exit code; Ctrl-C is the caller's."""
    reader = Reader(instance)
    if once:
        reading, console = reader.read(), Console()
        if as_json:
            emit(reading, as_json=True, text=str)
        else:
            console.print(render(reading, "", console.width))
        return EXIT_OK if reading["state"] == "ready" else EXIT_CHECK_FAILED
    if as_json:
        while write(to_json(reader.read())):
            time.sleep(REDRAW_S)
    elif plain or not (sys.stdin.isatty() and sys.stdout.isatty()):
        _redraw(reader)
    else:
        from workers.view.top_app import TopApp  # imported here: textual takes a quarter of a second

        ledger = ledger_path(instance)
        shown = TopApp(reader.read, lambda: read_recent(ledger, time.time_ns()))
        shown.run()
        return shown.return_code or EXIT_OK
    return EXIT_OK


def _redraw(reader: Reader) -> None:
    with Live(auto_refresh=False, screen=True) as live:
        while True:
            live.update(
                render(reader.read(), "Ctrl-C ends this view, not the engine", *live.console.size), refresh=True
            )
            time.sleep(REDRAW_S)
