"""The rules of imports fail on a small tree that breaks them, and pass beside it on one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tidy import imports
from tests.worlds.tidy.small_tree import places, tree

ORDER = ("low", "mid", "mid.wire", "high", "bench", "tests")


@pytest.mark.parametrize(
    "line",
    [
        "import high.b",
        "from high import b",
        "from high.b import name",
        "def f():\n    from high.b import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from high.b import name",
        "from ..high import b",
        "import importlib\nb = importlib.import_module('high.b')",
        "import importlib\nTABLE = {'b': 'high.b:name'}\ndef f(x): return importlib.import_module(TABLE[x])",
        "import importlib\ndef f(x): return importlib.import_module(f'high.{x}')",
        "from importlib import import_module\ndef f(x): return import_module(f'{\"high\"}.b', 'high.b')",
    ],
)
def test_an_import_upward_is_found_however_it_is_written(tmp_path: Path, line: str) -> None:
    found = imports.import_order(tree(tmp_path, {"low/a.py": line, "high/b.py": "name = 1"}), ORDER)
    assert {finding.path for finding in found} == {"low/a.py"}
    assert "low imports high" in found[0].message and "low comes before high in the order" in found[0].message


def test_an_import_downward_and_inside_a_room_is_none(tmp_path: Path) -> None:
    files = {"low/a.py": "", "high/b.py": "from low import a\nfrom high import c", "high/c.py": "import low.a, json"}
    assert imports.import_order(tree(tmp_path, files), ORDER) == []


def test_a_room_inside_a_room_has_a_place_of_its_own(tmp_path: Path) -> None:
    files = {"mid/a.py": "from mid.wire import b", "mid/wire/b.py": "", "mid/wire/c.py": "from mid import a"}
    assert places(imports.import_order(tree(tmp_path, files), ORDER)) == ["mid/a.py:1"]


def test_rooms_apart_import_each_other_in_neither_direction(tmp_path: Path) -> None:
    files = {"bench/a.py": "import tests.b", "tests/b.py": "\nimport bench.a"}
    found = imports.import_order(tree(tmp_path, files), ORDER, [frozenset({"bench", "tests"})])
    assert places(found) == ["bench/a.py:1", "tests/b.py:2"]
    assert all("neither may import the other" in finding.message for finding in found)


def test_a_file_in_no_room_is_found(tmp_path: Path) -> None:
    found = imports.import_order(tree(tmp_path, {"new/a.py": ""}), ORDER)
    assert "lies in no room" in found[0].message


def test_a_placeholder_stands_for_one_name_and_not_for_a_path(tmp_path: Path) -> None:
    files = {"low/a.py": "import importlib\ndef f(x): return importlib.import_module(f'mid.{x}.codec')"}
    files |= {"mid/wire/codec.py": "", "mid/wire/deep/codec.py": ""}
    (found,) = imports.import_order(tree(tmp_path, files), ORDER)
    assert "mid.wire.codec (string)" in found.message


@pytest.mark.parametrize(
    "call", ["importlib.import_module(name)", "importlib.import_module(f'{name}.b')", "__import__(name)"]
)
def test_a_string_import_that_does_not_say_what_it_imports_is_refused(tmp_path: Path, call: str) -> None:
    (found,) = imports.unreadable_string_imports(tree(tmp_path, {"low/a.py": f"import importlib\nname = ''\n{call}"}))
    assert found.line == 3 and call in found.message.replace('"', "'")


@pytest.mark.parametrize("name", ["import_module", "resolve_name"])
def test_what_imports_by_a_name_keeps_its_own(tmp_path: Path, name: str) -> None:
    files = {"low/a.py": f"from somewhere import {name} as load\nload('high.b')", "high/b.py": ""}
    files["low/b.py"] = f"from somewhere import {name}\n{name}('low.a')"
    (found,) = imports.unreadable_string_imports(tree(tmp_path, files))
    assert found.path == "low/a.py" and "under another name" in found.message


def test_a_module_that_is_named_to_pkgutil_is_imported(tmp_path: Path) -> None:
    files = {"low/a.py": "import pkgutil\npkgutil.resolve_name('high.b:name')", "high/b.py": "name = 1"}
    assert places(imports.import_order(tree(tmp_path, files), ORDER)) == ["low/a.py:2"]


def test_a_string_import_that_says_what_it_imports_is_not(tmp_path: Path) -> None:
    files = {"low/a.py": "import importlib\nT = {'b': 'low.b'}\nimportlib.import_module(T['b'])", "low/b.py": ""}
    files["low/c.py"] = "import importlib\ndef f(x): return importlib.import_module(f'low.{x}')"
    files["low/d.py"] = "import importlib\nimportlib.import_module('uvloop')"
    assert imports.unreadable_string_imports(tree(tmp_path, files)) == []


def test_a_circle_of_files_is_found_through_lazy_typed_and_string_imports(tmp_path: Path) -> None:
    files = {
        "low/a.py": "def f():\n    import low.b",
        "low/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from low.c import x",
        "low/c.py": "import importlib\nx = 1\ndef f(): return importlib.import_module('low.a')",
        "low/d.py": "import low.a",
    }
    (found,) = imports.import_cycles(tree(tmp_path, files))
    assert "low/a.py -> low/b.py -> low/c.py -> low/a.py" in found.message


def test_a_registry_that_finds_its_parts_by_folder_closes_a_circle_with_a_part_that_imports_it(tmp_path: Path) -> None:
    files = {"mid/registry.py": "import importlib\ndef f(x): return importlib.import_module(f'mid.{x}.orders')"}
    files |= {"mid/one/orders.py": "", "mid/two/orders.py": "from mid import registry"}
    (found,) = imports.import_cycles(tree(tmp_path, files))
    assert "mid/registry.py -> mid/two/orders.py" in found.message


def test_files_without_a_circle_have_none(tmp_path: Path) -> None:
    files = {"low/a.py": "import low.b, low.c", "low/b.py": "import low.c", "low/c.py": ""}
    assert imports.import_cycles(tree(tmp_path, files)) == []


def test_a_test_module_that_another_imports_is_found(tmp_path: Path) -> None:
    files = {
        "tests/test_a.py": "x = 1",
        "tests/test_b.py": "\nfrom tests.test_a import x",
        "tests/conftest.py": "y = 1",
    }
    files |= {"tests/test_c.py": "import tests.worlds.w\nfrom tests.conftest import y", "tests/worlds/w.py": ""}
    assert places(imports.tests_import_no_tests(tree(tmp_path, files))) == ["tests/test_b.py:2", "tests/test_c.py:2"]


def test_libraries_are_imported_in_their_places_only(tmp_path: Path) -> None:
    files = {"low/a.py": "import numba\nimport time\nimport asyncio", "low/clock.py": "import time"}
    files["high/b.py"] = "import asyncio"
    found = imports.libraries(tree(tmp_path, files), ("low", "high"), ("low/clock.py",), ("high/",))
    assert places(found) == ["low/a.py:1", "low/a.py:2", "low/a.py:3"]


@pytest.mark.parametrize("call", ["datetime.now()", "datetime.datetime.utcnow()", "date.today()"])
def test_a_wall_clock_that_is_read_as_a_date_is_found(tmp_path: Path, call: str) -> None:
    files = {"low/a.py": f"import datetime\nx = {call}\ny = datetime.datetime.fromtimestamp(0)", "low/clock.py": call}
    assert places(imports.libraries(tree(tmp_path, files), ("low",), ("low/clock.py",), ())) == ["low/a.py:2"]
