"""The documents: what is made out of the code is current, links lead somewhere, examples are valid, the site builds."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

import arbitrage
from pipeline.model.config import RiskLimits
from pipeline.model.config_load import config_from_mapping
from pipeline.model.enums import Mode, Refusal
from pipeline.risk.breakers import MEANINGS
from tests.paths import REPO
from workers.last_run.journal_mode import name_of_mode
from workers.reference.alerts import core_modules, reasons
from workers.reference.configuration import keys
from workers.reference.source_text import HOLE, calls, comments_of
from workers.setup.limits import Profile, derive_limits

DOCS = REPO / "docs"
DOCUMENTS = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(
    r"`((?:shm|pipeline|workers|tests|bench|systemd|scripts|deploy|docs|examples|arbitrage)/[\w./-]*|[A-Z]\w+\.md)`"
)


def named(path: Path) -> str:
    return str(path.relative_to(DOCS))


def anchors(path: Path) -> set[str]:
    """Ids of a page's headings, as Markdown's ``toc`` makes them."""
    texts = (re.sub(r"[`*]", "", heading) for heading in HEADING.findall(path.read_text()))
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower()) for text in texts}


def test_the_reference_is_what_the_code_makes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workers.reference.write", str(tmp_path)]  # a process that knows no other dialects
    subprocess.run(command, cwd=REPO, check=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {path.name for path in (DOCS / "reference").iterdir()} == set(made) and len(made) >= 6
    stale = [name for name, text in made.items() if (DOCS / "reference" / name).read_text() != text]
    assert not stale, "run scripts/docs"


def test_every_key_and_refusal_says_what_it_means() -> None:
    found = list(keys())
    assert len(found) > 100 and {"risk_limits.max_daily_loss_usd", "exchanges.*.dialect"} <= {key.path for key in found}
    assert not [key.path for key in found if not key.means]
    said = comments_of(Refusal)
    assert not [one.name for one in Refusal if one is not Refusal.NONE and one.name not in said]


def test_every_breaker_that_the_core_trips_is_told() -> None:
    patterns = [re.sub(r"[A-Z]+", ".+", name) for name in MEANINGS]
    tripped = [call.arguments["name"] for call in calls(core_modules(), "trip", ("name", "reason"))]
    constant = [name for name in tripped if name != HOLE]
    assert len(constant) >= 15
    assert not [name for name in constant if not any(re.fullmatch(pattern, name) for pattern in patterns)]


def test_reasons_are_read_out_of_the_source() -> None:
    found = [call.arguments for call in reasons()]
    assert len(found) > 40
    assert any(one["what"].startswith("HALTED by …") and one["solve"] == "arb resume --reason R…" for one in found)
    assert all(one.keys() >= {"what", "solve", "effect"} for one in found)


def test_no_reason_of_the_reference_is_a_docstring_or_nothing() -> None:
    page = (DOCS / "reference" / "alerts.md").read_text()
    rows = page.partition("## Reasons")[2].partition("## Alerts of the executor")[0].splitlines()
    assert len(rows) > 40 and not [row for row in rows if "``" in row or row.startswith("| … |")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_to_pages_and_headings_that_are_there(path: Path) -> None:
    wrong = []
    for target in LINK.findall(FENCED.sub("", path.read_text())):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        if not page.exists() or (anchor and anchor not in anchors(page)):
            wrong.append(target)
    assert not wrong


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name != "adding-a-venue.md"], ids=named)
def test_paths_that_a_document_names_are_in_the_tree(path: Path) -> None:
    assert not [name for name in PATH.findall(path.read_text()) if not (REPO / name).exists()]


def test_every_page_stands_in_the_sites_navigation() -> None:
    found: list[str] = []

    def walk(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            for target in entry.values():
                walk(target) if isinstance(target, list) else found.append(target)

    walk(yaml.safe_load((REPO / "mkdocs.yml").read_text())["nav"])
    assert sorted(found) == [str(path.relative_to(DOCS)) for path in DOCUMENTS]


def test_configurations_in_the_documents_are_valid() -> None:
    venues = yaml.safe_load((REPO / "deploy" / "engine.yaml").read_text())
    count = 0
    for path in DOCUMENTS:
        for language, text in FENCED.findall(path.read_text()):
            if language == "yaml":
                count += 1
                config_from_mapping({**venues, **yaml.safe_load(text)})
    assert count >= 2


def test_the_documents_know_every_market_that_comes_along() -> None:
    facts = [tomllib.loads(path.read_text()) for path in (REPO / "pipeline" / "exchanges").glob("*/manifest.toml")]
    trading = [one for one in facts if one.get("trade", True)]
    markets = sum(len(one["markets"]) for one in trading)
    assert f"| {len(trading)} companies, {markets} markets |" in (DOCS / "comparison.md").read_text()
    (header,) = [line for line in (DOCS / "venues.md").read_text().splitlines() if line.startswith("| | ")]
    columns = [column.strip() for column in header.strip("| ").split("|")]
    going_live = (DOCS / "going-live.md").read_text().partition("\n## ")[0]
    for one in trading:
        assert len([column for column in columns if column.startswith(one["title"])]) == len(one["markets"]), one
        assert one["title"] in going_live
    assert "## One wallet" in (DOCS / "venues.md").read_text() and any(one.get("one_wallet") for one in trading)


@pytest.mark.parametrize("name", ["docs/going-live.md", "README.md"])
def test_paper_and_live_of_a_guide_are_different_instances(name: str) -> None:
    """A journal is of one mode: what paper has written into the live instance's refuses the live start."""
    ups = re.findall(r"^ +(arb up\b[^#\n]*)", (REPO / name).read_text(), re.MULTILINE)
    (live,) = [re.findall(r"--i-understand-live-trading (\S+)", line)[0] for line in ups if "--mode live" in line]
    paper = [line for line in ups if "--instance" in line]
    assert [line.split("--instance ")[1].strip() for line in paper] == [name_of_mode(live, Mode.PAPER)]
    assert not [line for line in ups if "--mode paper" in line and line not in paper]


