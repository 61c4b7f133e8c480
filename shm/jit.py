"""The one import of numba: fixes the cache folder by the hash of everything that kernels are made of.

Numba's file cache is stale across files: a changed callee in another file keeps the old machine code. So the
cache folder is named by a hash over every source that a kernel may inline from (all of ``shm/``, and each file of
``pipeline/`` that mentions ``shm.jit`` or is ``pipeline/model/enums.py``), the versions of numba, llvmlite and
numpy, and the CPU's name. It is set before numba is imported; import ``njit`` only from here. Where the sources lie and
when they were written does not matter (``shm.jitcache``): a second checkout starts warm.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar, cast, overload

F = TypeVar("F", bound=Callable[..., Any])

ROOT = Path(__file__).resolve().parent.parent


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as handle:
            for line in handle:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "unknown"


def _versions() -> str:
    parts = [f"{name}={metadata.version(name)}" for name in ("numba", "llvmlite", "numpy")]
    return " ".join([*parts, sys.version.split()[0], _cpu_name()])


def _hash(paths: list[Path]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(paths):
        digest.update(str(path.relative_to(ROOT)).encode())
        digest.update(path.read_bytes())
    digest.update(_versions().encode())
    return digest.hexdigest()


def kernel_hash() -> str:
    """Hash that names the jit cache: the sources that kernels can inline from, versions, CPU."""
    paths = list((ROOT / "shm").glob("*.py"))
    for path in (ROOT / "pipeline").rglob("*.py"):
        if path.match("pipeline/model/enums.py") or b"shm.jit" in path.read_bytes():
            paths.append(path)
    return _hash(paths)


def build_hash() -> int:
    """Hash of the whole build as a signed 64-bit integer; goes into every segment (a mixed build is refused)."""
    paths = [*(ROOT / "shm").glob("*.py"), *(ROOT / "pipeline").rglob("*.py")]
    return int.from_bytes(bytes.fromhex(_hash(paths)), "little", signed=True)


def cache_root() -> Path:
    """Folder of jit caches: ``ARB_CACHE_DIR``, else ``XDG_CACHE_HOME``/arb, else ~/.cache/arb."""
    base = os.environ.get("ARB_CACHE_DIR")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arb"


if "numba" not in sys.modules:
    os.environ["NUMBA_CACHE_DIR"] = str(cache_root() / kernel_hash())

from numba import njit as _njit  # noqa: E402  (must follow the cache folder)
from numba import typeof as _typeof  # noqa: E402
from numba.core import config as _config  # noqa: E402

from shm import jitlink  # noqa: E402

# ours first; then numba's own, for functions outside of this tree
LOCATORS = "shm.jitcache.ContentLocator,UserProvidedCacheLocator,InTreeCacheLocator,UserWideCacheLocator"
cast("Any", _config).CACHE_LOCATOR_CLASSES = LOCATORS


def njit(*args: Any, **options: Any) -> Any:
    """``numba.njit`` with our defaults: cached on disk, releases the GIL, no fast-math, no exceptions for division."""
    options.setdefault("cache", True)
    options.setdefault("nogil", True)
    options.setdefault("error_model", "numpy")
    options.setdefault("no_cfunc_wrapper", True)  # nobody takes a kernel's C address: one compilation less of each
    if args and callable(args[0]):
        return _linked(_njit(*args, **options))
    decorate = _njit(*args, **options)
    return lambda function: _linked(decorate(function))


@overload
def njit_bare(function: F, /) -> F: ...
@overload
def njit_bare(*, forceinline: bool) -> Callable[[F], F]: ...
def njit_bare(*args: object, **options: object) -> object:
    """:func:`njit` without reference counting, for kernels that allocate nothing and return no array.

    Numba counts references to an array argument in every function that takes it, and each count is an atomic
    instruction that the optimiser often cannot remove.
    """
    return njit(*args, _nrt=False, **options)


def direct(dispatcher: F, *example: object) -> F:
    """The compiled function behind a kernel for arguments of the types of ``example``, called without numba's look at
    each argument's type (a hundred nanoseconds and more per call).

    The caller owes it exactly those types from then on. Where there is nothing behind the kernel (jit disabled), it is
    the kernel itself.
    """
    if not hasattr(dispatcher, "compile"):
        return dispatcher
    typeof: Callable[[object], Any] = _typeof
    signature = tuple(typeof(value) for value in example)
    dispatcher.compile(signature)
    return cast(F, dispatcher.overloads[signature].entry_point)  # type: ignore[attr-defined]


def _linked(dispatcher: Any) -> Any:
    """A jitted function whose jitted callers take it into their own compilation (:mod:`shm.jitlink`)."""
    if jitlink.SUPPORTED and hasattr(dispatcher, "get_call_template"):  # without: jit is disabled, a plain function
        return jitlink.call_as_part(dispatcher)
    return dispatcher


JIT_DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
if jitlink.SUPPORTED and not JIT_DISABLED:
    jitlink.install()
