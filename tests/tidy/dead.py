"""Definitions that nothing uses.

Uses are counted by name. A name at the top of a file is used by its own file and by those that import that file, or a
package that passes it on; a string uses it wherever it stands. Names in classes are counted over the whole tree, so
that one which stands twice counts as used wherever either is.

What counts as a use: the name read (alone or behind a dot), imported by another file, or spelled in a string
(``getattr``, ``__all__``, dotted paths). For fields of a class a keyword argument counts too: a record that is only
written out is built that way. What does not count: the definition itself and everything inside it (recursion), an
assignment.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tests.tidy.imports import all_imports
from tests.tidy.tree import Finding, Source, Tree, is_test

#: Bases from outside the tree that call no method of a class by its name; so do all exceptions of Python.
_PLAIN_BASES = frozenset(
    {"object", "ABC", "Protocol", "Generic", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "NamedTuple", "TypedDict"}
    | {"Struct"}
    | {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)}
)
#: Decorators that keep a function to call it later: typer, numba's extension API, pytest, hypothesis' state machines.
_REGISTERING = frozenset(
    {"command", "callback", "overload", "intrinsic", "register_jitable", "fixture", "rule", "invariant", "initialize"}
)
#: Methods that asyncio and httptools call on the object that they are given.
CALLED_BY_LIBRARIES = frozenset(
    {"connection_made", "connection_lost", "data_received", "eof_received", "pause_writing", "resume_writing"}
    | {"on_header", "on_headers_complete", "on_body", "on_message_complete", "on_status"}
)
_WORDS = re.compile(r"[A-Za-z_]\w*(?:[.:][A-Za-z_]\w*)*\Z")


@dataclass(frozen=True, slots=True)
class Definition:
    """A name bound at the top of a file (``owner`` == "") or in the body of a class."""

    source: Source
    owner: str
    name: str
    first_line: int
    last_line: int
    field: bool  # bound by an assignment in a class body

    @property
    def label(self) -> str:
        return f"{self.owner}.{self.name}" if self.owner else self.name


@dataclass(frozen=True, slots=True)
class Use:
    """A name in a file's line; ``keyword``: as the name of an argument; ``text``: in a string."""

    path: str
    line: int
    keyword: bool
    text: bool


def dead_definitions(tree: Tree, public: Mapping[str, str]) -> list[Finding]:
    """Definitions that nothing uses, and definitions outside tests that tests alone use (fields of classes may: a
    record is read by whoever reads the file that it was written to).

    ``public`` names what has its users outside the tree: ``"path:name"``, ``"path:Class.name"`` or ``"path:Class.*"``
    (its public methods) or ``"folder/*"`` (what tests alone use in it) -> the reason. An entry that is not needed is a
    finding as well."""
    everywhere = uses_by_name(tree)
    foreign = _classes_with_foreign_bases(tree)
    importers = _importers(tree)
    findings, needed = [], set()
    for source in tree.sources.values():
        for one in definitions(source):
            if _has_other_users(one, foreign):
                continue
            users = [
                use
                for use in everywhere[one.name]
                if _counts(use, one)
                and (one.owner or use.text or use.path == source.path or use.path in importers[source.path])
            ]
            if any(is_test(source.path) or not is_test(use.path) for use in users):
                continue
            if users and one.field:
                continue
            keys = {f"{source.path}:{one.label}"}
            if one.owner and not one.name.startswith("_"):
                keys.add(f"{source.path}:{one.owner}.*")
            if users:
                keys.add(f"{source.folder}/*")
            if keys & public.keys():
                needed |= keys
                continue
            text = f"{one.label} is used by tests alone" if users else f"{one.label} is used nowhere"
            wanted = "remove it, or give it an entry with a reason in tests/tidy/rules.py"
            findings.append(Finding(source.path, one.first_line, "dead definition", f"{text}; {wanted}"))
    return findings + [
        Finding(
            key.partition(":")[0], 1, "dead definition", f"{key} is listed as public, but is used or gone; strike it"
        )
        for key in sorted(set(public) - needed)
    ]