def test_limits_of_the_guide_let_an_entry_of_half_the_size_pass() -> None:
    text = (DOCS / "going-live.md").read_text()
    (sample,) = [yaml.safe_load(found) for language, found in FENCED.findall(text) if language == "yaml"]
    config = config_from_mapping({**yaml.safe_load((REPO / "deploy" / "engine.yaml").read_text()), **sample})
    whole = config.detection.max_notional_usd * config.risk_limits.min_profit_margin_bps / 10_000
    assert 0 < config.risk_limits.min_profit_usd <= whole / 2
    written = derive_limits(Decimal(500), Profile.CAUTIOUS, 2)
    least = written.limits.min_profit_usd
    assert f"{written.max_notional_usd:.0f} USD, {written.limits.min_profit_margin_bps} bps and {least} USD" in text
    default = RiskLimits().min_profit_usd
    reached_bps = default / written.max_notional_usd * 10_000
    assert f"{default} USD, which {written.max_notional_usd:.0f} USD reach at {reached_bps:.0f} bps" in text


def test_programs_in_the_documents_compile_and_import_what_is_there() -> None:
    count = 0
    for path in DOCUMENTS:
        for language, text in FENCED.findall(path.read_text()):
            if language != "python":
                continue
            count += 1
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom) and node.module == "arbitrage":
                    assert all(hasattr(arbitrage, alias.name) for alias in node.names), path
    assert count >= 4


def test_the_tools_of_make_exist() -> None:
    """Targets of the Makefile are thin: each calls a script or a tool of the tree."""
    text = (REPO / "Makefile").read_text()
    wanted = ["install", "install-dev", "install-all", "help", "format", "clean", "lint", "check-all", "quick-format"]
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert set(wanted) <= targets
    assert targets <= set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split())
    for script in re.findall(r"scripts/[\w-]+", text):
        assert (REPO / script).exists(), script
    done = subprocess.run(
        ["make", "-n", "-C", str(REPO), *sorted(targets)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(["make", "-s", "-C", str(REPO), "help"], capture_output=True, text=True, check=False).stdout
    assert all(target in shown for target in wanted)


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed (an extra: docs)")
def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "reference" / "alerts.html").exists()
