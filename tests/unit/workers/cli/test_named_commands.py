"""Every ``arb ...`` that a message, a help text or a README names exists, with its options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperGroup

from tests.paths import REPO
from tests.worlds.named_commands import unknown_in
from workers.cli.app import app

QUOTED = re.compile(r"`arb ([^`\n]*)`")
BARE = re.compile(r"(?:^|[;:(] ?|\bsee |\bthen )arb ([a-z]+(?: [a-z]+)?(?: --[a-z-]+)*)")
LINE = re.compile(r"^ {4}(?:\S+/)?arb ([^\n#&<>|]*)", re.MULTILINE)  # a line of a shell in a Markdown text
PACKAGES = ("shm", "pipeline", "workers")


def python_texts(path: Path) -> Iterator[str]:
    """String literals of a file, docstrings among them; an f-string's holes are ``{}``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def texts() -> Iterator[tuple[Path, str]]:
    for package in PACKAGES:
        for path in sorted((REPO / package).rglob("*.py")):
            yield from ((path, text) for text in python_texts(path))
    documents = [path for path in REPO.glob("docs/**/*.md") if path.parent.name != "reference"]  # made out of the code
    for path in [REPO / "README.md", REPO / "GLOSSARY.md", *REPO.glob("*/**/README.md"), *documents]:
        if ".venv" not in path.parts:
            yield path, path.read_text(encoding="utf-8")


def test_every_command_that_a_text_names_exists() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    named = [
        (path, words)
        for path, text in texts()
        for pattern in (QUOTED, BARE, *([LINE] if path.suffix == ".md" else []))
        for words in pattern.findall(text)
    ]
    assert len(named) > 150, "the texts are read"
    assert {"tutorial.md", "going-live.md", "running.md"} <= {path.name for path, _ in named}
    wrong = {f"{path.relative_to(REPO)}: arb {words}" for path, words in named if unknown_in(words, root)}
    assert not wrong


def test_a_command_or_option_that_does_not_exist_is_seen() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    assert unknown_in("journal", root) == "journal"
    assert unknown_in("config mend", root) == "mend"
    assert unknown_in("breakers --forget NAME", root) == "--forget"
    assert not unknown_in("breakers [--rearm NAME --reason R]".replace("[", ""), root)
