"""Each rule of ``tests/tidy`` fails on a small tree that breaks it, and passes beside it on one that does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPO
from tests.tidy import capitals, dead, exchange_names, faults, imports, readmes, sizes, texts
from tests.tidy.__main__ import report
from tests.tidy.rules import CHECKS
from tests.tidy.tree import Finding
from tests.worlds.tidy.small_tree import places, tree

ORDER = ("low", "mid", "mid.wire", "high", "bench", "tests")


# --- names in capitals --------------------------------------------------------------------------------------------


def capitals_found(root: Path, text: str, **known: str) -> list[str]:
    files = {
        "low/a.py": text,
        "low/b.py": "import os\nDEPTH_MAX = os.O_EXCL\nENV = 'ARB_STATE_DIR'\n",
        "run.sh": "RUN_DIR=1",
    }
    return places(capitals.undefined_capitals(tree(root, files), root, ["low"], known))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('"""Words, SZ_WITHIN of them."""', 1),
        ('def f():\n    """First.\n\n    int64[BOOK_RECORD_WORDS].\n    """', 4),
        ("a = 1\nb = 2  # as in C_REFUSED", 2),
        ("# any of SZ_*", 1),
    ],
)
def test_a_text_that_names_what_no_code_has_is_found(tmp_path: Path, text: str, line: int) -> None:
    assert capitals_found(tmp_path, text) == [f"low/a.py:{line}"]


@pytest.mark.parametrize(
    "text",
    [
        "# DEPTH_MAX, O_EXCL, ARB_STATE_DIR, RUN_DIR, ARB_*, DEPTH_*",
        "# NEVER, int64[BOOK.WORDS], Not_A_NAME, $OTHER_NAME",
        "A_B = 'C_D'  # A_B and C_D",
        "# OF_OTHERS",
    ],
)
def test_a_text_that_names_what_code_has_is_none(tmp_path: Path, text: str) -> None:
    assert capitals_found(tmp_path, text, OF_OTHERS="theirs") == []


# --- what READMEs say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("# low\n\nMay import: shm, pipeline/model.\n", ["shm", "pipeline/model"]),
        ("May import: shm, pipeline/core.py. Imported by workers.", ["shm", "pipeline/core.py"]),
        ("May import: shm,\npipeline/model.\n", ["shm", "pipeline/model"]),
        ("May import: nothing.", []),
        ("Memory. May import: `shm` (layout), `pipeline/core.py`. Imported by all.", ["shm", "pipeline/core.py"]),
        ("It may import: shm.", None),
        ("May import: shm.\nMay import: pipeline.", None),
    ],
)
def test_the_line_of_a_readme_is_read(text: str, names: list[str] | None) -> None:
    assert imports.may_import_line(text) == names


def test_an_import_that_the_readme_does_not_allow_is_found(tmp_path: Path) -> None:
    files = {"mid/README.md": "May import: low/a.py.", "mid/x.py": "import low.a\nimport low.b", "low/a.py": ""}
    files |= {"low/b.py": "", "low/README.md": "May import: nothing.", "mid/in/y.py": "from mid import x\nimport low.b"}
    found = imports.may_import(tree(tmp_path, files), ORDER)
    assert places(found) == ["mid/in/y.py:2", "mid/x.py:2"]
    assert found[0].message == "imports low/b.py; mid/README.md allows low/a.py"


def test_a_folder_with_a_readme_of_its_own_obeys_that_one(tmp_path: Path) -> None:
    files = {"mid/README.md": "May import: nothing.", "mid/wire/README.md": "May import: low.", "low/a.py": ""}
    files |= {"mid/wire/x.py": "import low.a", "low/README.md": "May import: nothing."}
    assert imports.may_import(tree(tmp_path, files), ORDER) == []


def test_a_room_without_the_line_a_room_without_a_readme_and_a_name_of_nothing_are_found(tmp_path: Path) -> None:
    files = {"low/a.py": "", "mid/README.md": "no line", "mid/x.py": "", "high/README.md": "May import: gone."}
    found = imports.may_import(tree(tmp_path, files | {"high/y.py": ""}), ORDER)
    assert [finding.message.split(";")[0].split(" sentence")[0] for finding in found] == [
        "names gone, which is no folder and no file of the tree",
        "missing",
        "wanted: exactly one",
    ]


TABLE = "# x\n\n| file | holds |\n|---|---|\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (TABLE + "| `a.py`, `sub/c.py` | `gone.py` is a remark |", []),
        (TABLE + "| `a`, [`sub/`](sub/README.md) | |", []),
        (TABLE + "| `sub/c.py`, `d.py` | a file after another of its folder |\n\nAlso `a`.", []),
        (TABLE + "| `a.py` (as `gone.py` was), `sub/` | |", []),
        ("# x\n\nHere: `a` and `sub`.", []),
        (TABLE + "| `a.py`, `sub/`, `gone.py` | |", [5]),
        (TABLE + "| `a.py`, `sub/gone.py` | |", [5]),
        (TABLE + "| `a.py` | |\n| `sub` | |\n| `d.py` | not of this folder |", [7]),
        (TABLE + "| `a.py` | |", [1]),
        ("# x\n\n`sub` alone", [1]),
        ("# x\n", [1, 1]),
    ],
)
def test_a_readme_names_all_that_lies_in_its_folder_and_nothing_else(
    tmp_path: Path, text: str, found: list[int]
) -> None:
    files = {"low/a.py": "", "low/sub/c.py": "", "low/sub/d.py": "", "low/README.md": text}
    findings = readmes.readme_tables(tree(tmp_path, files | {"README.md": "# root"}))
    assert [finding.line for finding in findings] == found, findings


def test_a_folder_without_python_needs_a_complete_readme_only_where_that_has_a_table(tmp_path: Path) -> None:
    here = tree(tmp_path, {"units/a.service": "", "units/README.md": "# units"})
    assert readmes.readme_tables(here) == []
    here = tree(tmp_path, {"units/b.service": "", "units/README.md": TABLE + "| `a.service` | |"})
    (finding,) = readmes.readme_tables(here)
    assert "does not name b.service" in finding.message


def test_a_path_in_a_readme_that_is_not_there_is_found(tmp_path: Path) -> None:
    files = {"shm/a.py": "", "tests/unit/test_b.py": "", "README.md": "`shm/a.py`, shm/a, shm/, tests/unit/test_*.py."}
    files["shm/README.md"] = "fine: arb/shm/gone.py\n`shm/gone.py` and tests/unit/test_shm_*.py"
    found = texts.readme_paths(tree(tmp_path, files))
    assert [finding.message.split(",")[0] for finding in found] == [
        "names shm/gone.py",
        "names tests/unit/test_shm_*.py",
    ]
    assert places(found) == ["shm/README.md:2", "shm/README.md:2"]


# --- dead code ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("def gone():\n    return gone()", "gone"),
        ("GONE = 1", "GONE"),
        ("GONE: int = 1", "GONE"),
        ("if True:\n    GONE = 1", "GONE"),
        ("class Gone:\n    pass", "Gone"),
        ("class A:\n    def gone(self): return self.gone\nA()", "A.gone"),
        ("class A:\n    gone: int = 0\nA()", "A.gone"),
        ("from enum import Enum\nclass A(Enum):\n    GONE = 1\nA(1)", "A.GONE"),
        ("class A(ValueError):\n    def gone(self): pass\nA()", "A.gone"),
        ("class A:\n    gone = 0\ndef f(a): a.gone = 1\nf(A())", "A.gone"),
    ],
)
def test_a_definition_without_a_use_is_found(tmp_path: Path, text: str, label: str) -> None:
    (found,) = dead.dead_definitions(tree(tmp_path, {"low/a.py": text}), {})
    assert found.message.startswith(f"{label} is used nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "def used(): pass\nused()",
        "class A:\n    def used(self): pass\nA().used()",
        "class A:\n    used: int = 0\nA(used=1)",
        "class A:\n    def used(self): pass\ngetattr(A(), 'used')",
        "from library import Base\nclass A(Base):\n    def called_by_the_library(self): pass\nA()",
        "import asyncio\nclass A:\n    def data_received(self, data): pass\nA()",
        "import typer\napp = typer.Typer()\n@app.command()\ndef run(): pass",
    ],
)
def test_a_definition_with_a_use_is_none(tmp_path: Path, text: str) -> None:
    assert dead.dead_definitions(tree(tmp_path, {"low/a.py": text}), {}) == []


def test_a_name_that_another_file_has_too_is_dead_where_nothing_imports_it(tmp_path: Path) -> None:
    files = {
        "low/a.py": "_SAFE = '-'\ndef encode(text): return text",
        "low/b.py": "_SAFE = '+'\ndef encode(text): return text + _SAFE",
        "low/user.py": "import sys\nfrom low.b import encode\nsys.x = encode('')",
        "mid/__init__.py": "from mid.c import passed_on",
        "mid/c.py": "def passed_on(): pass",
        "low/other.py": "import mid\nmid.passed_on()",
    }
    assert places(dead.dead_definitions(tree(tmp_path, files), {})) == ["low/a.py:1", "low/a.py:2"]


def test_what_tests_alone_use_is_dead_but_for_fields_and_for_what_lies_in_tests(tmp_path: Path) -> None:
    files = {"low/a.py": "def tried(): pass\nclass A:\n    field: int = 0\nA()", "tests/help.py": "def helper(): pass"}
    files["bench/tests/test_b.py"] = "def test_b(): pass"
    files["tests/test_a.py"] = (
        "from low.a import tried\nfrom tests.help import helper\ndef test_it(a): helper(tried(a.field))"
    )
    (found,) = dead.dead_definitions(tree(tmp_path, files), {})
    assert found.message.startswith("tried is used by tests alone") and found.path == "low/a.py"


def test_public_names_are_not_dead_and_entries_that_are_not_needed_are_found(tmp_path: Path) -> None:
    here = tree(
        tmp_path, {"low/a.py": "def way_in(): pass\nclass A:\n    def b(self): pass\n    def _c(self): pass\nA()"}
    )
    public = {"low/a.py:way_in": "a reason", "low/a.py:A.*": "a reason"}
    (found,) = dead.dead_definitions(here, public)
    assert found.message.startswith("A._c is used nowhere")
    (_, stale) = dead.dead_definitions(here, public | {"low/a.py:A": "used"})
    assert "low/a.py:A is listed as public, but is used or gone" in stale.message


def test_a_file_that_nothing_imports_is_dead_whatever_it_uses_itself(tmp_path: Path) -> None:
    files = {
        "low/a.py": "import low.b",
        "low/b.py": "",
        "low/lone.py": "def f(): return 1\nf()",
        "low/__main__.py": "import low.a",
        "tests/test_lone.py": "import low.lone",
    }
    here = tree(tmp_path, files)
    assert places(dead.dead_files(here, ("low",), {})) == ["low/lone.py:1"]
    assert dead.dead_files(here, ("low",), {"low/lone.py": "run by hand"}) == []
    (stale,) = dead.dead_files(here, ("low",), {"low/lone.py": "run by hand", "low/a.py": "run by hand"})
    assert stale.path == "low/a.py" and "strike it" in stale.message


# --- sizes ---------------------------------------------------------------------------------------------------------


def test_a_function_of_more_than_80_lines_is_found(tmp_path: Path) -> None:
    body = "    x = 1\n"
    here = tree(
        tmp_path, {"low/a.py": "def f():\n" + body * 79, "low/b.py": "class A:\n  async def g():\n" + body * 80}
    )
    (found,) = sizes.long_functions(here)
    assert found.path == "low/b.py" and "g has 81 lines; at most 80" in found.message


def test_a_file_of_more_than_500_lines_needs_a_reason_and_at_most_four_have_one(tmp_path: Path) -> None:
    files = {f"low/{name}.py": "\n" * 501 for name in "abcde"} | {"low/short.py": "\n" * 500}
    here = tree(tmp_path, files)
    reasons = {f"low/{name}.py": "a reason" for name in "abcd"}
    assert places(sizes.long_files(here, reasons)) == ["low/e.py:1"]
    assert "at most 4" in sizes.long_files(here, reasons | {"low/e.py": "a reason"})[0].message
    assert "strike it out" in sizes.long_files(here, {"low/short.py": "a reason"})[-1].message


def test_a_folder_of_more_than_25_files_is_found(tmp_path: Path) -> None:
    here = tree(tmp_path, {f"docs/{number}.md": "" for number in range(26)} | {f"more/{n}.md": "" for n in range(25)})
    (found,) = sizes.full_folders(here)
    assert found.path == "docs" and "26 files; at most 25" in found.message


# --- texts ---------------------------------------------------------------------------------------------------------


def test_a_file_without_a_docstring_is_found(tmp_path: Path) -> None:
    here = tree(tmp_path, {"low/a.py": '"""Says."""', "low/b.py": "x = 1", "tests/c.py": ""})
    assert places(texts.module_docstrings(here, ("low",))) == ["low/__init__.py:1", "low/b.py:1"]


STORE = "store_release(w, 1, 2)  # SYNC row.seq: release; pairs with read\n"
LOAD = "# SYNC row.seq: the odd number is seen\n# before any word\nx = load_acquire(w, 1)\n"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (STORE, "acquire (load)"),
        (LOAD, "release (store)"),
        ("SEQ = 1  # a number. SYNC row.seq\n", "release (store) and acquire (load)"),
        ("fence_seq_cst()  # SYNC row.seq: fence\n", "acquire (load)"),
        (STORE.replace("row.seq", "row.other") + LOAD, "acquire (load)"),
    ],
)
def test_a_sync_name_without_its_other_end_is_found(tmp_path: Path, text: str, missing: str) -> None:
    found = texts.sync_pairs(tree(tmp_path, {"low/a.py": text}), ("low",))
    assert f"has no {missing} end" in found[0].message


@pytest.mark.parametrize(
    "text",
    [
        STORE + LOAD,
        "fence_seq_cst()  # SYNC bell.sleeping: pairs with the fence in ring\n" * 2,
        "w[1] = 2  # SYNC row.seq: release\nx = w[1]  # SYNC row.seq: acquire\n",
        STORE + "fence_acquire()\n# SYNC row.seq: the copy is done\nif w[1]: pass\n",
    ],
)
def test_a_sync_name_at_both_ends_is_none(tmp_path: Path, text: str) -> None:
    assert texts.sync_pairs(tree(tmp_path, {"low/a.py": text}), ("low",)) == []


def test_both_ends_may_stand_in_different_files(tmp_path: Path) -> None:
    assert texts.sync_pairs(tree(tmp_path, {"low/a.py": STORE, "high/b.py": LOAD}), ("low", "high")) == []


def test_a_forbidden_call_is_found(tmp_path: Path) -> None:
    here = tree(tmp_path, {"low/a.py": "import asyncio\nasyncio.wait_for(x, 1)\nself.wait_for(x)"})
    assert places(texts.forbidden_calls(here, ("low",))) == ["low/a.py:2"]


@pytest.mark.parametrize(
    "mark",
    [
        "TODO",
        "raise NotImplementedError",
        "/root/x",
        "/home/me/x",
        "https://x.y/" + "simple/",
        "venues/gateio_spot.md 4",
        "venues/*.md, sections on limits",
        "as the venue sheets say",
        "reliability.md row 31",
        "requirements S16",
        "Requirements 4.6",
        "fault rows 1-17",
        "of rows (S12)",
        "I22",
    ],
)
def test_a_forbidden_mark_is_found_in_any_text(tmp_path: Path, mark: str) -> None:
    here = tree(tmp_path, {"low/a.md": f"fine\n{mark}\n", "b.lock": mark, "exempt.md": mark})
    assert places(texts.forbidden_marks(tmp_path, here.files, ["exempt.md"])) == ["low/a.md:2"]


def test_a_file_that_is_not_formatted_is_found(tmp_path: Path) -> None:
    tree(tmp_path, {"low/a.py": "x   =  1\n", "low/b.py": "x = 1\n"})
    assert places(texts.format_check(tmp_path)) == ["low/a.py:1"]


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_prints_breaches_by_room_and_tells_by_its_exit_code(tmp_path: Path) -> None:
    tree(tmp_path, {"shm/a.py": "import workers.b", "workers/b.py": "", "shm/README.md": "May import: nothing."})
    command = [sys.executable, "-m", "tests.tidy", str(tmp_path), "--rule", "import order"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == [
        "== shm: 1",
        "shm/a.py:1 [import order] shm imports workers.b (statement); shm comes before workers in the order",
    ]
    assert subprocess.run([*command, "--under", "workers"], cwd=REPO, capture_output=True).returncode == 0


def test_a_report_names_the_room_of_each_breach() -> None:
    text = report(
        [Finding("pipeline/book/level2.py", 3, "sync", "b"), Finding("tests/unit/sim/test_a.py", 1, "x", "a")]
    )
    assert [line for line in text.splitlines() if line.startswith("==")] == [
        "== pipeline/book: 1",
        "== tests/unit/sim: 1",
    ]


def test_every_rule_has_a_check() -> None:
    assert {"import order", "import cycles", "dead definitions", "sync pairs", "may import", "format"} <= set(CHECKS)


# --- the table of faults ------------------------------------------------------------------------------------------


def test_a_fault_without_a_test_and_a_test_that_is_not_there_are_found(tmp_path: Path) -> None:
    good = [f"| {k} | a fault | what must happen | `unit/test_a.py::it_stands` |" for k in faults.ROWS]
    files = {"tests/unit/test_a.py": "def test_it_stands(): ...\n", "tests/faults.md": "\n".join(good)}
    assert faults.faults_tried(tree(tmp_path, files), tmp_path) == []
    bad = [good[0].replace("stands", "stood"), good[1].rpartition("`u")[0] + "|", good[0], *good[3:]]
    found = faults.faults_tried(tree(tmp_path, {**files, "tests/faults.md": "\n".join(bad)}), tmp_path)
    assert [finding.message.split(";")[0] for finding in found] == [
        "row 1: there is no test_it_stood in tests/unit/test_a.py",
        "row 2 names no test",
        "row 1 stands twice",
        "rows 3 are missing",
    ]


# --- exchanges are named in their own folders alone ------------------------------------------------------------------

MANIFEST = {"pipeline/exchanges/acme/manifest.toml": 'title = "Acme.io"\n'}


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("pipeline/core.py", 'VENUE = "acme_spot"', True),
        ("pipeline/core.py", "class SimAcmeVenue:\n    pass", True),
        ("workers/a.py", 'say(f"the {x} of Acme.io")', True),
        ("workers/a.py", "from pipeline.exchanges.acme import orders", True),
        ("pipeline/sim/wire/acme/a.py", "from pipeline.exchanges.acme.orders import x", True),
        ("pipeline/exchanges/acme/a.py", "import x\nfrom pipeline.sim.wire.acme.exchange import x", True),
        ("pipeline/core.py", '"""What Acme.io says."""\n# as acme does\nA = "pacmen"', False),
        ("pipeline/exchanges/acme/a.py", 'VENUE = "acme_spot"', False),
        ("pipeline/worlds/a.py", 'VENUE = "acme_spot"', False),
    ],
)
def test_an_exchange_named_outside_of_its_folders_is_found(tmp_path: Path, path: str, text: str, found: bool) -> None:
    files = {**MANIFEST, "pipeline/worlds/b.py": "acme = 1", path: text + "\n"}
    checked = exchange_names.exchange_names(
        tree(tmp_path, files), tmp_path, ("pipeline", "workers"), {"pipeline/worlds/*": "worlds"}
    )
    assert [one.path for one in checked] == ([path] if found else [])


def test_an_exception_that_names_no_exchange_is_found(tmp_path: Path) -> None:
    checked = exchange_names.exchange_names(tree(tmp_path, MANIFEST), tmp_path, ("pipeline",), {"pipeline/x.py": "why"})
    assert places(checked) == ["pipeline/x.py:1"]
