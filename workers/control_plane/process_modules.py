"""Which module runs a process: the one place where a process's name becomes an import."""

from __future__ import annotations

import importlib
from types import ModuleType

#: Kind of process -> the module with its ``run``.
PROCESS_MODULES = {
    "detector": "workers.detector",
    "executor": "workers.executor.process",
    "feed": "workers.feed",
    "guard": "workers.guard.process",
    "monitor": "workers.monitor.process",
    "poller": "workers.poller",
    "recorder": "workers.recorder.process",
}


def worker_module(process: str) -> ModuleType:
    """The module with a process's ``run``: of ``feed.mexc`` ``workers.feed``. Raises KeyError on an unknown kind."""
    return importlib.import_module(PROCESS_MODULES[process.split(".", maxsplit=1)[0]])
