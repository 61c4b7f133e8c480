"""Which module runs a process: the one place where a process's name becomes an import."""

from __future__ import annotations

import importlib
from types import ModuleType

#: Processes whose ``run`` stands in a folder. Every other process is ``workers/<name>.py``.
PROCESS_MODULES = {"executor": "workers.executor.process", "recorder": "workers.recorder.process"}


def worker_module(process: str) -> ModuleType:
    """The module with a process's ``run``: of ``feed.mexc`` ``workers.feed``, of ``executor`` its ``process``."""
    kind = process.split(".", maxsplit=1)[0]
    return importlib.import_module(PROCESS_MODULES.get(kind, f"workers.{kind}"))
