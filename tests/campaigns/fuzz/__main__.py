"""Hostile input, by command: scanners guided by their branches, then on bounds-checked machine code, then all readers.

    python -m tests.campaigns.fuzz [--inputs 200000] [--seed 1] [--keep FILE]

Prints the branch coverage of each scanner and every finding with its input; exit code 1 for a finding or less than
95 % of the branches.
``--keep``: where the grown corpus goes (tests/cases/fuzz/frames.json is what a run begins with).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from shm.sources import cache_root
from tests.campaigns.fuzz.readers import read_all
from tests.paths import REPO

GUIDED_SHARE, MACHINE_SHARE = 0.02, 0.7  # of all inputs; the readers have the rest
GUIDED_MAX = 60_000  # plain Python under a tracer: a few hundred a second
COVERAGE_MIN = 0.95


def scanners(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Runs the scanners' part in a process of its own."""
    command = [sys.executable, "-m", "tests.campaigns.fuzz.scanners", *arguments]
    done = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, cwd=REPO, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def campaign(inputs: int, seed: int, keep: Path | None) -> dict[str, Any]:
    """JSON-ready: what each part did and found."""
    began_s = time.monotonic()
    some = min(GUIDED_MAX, max(4000, int(inputs * GUIDED_SHARE)))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        corpus = keep or Path(folder) / "corpus.json"
        usual = ["--seed", str(seed), "--corpus", str(corpus)]
        guided = scanners(["--guided", "--inputs", str(some), *usual], {"NUMBA_DISABLE_JIT": "1"})
        checked = {"NUMBA_BOUNDSCHECK": "1", "ARB_CACHE_DIR": str(cache_root() / "bounds-checked")}
        machine = scanners(["--inputs", str(int(inputs * MACHINE_SHARE)), *usual], checked)
    rest = inputs - guided["inputs"] - machine["inputs"]
    readers = read_all(max(rest, 0), random.Random(f"{seed}:readers"))
    findings = [*guided.pop("findings"), *machine.pop("findings"), *readers.pop("findings")]
    parts = {"guided": guided, "machine_code": machine, "readers": readers}
    total = sum(part["inputs"] for part in parts.values())
    return {"inputs": total, "seconds": round(time.monotonic() - began_s), **parts, "findings": findings}


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.fuzz")
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    found = campaign(arguments.inputs, arguments.seed, arguments.keep)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    shares = found["guided"]["branches"]
    low = {name: share for name, share in shares.items() if share < COVERAGE_MIN}
    sys.stdout.write(
        f"{found['inputs']} inputs in {found['seconds']} s, {len(found['findings'])} findings; branches: "
        + ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        + "\n"
    )
    return 1 if found["findings"] or low else 0


if __name__ == "__main__":
    sys.exit(main())
