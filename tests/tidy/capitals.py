"""Names in capitals that texts of the code mention: each is defined somewhere, else the text speaks of what is gone."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.tidy.tree import Finding, Source, Tree

_CAPITALS = re.compile(r"(?<![\w$])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?!\w)")
_FAMILY = re.compile(r"(?<![\w$])((?:[A-Z][A-Z0-9]*_)+)\*")  # CAT_FLAG_* : every name that begins so


def undefined_capitals(tree: Tree, root: Path, rooms: Sequence[str], known: Mapping[str, str]) -> list[Finding]:
    """A name in capitals with an underscore in a docstring or comment of these rooms is one that some code of the tree
    has: a definition, an attribute, or a word of a text in the code (as an environment variable). Of a family, as
    ``ARB_*``, at least one member. ``known``: names that others define -> reason."""
    defined = {*known, *_code_names(tree), *_names_of_other_files(tree, root)}
    families = {name[: at + 1] for name in defined for at, letter in enumerate(name) if letter == "_"}
    findings = []
    for source in tree.of_rooms(*rooms):
        for line, text in _texts(source):
            for number, part in enumerate(text.splitlines(), line):
                missing = [found for found in _CAPITALS.findall(part) if found not in defined]
                missing += [f"{found}*" for found in _FAMILY.findall(part) if found not in families]
                findings += [
                    Finding(source.path, number, "capitals", f"names {name}, which no code of the tree has")
                    for name in missing
                ]
    return findings


def _texts(source: Source) -> Iterator[tuple[int, str]]:
    """(line, text) of every docstring and comment."""
    for node in source.docstrings:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, "\n".join(source.lines[node.lineno - 1 : node.end_lineno])
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _code_names(tree: Tree) -> set[str]:
    names: set[str] = set()
    for source in tree.sources.values():
        for node in source.nodes:
            if isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.alias):
                names.add(node.asname or node.name)
            elif isinstance(node, ast.Constant) and node not in source.docstrings:
                value = node.value.decode(errors="replace") if isinstance(node.value, bytes) else node.value
                if isinstance(value, str):
                    names.update(_CAPITALS.findall(value))
    return names


def _names_of_other_files(tree: Tree, root: Path) -> set[str]:
    """Words of scripts, units and settings: all files but Python's and texts for people."""
    names: set[str] = set()
    for path in tree.files:
        if not path.endswith((".py", ".md", ".gz", ".png", ".bin")):
            names.update(_CAPITALS.findall((root / path).read_text(errors="replace")))
    return names
