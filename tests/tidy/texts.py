"""Docstrings of files, SYNC comments, marks that must not stay, and the formatter."""

from __future__ import annotations

import ast
import fnmatch
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tests.tidy.tree import Finding, Source, Tree


def module_docstrings(tree: Tree, rooms: Sequence[str]) -> list[Finding]:
    """Every file of these rooms begins with a docstring."""
    return [
        Finding(source.path, 1, "docstring", "the file has no docstring; say in a sentence what it holds")
        for source in tree.of_rooms(*rooms)
        if not ast.get_docstring(source.syntax)
    ]


_PATHS = re.compile(r"(?<![\w/.-])(?:shm|pipeline|workers|tests|bench|systemd|scripts)/[\w./*@-]+")


def readme_paths(tree: Tree) -> list[Finding]:
    """Paths from the root that a README names exist: files (``.py`` may be left out), folders, patterns with ``*``."""
    known = {*tree.files, *(path.removesuffix(".py") for path in tree.sources)}
    known |= {str(parent) for path in tree.files for parent in PurePosixPath(path).parents}
    findings = []
    for readme, text in tree.readmes.items():
        for number, line in enumerate(text.splitlines(), 1):
            for found in _PATHS.finditer(line):
                path = found[0].rstrip("/.,")
                if path not in known and not fnmatch.filter(known, path):
                    findings.append(Finding(readme, number, "readme path", f"names {path}, which is not there"))
    return findings


_SYNC = re.compile(r"SYNC ([a-z_]+\.[a-z_]+)")
_STORES = re.compile(r"\b(store_release|fence_release|cmpxchg|atomic_add|pack_into)\b")
_LOADS = re.compile(r"\b(load_acquire|fence_acquire)\b")
_BOTH = re.compile(r"\bfence_seq_cst\b")
_LOOK_AHEAD_LINES = 4  # a comment on lines of its own stands above the statement that it names


def sync_pairs(tree: Tree, rooms: Sequence[str]) -> list[Finding]:
    """Every ``SYNC name`` stands at its storing end and at its loading end: at least once beside a release and once
    beside an acquire, or at two sequentially consistent fences. The end is read from the call beside the comment, else
    from the words "release" or "acquire" in the comment; where neither is found (the drawing of a layout) it is a
    mention only."""
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    ends: dict[str, dict[str, int]] = defaultdict(lambda: {"release": 0, "acquire": 0, "both": 0})
    for source in tree.of_rooms(*rooms):
        for number, line in enumerate(source.lines, 1):
            for found in _SYNC.finditer(line):
                places[found[1]].append((source.path, number))
                end = _end_of(source, number - 1, line[found.end() :])
                if end:
                    ends[found[1]][end] += 1
    findings = []
    for name, where in sorted(places.items()):
        has = ends[name]
        if (has["release"] and has["acquire"]) or has["both"] >= 2:
            continue
        missing = "release (store)" if has["acquire"] and not has["release"] else "acquire (load)"
        if not any(has.values()):
            missing = "release (store) and acquire (load)"
        text = f"SYNC {name} has no {missing} end; name the pair at both ends: `# SYNC {name}: release`, `: acquire`"
        findings.append(Finding(*where[0], "sync", text))
    return findings


def _end_of(source: Source, index: int, comment: str) -> str:
    """ "release", "acquire", "both" or "" for the SYNC comment in line ``index``: by the code of its own line, or for a
    comment that stands alone by the next lines, else by the line before; else by what the comment says."""
    code = source.lines[index].partition("#")[0].strip()
    nearby = [code]
    if not code:
        nearby = source.lines[index + 1 : index + 1 + _LOOK_AHEAD_LINES]
        nearby += [line for line in source.lines[max(index - 1, 0) : index] if not _SYNC.search(line)]
    for text in nearby:
        for pattern, end in ((_STORES, "release"), (_LOADS, "acquire"), (_BOTH, "both")):
            if pattern.search(text.partition("#")[0]):
                return end
    said = re.search(r"\b(release|acquire)\b", comment.partition(";")[0])
    return said[1] if said else ""


_MARKS = re.compile(
    r"/root/|/home/\w+/|\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError|https?://[^ \"]+/simple/"
    # sheets and lists that lie elsewhere; the checks of ``workers/demo/run_checker.py`` are I1 to I12
    r"|\b[Vv]enues?'?s? sheets?\b|\bvenues/[\w*]+\.md"
    r"|\b(reliability|requirements|design|operations|performance|performance_order_path)\.md"
    r"|\b[Rr]equirements? \(?[SI]?\d|\bfault rows? \d|\(S\d+\)|\(issue \d|\bI(1[3-9]|2\d)\b"
)


def forbidden_marks(root: Path, files: Sequence[str], exempt: Sequence[str]) -> list[Finding]:
    """Paths of one machine, addresses of package indexes, marks of unfinished work, references to texts that are not
    in the tree, in any text file."""
    findings = []
    for name in files:
        if name in exempt or name.endswith(".lock"):
            continue
        for number, line in enumerate((root / name).read_text(errors="replace").splitlines(), 1):
            found = _MARKS.search(line)
            if found:
                findings.append(Finding(name, number, "forbidden mark", f"holds {found[0]!r}; remove it"))
    return findings


def forbidden_calls(tree: Tree, rooms: Sequence[str]) -> list[Finding]:
    """``asyncio.wait_for``: until Python 3.12 it loses a cancellation that comes together with its result; the task
    lives on, and whoever waits for its end waits for ever. ``asyncio.timeout`` does not."""
    return [
        Finding(source.path, node.lineno, "forbidden call", "asyncio.wait_for; use asyncio.timeout")
        for source in tree.of_rooms(*rooms)
        for node in source.nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "wait_for"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "asyncio"
    ]


def format_check(root: Path) -> list[Finding]:
    """What ``ruff format`` would change."""
    command = [sys.executable, "-m", "ruff", "format", "--check", "--quiet", "--output-format", "concise", "."]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"ruff format failed: {done.stderr.strip()}")
    paths = [line.partition(":")[0] for line in done.stdout.splitlines() if ":" in line]
    return [Finding(path, 1, "format", "not formatted; run `ruff format` on it") for path in paths]