def dead_files(tree: Tree, rooms: Sequence[str], entries: Mapping[str, str]) -> list[Finding]:
    """Files of ``rooms`` that no file outside tests imports. ``entries``: path -> who runs it from outside the tree;
    an entry that is not needed is a finding as well."""
    imported = {one.target.path for path, found in all_imports(tree).items() if not is_test(path) for one in found}
    lone = {
        source.path
        for source in tree.of_rooms(*rooms)
        if source.path not in imported and PurePosixPath(source.path).name not in ("__init__.py", "__main__.py")
    }
    wanted = "no file of the product imports it: remove it, or give it an entry with a reason in tests/tidy/rules.py"
    return [Finding(path, 1, "dead file", wanted) for path in sorted(lone - entries.keys())] + [
        Finding(path, 1, "dead file", "is listed as run from outside, but is imported or gone; strike it")
        for path in sorted(entries.keys() - lone)
    ]


def definitions(source: Source) -> Iterator[Definition]:
    """Names bound at the top of the file and in class bodies, also below ``if`` and ``try``, but for dunder names."""
    yield from _bound(source, source.syntax.body, "")


def _bound(source: Source, body: list[ast.stmt], owner: str) -> Iterator[Definition]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if not _dunder(node.name) and not _registered(node):
                yield Definition(source, owner, node.name, first, node.end_lineno or first, False)
            if isinstance(node, ast.ClassDef):
                yield from _bound(source, node.body, f"{owner}.{node.name}" if owner else node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (part for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)):
                if isinstance(name.ctx, ast.Store) and not _dunder(name.id) and name.id != "_":
                    yield Definition(source, owner, name.id, node.lineno, node.end_lineno or node.lineno, bool(owner))
        elif isinstance(node, ast.If | ast.Try | ast.With):
            inner = [*node.body, *getattr(node, "orelse", []), *getattr(node, "finalbody", [])]
            inner += [one for handler in getattr(node, "handlers", []) for one in handler.body]
            yield from _bound(source, inner, owner)


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _registered(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Decorated with a call or an attribute of an object that keeps the function (``@app.command()``, ``@rule()``)."""
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""
        if name in _REGISTERING:
            return True
    return False


def _has_other_users(one: Definition, foreign: set[tuple[str, str]]) -> bool:
    """Called by name from outside the tree: a method of a class with a foreign base, a test, a pytest hook."""
    if one.owner and ((one.source.path, one.owner) in foreign or one.name in CALLED_BY_LIBRARIES):
        return True
    return is_test(one.source.path) and (one.name.startswith(("test_", "Test", "pytest_")) or one.name == "pytestmark")


def _classes_with_foreign_bases(tree: Tree) -> set[tuple[str, str]]:
    """(path, class) of classes that inherit, at any distance, from a class outside the tree that is not a plain one."""
    classes: dict[str, list[ast.ClassDef]] = defaultdict(list)
    places: list[tuple[str, str, ast.ClassDef]] = []
    for source in tree.sources.values():
        for node in source.nodes:
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(node)
                places.append((source.path, node.name, node))
    known: dict[str, bool] = {}

    def foreign(node: ast.ClassDef) -> bool:
        for base in node.bases:
            name = _last_name(base)
            if name in _PLAIN_BASES:
                continue
            if name not in classes:
                return True
            if name not in known:
                known[name] = False
                known[name] = any(foreign(one) for one in classes[name])
            if known[name]:
                return True
        return False

    return {(path, name) for path, name, node in places if foreign(node)}


def _importers(tree: Tree) -> dict[str, set[str]]:
    """Path -> files that import it, or a package whose ``__init__.py`` does."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, imports in all_imports(tree).items():
        for one in imports:
            found[one.target.path].add(path)
    for users in list(found.values()):
        for package in [path for path in users if PurePosixPath(path).name == "__init__.py"]:
            users |= found.get(package, set())
    return found


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def uses_by_name(tree: Tree) -> dict[str, list[Use]]:
    """Name -> every place where it is used."""
    found: dict[str, list[Use]] = defaultdict(list)
    for source in tree.sources.values():
        for name, line, keyword, text in _uses(source):
            found[name].append(Use(source.path, line, keyword, text))
    return found


def _uses(source: Source) -> Iterator[tuple[str, int, bool, bool]]:
    for node in source.nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno, False, False
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno, False, False
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.name, node.lineno, False, False) for alias in node.names)
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno, True, False
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg, node.value.lineno, True, False
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and _WORDS.match(node.value)
            and node not in source.docstrings
        ):
            yield from ((word, node.lineno, False, True) for word in re.split(r"[.:]", node.value))


def _counts(use: Use, one: Definition) -> bool:
    if use.path == one.source.path and one.first_line <= use.line <= one.last_line:
        return False
    if use.keyword:
        return one.field or is_test(one.source.path)
    return True
