"""Every query of Grafana's boards, evaluated by a real Prometheus that has scraped our exporter."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shm.metrics import Metrics
from tests.worlds.waiting import until
from workers.monitor.boards import boards
from workers.monitor.exposition import metrics_text
from workers.monitor.server import MonitorServer
from workers.view.status import Reader

PROMETHEUS = shutil.which("prometheus")
pytestmark = [pytest.mark.host, pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")]


@pytest.fixture
def exporter(state_dir: Path, instance: str) -> Iterator[int]:
    """The port of a server whose metrics are those of an executor with some values."""
    metrics = Metrics.create(instance, "executor")
    metrics.set(metrics.counter("orders_sent"), 7)
    metrics.record(metrics.histogram("tick_to_order"), 1_500_000)

    def text() -> bytes:
        return metrics_text({**Reader(instance).read(), "alerts": [], "targets": {}}, {"executor": metrics})

    server = MonitorServer(text, lambda: (True, {}), str, str)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(0), loop).result()
    yield server.port
    asyncio.run_coroutine_threadsafe(server.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    metrics.close()


def ask(port: int, expr: str) -> list[Any]:
    query = urllib.parse.urlencode({"query": expr})
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=30) as reply:
        answer = json.load(reply)
    assert answer["status"] == "success", expr
    found: list[Any] = answer["data"]["result"]
    return found


def scraped(port: int) -> bool:
    try:
        return bool(ask(port, "arb_orders_sent_total"))
    except OSError:  # it does not listen yet
        return False


def test_every_query_is_understood_and_what_is_served_is_found(exporter: int, tmp_path: Path) -> None:
    assert PROMETHEUS is not None
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: arb\n    static_configs:\n"
        f'      - targets: ["127.0.0.1:{exporter}"]\n'
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    with subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: scraped(port), "Prometheus has scraped the exporter")
            asked = 0
            for text in boards().values():
                for panel in json.loads(text)["panels"]:
                    for target in panel["targets"]:
                        expr = target["expr"].replace("$instance", ".*")
                        found = ask(port, expr)
                        asked += 1
                        assert found or "arb_can_trade" not in expr
            assert asked > 60
        finally:
            process.terminate()
