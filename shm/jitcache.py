"""Machine code on disk: one file for each kernel and each set of argument types, found by what the code is made of.

::

    cache root / kernels / shm / queue / KEY / push-143-TYPES.code

KEY is the hash over everything that the kernels of shm/queue.py can see (:mod:`shm.sources`); TYPES is a hash over the
argument types, the CPU, the byte code and the closure. Where the sources lie and when they were written does not
matter: a second checkout starts warm.

A file is a header, a digest and a pickle. One that is damaged (shorter, longer, other bytes) counts as absent: the
kernel is compiled again and the file replaced. A folder that cannot be read or written costs the compilation at each
start, nothing more. Both are said (:func:`report_to`) when a process first meets them, and damaged files are counted.

Numba's own cache is not used: its files carry no digest, its index loses entries when two processes write at once, and
its errors come out of a kernel's first call.
"""

# numba has no types: everything of it is Any here.
# mypy: disable-error-code="no-untyped-call,attr-defined,misc"

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import pickle
import re
import sys
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from numba.core import caching, compiler
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from shm import jitlink
from shm.sources import SOURCES, cache_root

MAGIC = b"arb kernel 1\n"
DIGEST_BYTES = 32
PROBE_BYTES = 1 << 16
#: What reading a pickle of another build's making may raise, and what rebuilding code from it may.
UNUSABLE = (
    pickle.UnpicklingError, EOFError, LookupError, AttributeError, ImportError, TypeError, ValueError, RuntimeError,
)  # fmt: skip
_ADDRESS = re.compile(r"\b0x[0-9a-f]+")


