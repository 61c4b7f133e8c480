"""Grafana's boards name what is served and nothing else, and are those that the list of metrics makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from shm.metrics import Metrics
from tests.paths import REPO
from workers.monitor.boards import boards, main, rate, selected
from workers.monitor.exposition import metrics_text
from workers.monitor.metric_list import METRICS
from workers.view.status import Reader

FOLDER = REPO / "systemd" / "grafana"
NAME = re.compile(r"\b(arb_\w+)\{([^}]*)\}")


def panels() -> list[dict[str, Any]]:
    return [panel for text in boards().values() for panel in msgspec.json.decode(text)["panels"]]


def served(instance: str) -> dict[str, set[str]]:
    """Every name that ``/metrics`` serves or announces, with the labels of its samples."""
    metrics = Metrics.create(instance, "executor")
    try:
        metrics.set(metrics.counter("refused.moved"), 1)
        metrics.record(metrics.histogram("tick_to_order"), 1_500_000)
        text = metrics_text({**Reader(instance).read(), "alerts": [], "targets": {}}, {"executor": metrics}).decode()
    finally:
        metrics.close()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        found.setdefault(family.name + ("_total" if family.type == "counter" else ""), set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_panel_asks_for_what_the_exporter_serves(state_dir: Path, instance: str) -> None:
    names = served(instance)
    labels = {metric.name: set(metric.labels) for metric in METRICS}
    asked = set()
    for panel in panels():
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            uses = NAME.findall(target["expr"])
            assert uses and set(re.findall(r"\barb_\w+", target["expr"])) == {name for name, _ in uses}
            for name, inside in uses:
                asked.add(name)
                known = labels.get(name, set()) | names[name] | {"instance"}
                used = set(re.findall(r"(\w+)=~", inside)) | set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                assert used <= known, (panel["title"], used - known)
    assert {metric.name for metric in METRICS} <= asked, "no metric without a panel"


def test_panels_do_not_lie_over_each_other() -> None:
    for text in boards().values():
        taken: set[tuple[int, int]] = set()
        for panel in msgspec.json.decode(text)["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (place["x"] + across, place["y"] + down) for across in range(place["w"]) for down in range(place["h"])
            }
            assert not cells & taken, panel["title"]
            taken |= cells


def test_the_files_are_what_the_list_makes(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in (FOLDER / "boards").iterdir()}
    assert kept == made, "run scripts/boards"


def test_grafana_finds_source_and_boards() -> None:
    (provider,) = yaml.safe_load((FOLDER / "boards.yaml").read_text())["providers"]
    assert provider["type"] == "file" and provider["options"]["path"]
    (source,) = yaml.safe_load((FOLDER / "source.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus"


def test_a_metric_or_a_label_that_is_not_in_the_list_is_refused() -> None:
    with pytest.raises(KeyError):
        rate("arb_nothing_total")
    with pytest.raises(KeyError, match="no label stage"):
        selected("arb_can_trade", stage="x")
