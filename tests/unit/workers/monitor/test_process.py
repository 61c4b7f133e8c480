"""``python -m workers.monitor`` by itself: what it refuses, and what it serves of an instance that does not run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import yaml

from pipeline.model.config_load import config_from_mapping
from pipeline.model.errors import ConfigInvalid
from tests.paths import REPO
from tests.worlds.waiting import until
from workers.monitor.alert_file import read_alerts
from workers.monitor.process import run
from workers.state_folder import instance_dir


def command(tmp_path: Path, instance: str, config: dict[str, Any]) -> list[str]:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"engine_name": instance, **config}))
    return [sys.executable, "-m", "workers.monitor", "--instance", instance, "--config", str(path)]


def test_it_refuses_a_target_that_cannot_be_told_and_a_configuration_without_its_section(
    tmp_path: Path, state_dir: Path, instance: str
) -> None:
    wrong = {"monitoring": {"targets": {"ops": {}}}}
    done = subprocess.run(command(tmp_path, instance, wrong), cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "monitoring.targets.ops: found no URL, wanted one as `url`" in done.stderr
    context: Any = SimpleNamespace(config=config_from_mapping({}))
    with pytest.raises(ConfigInvalid, match="monitoring: missing, wanted the section that says where alerts go"):
        run(context)


def test_it_serves_and_keeps_alerts_of_an_instance_that_does_not_run_and_stops_in_order(
    tmp_path: Path, state_dir: Path, instance: str
) -> None:
    process = subprocess.Popen(command(tmp_path, instance, {"monitoring": {"port": 0}}), cwd=REPO)
    folder = instance_dir(instance)
    try:
        until(lambda: read_alerts(folder) is not None, "alerts.json")
        state = read_alerts(folder)
        assert state is not None
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{state.url}healthz", timeout=60)
        answer = msgspec.json.decode(refused.value.read())
        assert (refused.value.code, answer["state"]) == (503, "stopped")
        assert [row["what"] for row in answer["reasons"]] == ["the instance does not run"]
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(240) == 0
    finally:
        process.kill()
        process.wait()
    last = read_alerts(folder)
    assert last is not None and last.alerts[-1].text == "the instance stops; nothing stays open at the venues"
