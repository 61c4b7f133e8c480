"""Finds wire dialects by their folders: ``wire/<name>/exchange.py`` defines ``DIALECT``, a ``Dialect`` class.

A new exchange is a new folder; nothing else names it but the scenario file that uses it.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from pipeline.model.errors import ConfigInvalid
from pipeline.sim.wire.dialect import Dialect

_FOLDER = Path(__file__).resolve().parent


def dialect_names() -> list[str]:
    """Names that a scenario's ``dialect`` may have, sorted."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/exchange.py"))


def load_dialect(name: str) -> type[Dialect]:
    """The dialect class of a folder. Raises ``ConfigInvalid`` for a name without one."""
    known = dialect_names()
    if name not in known:
        raise ConfigInvalid([f"dialect {name}: no such simulated wire format; known: {', '.join(known)}"])
    found: type[Dialect] = importlib.import_module(f"pipeline.sim.wire.{name}.exchange").DIALECT
    return found
