"""The monitor's page in a real browser: it is drawn, and its policy refuses nothing of it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from workers.monitor.page import page_html
from workers.monitor.server import MonitorServer
from workers.report.recent import NOTHING_YET
from workers.view.status import Reader

pytestmark = pytest.mark.host
BROWSERS = ("chromium", "google-chrome", "chromium-browser")
BROWSER_S = 300.0  # after a page that never comes to its end; a busy host needs a part of it


def chromium() -> str:
    """The first that says its version; Ubuntu's ``chromium-browser`` is a script that only names a snap."""
    for path in filter(None, map(shutil.which, BROWSERS)):
        if subprocess.run([path, "--version"], capture_output=True, timeout=BROWSER_S, check=False).returncode == 0:
            return path
    pytest.skip(f"no Chromium is installed (found none of {', '.join(BROWSERS)} that runs)")


def test_a_browser_shows_the_page_and_refuses_nothing(state_dir: Path, instance: str, tmp_path: Path) -> None:
    browser = chromium()
    reading = {**Reader(instance).read(), "alerts": [], "mode": "live", "halted": True, "halt_reason": "by hand"}
    server = MonitorServer(lambda: b"", lambda: (True, {}), str, lambda: page_html(reading, NOTHING_YET, 0))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(0), loop).result()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        command = [browser, *flags, f"--user-data-dir={tmp_path}", "--dump-dom", f"http://127.0.0.1:{server.port}/"]
        done = subprocess.run(command, capture_output=True, check=True, timeout=BROWSER_S)
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
    assert b"HALTED: by hand" in done.stdout and b"LIVE - real money" in done.stdout
    assert b"Refused to" not in done.stderr and b"Content Security Policy" not in done.stderr
