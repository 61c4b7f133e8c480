"""The source files of a tree, parsed once. Every check is a function over a ``Tree`` and gives ``Finding`` objects."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

#: Texts at the root that lead to files, as a README does.
ROOT_GUIDES = frozenset({"CONTRIBUTING.md", "GLOSSARY.md", "SECURITY.md"})
SKIPPED_FOLDERS = frozenset({"__pycache__", "build", "dist"})


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One breach of one rule: where, which rule, and a message that says what was found and what is wanted."""

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} [{self.rule}] {self.message}"


def is_test(path: str) -> bool:
    """Whether a file lies below a folder ``tests``."""
    return "tests" in PurePosixPath(path).parent.parts


class Source:
    """One Python file: its path from the root of the tree (with ``/``), its text, its syntax tree."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.lines = text.splitlines()

    @cached_property
    def syntax(self) -> ast.Module:
        return ast.parse(self.text, filename=self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the syntax tree."""
        return list(ast.walk(self.syntax))

    @property
    def folder(self) -> str:
        return str(PurePosixPath(self.path).parent)

    @cached_property
    def module(self) -> str:
        """Dotted name; a package has the name of its folder."""
        parts = PurePosixPath(self.path).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def docstrings(self) -> set[ast.AST]:
        """The constant nodes that are docstrings (or other strings that stand alone as a statement)."""
        return {
            node.value for node in self.nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }


class Tree:
    """All files of a checkout by their paths from the root: ``files`` is the paths of everything, ``sources`` the texts
    of the Python files, ``readmes`` those of the README.md files and of the guides at the root."""

    def __init__(self, files: list[str], sources: Mapping[str, str], readmes: Mapping[str, str]) -> None:
        self.files = files
        self.sources = {path: Source(path, text) for path, text in sources.items()}
        self.readmes = dict(readmes)

    @cached_property
    def modules(self) -> dict[str, Source]:
        """Module name -> its file."""
        return {source.module: source for source in self.sources.values()}

    def of_rooms(self, *rooms: str) -> Iterator[Source]:
        """The Python files below these top-level folders."""
        return (source for source in self.sources.values() if source.path.split("/", 1)[0] in rooms)


def load(root: Path) -> Tree:
    """Reads the tree below ``root`` without hidden folders (``.venv`` too) and caches. Python files that stand at the
    root itself are no modules of the tree."""
    files = sorted(_files_below(root, root))
    sources = {name: (root / name).read_text() for name in files if name.endswith(".py") and "/" in name}
    guides = (name for name in files if name.endswith("README.md") or name in ROOT_GUIDES)
    readmes = {name: (root / name).read_text() for name in guides}
    return Tree(files, sources, readmes)


def _files_below(folder: Path, root: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name in SKIPPED_FOLDERS or path.name.endswith(".egg-info"):
            continue
        if path.is_dir():
            yield from _files_below(path, root)
        elif path.suffix != ".pyc":
            yield path.relative_to(root).as_posix()