def _to_stderr(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, none
        sys.stderr.write(f"machine code: {text}\n")
        sys.stderr.flush()


def _to_nobody(kernel: str) -> None:
    return None


def _late(kernel: str) -> None:
    _REPORT.say(f"{kernel} came after the start; a warm() of its process spares the time and the memory")


class _Report:
    """What this process met, and who hears of it."""

    def __init__(self) -> None:
        self.damaged = 0
        self.unusable = False
        self.say: Callable[[str], None] = _to_stderr
        self.compiled: Callable[[str], None] = _to_nobody
        self.loaded: Callable[[str], None] = _to_nobody

    def met_damaged(self, path: Path) -> None:
        self.damaged += 1
        if self.damaged == 1:
            self.say(f"1 damaged file, compiled again: {path}")
            atexit.register(say_total)

    def met_unusable(self, folder: Path, error: OSError) -> None:
        if not self.unusable:
            self.unusable = True
            reason = error.strerror or error
            hint = "every start compiles again; ARB_CACHE_DIR names another folder"
            self.say(f"{folder} cannot be used ({reason}): {hint}")


_REPORT = _Report()


def report_to(say: Callable[[str], None] | None, compiled: Callable[[str], None] | None = None) -> None:
    """``say`` is given the sentences about damaged files and unusable folders (None = stderr), ``compiled`` the name of
    each kernel that this process had to compile."""
    _REPORT.say = say or _to_stderr
    _REPORT.compiled = compiled or _to_nobody


def loaded_all() -> None:
    """Every kernel that this process needs is loaded by now: each that comes later is named."""
    _REPORT.loaded = _REPORT.compiled = _late


def say_total() -> None:
    """Says how many damaged files there were, where the first was not the only one."""
    if _REPORT.damaged > 1:
        _REPORT.say(f"{_REPORT.damaged} damaged files in all, compiled again")


def can_keep() -> bool:
    """Whether machine code can be written now; what hinders it is said."""
    folder = cache_root() / "kernels"
    try:
        _write(folder / "probe", bytes(PROBE_BYTES))
        (folder / "probe").unlink(missing_ok=True)
    except OSError as error:
        _REPORT.met_unusable(folder, error)
        return False
    return True


class KernelCache(caching._Cache):
    """What numba asks for a kernel's machine code, and gives it to; one per kernel."""

    def __init__(self, kernel: Callable[..., Any], path: str) -> None:
        """``path``: the absolute path of the kernel's source file."""
        self._kernel = kernel
        self._source = SOURCES.name(path)
        name = re.sub(r"[^\w.]", "", kernel.__qualname__)[-100:]
        self._prefix = f"{name}-{kernel.__code__.co_firstlineno}-"
        self._enabled = True

    @cached_property
    def _folder(self) -> Path:
        return cache_root() / "kernels" / self._source.removesuffix(".py").lstrip("/") / SOURCES.key(self._source)

    @property
    def cache_path(self) -> str:
        return str(self._folder)

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        """Forgets the code of this kernel."""
        for path in self._folder.glob(f"{self._prefix}*.code"):
            with contextlib.suppress(OSError):
                path.unlink()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for these argument types; None = not there, or not usable.

        Numba's own cache refreshes the context before, which loads what lowers all that numba can compile: a fifth of a
        second and 14 MB in each process. Machine code that is there needs the addresses of numba's runtime alone; who
        compiles refreshes by itself.
        """
        rtsys.initialize(target_context)
        key = self._key(sig, target_context.codegen())
        if not self._enabled or key is None:
            return None
        path = self._path(key)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _REPORT.met_unusable(self._folder, error)
            return None
        start = len(MAGIC) + DIGEST_BYTES
        if raw[:start] == MAGIC + _digest(raw[start:]):
            with contextlib.suppress(*UNUSABLE):
                stored, reduced = pickle.loads(memoryview(raw)[start:])
                _REPORT.loaded(self._kernel_name())
                # another key under the same hash: overwritten in a moment
                return compiler.CompileResult._rebuild(target_context, *reduced) if stored == key else None
        _REPORT.met_damaged(path)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps a compiled function, where it can be found again and be right then."""
        _REPORT.compiled(self._kernel_name())
        key = self._key(sig, data.codegen)
        why = "it is given other kernels as arguments or by its closure" if key is None else self._why_not(data)
        if not self._enabled or why == _CHANGED:
            return
        if why:
            kernel = f"{self._source}: {self._kernel.__qualname__}"
            warnings.warn(f"{kernel} is compiled at every start: {why}", stacklevel=2)
            return
        payload = dumps((key, data._reduce()))
        try:
            _write(self._path(key), MAGIC + _digest(payload) + payload)
        except OSError as error:
            _REPORT.met_unusable(self._folder, error)

    def _kernel_name(self) -> str:
        return f"{self._kernel.__qualname__} of {self._source}"

    def _why_not(self, compiled: Any) -> str:
        """Why a compiled function must not be kept; "" = it may be."""
        if any(not loop.can_cache for loop in compiled.lifted):
            return "it has loops that numba compiles apart"
        if compiled.library.has_dynamic_globals:
            return "it holds addresses of this process"
        seen = SOURCES.closure(self._source)
        strangers = sorted({SOURCES.name(os.path.realpath(path)) for path in jitlink.files_of(compiled.library)} - seen)
        if strangers:
            return f"it calls functions of files that its own does not import: {', '.join(strangers)}"
        return _CHANGED if SOURCES.changed(self._source) else ""

    def _key(self, sig: Any, codegen: Any) -> Any:
        """Types, CPU, byte code, closure; None = it is given other kernels, which have no lasting name."""
        cells = tuple(cell.cell_contents for cell in self._kernel.__closure__ or ())
        if _ADDRESS.search(repr(sig)) or any(hasattr(cell, "py_func") for cell in cells):
            return None
        code = hashlib.sha256(self._kernel.__code__.co_code).hexdigest()
        return sig, codegen.magic_tuple(), (code, hashlib.sha256(dumps(cells) if cells else b"").hexdigest())

    def _path(self, key: Any) -> Path:
        return self._folder / f"{self._prefix}{hashlib.blake2b(repr(key).encode(), digest_size=8).hexdigest()}.code"


_CHANGED = "a source file was written after this process began"


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=DIGEST_BYTES).digest()


def _write(path: Path, content: bytes) -> None:
    """All of ``content`` or nothing; several processes may do it at once. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
