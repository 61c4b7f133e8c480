"""Inside ``workers/`` a module imports only what the table of its README allows, and nothing in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.paths import REPO

WORKERS = REPO / "workers"


def part_of(path: Path) -> str:
    """The row of the README that a file belongs to: its folder, or its own name."""
    return path.relative_to(WORKERS).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Parts of ``workers`` that a file imports, inside functions and for type checking as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"workers.{a.name}" for a in node.names] if node.module == "workers" else [node.module]
        yield from (name.split(".")[1] for name in names if name.startswith("workers."))


def table() -> dict[str, set[str]]:
    """Part -> the parts that its row of the README names, in the order of the rows."""
    rows: dict[str, set[str]] = {}
    for line in (WORKERS / "README.md").read_text(encoding="utf-8").splitlines():
        cells = line.split(" | ")
        if line.startswith("| `") and len(cells) == 4:
            allowed = set(re.findall(r"`(\w+)`", cells[2].partition(";")[0]))
            rows.update((part, allowed) for part in parts_of(line))
    return rows


def parts_of(line: str) -> list[str]:
    """The modules and packages that a row of the README is about."""
    return re.findall(r"`(\w+)(?:\.py|/)`", line.split(" | ")[0]) if line.startswith("| `") else []


def test_every_part_imports_exactly_what_the_readme_says() -> None:
    found: dict[str, set[str]] = {}
    for path in WORKERS.rglob("*.py"):
        part = part_of(path)
        found.setdefault(part, set()).update(name for name in imported(path) if name != part)
    del found["__init__"], found["__main__"]
    rows = table()
    lines = (WORKERS / "README.md").read_text(encoding="utf-8").splitlines()
    several = {part for line in lines if len(parts := parts_of(line)) > 1 for part in parts}  # of one row
    assert set(found) == set(rows)
    for part, names in found.items():
        assert names <= rows[part] if part in several else names == rows[part], part


def test_a_row_imports_only_rows_above_it() -> None:
    seen: set[str] = set()
    for part, allowed in table().items():
        assert allowed <= seen, f"{part} imports {allowed - seen}, which stand below it"
        seen.add(part)
    assert len(seen) > 10
