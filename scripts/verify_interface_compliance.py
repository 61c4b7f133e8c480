#!/usr/bin/env python3
"""Runs the conformance suite of an exchange on its simulated venue and says whether the exchange complies.

Usage: scripts/verify_interface_compliance.py NAME [--json] [--html FILE]      NAME: mexc, mexc_spot, ...
Exit 0 = it complies; what is left out is not known to.
RUN_INTEGRATION_TESTS=0, RUN_PERFORMANCE_TESTS=0 and TEST_TIMEOUT: pipeline/conformance/runner.py.
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
    from workers.report.compliance import verify
except ImportError as error:
    sys.exit(f"{error.name} is not installed; run scripts/install requirements-test.lock once")

sys.exit(verify(sys.argv[1:]))
