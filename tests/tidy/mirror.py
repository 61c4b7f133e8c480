"""Unit tests lie where the code lies that they test: ``pipeline/X`` and its tests in ``tests/unit/X``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from tests.tidy.tree import Finding, Source, Tree

UNIT = PurePosixPath("tests/unit")
_RULE = "tests mirror the tree"


def mirrored(tree: Tree, product: Collection[str], own: Mapping[str, str]) -> list[Finding]:
    """Folders of tests that mirror no package and are not in ``own`` (path -> reason; all of them needed); files of
    tests in another folder than the one module whose name they have; files that are no tests."""
    packages = {_mirror(source.folder) for source in tree.of_rooms(*product)}
    places: dict[str, set[str]] = defaultdict(set)
    for source in tree.of_rooms(*product):
        places[_name(source)].add(_mirror(source.folder))
    tests = [source for source in tree.sources.values() if source.path.startswith(f"{UNIT}/")]
    folders = {source.folder for source in tests}
    findings = [
        Finding(folder, 1, _RULE, "mirrors no package; move its tests to the folder of what they test")
        for folder in sorted(folders - packages - own.keys() - {str(UNIT)})
    ]
    for folder in own:
        if folder not in folders or folder in packages:
            findings.append(Finding(folder, 1, _RULE, "is listed as a folder of its own, but is none; strike it out"))
    for source in tests:
        name = _name(source)
        wanted = places.get(name.removeprefix("test_"), set())
        if not name.startswith("test_"):
            if name not in ("__init__", "conftest"):
                findings.append(Finding(source.path, 1, _RULE, "is no test; move what tests share to tests/worlds"))
        elif len(wanted) == 1 and source.folder not in wanted and source.folder not in own:
            message = f"has the name of a module whose tests lie in {wanted.pop()}; move it, or name its own subject"
            findings.append(Finding(source.path, 1, _RULE, message))
    return findings


def _mirror(folder: str) -> str:
    """The folder of the tests of a folder of the product: that of ``pipeline`` is ``tests/unit`` itself."""
    return str(UNIT.joinpath(*folder.removeprefix("pipeline").split("/")))


def _name(source: Source) -> str:
    return PurePosixPath(source.path).stem
