"""The configuration that an instance runs with: the file that it was started with, or the newest accepted reload."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from arbitrage.instance import Instance
from arbitrage.market_data import running_config
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.errors import BadInput
from workers.base import RELOAD_FILE
from workers.state_folder import instance_dir


def test_a_file_that_was_changed_and_not_reloaded_does_not_count(instance: str, state_dir: Path) -> None:
    named = Instance(EngineConfig(engine_name=instance))
    with pytest.raises(BadInput, match="wanted a running one"):
        running_config(named)
    folder = instance_dir(instance, create=True)
    path = folder / "config.yaml"
    path.write_text(f"engine_name: {instance}\nrisk_limits: {{max_orders_per_s: 3}}\n")
    (folder / "run.json").write_bytes(msgspec.json.encode({"config": str(path)}))
    assert running_config(named).risk_limits.max_orders_per_s == 3
    (folder / RELOAD_FILE).write_bytes(msgspec.json.encode(load_config(path)))
    path.write_text(f"engine_name: {instance}\nrisk_limits: {{max_orders_per_s: 7}}\n")
    assert running_config(named).risk_limits.max_orders_per_s == 3
