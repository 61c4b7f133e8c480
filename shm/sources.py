"""What machine code is made of: the source files that a kernel can see, hashed. Imports no numba.

A kernel is compiled together with the functions that it calls and with every constant that they read. So the code
on disk (:mod:`shm.jitcache`) is named by a *key*: a hash over the kernel's own file and all files that it imports,
directly or through others, at the top or inside functions, together with the versions of Python, numba, llvmlite and
numpy, and the CPU's name. An edit changes the keys of the kernels that can see it, and of no others.

The imports are found by a search for the word, not by Python's parser (20 times slower). It may find too much, for
example in a docstring, but never too little: the tests hold it against the parser. A file that names modules at run
time (importlib) can reach everything, so everything is in the key of a kernel that imports it.

Files are named by their path relative to the root, as text (``shm/queue.py``); others by their absolute path.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
KERNEL_PACKAGES = ("shm", "pipeline")  # their kernels and constants go into machine code, and into the build hash
KERNEL_MAKERS = {"shm.jit.njit", "shm.jit.njit_bare"}  # a file that imports one of them holds kernels
STARTED_WALL_NS = time.time_ns()

_WORD = re.compile(rb"import\b")
_LISTED = re.compile(rb"[ \t]*(\((?:[^)#]|#[^\n]*)*\)|(?:[^\n\\;#]|\\\r?\n)*)")  # bracketed, or to the statement's end
_NO_NAME = re.compile(rb"#[^\n]*|[()\\]")
# in two parts each, so that they are not found in this file
_AT_RUN_TIME = tuple(
    map(b"".join, ((b"import", b"_module"), (b"__import", b"__"), (b"spec_from", b"_file"), (b"run", b"py")))
)


class _Seen(NamedTuple):
    imports: frozenset[str]  # absolute names of modules, and of what is imported from them
    at_run_time: bool  # names modules at run time


class Sources:
    """The Python files below one folder, as they were when they were first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._records: dict[str, bytes] = {}
        self._seen: dict[str, _Seen] = {}
        self._listed: dict[str, frozenset[str]] = {}
        self._direct: dict[str, frozenset[str]] = {}
        self._closures: dict[str, frozenset[str]] = {}

    def name(self, path: str) -> str:
        """How the file of an absolute path is named here."""
        inside = path.startswith(self.root + os.sep)
        return path[len(self.root) + 1 :] if inside else path

    def key(self, name: str) -> str:
        """The key of the kernels of one file, as 16 hexadecimal digits."""
        return self._hash(self.closure(name))

    def closure(self, name: str) -> frozenset[str]:
        """The file itself and all that it imports, also indirectly, from :data:`KERNEL_PACKAGES` and from its own top
        folder."""
        if name not in self._closures:
            found: set[str] = set()
            waiting = {name}
            while waiting:
                found |= waiting
                if any(self._look(at).at_run_time for at in waiting):
                    found.update(*map(self.files, (*KERNEL_PACKAGES, _top(name))))
                    break
                waiting = set().union(*map(self._imported_by, waiting)) - found
            self._closures[name] = frozenset(found)
        return self._closures[name]

    def files(self, top: str) -> frozenset[str]:
        """Every Python file below a folder of the root."""
        if top not in self._listed:
            start = len(self.root) + 1
            self._listed[top] = frozenset(
                f"{folder[start:]}/{name}"
                for folder, _, names in os.walk(os.path.join(self.root, top) if top else os.devnull)
                for name in names
                if name.endswith(".py")
            )
        return self._listed[top]

    def build_hash(self) -> int:
        """Hash of all of :data:`KERNEL_PACKAGES` as a signed 64-bit integer."""
        everything = frozenset().union(*map(self.files, KERNEL_PACKAGES))
        return int.from_bytes(bytes.fromhex(self._hash(everything)), "little", signed=True)

    def kernel_files(self) -> list[str]:
        """The files of :data:`KERNEL_PACKAGES` that import one of :data:`KERNEL_MAKERS`."""
        named = [name for top in KERNEL_PACKAGES for name in self.files(top) if b"njit" in self._read(name)]
        return sorted(name for name in named if KERNEL_MAKERS & self._look(name).imports)

    def kernel_hash(self) -> str:
        """One hash over everything that any kernel is made of."""
        return self._hash(frozenset().union(*map(self.closure, self.kernel_files())))

    def changed(self, name: str) -> bool:
        """Whether a file behind the key of ``name`` was written after this process had begun.

        Python may then have imported other text than was hashed here.
        """
        now = time.time_ns()  # a time in the future comes from a clock that was set back, and says nothing
        paths = (os.path.join(self.root, file) for file in self.closure(name))
        try:
            return any(STARTED_WALL_NS < os.stat(path).st_ctime_ns <= now for path in paths)
        except OSError:
            return True

    def _read(self, name: str) -> bytes:
        with open(os.path.join(self.root, name), "rb") as handle:
            return handle.read()

    def _record(self, name: str) -> bytes:
        """What stands for the file in a hash."""
        if name not in self._records:
            self._records[name] = name.encode() + b"\0" + hashlib.blake2b(self._read(name), digest_size=16).digest()
        return self._records[name]

    def _look(self, name: str) -> _Seen:
        if name not in self._seen:
            text = self._read(name)
            imports = frozenset(_imports(text, os.path.dirname(name)))
            self._seen[name] = _Seen(imports, any(word in text for word in _AT_RUN_TIME))
        return self._seen[name]

    def _imported_by(self, name: str) -> frozenset[str]:
        """The files that one file imports itself."""
        if name not in self._direct:
            tops = {*KERNEL_PACKAGES, _top(name)} - {""}
            known = frozenset().union(*map(self.files, tops))
            found: set[str] = set()
            for module in self._look(name).imports:
                parts = module.split(".")
                if parts[0] in tops:
                    for end in range(1, len(parts) + 1):  # the packages around it are imported first
                        path = "/".join(parts[:end])
                        found.update((f"{path}.py", f"{path}/__init__.py"))
            self._direct[name] = known & found
        return self._direct[name]

    @cached_property
    def _versions(self) -> str:
        parts = [f"{name}={metadata.version(name)}" for name in ("numba", "llvmlite", "numpy")]
        return " ".join([*parts, sys.version.split()[0], _cpu_name()])

    def _hash(self, names: frozenset[str]) -> str:
        digest = hashlib.blake2b(digest_size=8)
        for name in sorted(names):
            digest.update(self._record(name))
        digest.update(self._versions.encode())
        return digest.hexdigest()


