"""The page of configuration keys: path, kind, default, bounds, meaning, and whether a reload takes it in."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from pipeline.model.config import ENV_ELSEWHERE, ENV_PATHS, EngineConfig
from pipeline.model.config_bounds import BOUNDS
from pipeline.model.config_reload import RELOADABLE
from workers.reference.markdown import cell, code, page, table
from workers.reference.source_text import comments_of, first_sentence

INTRODUCTION = (
    "`config.yaml`, then `.env`, then `ARB_*` variables, in rising precedence. `*` is a name of yours. Unknown keys, "
    "numbers beyond their bounds and keys that stand twice are refused, all at once: `arb config check`. Where each "
    "value came from: `arb config show`. `reload`: `arb config reload` takes it in while the engine runs."
)
_KINDS = {str: "text", int: "whole number", bool: "true or false", Decimal: "number"}


class Key(NamedTuple):
    """One key: its path with ``*`` for names, its kind, default ("" where it must be given) and what it means."""

    path: str
    kind: str
    default: str
    means: str


def keys(kind: type[msgspec.Struct] = EngineConfig, prefix: str = "") -> Iterator[Key]:
    """Every key of the configuration, in the order of the structs; a section's own keys follow it."""
    said, hints = comments_of(kind), typing.get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        path, inner = f"{prefix}{field.name}", _struct_in(hints[field.name])
        if inner is None:
            yield Key(path, _kind_text(hints[field.name]), _default_text(field), said.get(field.name, ""))
            continue
        named = typing.get_origin(hints[field.name]) is dict
        means = said.get(field.name) or first_sentence(inspect.getdoc(inner))
        optional = " (may be left out)" if type(None) in typing.get_args(hints[field.name]) else ""
        yield Key(path, ("table by name" if named else "section") + optional, "", means)
        yield from keys(inner, f"{path}.*." if named else f"{path}.")


def _struct_in(hint: Any) -> type[msgspec.Struct] | None:
    """The struct that a field is, or that its table holds."""
    for one in (hint, *typing.get_args(hint)):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return one
    return None


def _kind_text(hint: Any) -> str:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _kind_text(next(one for one in inside if one is not type(None)))
    if origin is tuple:
        return f"list of {_kind_text(inside[0])}"
    if origin is dict:
        return f"table by name: {_kind_text(inside[1])}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(str(one.value) for one in hint)
    return _KINDS.get(hint, str(hint))


def _default_text(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "must be given"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if value is None:
        return "absent"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(str, value)) + "]"
    return f"{value:f}" if isinstance(value, Decimal) else str(value) or '""'


def _reloads(path: str) -> bool:
    return any(path == name or (name.endswith(".") and path.startswith(name)) for name in RELOADABLE)


def _bound(path: str) -> str:
    bound = BOUNDS.get(path) or BOUNDS.get(f"{path}.*")
    return bound.wanted if bound is not None else ""


def configuration_page() -> str:
    """The page, as Markdown."""
    found = list(keys())
    sections: dict[str, list[Key]] = {}
    for key in found:
        sections.setdefault(key.path.split(".", 1)[0], []).append(key)
    alone = [rows[0] for rows in sections.values() if len(rows) == 1]
    parts = ["## The instance", _table(alone)]
    for name, rows in sections.items():
        if len(rows) > 1:
            parts += [f"## {name}", rows[0].means, _table(rows[1:])]
    variables = table(
        ("variable", "key"), ((code(name), code(".".join(path))) for name, path in sorted(ENV_PATHS.items()))
    )
    elsewhere = ", ".join(
        f"`{name}`" for name in ("ARB_CONFIG", "ARB_STATE_DIR", "ARB_CACHE_DIR", "ARB_PROFILE", "ARB_AWAIT_ROOM")
    )
    if not {name.strip("`") for name in elsewhere.split(", ")} <= ENV_ELSEWHERE:
        raise ValueError(f"variables that are not read any more: {elsewhere}")
    return page("Configuration", INTRODUCTION, *parts, "## Variables", variables, f"Read by other parts: {elsewhere}.")


def _table(rows: list[Key]) -> str:
    return table(
        ("key", "kind", "default", "bounds", "reload", "means"),
        (
            (
                code(key.path),
                cell(key.kind),
                code(key.default),
                cell(_bound(key.path)),
                "yes" if _reloads(key.path) else "",
                cell(key.means),
            )
            for key in rows
        ),
    )
