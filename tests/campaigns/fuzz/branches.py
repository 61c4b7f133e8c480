"""Branch coverage of kernels that run as plain Python: both ways of each ``if``, ``while`` and ``for``.

A kernel is a function with a decorator whose name begins with ``njit``. A way is taken when the line after the test is
the first of its body, or is not.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

Way = tuple[str, int, bool]  # file, line of the test, into its body


class Branches:
    """Counts the ways that were taken while it is on (``with``). ``seen`` grows."""

    def __init__(self, files: list[Path]) -> None:
        self.all: set[Way] = set()
        self.seen: set[Way] = set()
        self._tests: dict[
            tuple[str, int], tuple[int, int, int]
        ] = {}  # (file, line) -> first line, body's first and last
        for path in files:
            for node in _tests_of(ast.parse(path.read_text(encoding="utf-8"))):
                test = node.iter if isinstance(node, ast.For) else node.test
                body = (node.lineno, node.body[0].lineno, node.body[-1].end_lineno or 0)
                for line in range(node.lineno, (test.end_lineno or node.lineno) + 1):
                    self._tests[str(path), line] = body
                always = isinstance(test, ast.Constant)
                self.all |= {(str(path), node.lineno, into) for into in ((True,) if always else (True, False))}
        self._files = {str(path) for path in files}
        self._last: dict[FrameType, int] = {}

    def __enter__(self) -> Branches:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *problem: object) -> None:
        sys.settrace(None)
        self._last.clear()

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        last = self._last.get(frame, 0)
        name = frame.f_code.co_filename
        known = self._tests.get((name, last))
        if known is not None and event in ("line", "return"):
            first, begin, end = known
            here = frame.f_lineno if event == "line" else 0
            if not (event == "line" and self._tests.get((name, here)) == known and here != begin and here > last):
                self.seen.add((name, first, event == "line" and begin <= here <= end))
        if event == "return":
            self._last.pop(frame, None)
        else:
            self._last[frame] = frame.f_lineno
        return self._line

    def share(self, path: Path) -> float:
        """Of the ways in one file, those that were taken."""
        ways = {way for way in self.all if way[0] == str(path)}
        return len(ways & self.seen) / len(ways) if ways else 1.0

    def missing(self, path: Path) -> list[str]:
        """Ways of a file that were never taken, for whoever looks for a seed."""
        ways = sorted(way for way in self.all - self.seen if way[0] == str(path))
        return [f"{line}{'' if into else '!'}" for _, line, into in ways]


def _tests_of(tree: ast.Module) -> Iterator[ast.If | ast.While | ast.For]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any("njit" in ast.unparse(one) for one in node.decorator_list):
            for inner in ast.walk(node):
                if isinstance(inner, ast.If | ast.While | ast.For):
                    yield inner
