"""A guard on real pages and a real state folder, for its tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.model.config import EngineConfig
from pipeline.model.enums import ProcessState
from shm.liveness import Liveness
from shm.metrics import Metrics
from shm.pages import HaltPage
from tests.worlds.execution_world import make_config
from tests.worlds.waiting import WAIT_S
from workers.guard.process import Guard


class Context:
    """What the guard uses of its process."""

    def __init__(self, instance: str, folder: Path) -> None:
        self.instance = instance
        self.config = make_config()
        self.state_dir = folder
        self.metrics = Metrics.private("guard")
        self.said: list[str] = []
        self.restarts = 0
        self.beats = 0
        self.orphaned = self.stopped = False
        self.accepted: EngineConfig | None = None  # by a reload, and not taken in yet

    def reloaded(self) -> EngineConfig | None:
        found, self.accepted = self.accepted, None
        self.config = found or self.config
        return found

    def progress(self) -> None:
        self.beats += 1

    def request_stop(self) -> None:
        self.stopped = True

    def say(self, level: str, text: str) -> None:
        self.said.append(f"{level}: {text}")


def born(instance: str, folder: Path) -> tuple[Context, HaltPage, Guard]:
    """A guard of ``instance``, and what it stands on."""
    context, page = Context(instance, folder), HaltPage.create(instance)
    return context, page, Guard(context, page)  # type: ignore[arg-type]


class Life:
    """A guard on real pages, which can be born again on the same state folder."""

    def __init__(self, instance: str, folder: Path) -> None:
        self.instance = instance
        self.executor = Liveness.create(instance, "executor")
        self.executor.set_state(ProcessState.READY)
        self.context = Context(instance, folder)
        self.page = HaltPage.create(instance)
        self.guard = Guard(self.context, self.page)  # type: ignore[arg-type]

    def again(self) -> None:
        """SIGKILL and restart."""
        self.page.close()
        self.page = HaltPage.create(self.instance)
        self.guard = Guard(self.context, self.page)  # type: ignore[arg-type]

    def ask(self, **request: Any) -> dict[str, Any]:
        return self.guard.handle({**request, "uid": os.geteuid()})

    def may_send(self, now_ns: int) -> bool:
        """One lease period at ``now_ns``, then whether the executor may send new risk right after it."""
        self.executor.beat()
        self.guard.look(now_ns)
        return self.page.may_send(self.executor.epoch, now_ns + 1)

    def saves(self, now_ns: int) -> bool:
        """As :meth:`may_send`; the disk has then taken or refused what it lacked, and the guard has seen that."""
        may_send = self.may_send(now_ns)
        late = self.guard.keeper._late
        assert late is None or late.done.wait(WAIT_S)
        self.guard.keeper.look_at_disk()
        return may_send

    def close(self) -> None:
        self.page.close()
        self.executor.close()
