#!/usr/bin/env python3
"""Measures exchanges on their simulated venues and holds each figure to its threshold.

Usage: scripts/generate_performance_report.py [--exchanges mexc,gateio_spot] [--json] [--html FILE]
Exit 0 = every threshold is kept.
"""

import os
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PYTHON = REPO / ".venv" / "bin" / "python"
if PYTHON.exists() and Path(sys.prefix) != PYTHON.parent.parent:
    os.execv(PYTHON, [str(PYTHON), *sys.argv])
sys.path.insert(0, str(REPO))
try:
    from workers.report.compliance import measure_all
except ImportError as error:
    sys.exit(f"{error.name} is not installed; run scripts/install requirements-test.lock once")

sys.exit(measure_all(sys.argv[1:]))
