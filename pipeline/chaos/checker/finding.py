"""A rule that was broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Violation:
    """``rule``: its name; ``seq`` and ``mono_ns``: of the row that breaks it."""

    rule: str
    text: str
    seq: int
    mono_ns: int

    def fields(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"invariant": self.rule, "text": self.text, "seq": self.seq, "mono_ns": self.mono_ns}


Find = Callable[[str, str], None]  # rule, text
