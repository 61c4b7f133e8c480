"""Small trees for the tests of the rules."""

from __future__ import annotations

from pathlib import Path

from tests.tidy.tree import Finding, Tree, load


def tree(root: Path, files: dict[str, str]) -> Tree:
    """Writes ``files`` below ``root`` (with an ``__init__.py`` in each folder of Python files) and loads them."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for folder in [*path.relative_to(root).parents][:-1] if name.endswith(".py") else ():
            (root / folder / "__init__.py").touch()
    return load(root)


def places(findings: list[Finding]) -> list[str]:
    return [f"{finding.path}:{finding.line}" for finding in findings]
