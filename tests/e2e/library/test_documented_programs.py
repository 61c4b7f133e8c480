"""The whole programs of the page on the Python API, as a user runs them: in a folder of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPO

pytestmark = pytest.mark.e2e

PAGE = REPO / "docs" / "python-api.md"
PROGRAMS = [text for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "asyncio.run(" in text]
#: The engine of each program -> what it has printed at its end.
SEEN = {"tutorial": "opportunities_detected", "books": ".", "mine": "COMPLETED "}


@pytest.mark.parametrize("name", SEEN)
def test_a_program_of_the_page_runs_to_its_end(own_state: Path, tmp_path: Path, name: str) -> None:
    (text,) = [program for program in PROGRAMS if f'"{name}"' in program]
    program = tmp_path / "program.py"
    program.write_text(text)
    done = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert SEEN[name] in done.stdout


def test_every_program_of_the_page_is_run() -> None:
    assert len(PROGRAMS) == len(SEEN)
