"""The unit files are accepted by systemd itself, and sandboxed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"
ANALYZE = shutil.which("systemd-analyze")
#: Exposure times ten that the sandbox must stay under (a bare unit has 96).
EXPOSURE_MAX = 25


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_unit_is_valid_and_its_sandbox_is_tight(tmp_path: Path) -> None:
    assert ANALYZE is not None
    text = (UNITS / "arb@.service").read_text()
    # verify also looks for the binaries, which live in /opt/arb on the production host only
    unit = tmp_path / "arb@main.service"
    unit.write_text(text.replace("/opt/arb/.venv/bin/arb", "/bin/true").replace("/opt/arb", "/tmp"))
    verified = subprocess.run(
        [ANALYZE, "verify", "--recursive-errors=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0 and not verified.stderr.strip(), verified.stderr
    secured = subprocess.run(
        [ANALYZE, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert secured.returncode == 0, secured.stdout[-500:]


def test_unit_never_lets_systemd_remove_live_shared_memory() -> None:
    settings = [line.split("=")[0] for line in (UNITS / "arb@.service").read_text().splitlines() if "=" in line]
    assert not {"DynamicUser", "RemoveIPC", "PrivateUsers", "MemoryDenyWriteExecute"} & set(settings)
