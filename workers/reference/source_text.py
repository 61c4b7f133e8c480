"""What source files say: comments beside fields, and texts of calls with ``…`` where a value comes in at run time."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterable
from functools import cache
from types import ModuleType
from typing import NamedTuple

import msgspec

HOLE = "…"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def comments_of(kind: type) -> dict[str, str]:
    """Name of a field or member of a class, or of a struct that it extends -> the comment beside it (``#:`` lines above
    it, or behind it); a comment that goes on in lines of its own below is taken whole. Names without one are left out.
    """
    inherited = [base for base in kind.__bases__ if issubclass(base, msgspec.Struct) and base is not msgspec.Struct]
    found = {name: text for base in inherited for name, text in comments_of(base).items()}
    source = textwrap.dedent(inspect.getsource(kind))
    beside: dict[int, str] = {}
    alone: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("#:").strip()
            (alone if token.line.strip().startswith("#") else beside)[token.start[0]] = text
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    for node in body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if not isinstance(target, ast.Name):
            continue
        above: list[str] = []
        line = node.lineno - 1
        while line in alone:
            above.insert(0, alone[line])
            line -= 1
        text = " ".join([*above, *([beside[node.end_lineno]] if node.end_lineno in beside else [])])
        if text:
            found[target.id] = text
    return found


def first_sentence(text: str | None) -> str:
    """The first paragraph of a docstring as one line."""
    return " ".join((text or "").split("\n\n", maxsplit=1)[0].split())


class Call(NamedTuple):
    """A call of the source: where, in which function, its texts by keyword or position."""

    module: ModuleType
    function: str
    arguments: dict[str, str]


class Scope(NamedTuple):
    """Where an expression stands: what its names mean."""

    module: ModuleType
    function: Function | None
    line: int


def calls(modules: Iterable[ModuleType], name: str, names: tuple[str, ...]) -> list[Call]:
    """Every call of a function or method ``name`` in these modules, in their order. ``names``: what its positional
    arguments are called."""
    found = []
    for module in modules:
        for function, node in _calls_in(module):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called != name:
                continue
            values = dict(zip(names, node.args, strict=False)) | {k.arg: k.value for k in node.keywords if k.arg}
            scope = Scope(module, function, node.lineno)
            texts = {key: text_of(value, scope) for key, value in values.items()}
            found.append(Call(module, function.name if function else "", texts))
    return found


@cache
def _calls_in(module: ModuleType) -> list[tuple[Function | None, ast.Call]]:
    """Every call with the innermost function around it, by line."""
    tree = ast.parse(inspect.getsource(module))
    owner: dict[ast.AST, Function | None] = {tree: None}
    found = []
    for node in ast.walk(tree):  # parents come before their children
        for child in ast.iter_child_nodes(node):
            owner[child] = node if isinstance(node, Function) else owner[node]
        if isinstance(node, ast.Call):
            found.append((owner[node], node))
    return sorted(found, key=lambda pair: (pair[1].lineno, pair[1].col_offset))


def text_of(node: ast.expr, scope: Scope) -> str:
    """The text that an expression is, as far as the source says it: ``…`` for what is known at run time only; the last
    assignment above for a local name; both texts of a choice; a name in capitals is what its module calls so."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, scope) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return text_of(node.value, scope) if isinstance(node.value, ast.Name) and node.value.id.isupper() else HOLE
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left, scope) + text_of(node.right, scope)
    if isinstance(node, ast.IfExp):
        texts = [text_of(node.body, scope), text_of(node.orelse, scope)]
        return " / ".join(text for text in texts if text)
    if isinstance(node, ast.Attribute):
        return node.attr if node.attr.isupper() else HOLE
    if isinstance(node, ast.Name):
        return _named(node.id, scope)
    return HOLE


def _named(name: str, scope: Scope) -> str:
    if name.isupper():
        return str(getattr(scope.module, name, HOLE))
    before = [
        one
        for one in (ast.walk(scope.function) if scope.function is not None else ())
        if isinstance(one, ast.Assign)
        and one.lineno < scope.line
        and isinstance(one.targets[0], ast.Name)
        and one.targets[0].id == name
    ]
    if not before:
        return HOLE
    last = max(before, key=lambda one: one.lineno)
    return text_of(last.value, Scope(scope.module, scope.function, last.lineno))
