"""Who imports whom: import statements wherever they stand (also inside functions and under ``TYPE_CHECKING``), and
imports by a name in a string.

**Imports by a string.** In a file that calls ``import_module`` every string that spells a module of the tree counts as
an import of it: ``"a.b.c"``, ``"a.b.c:Name"``, and an f-string, whose placeholders each stand for any one name
(``f"a.b.{kind}.codec"`` imports ``a.b.x.codec`` for every ``x`` that exists). A call whose argument begins with a
placeholder, or is no string in a file that spells no module of the tree, cannot be judged and is refused. So a registry
that finds its dialects by folder name imports all of them, and a dialect that imports the registry closes a cycle.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from tests.tidy.tree import Finding, Source, Tree, is_test

_IMPORT_CALLS = frozenset({"import_module", "__import__", "resolve_name", "run_module"})
_SPELLED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_*]\w*)+(?::\w+)?\Z")


@dataclass(frozen=True, slots=True)
class Import:
    """``source`` imports the module ``target`` (of the tree) in ``line``; ``how``: "statement" or "string"."""

    source: Source
    target: Source
    line: int
    how: str


def imports_of(tree: Tree, source: Source) -> list[Import]:
    """Every import of modules of the tree by one file, itself left out; each once a line."""
    found = dict.fromkeys([*_by_statement(tree, source), *_by_string(tree, source)])
    return [one for one in found if one.target is not source]


@cache
def all_imports(tree: Tree) -> dict[str, list[Import]]:
    """Path -> its imports."""
    return {path: imports_of(tree, source) for path, source in tree.sources.items()}


def _by_statement(tree: Tree, source: Source) -> Iterator[Import]:
    for node in source.nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{_absolute(source, node)}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            target = tree.modules.get(_longest(tree, name))
            if target is not None:
                yield Import(source, target, node.lineno, "statement")


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = source.module.split(".")
    if not source.path.endswith("__init__.py"):
        package = package[:-1]
    package = package[: len(package) - (node.level - 1)]
    return ".".join([*package, *([node.module] if node.module else [])])


def _longest(tree: Tree, name: str) -> str:
    """The longest leading part of ``name`` that is a module: ``a.b.function`` -> ``a.b``."""
    while name and name not in tree.modules:
        name = name.rpartition(".")[0]
    return name


def import_calls(source: Source) -> list[ast.Call]:
    """Calls that import by a name: ``importlib.import_module``, ``__import__``, ``pkgutil.resolve_name``,
    ``runpy.run_module``."""
    return [node for node in source.nodes if isinstance(node, ast.Call) and _called(node) in _IMPORT_CALLS]


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _by_string(tree: Tree, source: Source) -> Iterator[Import]:
    if not import_calls(source):
        return
    inside_f_strings = {part for node in source.nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in source.nodes:
        if not isinstance(node, ast.expr) or node in source.docstrings or node in inside_f_strings:
            continue
        for target in spelled_modules(tree, node):
            yield Import(source, target, node.lineno, "string")


def spelled_modules(tree: Tree, node: ast.AST) -> list[Source]:
    """The modules of the tree that a string or f-string can mean; [] for anything else."""
    if isinstance(node, ast.JoinedStr):
        pattern = "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        pattern = node.value
    else:
        return []
    if not _SPELLED.match(pattern):
        return []
    dotted = re.escape(pattern.partition(":")[0]).replace(r"\*", r"\w+")
    matched = [module for module in tree.modules if re.fullmatch(dotted, module)]
    return [tree.modules[module] for module in matched]


def unreadable_string_imports(tree: Tree) -> list[Finding]:
    """Calls of ``import_module`` that do not say what they import; tests may load what a table of theirs names."""
    findings = []
    for source in tree.sources.values():
        if is_test(source.path):
            continue
        spells = any(one.how == "string" for one in all_imports(tree)[source.path])
        for node, name in _renamed(source):
            text = f"{name} is imported under another name; call it by its own, so that its imports are seen"
            findings.append(Finding(source.path, node.lineno, "string import", text))
        for call in import_calls(source):
            argument = call.args[0] if call.args else None
            if isinstance(argument, ast.JoinedStr):
                readable = isinstance(argument.values[0], ast.Constant)
            else:
                readable = isinstance(argument, ast.Constant) or spells
            if not readable:
                text = (
                    f"`{ast.unparse(call)}` does not say what it imports; spell the name from its first part on, as a "
                )
                text += 'string or as f"a.b.{kind}.codec"'
                findings.append(Finding(source.path, call.lineno, "string import", text))
    return findings


def _renamed(source: Source) -> Iterator[tuple[ast.ImportFrom, str]]:
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom):
            yield from ((node, one.name) for one in node.names if one.name in _IMPORT_CALLS and one.asname)


def room_of(module: str, order: Sequence[str]) -> str:
    """The room (the longest entry of ``order``) that a module lies in; "" for none."""
    inside = [room for room in order if module == room or module.startswith(room + ".")]
    return max(inside, key=len, default="")


def import_order(tree: Tree, order: Sequence[str], apart: Sequence[frozenset[str]] = ()) -> list[Finding]:
    """A room imports only rooms above it in ``order``; of rooms that stand together in one set of ``apart`` neither
    imports the other. Every file lies in a room."""
    findings = []
    for path, found in all_imports(tree).items():
        here = room_of(tree.sources[path].module, order)
        if not here:
            findings.append(Finding(path, 1, "import order", "lies in no room; give its folder a place in the order"))
            continue
        for one in found:
            there = room_of(one.target.module, order)
            upward = bool(there) and order.index(there) > order.index(here)
            parted = any(here in rooms and there in rooms for rooms in apart) and here != there
            if upward or parted:
                wanted = "neither may import the other" if parted else f"{here} comes before {there} in the order"
                findings.append(
                    Finding(path, one.line, "import order", f"{here} imports {one.target.module} ({one.how}); {wanted}")
                )
    return findings


def import_cycles(tree: Tree) -> list[Finding]:
    """Files that import each other in a circle; lazy, ``TYPE_CHECKING`` and string imports count."""
    edges = {
        path: sorted({one.target.path for one in found if not one.target.path.endswith("__init__.py")})
        for path, found in all_imports(tree).items()
    }
    findings = []
    for group in _circles(edges):
        cycle = _shortest_cycle(edges, group)
        shown = " -> ".join([*cycle, cycle[0]])
        rest = f" (one of {len(group)} files in a knot: {', '.join(sorted(group))})" if len(group) > len(cycle) else ""
        findings.append(
            Finding(
                cycle[0], 1, "import cycle", f"{shown}{rest}; move what both need to a file below both, or pass it in"
            )
        )
    return findings


def _circles(edges: dict[str, list[str]]) -> list[set[str]]:
    """Strongly connected groups of more than one file (Tarjan, without recursion)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[set[str]] = []
    for start in edges:
        if start in number:
            continue
        number[start] = low[start] = len(number)
        stack.append(start)
        work = [(start, iter(edges[start]))]
        while work:
            here, rest = work[-1]
            for there in rest:
                if there not in number:
                    number[there] = low[there] = len(number)
                    stack.append(there)
                    work.append((there, iter(edges.get(there, ()))))
                    break
                if there in stack:
                    low[here] = min(low[here], number[there])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[here])
                if low[here] == number[here]:
                    at = stack.index(here)
                    group, stack[at:] = set(stack[at:]), []
                    if len(group) > 1:
                        groups.append(group)
    return groups