def _top(name: str) -> str:
    """The folder of the root that a file lies in; "" = in none."""
    return "" if os.path.isabs(name) else name.rpartition("/")[0].partition("/")[0]


def _imports(text: bytes, folder: str) -> Iterator[str]:
    """Absolute names of the modules that a file may import, and of what it imports from them."""
    for word in _WORD.finditer(text):
        start = word.start()
        line = text[text.rfind(b"\n", 0, start) + 1 : start]
        before = re.split(rb"[;:]", line)[-1].replace(b"from.", b"from .").split()
        if before and (len(before) != 2 or before[0] != b"from"):
            continue  # prose
        listed = _LISTED.match(text, word.end())
        parts = _NO_NAME.sub(b" ", listed[1] if listed else b"").decode(errors="replace").split(",")
        names = [words[0] for words in map(str.split, parts) if words]  # `b as c` is b
        if before:
            module = _absolute(before[1].decode(errors="replace"), folder)
            yield module
            yield from (f"{module}.{name}" for name in names)
        else:
            yield from names


def _absolute(module: str, folder: str) -> str:
    bare = module.lstrip(".")
    dots = len(module) - len(bare)
    if not dots:
        return module
    around = folder.split("/")
    return ".".join([*around[: len(around) - dots + 1], *([bare] if bare else [])])


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as handle:
            for line in handle:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "unknown"


SOURCES = Sources(ROOT)


def build_hash() -> int:
    """Hash of the whole build as a signed 64-bit integer; goes into every segment (a mixed build is refused)."""
    return SOURCES.build_hash()


def kernel_hash() -> str:
    """Hash of everything that any kernel of this build is made of, as 16 hexadecimal digits."""
    return SOURCES.kernel_hash()


def cache_root() -> Path:
    """Folder of machine code: ``ARB_CACHE_DIR``, else ``XDG_CACHE_HOME``/arb, else ~/.cache/arb."""
    base = os.environ.get("ARB_CACHE_DIR")
    if base:
        return Path(base)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "arb"
