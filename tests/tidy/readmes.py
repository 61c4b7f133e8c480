"""What a folder's README says of its folder: all that lies there, and nothing that does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from tests.tidy.tree import Finding, Tree

#: Headers of columns that hold names of files and folders.
_NAMES = frozenset(
    {"file", "files", "folder", "folders", "file or folder", "folder or file", "module", "package", "script", "where"}
)
#: What explains itself, and the README.
_PLAIN = frozenset({"README.md", "__init__.py", "__main__.py", "py.typed"})
_QUOTED = re.compile(r"`([^`]+)`")
_PATH = re.compile(r"\w[\w.@-]*(?:/[\w.@*-]+)*/?\Z")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def readme_tables(tree: Tree) -> list[Finding]:
    """In a README of a folder with Python files, or with a table of its files, every file and folder that lies directly
    in it is named in backticks (``.py`` may be left out; ``sub/file.py`` names ``sub``); every name in a column of
    files (header "file", "folder", "module", "package", ...) is there. In a cell a file may follow one of the same
    folder (`sub/a.py`, `b.py`); a path from the root of the tree is another rule's."""
    known = {path: path for path in tree.files}
    known |= {path.removesuffix(".py"): path for path in tree.files if path.endswith(".py")}
    known |= {str(parent): str(parent) for path in tree.files for parent in PurePosixPath(path).parents}
    roots = {path.split("/", 1)[0] for path in tree.files if "/" in path}
    findings = []
    for readme, text in tree.readmes.items():
        if not readme.endswith("README.md"):
            continue
        folder = str(PurePosixPath(readme).parent)
        cells = list(_name_cells(text))
        for number, cell in cells:
            for name in _missing(cell, folder, known, roots):
                wanted = "repair or strike it"
                findings.append(Finding(readme, number, "readme table", f"names {name}, which is not there; {wanted}"))
        if folder != "." and (cells or any(source.folder == folder for source in tree.sources.values())):
            named = {PurePosixPath(token).parts[0].removesuffix(".py") for token in _tokens(text)}
            for entry in sorted(_entries(tree, folder) - _PLAIN):
                if entry.removesuffix(".py") not in named and PurePosixPath(entry).stem not in named:
                    message = f"does not name {entry}, which lies in its folder; say in a line what it is"
                    findings.append(Finding(readme, 1, "readme table", message))
    return findings


def _entries(tree: Tree, folder: str) -> set[str]:
    """Names of the files and folders that lie directly in a folder."""
    inside = (path.removeprefix(folder + "/") for path in tree.files if path.startswith(folder + "/"))
    return {path.split("/", 1)[0] for path in inside}


def _tokens(text: str) -> Iterator[str]:
    """Words in backticks that may be names of files or folders, in a text or a cell."""
    for quoted in _QUOTED.findall(_FENCED.sub("", text)):
        for word in quoted.split():
            if _PATH.match(word):
                yield word.rstrip("/")


def _name_cells(text: str) -> Iterator[tuple[int, str]]:
    """(line, cell) of every cell in a column of names."""
    columns: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("|"):
            columns = []
            continue
        cells = [cell.strip() for cell in line.replace("\\|", "/").strip().strip("|").split("|")]
        if not columns:
            columns = [at for at, cell in enumerate(cells) if cell.lower() in _NAMES] or [-1]
        elif columns != [-1]:
            yield from ((number, cells[at]) for at in columns if at < len(cells))


def _missing(cell: str, folder: str, known: dict[str, str], roots: set[str]) -> Iterator[str]:
    """Names of a cell that lead nowhere."""
    before = folder
    for quoted in _QUOTED.findall(cell.split(" (")[0]):  # what stands in brackets is a remark
        name = quoted.split()[0].rstrip("/")
        if not _PATH.match(name) or (name.split("/", 1)[0] in roots and "/" in name):
            continue
        found = [place for place in (_joined(folder, name), _joined(before, name)) if place in known]
        if found:
            before = str(PurePosixPath(found[0]).parent)
        else:
            yield name


def _joined(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"
