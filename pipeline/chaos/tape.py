"""Records of the core as plain values, so that the checker needs none of the engine's types."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec

Row = dict[str, Any]


class Tape(list[Row]):
    """Rows in order; ``on_row`` is called with each as it is appended."""

    def __init__(self, rows: list[Row], on_row: Callable[[Row], None]) -> None:
        super().__init__(rows)
        self._on_row = on_row
        for row in rows:
            on_row(row)

    def append(self, row: Row) -> None:
        """Appends it, then tells of it."""
        super().append(row)
        self._on_row(row)


def plain(value: Any) -> Any:
    """Structs to dicts, enum members to their names, tuples to lists; numbers and texts as they are."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return value


def digest_text(row: dict[str, Any]) -> str:
    """A row in one spelling, whatever order its fields were set in, without the account's number, which is drawn anew
    for each run."""
    return repr(sorted(_spelled(row).items()))


def _spelled(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items() if key != "uid"}
    if isinstance(value, str) and value.startswith("user:"):
        return "user"
    if isinstance(value, tuple | list):
        return [_spelled(item) for item in value]
    return value
