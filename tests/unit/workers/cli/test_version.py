"""``arb --version``: from the package's metadata, or from the checkout."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.model.errors import ArbitrageEngineError
from tests.paths import REPO
from workers.cli.version import engine_version

VERSION = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]


def test_the_command_prints_the_version_and_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workers", "--version"], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"arb {VERSION}\n", "")


def test_a_checkout_that_is_not_installed_knows_its_version() -> None:
    assert engine_version("no-such-distribution") == VERSION


@pytest.mark.parametrize("content", [None, "[project]\n", "not toml ["])
def test_without_both_the_error_says_what_to_run(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(ArbitrageEngineError, match="scripts/install"):
        engine_version("no-such-distribution", tmp_path)
