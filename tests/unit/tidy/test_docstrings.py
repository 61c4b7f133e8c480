"""What another folder imports without the words that its caller needs is found, and what has them is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tidy.docstrings import imported_docstrings
from tests.worlds.tidy.small_tree import tree

CLASS = 'class A:\n    """A."""\n'
TABLES = "class Book(Table):\n    pass\nBOOK = Book()\n"


def found(root: Path, text: str, taken: str = "from low.a import A") -> list[str]:
    files = {
        "low/a.py": text,
        "low/base.py": f'class Base:\n    """Base."""\n    def f(self):\n        """Says."""\n{TABLES}',
    }
    files |= {"high/b.py": taken, "low/protocols.py": PROTOCOL}
    return [finding.message for finding in imported_docstrings(tree(root, files), ("low",))]


PROTOCOL = '''from typing import Protocol
class Port(Protocol):
    def opened(self):
        """Says."""
    def shut(self): ...
'''


@pytest.mark.parametrize("line", ["from low.a import f", "from low import a\na.f()", "import low.a as a\na.f()"])
def test_a_definition_that_another_folder_imports_needs_a_docstring(tmp_path: Path, line: str) -> None:
    (message,) = found(tmp_path, 'def f(): pass\ndef g():\n    """Says."""\ndef inner(): pass', line)
    assert message.startswith("f has no docstring, and high/b.py imports it")


def test_what_only_its_own_folder_or_tests_import_needs_none(tmp_path: Path) -> None:
    files = {"low/a.py": "def f(): pass", "low/b.py": "from low.a import f", "tests/c.py": "from low.a import f"}
    assert imported_docstrings(tree(tmp_path, files), ("low",)) == []


@pytest.mark.parametrize(
    "method",
    [
        "    def f(self): pass",
        "    async def f(self): pass",
        "    @property\n    def f(self): return 1",
        "    @staticmethod\n    def f(): pass",
        "    def opened(self): pass",
    ],
)
def test_a_public_method_of_an_imported_class_needs_a_docstring(tmp_path: Path, method: str) -> None:
    (message,) = found(tmp_path, CLASS + method)
    assert message.startswith("A.") and "has no docstring, and high/b.py imports it" in message


def test_so_does_a_method_that_it_has_from_a_base(tmp_path: Path) -> None:
    (message,) = found(
        tmp_path, CLASS.replace("A", "_Base") + "    def f(self): pass\n" + CLASS.replace("A:", "A(_Base):")
    )
    assert message.startswith("_Base.f has no docstring, and high/b.py imports it")


@pytest.mark.parametrize(
    "text",
    [
        CLASS + '    def f(self):\n        """Says."""',
        CLASS + "    x: int = 0\n    def _f(self): pass\n    def __len__(self): return 1",
        CLASS + '    @property\n    def f(self):\n        """Says."""\n    @f.setter\n    def f(self, x): pass',
        CLASS + "    def data_received(self, data): pass",
        "from low.base import Base\n" + CLASS.replace("A:", "A(Base):") + "    def f(self): pass",
        CLASS + '    def opened(self): pass\n    def shut(self):\n        """Says."""',
        CLASS + "class B:\n    def f(self): pass",
    ],
)
def test_what_needs_no_docstring_or_has_one_above_is_none(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text) == []


ARRAYS = "import numpy as np\nWords = np.typing.NDArray[np.int64]\n"


@pytest.mark.parametrize("head", ["f(words: Words)", "f(x: int, *more: np.ndarray)", "f() -> tuple[Words, int]"])
@pytest.mark.parametrize("said", ["Puts it in (of two, the first).", "Puts it in the BOX."])
def test_a_function_of_arrays_needs_their_shape_type_or_table(tmp_path: Path, head: str, said: str) -> None:
    (message,) = found(tmp_path, f'{ARRAYS}def {head}:\n    """{said}"""', "from low.a import f")
    assert message.startswith("f takes or returns an array, and high/b.py imports it; say its shape")


def test_so_does_a_method(tmp_path: Path) -> None:
    (message,) = found(tmp_path, f'{ARRAYS}{CLASS}    def f(self, words: Words):\n        """Puts it in."""')
    assert message.startswith("A.f takes or returns an array")


@pytest.mark.parametrize("said", ["of shape (n,)", "(LEVELS, 2) of them", "as float64", "``bytes`` of it", "at BOOK.x"])
def test_a_function_of_arrays_that_names_shape_type_or_table_is_none(tmp_path: Path, said: str) -> None:
    assert found(tmp_path, f'{ARRAYS}def f(words: Words):\n    """Puts {said}."""', "from low.a import f") == []
