"""Words that say nothing to a newcomer: names and texts use the field's words, or plain English."""

from __future__ import annotations

import fnmatch
import io
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from tests.tidy.tree import Finding, Tree

#: Nowhere: neither in names nor in texts. Word or phrase -> what to say in its place.
NOWHERE: Mapping[str, str] = {
    "a person": "an operator, a user",
    "chase": "query, follow up",
    "desk": "the component's name",
    "has the word": "decides, is asked",
    "heed": "obey",
    "heeds": "obeys",
    "intake": "what is taken in: evidence, orders",
    "nursery": "fork server",
    "owe": "must, is due",
    "owed": "due, expected",
    "owes": "must, is due",
    "press": "encode, write",
    "short way": "fast path",
    "stencil": "template",
    "survey": "check, list",
    "timely": "fresh, on time",
}
#: Plain English in a sentence, and no name: a function, class, variable, file. Tests' names are sentences.
NO_NAME: Mapping[str, str] = {
    "hands": "what it does or holds",
    "told": "sent, reported, known, read, booked",
    "untold": "unknown",
}
TEXTS = (".py", ".md")

_NOWHERE = re.compile(rf"(?<![A-Za-z])({'|'.join(NOWHERE)})(?![A-Za-z])", re.IGNORECASE)
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def private_words(
    tree: Tree, root: Path, allowed: Mapping[tuple[str, str], str], exempt: Sequence[str]
) -> list[Finding]:
    """Lines of Python files and texts that hold a word of ``NOWHERE``, names that hold one of either list. ``allowed``:
    (path pattern, word) -> reason; one that no file needs is found as well. ``exempt``: files about these words."""
    findings, needed = [], set()
    for path in tree.files:
        if path in exempt or not path.endswith(TEXTS):
            continue
        text = tree.sources[path].text if path in tree.sources else (root / path).read_text()
        for line, word, wanted in sorted({*_in_text(text), *_in_names(path, text)}):
            keys = [key for key in allowed if key[1] == word and fnmatch.fnmatch(path, key[0])]
            needed.update(keys)
            if not keys:
                findings.append(Finding(path, line, "words", f"says {word!r}; wanted: {wanted}"))
    for pattern, word in sorted(set(allowed) - needed):
        findings.append(Finding(pattern, 1, "words", f"{word!r} is allowed and not there; remove the exception"))
    return findings


def _in_text(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, word, what to say) of every line that holds a word of ``NOWHERE``."""
    for number, line in enumerate(text.splitlines(), 1):
        for found in _NOWHERE.findall(line):
            yield number, found.lower(), NOWHERE[found.lower()]


def _in_names(path: str, text: str) -> Iterator[tuple[int, str, str]]:
    """The same for the path and, in Python files, every name, by its parts: ``needs_hands``, ``MarketSurvey``; a key
    (a string that is one name) too."""
    names = [(1, part) for part in PurePosixPath(path).with_suffix("").parts]
    if path.endswith(".py"):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            key = token.string[1:-1]
            if token.type == tokenize.NAME:
                names.append((token.start[0], token.string))
            elif token.type == tokenize.STRING and key.isidentifier():
                names.append((token.start[0], key))
    for line, name in names:
        words = {part.lower() for part in _PARTS.findall(name)}
        wanted = NOWHERE if name.startswith("test_") else {**NOWHERE, **NO_NAME}
        yield from ((line, word, wanted[word]) for word in words & wanted.keys())
