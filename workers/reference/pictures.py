"""Writes ``docs/pictures``: ``python -m workers.reference.pictures docs/pictures`` (``scripts/pictures``).

One `arb demo` is run: while it trades `arb top` is drawn, and when it has ended its report and its recording. Every
picture is an SVG that needs nothing else: no script, no font, no address.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.execution.results.counts import OperationCounts
from pipeline.replay_sweep import run_sweep
from shm.errors import ShmError
from workers.cli.report import read_report
from workers.control_plane.instances import ledger_path, run_file
from workers.control_plane.preflight import CouldNotStart
from workers.report.html_page import STYLE, report_page
from workers.report.recent import Recent, read_recent
from workers.report.what_if import what_if_page
from workers.state_folder import instance_dir, state_root
from workers.view.status import Reader
from workers.view.top_app import TopApp

DEMO_S = 45
TRADES_WANTED = 12  # operations before `arb top` is drawn: a picture of an engine that has something to show
LOOK_S = 0.5
TOP_SIZE = (132, 44)  # characters
LATENCIES_MS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
#: File -> the title of the chart that it shows.
CHARTS = {
    "equity.svg": "P&amp;L of the span and its drawdown",
    "latency.svg": "Share of operations (%) by latency",
    "millisecond.svg": "Profit (USD) by latency",
}


def top_picture(reading: Mapping[str, Any], recent: Recent, size: tuple[int, int] = TOP_SIZE) -> str:
    """The screen of `arb top` at one reading."""

    async def drawn() -> str:
        app = TopApp(lambda: dict(reading), lambda: recent)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            return app.export_screenshot(title="arb top")

    return re.sub(r"@font-face \{.*?\}", "", asyncio.run(drawn()), flags=re.DOTALL)


def chart_of(page: str, title: str) -> str:
    """The chart with this title out of a page, able to stand alone. Raises KeyError."""
    for chart in re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL):
        if f"<title>{title}</title>" in chart:
            style = "".join(rule for rule in STYLE.splitlines() if rule.startswith("svg")).replace("svg ", "")
            whole = '<rect width="100%" height="100%" fill="#fff"/>'
            head, _, rest = chart.partition(">")
            return f"{head}><style>{style}</style>{whole}{rest}\n"
    raise KeyError(title)


def main(arguments: Sequence[str]) -> int:
    """Run the demo and write every picture into the folder that is named."""
    (folder,) = (Path(name) for name in arguments)
    folder.mkdir(parents=True, exist_ok=True)
    before = set(_instances())
    command = [sys.executable, "-m", "workers", "demo", "--seconds", str(DEMO_S), "--record", "--json"]
    demo = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        name, reading = _while_it_trades(demo, before)
        recent = read_recent(ledger_path(name), time.time_ns())
        (folder / "top.svg").write_text(top_picture(reading, recent), encoding="utf-8")
    finally:
        code = demo.wait()
    report = read_report(name, "", tables=True)
    pages = report_page(report, report.pop("tables")) + _what_if(name)
    for file, title in CHARTS.items():
        (folder / file).write_text(chart_of(pages, title), encoding="utf-8")
    return code


def _what_if(name: str) -> str:
    recording = [instance_dir(name) / "market"]
    rows = run_sweep(recording, fees="zero", min_edge_bps="0", max_usd=None, swept={}, latencies_ms=LATENCIES_MS)
    return what_if_page(rows, [], "a demo")


def _instances() -> list[str]:
    return [path.parent.name for path in state_root().glob("*/run.json")]


def _while_it_trades(demo: subprocess.Popen[bytes], before: set[str]) -> tuple[str, dict[str, Any]]:
    """(instance, reading) of the demo when it has traded a little. Raises CouldNotStart."""
    while demo.poll() is None:  # which ends by itself
        for name in set(_instances()) - before:
            if run_file(name).get("state") != "ready":
                continue
            try:
                reading = Reader(name).read()
            except ShmError:  # not yet all there
                continue
            counts = OperationCounts.of(reading["operations"])
            if counts.completed + counts.recovered >= TRADES_WANTED:
                return name, reading
        time.sleep(LOOK_S)
    raise CouldNotStart(f"no demo has traded {TRADES_WANTED} times (exit code {demo.poll()}); its lines above say why")


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", str(TOP_SIZE[0]))
    sys.exit(main(sys.argv[1:]))
