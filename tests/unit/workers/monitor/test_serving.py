"""``/metrics``, ``/healthz`` and the alert rules: read over real sockets, parsed by Prometheus' own client."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pipeline.model.enums import AlertSeverity
from shm.errors import SegmentMissing
from shm.metrics import Metrics
from tests.paths import REPO
from workers.monitor.alert_file import TargetState
from workers.monitor.alert_list import AlertList, Condition
from workers.monitor.alert_view import alert_rows, target_rows
from workers.monitor.exposition import BOUNDS_NS, LATENCY, LATENCY_PERCENTILE, metrics_text
from workers.monitor.metric_list import METRICS, number
from workers.monitor.server import MonitorServer
from workers.view.status import Reader

RULES = REPO / "systemd" / "prometheus" / "arb.rules.yaml"


@pytest.fixture
def metrics(instance: str) -> Iterator[Metrics]:
    found = Metrics.create(instance, "executor")
    found.set(found.counter("orders_sent"), 7)
    found.set(found.counter("rate_limit_hits.mexc_spot"), 2)
    found.set(found.counter("refused.moved"), 4)
    stage = found.histogram("tick_to_order")
    for value_ns in (900, 1_500_000, 40_000_000_000):
        found.record(stage, value_ns)
    yield found
    found.close()


def reading_of(instance: str) -> dict[str, Any]:
    alerts = AlertList()
    alerts.conditions([Condition(source="risk", severity=AlertSeverity.CRITICAL, text="x")], 1, 10)
    rows = {
        "alerts": alert_rows(alerts.alerts),
        "targets": target_rows({"ops": TargetState(sent=3, dropped=2, refused=1)}),
    }
    return {**Reader(instance).read(), **rows}


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(found: Mapping[tuple[str, frozenset[tuple[str, str]]], float], metric: str, /, **labels: str) -> float:
    return found[metric, frozenset(labels.items())]


def test_a_reading_is_served_whole_and_prometheus_can_read_it(state_dir: Path, instance: str, metrics: Metrics) -> None:
    found = samples(metrics_text(reading_of(instance), Metrics.attach_all(instance)))
    assert value(found, "arb_state", state="stopped") == 1 and value(found, "arb_state", state="ready") == 0
    assert value(found, "arb_can_trade") == 0
    assert value(found, "arb_orders_sent_total") == 7
    assert value(found, "arb_rate_limit_hits_total", process="executor", venue="mexc_spot") == 2
    assert value(found, "arb_counted", process="executor", name="refused.moved") == 4
    assert value(found, "arb_messages_dropped_total", target="ops") == 3
    assert value(found, "arb_alerts_standing", severity="critical") == 1
    stage = {"process": "executor", "stage": "tick_to_order"}
    assert value(found, f"{LATENCY}_count", **stage) == 3
    assert value(found, f"{LATENCY}_bucket", le="1e-06", **stage) == 1
    assert value(found, f"{LATENCY}_bucket", le="0.002", **stage) == 2
    assert value(found, f"{LATENCY}_bucket", le="10", **stage) == 2
    assert value(found, f"{LATENCY}_bucket", le="+Inf", **stage) == 3
    assert value(found, f"{LATENCY}_sum", **stage) == pytest.approx(40.0015009)
    assert 0.0015 <= value(found, LATENCY_PERCENTILE, percentile="50", **stage) <= 0.0015 * 1.008
    assert sorted(BOUNDS_NS) == list(BOUNDS_NS)


def test_names_are_unique_say_their_unit_and_have_a_help() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"arb(_[a-z]+)+", metric.name), metric.name
        assert (metric.kind == "counter") is metric.name.endswith("_total"), metric.name
        assert metric.help.endswith("."), metric.name
        for word in ("ms", "us", "ns", "minutes"):  # Prometheus' units are the base ones
            assert word not in metric.name.split("_"), metric.name


def test_what_is_not_known_is_left_out() -> None:
    assert (number(None), number("x"), number(True), number("1.5")) == (None, None, 1.0, 1.5)


def test_every_rule_uses_metrics_that_are_served() -> None:
    served = {metric.name for metric in METRICS} | {f"{LATENCY}_bucket", LATENCY_PERCENTILE, "up"}
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    assert len(group["rules"]) > 10
    for rule in group["rules"]:
        used = set(re.findall(r"\barb_\w+|\bup\b", rule["expr"]))
        assert used and used <= served, (rule["alert"], used - served)
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
    tested = (REPO / "tests" / "host" / "alert_rules.yaml").read_text()
    missing = [rule["alert"] for rule in group["rules"] if f'alertname="{rule["alert"]}"' not in tested]
    assert missing == []
    scrape = yaml.safe_load((RULES.parent / "scrape.yaml").read_text())
    assert scrape["rule_files"] == [RULES.name] and scrape["scrape_configs"][0]["job_name"] == "arb"


class Answers:
    """What a server is to answer."""

    def __init__(self) -> None:
        self.healthy = True
        self.error: Exception | None = None

    def metrics(self) -> bytes:
        if self.error is not None:
            raise self.error
        return b"arb_can_trade 1\n"

    def health(self) -> tuple[bool, dict[str, Any]]:
        if self.error is not None:
            raise self.error
        return self.healthy, {"state": "ready" if self.healthy else "halted"}

    def text(self) -> str:
        return "main: ready"

    def page(self) -> str:
        return "<p>main</p>"


async def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as reply,
    ):
        return reply.status, await reply.text()


def test_health_is_the_one_answer_and_only_loopback_names_are_served() -> None:
    answers = Answers()

    async def main() -> None:
        server = MonitorServer(answers.metrics, answers.health, answers.text, answers.page)
        assert await server.start(0)
        try:
            assert await get(server.port, "/healthz") == (200, '{"state":"ready"}\n')
            answers.healthy = False
            assert await get(server.port, "/healthz") == (503, '{"state":"halted"}\n')
            assert await get(server.port, "/metrics") == (200, "arb_can_trade 1\n")
            assert await get(server.port, "/status") == (200, "main: ready\n")
            assert await get(server.port, "/") == (200, "<p>main</p>")
            assert (await get(server.port, "/nothing"))[0] == 404
            assert (await get(server.port, "/metrics", Host="evil.example"))[0] == 403
            assert (await get(server.port, "/metrics", Host="localhost:1"))[0] == 200
            answers.error = SegmentMissing("gone")
            assert (await get(server.port, "/metrics"))[0] == 503
            assert (await get(server.port, "/healthz"))[0] == 503
        finally:
            await server.close()

    asyncio.run(main())


def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            wanted = int(taken.getsockname()[1])
            server = MonitorServer(Answers().metrics, Answers().health, Answers().text, Answers().page)
            try:
                assert not await server.start(wanted)
                assert server.port not in (0, wanted)
                assert (await get(server.port, "/"))[0] == 200
            finally:
                await server.close()

    asyncio.run(main())
