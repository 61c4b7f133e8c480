"""Options that several commands have in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")]
Instance = Annotated[str, typer.Option("--instance", help="Default: the only running one.")]
ConfigPath = Annotated[Path | None, typer.Option("--config", help="Default: $ARB_CONFIG, else ./config.yaml.")]


def config_path(given: Path | None) -> Path:
    """The configuration file that a command means: ``--config``, else ``$ARB_CONFIG``, else ``./config.yaml``."""
    return given or Path(os.environ.get("ARB_CONFIG") or "config.yaml")
