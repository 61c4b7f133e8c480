"""Prometheus' own tool on what we ship: the alert rules fire as they should, and our metrics are in order."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from shm.metrics import Metrics
from tests.paths import REPO
from workers.monitor.alert_file import TargetState
from workers.monitor.alert_view import target_rows
from workers.monitor.exposition import metrics_text
from workers.view.status import Reader

PROMTOOL = shutil.which("promtool")
pytestmark = [pytest.mark.host, pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")]
RULES = REPO / "systemd" / "prometheus" / "arb.rules.yaml"


def promtool(*arguments: str, stdin: bytes = b"") -> str:
    """Output of a run that must succeed."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], input=stdin, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def test_the_rules_are_valid() -> None:
    assert "rules found" in promtool("check", "rules", str(RULES))


def test_every_rule_fires_on_what_it_is_for_and_not_on_a_healthy_instance() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(REPO / "tests" / "host" / "alert_rules.yaml"))


def test_the_metrics_are_as_prometheus_wants_them(state_dir: Path, instance: str) -> None:
    metrics = Metrics.create(instance, "executor")
    try:
        metrics.set(metrics.counter("rate_limit_hits.mexc_spot"), 2)
        metrics.record(metrics.histogram("tick_to_order"), 1_500_000)
        reading = {**Reader(instance).read(), "alerts": [], "targets": target_rows({"ops": TargetState(sent=3)})}
        text = metrics_text(reading, {"executor": metrics})
        assert b"rate_limit_hits" in text and promtool("check", "metrics", stdin=text) == "", "nothing to object to"
    finally:
        metrics.close()
