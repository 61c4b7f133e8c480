"""``arb config show``: every value of the configuration, flat, with where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from pipeline.model.config_load import load_with_origins
from pipeline.model.config_monitoring import shown_value


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {path: leaf for key, item in value.items() for path, leaf in _flatten(item, f"{prefix}{key}.").items()}
    return {prefix.removesuffix("."): value}


def config_values(path: Path) -> dict[str, Any]:
    """``{"values": {dotted path: {"value", "origin"}}}``. Raises ConfigInvalid."""
    config, origins = load_with_origins(path)
    flat = _flatten(msgspec.to_builtins(config))
    rows = {}
    for dotted, value in flat.items():
        found = [dotted, *(dotted.rsplit(".", cut)[0] for cut in range(1, dotted.count(".") + 1))]
        origin = next((origins[name] for name in found if name in origins), "default")
        rows[dotted] = {"value": shown_value(dotted, value), "origin": origin}
    return {"values": rows}


def config_lines(fields: dict[str, Any]) -> str:
    """The values as a table of text."""
    rows = fields["values"]
    width = max(map(len, rows), default=0)
    return "\n".join(f"{path:<{width}}  {row['value']!s:<40}  {row['origin']}" for path, row in rows.items())
