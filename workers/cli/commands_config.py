"""``arb config diff`` and ``arb config schema``; the commands beside them stand in ``commands_data.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pipeline.model.config import EngineConfig
from workers.cli.commands_data import config_app
from workers.cli.config_view import config_values
from workers.cli.options import Json
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from workers.output import emit

File = Annotated[Path, typer.Argument(metavar="FILE", help="A configuration.")]


def config_diff(first: File, second: File, json: Json = False) -> int:
    """Compare two configurations as they take effect, defaults, .env and environment included (exit code 1: unlike)."""
    left, right = config_values(first)["values"], config_values(second)["values"]
    changed: dict[str, Any] = {}
    for path in [*left, *(path for path in right if path not in left)]:
        values = [side[path]["value"] if path in side else None for side in (left, right)]
        values = [None if value == {} else value for value in values]  # an empty table is none
        if values[0] != values[1]:
            changed[path] = {"from": values[0], "to": values[1]}
    rows = [f"{path}: {row['from']} -> {row['to']}" for path, row in changed.items()]
    emit({"changed": changed}, as_json=json, text=lambda _: "\n".join(rows) or "alike")
    return EXIT_CHECK_FAILED if changed else EXIT_OK


def config_schema(json: Json = False) -> int:
    """Print the JSON schema of config.yaml, for editors (yaml-language-server: $schema=FILE in its first line)."""
    emit(_numbers(msgspec.json.schema(EngineConfig)), as_json=True, text=str)
    return EXIT_OK


def _numbers(schema: Any) -> Any:
    """A decimal is written as a number or as text: the configuration takes both."""
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            return {key: value for key, value in schema.items() if key != "format"} | {"type": ["number", "string"]}
        return {key: _numbers(value) for key, value in schema.items()}
    return [_numbers(item) for item in schema] if isinstance(schema, list) else schema


def register() -> None:
    """Add this file's commands to ``arb config``."""
    config_app.command("diff")(config_diff)
    config_app.command("schema")(config_schema)