def _shortest_cycle(edges: dict[str, list[str]], group: set[str]) -> list[str]:
    """The shortest way from a file of the group back to itself."""
    best: list[str] = []
    for start in sorted(group):
        ways = [[start]]
        seen = {start}
        while ways:
            way = ways.pop(0)
            if best and len(way) >= len(best):
                break
            if start in edges[way[-1]]:
                best = way
                break
            for there in edges[way[-1]]:
                if there in group and there not in seen:
                    seen.add(there)
                    ways.append([*way, there])
    return best


def libraries(tree: Tree, rooms: Sequence[str], clocks: Sequence[str], sockets: Sequence[str]) -> list[Finding]:
    """numba behind its cache folder, clocks and sockets in their places: ``clocks`` and ``sockets`` are how the paths
    begin that may import them."""
    findings = []
    for source in tree.of_rooms(*rooms):
        for line in _dates_of_now(source) if not source.path.startswith(tuple(clocks)) else ():
            text = "reads the wall clock through datetime; use pipeline.model.clock"
            findings.append(Finding(source.path, line, "import place", text))
        for name, line in _foreign_names(source):
            top = name.split(".")[0]
            wanted = ""
            if top == "numba" and not source.path.startswith("shm/"):
                wanted = "import njit from shm.jit, which sets the cache folder before numba is loaded"
            elif top == "time" and not source.path.startswith(tuple(clocks)):
                wanted = "use pipeline.model.clock"
            elif top in _LOOPS and not source.path.startswith(tuple(sockets)):
                wanted = "sockets and loops live in transports and workers"
            if wanted:
                findings.append(Finding(source.path, line, "import place", f"imports {name}; {wanted}"))
    return findings


