"""What answers whether the detector looks for entries: a detector that works, and no page that a dead one has left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from pipeline.model.config import DetectionConfig, EngineConfig
from pipeline.model.enums import ProcessState
from shm.liveness import Liveness
from shm.metrics import Metrics
from workers.control_plane.requests import Requests
from workers.last_run.detection_switch import FILE_NAME, as_switched, forget_stopped, keep_stopped


def test_the_gauge_of_a_dead_detector_says_nothing(instance: str, tmp_path: Path) -> None:
    running: Any = SimpleNamespace(instance=instance, state_dir=tmp_path, config=EngineConfig())
    asked = {"op": "detection"}
    metrics = Metrics.create(instance, "detector")
    metrics.set(metrics.counter("looks_for_entries", "a test"), 1)
    assert asyncio.run(Requests(running).handle(asked)) == {"enabled": True, "in_force": False}
    liveness = Liveness.create(instance, "detector")
    liveness.set_state(ProcessState.WARMING)  # the gauge may still be that of the life before
    assert asyncio.run(Requests(running).handle(asked)) == {"enabled": True, "in_force": False}
    liveness.set_state(ProcessState.READY)
    assert asyncio.run(Requests(running).handle(asked)) == {"enabled": True, "in_force": True}
    liveness.close()
    metrics.close()


def test_what_was_stopped_is_off_until_it_is_forgotten(tmp_path: Path) -> None:
    config = EngineConfig()
    assert as_switched(config, tmp_path) is config and config.detection.enabled
    keep_stopped(tmp_path, by="uid 0 (root)", reason="odd fills")
    kept = msgspec.json.decode((tmp_path / FILE_NAME).read_bytes())
    assert (kept["by"], kept["reason"]) == ("uid 0 (root)", "odd fills") and kept["wall_ns"] > 0
    assert as_switched(config, tmp_path) == EngineConfig(detection=DetectionConfig(enabled=False))
    forget_stopped(tmp_path)
    forget_stopped(tmp_path)
    assert as_switched(config, tmp_path) is config
    (tmp_path / FILE_NAME).write_bytes(b"")  # a crash while it was written: stopped
    assert not as_switched(config, tmp_path).detection.enabled
