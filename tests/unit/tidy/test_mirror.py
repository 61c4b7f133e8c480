"""The rule of where unit tests lie fails on a small tree that breaks it, and passes beside it on one that does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.tidy.mirror import mirrored
from tests.worlds.tidy.small_tree import places, tree

PRODUCT = ("shm", "pipeline", "workers")
CODE = (
    "shm/queue.py",
    "pipeline/core.py",
    "pipeline/book/level2.py",
    "pipeline/book/market.py",
    "pipeline/sim/market/makers.py",
    "pipeline/sim/wire/market.py",
    "workers/base.py",
    "workers/cli/main.py",
)


def found(root: Path, *tests: str, own: Mapping[str, str] | None = None) -> list[str]:
    return places(mirrored(tree(root, dict.fromkeys((*CODE, *tests), "")), PRODUCT, own or {}))


@pytest.mark.parametrize(
    "path",
    [
        "shm/test_queue.py",
        "test_core.py",
        "test_a_theme.py",
        "conftest.py",
        "book/test_level2.py",
        "book/test_a_theme.py",
        "sim/market/test_makers.py",
        "sim/test_market.py",  # two modules have the name: it may be a theme
        "workers/test_base.py",
        "workers/cli/test_main.py",
    ],
)
def test_a_test_in_the_folder_of_its_package_is_none(tmp_path: Path, path: str) -> None:
    assert found(tmp_path, f"tests/unit/{path}") == []


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("operator/test_a_theme.py", "operator:1"),
        ("pipeline/book/test_level2.py", "pipeline/book:1"),  # tests/unit itself is the mirror of pipeline
        ("cli/test_a_theme.py", "cli:1"),  # it is workers/cli
        ("test_level2.py", "test_level2.py:1"),
        ("workers/test_queue.py", "workers/test_queue.py:1"),
        ("book/test_core.py", "book/test_core.py:1"),
        ("workers/test_main.py", "workers/test_main.py:1"),
        ("book/harness.py", "book/harness.py:1"),
    ],
)
def test_a_test_that_lies_elsewhere_and_a_helper_are_found(tmp_path: Path, path: str, place: str) -> None:
    assert f"tests/unit/{place}" in found(tmp_path, f"tests/unit/{path}")


def test_the_message_names_the_folder_that_is_wanted(tmp_path: Path) -> None:
    files = dict.fromkeys((*CODE, "tests/unit/workers/test_level2.py"), "")
    (finding,) = mirrored(tree(tmp_path, files), PRODUCT, {})
    assert "tests lie in tests/unit/book; move it" in finding.message


def test_a_folder_of_its_own_needs_a_reason_and_its_names_are_its_own(tmp_path: Path) -> None:
    tests = ("tests/unit/docs/test_level2.py", "tests/unit/book/test_level2.py")
    assert found(tmp_path, *tests, own={"tests/unit/docs": "tests of docs/"}) == []
    assert found(tmp_path, *tests) == ["tests/unit/docs:1", "tests/unit/docs/test_level2.py:1"]


@pytest.mark.parametrize("folder", ["tests/unit/gone", "tests/unit/book"])
def test_an_exception_that_is_not_needed_is_found(tmp_path: Path, folder: str) -> None:
    assert found(tmp_path, "tests/unit/book/test_level2.py", own={folder: "a reason"}) == [f"{folder}:1"]
