"""The monitor's last look: whose stop it tells of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.execution.journal import segment_path
from pipeline.model.config_monitoring import MonitoringConfig
from pipeline.model.enums import AlertSeverity, ProcessState
from shm.liveness import Liveness
from workers.last_run.half_done import UNREADABLE
from workers.monitor.alert_list import AlertList, Message
from workers.monitor.log_events import LogEvents
from workers.monitor.watch import Watch
from workers.state_folder import instance_dir

READY, STOPPING = ProcessState.READY, ProcessState.STOPPING


@contextmanager
def alive(instance: str, **states: ProcessState) -> Iterator[None]:
    pages = [Liveness.create(instance, process) for process in states]
    for page, state in zip(pages, states.values(), strict=True):
        page.set_state(state)
    try:
        yield
    finally:
        for page in pages:
            page.close()


def last_look(instance: str) -> list[Message]:
    sent: list[Message] = []
    settings: Any = MonitoringConfig()
    watch = Watch(instance, settings, AlertList([]), LogEvents(instance, {}), sent.append, print)
    watch.stopped(1)
    return sent


@pytest.mark.parametrize(
    ("states", "stops"),
    [
        ({"supervisor": READY, "guard": READY, "executor": READY}, False),
        ({"guard": READY, "executor": READY}, False),
        ({"supervisor": READY, "executor": READY}, False),
        ({"supervisor": STOPPING, "guard": READY, "executor": READY}, True),
        ({"supervisor": STOPPING}, True),
        ({"supervisor": READY}, True),  # units: those who trade have stopped before
        ({}, True),
    ],
)
def test_the_instance_is_said_to_stop_only_where_it_does(
    state_dir: Any, instance: str, states: dict[str, ProcessState], stops: bool
) -> None:
    with alive(instance, **states):
        assert [message.text for message in last_look(instance)] == (
            ["the instance stops; nothing stays open at the venues"] if stops else []
        )


@pytest.mark.parametrize("damaged", [False, True], ids=["no journal", "a damaged journal"])
def test_a_last_word_that_cannot_be_read_is_a_warning(state_dir: Any, instance: str, damaged: bool) -> None:
    folder = instance_dir(instance, create=True)
    (folder / "executor.json").write_text("{")
    if damaged:
        segment_path(folder / "journal", 1).write_bytes(b"damaged")
    (message,) = last_look(instance)
    assert message.severity is AlertSeverity.WARNING and "arb hedges" in message.solve
    assert message.text.endswith(UNREADABLE)
