"""What `arb archive` and `arb report --parquet` write, with a pyarrow: a package that no lock has."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.paths import REPO

PACKAGES = REPO / ".venv" / "parquet"
FILES = [f"tests/unit/workers/report/test_{name}.py" for name in ("archive", "report_files")]
pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not PACKAGES.exists(), reason=f"{PACKAGES} is not there: scripts/test --host makes it"),
]


def test_what_is_written_as_parquet_is_read_back() -> None:
    """The tests that skip without it: each of them runs, but the one of its absence."""
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-rs", *FILES]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.findall(r"SKIPPED \[1\] (?:\S+): (.*)", done.stdout) == ["pyarrow is installed"], done.stdout[-3000:]
