"""``python -m tests.tidy [ROOT] [--rule NAME] [--under PATH]``: prints every breach of the tree's rules, by package.

``ROOT`` (default: this checkout) is the tree to look at. Exit 0: none; 1: some.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from tests.paths import REPO
from tests.tidy.rules import CHECKS, ORDER
from tests.tidy.tree import Finding, load


def room(path: str) -> str:
    """The package that a finding's path lies in, for the report: ``pipeline/book``, ``tests/unit/sim``."""
    dotted = path.removesuffix(".py").replace("/", ".")
    inside = [name for name in ORDER if dotted == name or dotted.startswith(name + ".")]
    found = max(inside, key=len, default=path).replace(".", "/")
    return "/".join(path.split("/")[:3]) if found == "tests" and path.count("/") > 2 else found


def report(findings: list[Finding]) -> str:
    """Findings as text, one section a package."""
    rooms: dict[str, list[Finding]] = defaultdict(list)
    for finding in sorted(findings):
        rooms[room(finding.path)].append(finding)
    sections = [
        f"== {name}: {len(rooms[name])}\n" + "\n".join(str(finding) for finding in rooms[name])
        for name in sorted(rooms)
    ]
    return "\n\n".join([*sections, f"{len(findings)} findings in {len(rooms)} packages"])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.tidy", description="Breaches of the tree's rules, by package."
    )
    parser.add_argument("root", nargs="?", type=Path, default=REPO, help="the tree to look at (default: this checkout)")
    parser.add_argument("--rule", action="append", choices=sorted(CHECKS), help="only this rule; may be repeated")
    parser.add_argument("--under", default="", help="only findings in paths that begin so, as pipeline/book")
    chosen = parser.parse_args()
    tree = load(chosen.root.resolve())
    findings = [
        finding
        for name in chosen.rule or CHECKS
        for finding in CHECKS[name](tree, chosen.root.resolve())
        if finding.path.startswith(chosen.under)
    ]
    print(report(findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
