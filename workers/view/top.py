"""``arb top``: the live view of any instance from any shell, also of one whose processes have ended."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live

from workers.output import emit
from workers.view.live_view import REDRAW_S, render
from workers.view.status import Reader


def run_top(instance: str, *, once: bool, as_json: bool) -> None:
    """Redraw until Ctrl-C; ``once`` draws one screen; ``as_json`` prints one reading instead."""
    reader = Reader(instance)
    if as_json:
        emit(reader.read(), as_json=True, text=str)
        return
    if once:
        console = Console()
        console.print(render(reader.read(), "", console.width))
        return
    with Live(auto_refresh=False, screen=True) as live:
        try:
            while True:
                live.update(
                    render(reader.read(), "Ctrl-C ends this view, not the engine", *live.console.size), refresh=True
                )
                time.sleep(REDRAW_S)
        except KeyboardInterrupt:
            return
