"""Writes ``docs/reference``: ``python -m workers.reference.write docs/reference`` (``scripts/docs``)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from workers.reference.alerts import alerts_page, metrics_page
from workers.reference.commands import commands_page
from workers.reference.configuration import configuration_page
from workers.reference.faults import faults_page
from workers.reference.refusals import refusals_page
from workers.reference.venues import venues_page

RULES = Path(__file__).resolve().parents[2] / "systemd" / "prometheus" / "arb.rules.yaml"


def pages() -> dict[str, str]:
    """The files by their name."""
    return {
        "commands.md": commands_page(),
        "configuration.md": configuration_page(),
        "refusals.md": refusals_page(),
        "alerts.md": alerts_page(yaml.safe_load(RULES.read_text(encoding="utf-8"))),
        "metrics.md": metrics_page(),
        "venues.md": venues_page(),
        "faults.md": faults_page(),
    }


def main(arguments: Sequence[str]) -> int:
    """Write the pages into the folder that is named."""
    (folder,) = (Path(name) for name in arguments)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
