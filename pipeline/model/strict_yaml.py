"""YAML in which a key that stands twice in one mapping is an error: YAML itself would drop the first without a word."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml


class RepeatedKeys(Exception):
    """``errors``: one line for each key that stands twice, with both places."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class _Loader(yaml.SafeLoader):
    """Notes repeated keys in ``repeated``; the later one wins meanwhile, as in YAML."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.repeated: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if not name or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if name in lines:
                self.repeated.append(f"line {line}: {name} stands twice, first in line {lines[name]}; keep one of them")
            lines[name] = line
        return super().construct_mapping(node, deep)


def load_strict(text: str) -> Any:
    """The document, as ``yaml.safe_load`` reads it. Raises ``yaml.YAMLError``, RepeatedKeys."""
    loader = _Loader(text)
    try:
        data = loader.get_single_data()
    finally:
        loader.dispose()
    if loader.repeated:
        raise RepeatedKeys(sorted(set(loader.repeated)))
    return data
