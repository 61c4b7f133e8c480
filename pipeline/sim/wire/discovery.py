"""Finds wire dialects by their folders: ``wire/<name>/exchange.py`` defines ``DIALECT``, a ``Dialect`` class.

A new exchange is a new folder, here or below ``sim/wire`` of a root that a configuration names
(``pipeline/model/dialects.py``); nothing else names it but the scenario file that uses it. One with recordings has
``recorded.py``: ``RECORDED``, a ``RecordedDialect``.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import pipeline.sim.wire
from pipeline.model.dialects import dialect_names, folder_of, roots
from pipeline.model.errors import ConfigInvalid
from pipeline.sim.wire.dialect import Dialect
from pipeline.sim.wire.recording import RecordedDialect


def _module(name: str, part: str) -> ModuleType:
    for root in roots():
        if (folder := str(root / "sim" / "wire")) not in pipeline.sim.wire.__path__:
            pipeline.sim.wire.__path__.append(folder)
    return importlib.import_module(f"pipeline.sim.wire.{name}.{part}")


def load_dialect(name: str) -> type[Dialect]:
    """The dialect class of a folder. Raises ``ConfigInvalid`` for a name without one."""
    known = dialect_names()
    if name not in known:
        raise ConfigInvalid([f"dialect {name}: no such simulated wire format; known: {', '.join(known)}"])
    found: type[Dialect] = _module(name, "exchange").DIALECT
    return found


def recorded_dialects() -> dict[str, RecordedDialect]:
    """How recordings of each exchange are opened and served, of the dialects that have any."""
    return {
        name: _module(name, "recorded").RECORDED
        for name in dialect_names()
        if (folder_of(name, "sim/wire") / "recorded.py").is_file()
    }