def _dates_of_now(source: Source) -> Iterator[int]:
    """Lines with ``datetime.now()``, ``datetime.datetime.utcnow()``, ``date.today()``."""
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today"):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            if name in ("datetime", "date"):
                yield node.lineno


_LOOPS = frozenset({"socket", "asyncio", "aiohttp", "picows", "uvloop"})


def _foreign_names(source: Source) -> Iterator[tuple[str, int]]:
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


def tests_import_no_tests(tree: Tree) -> list[Finding]:
    """No test module (``test_*.py``, ``conftest.py``) is imported: what tests share lies in modules of its own."""
    return [
        Finding(
            path,
            one.line,
            "test imports test",
            f"imports {one.target.module}; move what is shared to tests/worlds or tests/naive",
        )
        for path, found in all_imports(tree).items()
        for one in found
        if PurePosixPath(one.target.path).name == "conftest.py"
        or PurePosixPath(one.target.path).name.startswith("test_")
    ]


def may_import_line(text: str) -> list[str] | None:
    """The names of a README's sentence ``May import: shm, pipeline/model (why), `pipeline/core.py`.`` without remarks
    and backquotes (``nothing`` gives []); None where there is not exactly one such sentence."""
    found = re.findall(r"\bMay import: (.+?)\.(?=\s|\Z)", text, re.DOTALL)
    if len(found) != 1:
        return None
    names = [name.strip() for name in re.sub(r"\([^)]*\)|`", "", found[0]).split(",")]
    return [] if names in (["nothing"], ["nothing of ours"]) else names


def may_import(tree: Tree, rooms: Sequence[str]) -> list[Finding]:
    """Each room that is a folder, and each folder with a README that has Python files, says what it may import, and the
    files below it (down to folders with a README of their own) import nothing else of the tree."""
    findings = []
    folders = {source.folder for source in tree.sources.values()}
    with_readme = {str(PurePosixPath(path).parent) for path in tree.readmes} & _with_parents(folders)
    wanted = {room.replace(".", "/") for room in rooms} & folders
    for folder in sorted((with_readme | wanted) - {"."}):
        readme = f"{folder}/README.md"
        if readme not in tree.readmes:
            findings.append(
                Finding(
                    readme,
                    1,
                    "may import",
                    "missing; wanted: a README with a sentence `May import: shm, pipeline/model.`",
                )
            )
            continue
        allowed = may_import_line(tree.readmes[readme])
        if allowed is None:
            findings.append(
                Finding(
                    readme,
                    1,
                    "may import",
                    "wanted: exactly one sentence `May import: shm, pipeline/model.` (or `nothing`)",
                )
            )
            continue
        findings += _untrue(tree, folder, allowed, with_readme)
    return findings


def _untrue(tree: Tree, folder: str, allowed: list[str], with_readme: set[str]) -> list[Finding]:
    readme = f"{folder}/README.md"
    known = _with_parents({source.folder for source in tree.sources.values()}) | set(tree.sources)
    findings = [
        Finding(readme, 1, "may import", f"names {name}, which is no folder and no file of the tree")
        for name in allowed
        if name not in known and f"{name}.py" not in known
    ]
    for path, source in tree.sources.items():
        if _nearest(source.folder, with_readme) != folder:
            continue
        for one in all_imports(tree)[path]:
            target = one.target.path
            inside = target.startswith(folder + "/") or _is_init_above(target, folder)
            if not inside and not any(
                target in (name, f"{name}.py") or target.startswith(name + "/") for name in allowed
            ):
                findings.append(
                    Finding(
                        path,
                        one.line,
                        "may import",
                        f"imports {target}; {readme} allows {', '.join(allowed) or 'nothing'}",
                    )
                )
    return findings


def _is_init_above(target: str, folder: str) -> bool:
    return target.endswith("/__init__.py") and folder.startswith(target.removesuffix("__init__.py"))


def _nearest(folder: str, with_readme: set[str]) -> str:
    while folder not in with_readme and folder not in (".", ""):
        folder = str(PurePosixPath(folder).parent)
    return folder


def _with_parents(folders: set[str]) -> set[str]:
    return {str(parent) for folder in folders for parent in [PurePosixPath(folder), *PurePosixPath(folder).parents]}
