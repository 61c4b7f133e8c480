"""Lines get journald's priority where stderr goes to journald, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.paths import REPO

SPEAKS = (
    "import sys; from workers.output import journal_prefix;"
    " [sys.stderr.write(journal_prefix(l) + l + '\\n') for l in ('info', 'warning', 'error', 'critical', 'strange')]"
)


def said(path: Path, stream: str | None) -> list[str]:
    """What a process whose stderr is ``path`` writes; ``stream``: its JOURNAL_STREAM ("own": that of the file)."""
    with path.open("wb") as handle:
        found = os.fstat(handle.fileno())
        value = f"{found.st_dev}:{found.st_ino}" if stream == "own" else stream
        environment = {key: text for key, text in os.environ.items() if key != "JOURNAL_STREAM"}
        environment |= {} if value is None else {"JOURNAL_STREAM": value}
        subprocess.run([sys.executable, "-c", SPEAKS], stderr=handle, env=environment, cwd=REPO, check=True)
    return path.read_text().splitlines()


def test_priorities_are_written_only_into_journalds_stream(tmp_path: Path) -> None:
    plain = ["info", "warning", "error", "critical", "strange"]
    assert said(tmp_path / "a", "own") == ["<6>info", "<4>warning", "<3>error", "<2>critical", "<6>strange"]
    assert said(tmp_path / "b", None) == plain
    assert said(tmp_path / "c", "8:12345") == plain, "stderr was redirected since"
