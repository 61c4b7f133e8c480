"""Rule of the table of faults: every row (1 to 100, A1 to A17, V1 to V23) stands once and names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.tidy.tree import Finding, Tree

TABLE = "tests/faults.md"
ROWS = (*map(str, range(1, 101)), *(f"A{k}" for k in range(1, 18)), *(f"V{k}" for k in range(1, 24)))
_ROW = re.compile(r"\| ([AV]?\d+) \|(.*)\|\s*$")
_NAME = re.compile(r"`([^`]+\.py)::(\w+)`")


def faults_tried(tree: Tree, root: Path) -> list[Finding]:
    """Rows that are missing, stand twice or name no test, and names of tests that are not there."""
    if not (root / TABLE).exists():
        return []
    found: list[Finding] = []
    seen: set[str] = set()
    for line, text in enumerate((root / TABLE).read_text().splitlines(), 1):
        row = _ROW.match(text)
        if row is None:
            continue
        number, names = row[1], _NAME.findall(row[2].rpartition("|")[2])
        if number in seen:
            found.append(_finding(line, f"row {number} stands twice"))
        seen.add(number)
        if not names:
            found.append(_finding(line, f"row {number} names no test; wanted `path below tests::test`"))
        for path, name in names:
            source = tree.sources.get(f"tests/{path}")
            if source is None or f"test_{name}" not in _tests(source.syntax):
                found.append(_finding(line, f"row {number}: there is no test_{name} in tests/{path}"))
    missing = [number for number in ROWS if number not in seen]
    if missing:
        found.append(_finding(1, f"rows {', '.join(missing)} are missing; wanted 1 to 100, A1 to A17, V1 to V23"))
    return found


def _tests(module: ast.Module) -> set[str]:
    """Names of its functions, and of the methods of its classes."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [module.body, *(node.body for node in module.body if isinstance(node, ast.ClassDef))]
    return {node.name for body in bodies for node in body if isinstance(node, kinds)}


def _finding(line: int, message: str) -> Finding:
    return Finding(TABLE, line, "faults", message)
