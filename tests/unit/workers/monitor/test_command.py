"""``arb alerts``: what is shown, acknowledgement through a running monitor and on the disk, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.enums import AlertSeverity
from workers.cli.main import main
from workers.monitor.alert_file import AlertState, TargetState, read_alerts, write_alerts
from workers.monitor.alert_list import AlertList, Condition
from workers.state_folder import instance_dir

T0 = 1_795_902_811_000_000_000


@pytest.fixture
def folder(state_dir: Path) -> Path:
    path = instance_dir("main", create=True)
    (path / "lock").touch()
    return path


def kept(folder: Path) -> None:
    alerts = AlertList()
    standing = Condition(source="risk", severity=AlertSeverity.CRITICAL, text="breaker x: y", solve="arb breakers")
    alerts.conditions([standing], T0, T0)
    alerts.event(Condition(source="executor", severity=AlertSeverity.WARNING, text="slow"), T0, T0)
    state = AlertState(next_id=alerts.next_id, alerts=alerts.alerts, url="http://127.0.0.1:9464/")
    state.targets["ops"] = TargetState(sent=1, dropped=2, last_error="HTTP 503")
    write_alerts(folder, state)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["alerts", *arguments])
    return code, capsys.readouterr().out


def fields(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out = run(capsys, "--json", *arguments)
    return code, json.loads(out)


def test_without_monitoring_it_says_how_to_have_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys)
    assert code == 0 and "`monitoring` is not in the configuration" in out
    assert fields(capsys)[1] == {"alerts": [], "targets": {}, "monitoring": False}


def test_alerts_and_targets_are_shown_with_what_solves_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(folder)
    code, out = run(capsys)
    assert code == 1
    assert out.splitlines() == [
        "a1    critical stands since 2026-11-28T21:53:31Z",
        "      risk: breaker x: y",
        "      solve: arb breakers",
        "a2    warning  happened since 2026-11-28T21:53:31Z",
        "      executor: slow",
        "metrics and health: http://127.0.0.1:9464/metrics, http://127.0.0.1:9464/healthz",
        "target ops: 1 sent, 0 wait, 2 lost; not reached: HTTP 503",
    ]
    code, found = fields(capsys)
    assert code == 1 and [row["id"] for row in found["alerts"]] == ["a1", "a2"]
    assert found["alerts"][0]["standing"] is True and found["alerts"][1]["standing"] is None
    assert found["url"] == "http://127.0.0.1:9464/"


def test_acknowledgement_on_the_disk_is_kept_and_audited(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(folder)
    code, found = fields(capsys, "--ack", "a2")
    assert (code, found["acknowledged"]) == (1, ["a2"])
    assert [row["id"] for row in found["alerts"]] == ["a1"], "a2 happened, and somebody knows"
    state = read_alerts(folder)
    assert state is not None and state.alerts[1].acked_by.startswith("uid ")
    audit = json.loads((folder / "audit.jsonl").read_text().splitlines()[-1])
    assert (audit["op"], audit["alerts"], audit["where"]) == ("ack", ["a2"], "disk")
    assert fields(capsys, "--ack", "all")[1]["acknowledged"] == ["a1"]
    assert "acknowledged by uid" in run(capsys, "--all")[1]
    assert run(capsys)[0] == 1, "a condition that stands is shown, acknowledged or not"


def test_an_id_that_no_alert_has_is_bad_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(folder)
    code, found = fields(capsys, "--ack", "a9")
    assert code == 2 and "found no alert 'a9'" in found["error"]
