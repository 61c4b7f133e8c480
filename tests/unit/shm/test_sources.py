"""The keys of machine code: each file that a kernel can see is in its key, as Python's parser finds them."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest

from shm import sources
from shm.sources import KERNEL_PACKAGES, ROOT, Sources

CONSTANT = re.compile(r"^([A-Z_][A-Z0-9_]* *(?::[^=\n]+)?= *)(\d+)\b", re.MULTILINE)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of everything that kernels are made of."""
    for room in KERNEL_PACKAGES:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def parsed_imports(text: str, folder: tuple[str, ...]) -> set[str]:
    """What a file imports at any depth, as Python's parser sees it: modules and the names taken from them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = folder[: len(folder) - node.level + 1] if node.level else ()
            module = ".".join([*around, *([node.module] if node.module else [])])
            found.update([module, *(f"{module}.{alias.name}" for alias in node.names)])
    return found


def parsed_closure(start: Path, tree: Path) -> set[Path]:
    """Everything in the copy that a file can see, written as simply as possible."""
    found, waiting = set(), [start]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for module in parsed_imports(path.read_text(), path.relative_to(tree).parts[:-1]):
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                at = tree.joinpath(*parts[:end])
                waiting += [file for file in (at.with_suffix(".py"), at / "__init__.py") if file.is_file()]
    return found


def kernels_of(tree: Path) -> list[Path]:
    everything = [path for room in KERNEL_PACKAGES for path in sorted((tree / room).rglob("*.py"))]
    makers = {"shm.jit.njit", "shm.jit.njit_bare"}
    return [path for path in everything if makers & parsed_imports(path.read_text(), path.relative_to(tree).parts[:-1])]


def keys_of(tree: Path, kernels: list[Path]) -> dict[Path, str]:
    made = Sources(tree)
    return {path: made.key(str(path.relative_to(tree))) for path in kernels}


def test_another_constant_anywhere_is_another_key_of_every_kernel_that_can_see_it(tree: Path) -> None:
    kernels = kernels_of(tree)
    seen = {path: parsed_closure(path, tree) for path in kernels}
    before = keys_of(tree, kernels)
    everything = set().union(*seen.values())
    assert len(kernels) > 20 and len(everything) > len(kernels)
    spared = 0
    for path in sorted(everything):
        text = path.read_text()
        other, count = CONSTANT.subn(lambda found: f"{found[1]}{int(found[2]) + 1}", text, count=1)
        path.write_text(other if count else f"{text}\nANOTHER = 1\n")
        after = keys_of(tree, kernels)
        path.write_text(text)
        stale = [
            str(kernel.relative_to(tree))
            for kernel in kernels
            if path in seen[kernel] and after[kernel] == before[kernel]
        ]
        assert not stale, f"{path.relative_to(tree)} changed, the keys stay: {stale}"
        spared += sum(after[kernel] == before[kernel] for kernel in kernels)
    assert spared > 0, "an edit changes all keys: everything would be compiled again"
    assert keys_of(tree, kernels) == before


def test_no_import_of_the_tree_is_overlooked() -> None:
    for path in (
        path for room in (*KERNEL_PACKAGES, "workers", "tests", "bench") for path in (ROOT / room).rglob("*.py")
    ):
        folder = path.relative_to(ROOT).parts[:-1]
        found = set(sources._imports(path.read_bytes(), "/".join(folder)))
        assert parsed_imports(path.read_text(), folder) <= found, path


@pytest.mark.parametrize(
    "text",
    [
        "import a.b, c as d",
        "import a; from b import c",
        "if x: import a",
        "try: from a import b\nexcept ImportError: import c as b\n",
        "def f():\n\timport a.b as c\n",
        "from a import (  # with ) a bracket\n    b,\n    c as d,  # and ( another\n)",
        "from a import (b,\n c)\nimport d",
        "from a import b, \\\n    c",
        "import a, \\\n    b\n",
        "from . import a",
        "from .a import b",
        "from .. import a as b, c",
        "from ..a.b import *",
        '"""From here one may\nimport (much\nmore."""\nimport a\n',
        "import a\r\nfrom b import c\r\n",
        "from __future__ import annotations\nimport a",
    ],
)
def test_every_way_to_write_an_import_is_found(text: str) -> None:
    compile(text, "text", "exec")
    assert parsed_imports(text, ("pipeline", "one")) <= set(sources._imports(text.encode(), "pipeline/one"))


def test_a_file_that_names_modules_at_run_time_can_see_everything(tree: Path) -> None:
    kernel = tree / "shm" / "checksum.py"
    name = "shm/checksum.py"
    before = Sources(tree).closure(name)
    kernel.write_text(kernel.read_text() + "\nimport importlib\nmodule = importlib.import_module\n")
    everything = {str(path.relative_to(tree)) for room in KERNEL_PACKAGES for path in (tree / room).rglob("*.py")}
    assert before < everything
    assert Sources(tree).closure(name) == everything


def test_kernels_of_tests_and_benches_see_their_own_folder_and_the_tree(tree: Path) -> None:
    (tree / "bench").mkdir()
    (tree / "bench" / "__init__.py").write_text("")
    (tree / "bench" / "far.py").write_text("FAR = 1\n")
    (tree / "bench" / "near.py").write_text("from bench.far import FAR\nfrom shm.checksum import crc32_words\n")
    seen = Sources(tree).closure("bench/near.py")
    assert {"bench/near.py", "bench/far.py", "bench/__init__.py", "shm/checksum.py", "shm/jit.py"} <= seen
    outside = tree.parent / "outside.py"
    outside.write_text("from shm.checksum import crc32_words\nimport os\n")
    assert {str(outside), "shm/checksum.py"} < Sources(tree).closure(str(outside))


def test_a_file_written_since_this_process_began_is_noticed(tree: Path) -> None:
    assert Sources(tree).changed("shm/checksum.py")  # the copy is younger than this process
    (tree / "shm" / "checksum.py").unlink()
    assert not Sources(ROOT).changed("shm/checksum.py")


def test_the_kernels_of_this_tree_are_found() -> None:
    assert [ROOT / name for name in sources.SOURCES.kernel_files()] == sorted(kernels_of(ROOT))
