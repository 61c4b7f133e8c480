"""Only a dialect's two folders name its exchange in code: nothing else knows which exchanges there are."""

from __future__ import annotations

import ast
import fnmatch
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from tests.tidy.tree import Finding, Source, Tree

MANIFESTS = "pipeline/exchanges/*/manifest.toml"
SIDES = ("pipeline/exchanges", "pipeline/sim/wire")


def exchange_names(tree: Tree, root: Path, rooms: Sequence[str], exempt: Mapping[str, str]) -> list[Finding]:
    """Identifiers, imports and texts (docstrings and comments apart) outside of ``exchanges/X`` and ``sim/wire/X`` that
    hold the name or title of a dialect ``X``; what one dialect's folder says of another exchange's folder; exceptions
    (path pattern -> reason) that are not needed."""
    titles = {
        PurePosixPath(path).parent.name: str(tomllib.loads((root / path).read_text())["title"])
        for path in fnmatch.filter(tree.files, MANIFESTS)
    }
    if not titles:
        return []
    needed: set[str] = set()
    findings = []
    for source in tree.of_rooms(*rooms):
        own = next((name for name in titles for side in SIDES if source.path.startswith(f"{side}/{name}/")), "")
        if own:
            findings += _of_the_other_side(source, own)
            continue
        pattern = _pattern(titles)
        for line, text in _texts(source):
            found = pattern.search(text)
            if found is None:
                continue
            allowed = [one for one in exempt if fnmatch.fnmatch(source.path, one)]
            needed.update(allowed)
            if not allowed:
                what = f"names the exchange {found[0]}; what is its own belongs into its two folders"
                findings.append(Finding(source.path, line, "exchange name", what))
    unused = [
        Finding(one, 1, "exchange name", "an exception that is not needed") for one in exempt if one not in needed
    ]
    return findings + unused


def _of_the_other_side(source: Source, own: str) -> Iterator[Finding]:
    """Imports of the dialect's other folder: the two are independent readings of the same documents."""
    other = SIDES[1] if source.path.startswith(SIDES[0]) else SIDES[0]
    module = f"{other.replace('/', '.')}.{own}"
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(module):
            yield Finding(source.path, node.lineno, "exchange name", f"imports {module}: the sides never meet")


def _pattern(titles: Mapping[str, str]) -> re.Pattern[str]:
    """Names at the beginning of a word whatever their case, capitalised anywhere (``SimMexc``), titles."""
    names = "|".join(map(re.escape, titles))
    anywhere = "|".join(re.escape(text) for name in titles for text in (name.capitalize(), titles[name]))
    return re.compile(rf"(?<![A-Za-z])(?i:{names})|{anywhere}")


def _texts(source: Source) -> Iterator[tuple[int, str]]:
    """(line, text) of every identifier, imported name and string that is no docstring."""
    for node in source.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and node not in source.docstrings:
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            yield node.lineno, text
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, " ".join([node.module or "", *(alias.name for alias in node.names)])
