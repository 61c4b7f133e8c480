"""Pictures of README and docs: made by a script, complete in themselves, and those that texts show are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from pipeline.virtual.margin_storm import Storm, storm_world
from tests.paths import REPO
from workers.executor.publisher import Publisher
from workers.executor_file import write_executor_state
from workers.reference.pictures import CHARTS, chart_of, top_picture
from workers.report.charts import Line, line_chart
from workers.report.recent import NOTHING_YET
from workers.state_folder import instance_dir
from workers.view.status import Reader

PICTURES = REPO / "docs" / "pictures"


@pytest.fixture
def reading(state_dir: Path, instance: str) -> dict[str, Any]:
    """What `arb status` reads of a core that has stopped in order."""
    world = storm_world(Storm(), 1, up=True)
    world.run(500)
    world.core.context.now = world.now()
    folder = instance_dir(instance, create=True)
    (folder / "run.json").write_bytes(msgspec.json.encode({"state": "stopped", "mode": "sim"}))
    (folder / "lock").touch()
    write_executor_state(folder, Publisher(world.core, folder, lambda level, text: None).state(stopped=True))
    return Reader(instance).read()


def check(svg: str) -> None:
    """A picture that needs nothing else."""
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert not re.search(r"<script|@import|@font-face|href=|url\((?!#)", svg)
    others = set(re.findall(r"https?://[^\"' )]+", svg)) - {"http://www.w3.org/2000/svg"}
    assert not [url for url in others if "www.w3.org" not in url and "textualize.io" not in url], others


def test_the_screen_of_top_is_a_picture_that_needs_nothing_else(reading: dict[str, Any]) -> None:
    svg = top_picture(reading, NOTHING_YET)
    check(svg)
    assert "Overview" in svg


def test_a_chart_of_a_page_stands_alone() -> None:
    page = line_chart("a", [Line("x", [(0.0, 1.0), (1.0, 2.0)])]) + line_chart("b", [Line("y", [(0.0, 1.0)])])
    svg = chart_of(page, "b")
    check(svg)
    assert "<title>b</title>" in svg and "<title>a</title>" not in svg and "font:11px" in svg
    with pytest.raises(KeyError):
        chart_of(page, "c")


def test_a_line_and_its_name_have_one_colour() -> None:
    """The rule for texts leaves those alone that have a colour of their own: every name would be grey else."""
    svg = chart_of(line_chart("a", [Line("x", [(0.0, 1.0), (1.0, 2.0)]), Line("y", [(0.0, 1.0)])]), "a")
    named = dict(re.findall(r'fill="(#\w+)">(\w)</text>', svg))
    assert len(named) == 2 and list(named) == re.findall(r'stroke="(#\w+)"', svg)
    assert [rule for rule in re.findall(r"([^{}<>]+)\{[^}]*fill:", svg) if "text" in rule] == [
        "text:not([fill],.title)"
    ]


def test_every_picture_that_a_text_shows_is_there_and_whole() -> None:
    shown = {
        (text.parent / found).resolve()
        for text in [REPO / "README.md", *(REPO / "docs").glob("*.md")]
        for found in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text.read_text())
    }
    assert shown == {PICTURES / name for name in ("top.svg", *CHARTS)}
    for path in shown:
        check(path.read_text())
