"""Somebody is told: a whole instance whose monitor is heard by a real receiver on loopback, and read over HTTP."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.worlds.instance_rig import PATIENT, Rig, arb, asked, running_pid
from tests.worlds.monitor.http_get import get
from tests.worlds.monitor.webhook_receiver import WebhookReceiver
from tests.worlds.waiting import until
from workers.monitor.alert_file import read_alerts

pytestmark = pytest.mark.e2e

SECRET = "s3cr3t-token"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    found = WebhookReceiver()
    yield found
    found.close()


def sample(url: str, name: str) -> float:
    for family in text_string_to_metric_families(get(f"{url}metrics")[1]):
        for found in family.samples:
            if found.name == name:
                return float(found.value)
    raise AssertionError(f"{name} is not served")


def texts_of(folder: Path) -> str:
    """Everything that the instance has written outside of its keys, and the arguments of its processes."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "keys"]
    found = "".join(path.read_bytes().decode(errors="replace") for path in files if path.suffix != ".bin")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += path.read_bytes().decode(errors="replace")
        except OSError:
            continue
    return found


def test_people_are_told_of_what_happens_metrics_are_served_and_no_secret_is_seen(receiver: WebhookReceiver) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    rig = Rig(f"t-{secrets.token_hex(4)}", guard=PATIENT)
    folder = rig.engine.state_dir
    rig.config["monitoring"] = {
        "port": taken.getsockname()[1],
        "targets": {"ops": {"severity": "info"}},
        "heartbeat_every_s": 1,
    }
    urls = {"ops": f"{receiver.url}{SECRET}", "heartbeat": f"{receiver.url}{SECRET}/beat"}
    descriptor = os.open(folder / "keys" / "alerts.json", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, msgspec.json.encode(urls))
    os.close(descriptor)

    def texts(text: str) -> list[str]:
        return [fields["text"] for fields in receiver.messages(f"/{SECRET}") if text in fields["what"]]

    try:
        rig.start()
        until(lambda: bool(texts("the instance is READY")), "the word of the start")
        state = read_alerts(folder)
        assert state is not None and state.url and str(taken.getsockname()[1]) not in state.url
        assert f"{state.url}metrics" in rig.reading()["processes"]["monitor"]["status"]
        until(lambda: get(f"{state.url}healthz")[0] == 200, "new risk is taken")
        until(lambda: sample(state.url, "arb_can_trade") == 1, "the metric says so")
        assert rig.instance in get(f"{state.url}status")[1]
        with urllib.request.urlopen(state.url, timeout=60) as reply:
            shown, headers = reply.read().decode(), reply.headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'") and "<script" not in shown
        assert rig.instance in shown and "SIMULATED - no real money" in shown and "mexc_spot" in shown
        assert "HALTED" not in shown and "executor" in shown
        until(lambda: len(receiver.messages(f"/{SECRET}/beat")) > 1, "heartbeats")

        rig.fault(kind="rate_limit", venue="mexc_spot", target="balances", count=1, retry_after_s=1.0)
        until(lambda: bool(texts("refused by the rate limit of mexc_spot")), "the word of a rate limit")
        assert sample(state.url, "arb_rate_limit_hits_total") >= 0

        asked(rig, "supervisor", op="halt", reason="to be told")
        until(lambda: bool(texts("to be told")), "the word of the halt")
        assert texts("to be told")[0].startswith(f"[critical] {rig.instance}: risk: HALTED")
        code, body = get(f"{state.url}healthz")
        assert (code, msgspec.json.decode(body)["state"]) == (503, "halted")
        until(lambda: sample(state.url, "arb_halted") == 1, "the exporter says so")
        until(lambda: "HALTED: to be told" in get(state.url)[1], "the page says so")
        assert SECRET not in get(state.url)[1]

        rows: list[dict[str, Any]] = []

        def listed() -> bool:
            found = msgspec.json.decode(arb("alerts", "--json", "--instance", rig.instance).stdout)["alerts"]
            rows[:] = [row for row in found if "to be told" in row["what"] and "HALTED by" in row["what"]]
            return bool(rows)

        until(listed, "the alert of the halt")
        halted = rows[0]
        assert halted["standing"] is True and halted["acked_by"] is None
        assert arb("alerts", "--instance", rig.instance).returncode == 1
        done = arb("alerts", "--ack", halted["id"], "--json", "--instance", rig.instance)
        assert msgspec.json.decode(done.stdout)["acknowledged"] == [halted["id"]]

        before = running_pid(rig, "monitor")
        os.kill(before, signal.SIGKILL)
        until(lambda: rig.engine.process_pid("monitor") not in (0, before), "the monitor again")
        until(lambda: bool(texts("monitor ended (signal SIGKILL)")), "the word of its own end, by its successor")
        kept = read_alerts(folder)
        assert kept is not None
        again = next(alert for alert in kept.alerts if alert.id == halted["id"])
        assert again.acked_by.startswith("uid ") and again.standing
        # Another alert is "in force, and not on the disk yet": of a look between the page and the disk.
        once = [text for text in texts("to be told") if "HALTED by" in text]
        assert len(once) == 1, "told once, also by two monitors"
        rig.engine.stop()
        assert len(texts("the instance stops")) == 1
        last = read_alerts(folder)
        assert last is not None and not last.targets["ops"].waiting
        assert SECRET not in texts_of(folder)
    finally:
        rig.close()
        taken.close()
