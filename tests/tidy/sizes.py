"""How long functions and files are, and how many files a folder has."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

from tests.tidy.tree import Finding, Tree

FUNCTION_LINES_MAX = 80
FILE_LINES_MAX = 500
LONG_FILES_MAX = 4
FOLDER_FILES_MAX = 25


def long_functions(tree: Tree) -> list[Finding]:
    """Functions of more than 80 lines, signature and docstring included."""
    findings = []
    for source in tree.sources.values():
        for node in source.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    text = f"{node.name} has {length} lines; at most {FUNCTION_LINES_MAX}"
                    findings.append(Finding(source.path, node.lineno, "function length", text))
    return findings


def long_files(tree: Tree, allowed: Mapping[str, str]) -> list[Finding]:
    """Files of more than 500 lines but those in ``allowed`` (path -> reason; at most four, all of them needed)."""
    findings = []
    for path, source in tree.sources.items():
        if len(source.lines) > FILE_LINES_MAX and path not in allowed:
            text = f"has {len(source.lines)} lines; at most {FILE_LINES_MAX}: cut it where its subjects part"
            findings.append(Finding(path, 1, "file length", text))
    for path in allowed:
        if path not in tree.sources or len(tree.sources[path].lines) <= FILE_LINES_MAX:
            findings.append(Finding(path, 1, "file length", "is listed as a long file, but is none; strike it out"))
    if len(allowed) > LONG_FILES_MAX:
        text = f"{len(allowed)} files are listed as long; at most {LONG_FILES_MAX}"
        findings.append(Finding(max(allowed), 1, "file length", text))
    return findings


def full_folders(tree: Tree) -> list[Finding]:
    """Folders with more than 25 files (folders inside them do not count)."""
    counts = Counter(str(PurePosixPath(path).parent) for path in tree.files)
    return [
        Finding(
            folder, 1, "folder size", f"holds {count} files; at most {FOLDER_FILES_MAX}: give a part its own folder"
        )
        for folder, count in sorted(counts.items())
        if count > FOLDER_FILES_MAX
    ]
