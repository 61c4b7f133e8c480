"""The rule about words: what it finds, what it leaves alone, and exceptions that nobody needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tidy import words
from tests.worlds.tidy.small_tree import places, tree


def found(root: Path, files: dict[str, str], *, allowed: tuple[tuple[str, str], ...] = ()) -> list[str]:
    return places(words.private_words(tree(root, files), root, dict.fromkeys(allowed, "a reason"), ["low/list.py"]))


@pytest.mark.parametrize("word", sorted(words.NOWHERE))
def test_a_forbidden_word_is_found_in_every_text(tmp_path: Path, word: str) -> None:
    files = {
        "low/a.py": f'"""First.\n\nIt says {word}, twice."""\n',
        "low/b.py": f"a = 1\nb = 2  # {word.capitalize()}\n",
        "low/c.py": f'raise ValueError("{word}: found 1")\n',
        "low/README.md": f"# low\n\n{word.upper()}.\n",
        "docs/a.md": f"{word}\n",
        "low/list.py": f'WORDS = ["{word}"]\n',
    }
    assert found(tmp_path, files) == ["docs/a.md:1", "low/README.md:3", "low/a.py:3", "low/b.py:2", "low/c.py:1"]


@pytest.mark.parametrize(
    "code",
    [
        "told = 1",
        "def needs_hands() -> None: ...",
        "a.told(1)",
        "row = {'told': 1}",
        "TOLD_MAX = 1",
        "class ToldOf: ...",
        "class MarketSurvey: ...",
        "def f(owed_ns: int) -> None: ...",
        "def test_the_next_one_is_owed() -> None: ...",
    ],
)
def test_a_name_with_such_a_part_is_found(tmp_path: Path, code: str) -> None:
    assert found(tmp_path, {"low/a.py": f'"""A file."""\n{code}\n'}) == ["low/a.py:2"]


@pytest.mark.parametrize("path", ["low/survey.py", "low/nursery/a.py", "low/executor_hands.py", "docs/desk.md"])
def test_a_file_or_folder_named_so_is_found(tmp_path: Path, path: str) -> None:
    assert found(tmp_path, {path: ""})[-1] == f"{path}:1"


@pytest.mark.parametrize(
    "code",
    [
        '"""It hands the bytes on; a cleaner is told apart by its length."""',
        "def test_crash_and_kill_are_told_apart() -> None: ...",
        "def handshake(pressed: int, surveyed: int, desktop: int, followed: int) -> None: ...",
        '"""Expressed in words of 64 bits: the shortest way, untimely, a personal one."""',
    ],
)
def test_plain_english_and_longer_words_are_none(tmp_path: Path, code: str) -> None:
    assert found(tmp_path, {"low/a.py": f"{code}\n"}) == []


def test_an_exception_holds_for_its_word_and_path_and_one_that_nobody_needs_is_found(tmp_path: Path) -> None:
    files = {"low/a.py": "press = 1\ntold = press\n", "low/b.py": "press = 2\n"}
    allowed = (("low/a.py", "press"), ("high/*", "press"), ("low/*", "desk"))
    assert found(tmp_path, files, allowed=allowed) == ["low/a.py:2", "low/b.py:1", "high/*:1", "low/*:1"]
