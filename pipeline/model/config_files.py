"""Where a configuration comes from beside YAML: ``arbitrage_config.py``, and profiles over either.

A Python file defines ``ARBITRAGE_CONFIG``: a mapping, or an object whose ``as_mapping()`` gives one (the Python
package's ``ArbitrageConfig``). Every process that reads the configuration executes it: only its values may matter.

A profile (``ARB_PROFILE``, or ``get_config(profile=...)``) sets the mode of ``PROFILES``; a file beside the
configuration, ``config.<profile>.yaml`` for ``config.yaml``, is laid over it. Any other profile needs that file.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.model.enums import Mode
from pipeline.model.errors import ArbitrageEngineError, ConfigInvalid

PYTHON_NAME = "ARBITRAGE_CONFIG"
PROFILES: dict[str, dict[str, Any]] = {
    "dev": {"mode": Mode.PAPER.value},
    "test": {"mode": Mode.SIM.value},
    "prod": {"mode": Mode.LIVE.value},
}


def read_python(path: Path) -> dict[str, Any]:
    """The mapping that a Python configuration defines. Raises ConfigInvalid."""
    if not path.is_file():
        raise ConfigInvalid([f"{path}: cannot be read (no such file); give --config FILE or create it"])
    try:
        names = runpy.run_path(str(path))
    except ArbitrageEngineError as error:
        raise ConfigInvalid([f"{path}: {error}"]) from None
    except (ArithmeticError, AttributeError, LookupError, NameError, SyntaxError, TypeError, ValueError) as error:
        raise ConfigInvalid([f"{path}: {type(error).__name__}: {error}"]) from None
    except (ImportError, OSError) as error:
        raise ConfigInvalid([f"{path}: {error}"]) from None
    found: Any = names.get(PYTHON_NAME)
    if hasattr(found, "as_mapping"):
        found = found.as_mapping()
    if not isinstance(found, Mapping):
        text = "nothing" if PYTHON_NAME not in names else type(names[PYTHON_NAME]).__name__
        raise ConfigInvalid([f"{path}: found {text} as {PYTHON_NAME}, wanted an ArbitrageConfig or a mapping"])
    return dict(found)


def profile_layers(
    path: str | Path | None, profile: str, read_yaml: Callable[[Path], dict[str, Any]]
) -> list[tuple[str, dict[str, Any]]]:
    """(origin, values) of what a profile lays over the configuration of ``path``, the lowest first; [] for none ("").

    Raises ConfigInvalid for a profile that nobody knows and that has no file.
    """
    if not profile:
        return []
    beside = None if path is None else Path(path).with_name(f"{Path(path).stem}.{profile}.yaml")
    if beside is not None and not beside.exists():
        beside = None
    if profile not in PROFILES and beside is None:
        known = ", ".join(PROFILES)
        raise ConfigInvalid([f"ARB_PROFILE: found {profile!r}, wanted one of {known}, or a file config.{profile}.yaml"])
    layers = [(f"profile {profile}", PROFILES[profile])] if profile in PROFILES else []
    return layers if beside is None else [*layers, (f"file {beside}", read_yaml(beside))]


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``: mappings are merged key by key, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        merged[key] = laid_over(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged
