"""A default run does the same on every machine: no test draws from an unseeded source, all examples are fixed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.paths import REPO

MODULES = {"random", "secrets", "uuid", "numpy.random", "np.random", "os.urandom"}
PROFILE_ONLY = {"derandomize", "database", "phases", "print_blob"}


def name_of(node: ast.expr) -> str:
    """``np.random.default_rng`` of such an expression; "" for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return ""


def is_unseeded(call: ast.Call) -> bool:
    """Whether a call draws from a source that no seed fixes, or makes such a source."""
    name = name_of(call.func)
    if name in ("random.Random", "np.random.default_rng", "numpy.random.default_rng"):
        return not call.args
    return name == "os.urandom" or name.rpartition(".")[0] in MODULES


def sins(source: str) -> list[str]:
    """Unseeded draws and settings that belong to the profiles, as "line what". A draw inside an f-string is a name."""
    tree = ast.parse(source)
    in_names = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for inner in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            found.append(f"{node.lineno} from {node.module} import")
        if not isinstance(node, ast.Call) or id(node) in in_names:
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if is_unseeded(node) or (name_of(node.func).endswith("randoms") and ast.unparse(node).endswith("True)")):
            found.append(f"{node.lineno} {ast.unparse(node)}")
        if name_of(node.func) in ("settings", "hypothesis.settings"):
            found += [f"{node.lineno} settings({name}=...)" for name in keywords if name in PROFILE_ONLY]
            deadline = keywords.get("deadline")
            if deadline is not None and ast.unparse(deadline) != "None":
                found.append(f"{node.lineno} settings(deadline=...)")
    return found


def test_no_test_draws_from_an_unseeded_source() -> None:
    files = [path for path in sorted((REPO / "tests").rglob("*.py")) if path != Path(__file__)]
    assert len(files) > 50
    found = [f"{path.relative_to(REPO)}:{sin}" for path in files for sin in sins(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "x = random.randrange(5)",
        "x = random.Random()",
        "x = random.SystemRandom()",
        "x = np.random.normal(0, 1, 5)",
        "x = np.random.default_rng()",
        "x = os.urandom(8)",
        "x = secrets.token_bytes(8)",
        "x = uuid.uuid4()",
        "from random import randrange",
        "@given(st.randoms(use_true_random=True))\ndef test(x): pass",
        "@settings(derandomize=False)\ndef test(x): pass",
        "@settings(max_examples=5, deadline=200)\ndef test(x): pass",
    ],
)
def test_the_search_finds_what_it_searches(line: str) -> None:
    assert len(sins(line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "x = random.Random(5)",
        "x = np.random.default_rng(7).normal()",
        "name = f't-{secrets.token_hex(4)}'",
        "@settings(max_examples=5, deadline=None)\ndef test(x): pass",
    ],
)
def test_the_search_lets_seeded_sources_and_names_pass(line: str) -> None:
    assert sins(line) == []


def test_property_tests_have_fixed_examples_and_do_not_shrink() -> None:
    assert settings.default is not None
    assert settings.default.derandomize and settings.default.database is None and settings.default.deadline is None
    assert Phase.shrink not in settings.default.phases and Phase.explicit in settings.default.phases
