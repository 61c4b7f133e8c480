"""What one folder takes from another says in a docstring what its caller cannot guess."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from tests.tidy.dead import CALLED_BY_LIBRARIES
from tests.tidy.tree import Finding, Source, Tree, is_test

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef

_SIZE = r"(?:[a-z]|\d+|[A-Z][A-Z_]+)"
#: A shape, as ``(n,)`` or ``(BOOK_DEPTH, 2)``, or the type of what an array holds.
_SHAPE = re.compile(rf"\({_SIZE},(?: {_SIZE}(?:, {_SIZE})*)?\)|\b(?:u?int(?:8|16|32|64)|float64|bytes)\b")


def imported_docstrings(tree: Tree, rooms: Sequence[str]) -> list[Finding]:
    """Functions and classes that a file of another folder imports (or reads as ``module.name``) have docstrings, and so
    have the public methods of such a class and of its bases, but for those that a base documents, those of a documented
    Protocol that the class has all methods of, and those that a library calls. What takes or returns an array says its
    shape, its type or the table (``shm.declare``) that lies in it. Tests do not count as importers."""
    classes = _Classes(tree)
    arrays, tables = _array_types(tree), _tables(tree)
    findings = []
    wanted = _wanted(tree, rooms)
    for (path, name), importer in list(wanted.items()):
        for base in classes.bases((path, name)):
            wanted.setdefault(base, importer)
    for (path, name), importer in sorted(wanted.items()):
        found = [one for one in tree.sources[path].syntax.body if isinstance(one, Documented) and one.name == name]
        if not found:
            continue
        node = found[-1]  # the last: stubs of ``overload`` stand above it
        asked: list[tuple[str, Documented]] = [(name, node)]
        if isinstance(node, ast.ClassDef):
            free = classes.documented_above((path, name)) | CALLED_BY_LIBRARIES
            asked += [(f"{name}.{key}", one) for key, one in _public_methods(node).items() if key not in free]
        for label, one in asked:
            text = _fault(one, arrays, tables)
            if text:
                findings.append(Finding(path, one.lineno, "docstring", f"{label} {text.format(importer=importer)}"))
    return findings


def _fault(node: Documented, arrays: set[str], tables: set[str]) -> str:
    """What the docstring of ``node`` lacks; "" = nothing."""
    said = ast.get_docstring(node)
    if not said:
        return "has no docstring, and {importer} imports it; say what it does, units, shapes, errors"
    if isinstance(node, ast.ClassDef) or not _takes_arrays(node, arrays):
        return ""
    if _SHAPE.search(said) or tables & set(re.findall(r"[A-Z][A-Z_]+", said)):
        return ""
    return (
        "takes or returns an array, and {importer} imports it; say its shape, as (n,), its type, as float64, "
        "or the table that lies in it, as BOOK"
    )


def _wanted(tree: Tree, rooms: Sequence[str]) -> dict[tuple[str, str], str]:
    """(path, name) of what a file of another folder takes -> the first such file."""
    wanted: dict[tuple[str, str], str] = {}
    for source in tree.sources.values():
        if is_test(source.path):
            continue
        for target, name in _taken_names(tree, source):
            if target.folder != source.folder and target.path.split("/", 1)[0] in rooms:
                wanted.setdefault((target.path, name), source.path)
    return wanted


def _taken_names(tree: Tree, source: Source) -> Iterator[tuple[Source, str]]:
    """(module, name) of everything that a file takes from another: ``from m import name`` and ``m.name``."""
    aliases: dict[str, Source] = {}
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = tree.modules.get(f"{node.module}.{alias.name}")
                if whole is not None:
                    aliases[alias.asname or alias.name] = whole
                elif node.module in tree.modules:
                    yield tree.modules[node.module], alias.name
        elif isinstance(node, ast.Import):
            aliases |= {a.asname: tree.modules[a.name] for a in node.names if a.asname and a.name in tree.modules}
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield aliases[node.value.id], node.attr


def _public_methods(node: ast.ClassDef) -> dict[str, Function]:
    """Name -> the last definition of each public method or property that is no setter."""
    return {
        one.name: one
        for one in node.body
        if isinstance(one, Function)
        and not one.name.startswith("_")
        and not any(isinstance(mark, ast.Attribute) and mark.attr == "setter" for mark in one.decorator_list)
    }


class _Classes:
    """The classes at the top of the tree's files by (path, name), with their bases."""

    def __init__(self, tree: Tree) -> None:
        self._bodies = {
            (source.path, node.name): node
            for source in tree.sources.values()
            for node in source.syntax.body
            if isinstance(node, ast.ClassDef)
        }
        self._imports = {
            source.path: {
                alias.asname or alias.name: (tree.modules[node.module].path, alias.name)
                for node in source.nodes
                if isinstance(node, ast.ImportFrom) and node.module in tree.modules
                for alias in node.names
            }
            for source in tree.sources.values()
        }
        self._protocols = [
            _public_methods(node)
            for node in self._bodies.values()
            if any(getattr(base, "id", "") == "Protocol" for base in node.bases)
        ]

    def documented_above(self, key: tuple[str, str]) -> set[str]:
        """Methods of a class that a base, or a Protocol that it has all methods of, documents."""
        above = [_public_methods(self._bodies[base]) for base in self.bases(key)]
        mine = set(_public_methods(self._bodies[key])).union(*above)
        known = above + [one for one in self._protocols if one.keys() <= mine]
        return {name for methods in known for name, method in methods.items() if ast.get_docstring(method)}

    def bases(self, key: tuple[str, str]) -> Iterator[tuple[str, str]]:
        """Of a class, and of its bases, those in the tree; none of what is no class."""
        for base in self._bodies[key].bases if key in self._bodies else ():
            name = getattr(base.value if isinstance(base, ast.Subscript) else base, "id", "")
            found = self._imports[key[0]].get(name, (key[0], name))
            if found in self._bodies and found != key:
                yield found
                yield from self.bases(found)


def _array_types(tree: Tree) -> set[str]:
    """``ndarray``, ``NDArray`` and the names that files give to such types at their top."""
    found = {"ndarray", "NDArray"}
    for source in tree.sources.values():
        for node in source.syntax.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript) and _names(node.value) & found:
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def _tables(tree: Tree) -> set[str]:
    """Names of the tables: ``BOOK = Book()`` for a ``class Book(Table)`` of the same file."""
    found = set()
    for source in tree.sources.values():
        declared = {
            node.name
            for node in source.syntax.body
            if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "Table" for base in node.bases)
        }
        for node in source.syntax.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _names(node.value.func) & declared:
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def _takes_arrays(node: Function, arrays: set[str]) -> bool:
    asked = node.args
    notes = [
        one.annotation for one in (*asked.posonlyargs, *asked.args, *asked.kwonlyargs, asked.vararg, asked.kwarg) if one
    ]
    return any(note is not None and _names(note) & arrays for note in (*notes, node.returns))


def _names(node: ast.AST) -> set[str]:
    return {getattr(one, "id", "") or getattr(one, "attr", "") for one in ast.walk(node)}
