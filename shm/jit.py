"""The one import of numba: its version is checked here, and ``njit`` gives every kernel the engine's own way of
linking (:mod:`shm.jitlink`) and of keeping machine code on disk (:mod:`shm.jitcache`). Import ``njit`` only from here.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any, TypeVar, cast, overload

from shm.errors import UnsupportedNumba

F = TypeVar("F", bound=Callable[..., Any])

NUMBA_FROM, NUMBA_BELOW = (0, 65), (0, 69)  # pyproject.toml says the same


def _check_numba() -> None:
    """Before the import: another version may fail in it, or later and silently."""
    try:
        found = metadata.version("numba")
    except metadata.PackageNotFoundError:
        found = "none"
    numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
    if not NUMBA_FROM <= numbers < NUMBA_BELOW:
        wanted = f"numba>={'.'.join(map(str, NUMBA_FROM))},<{'.'.join(map(str, NUMBA_BELOW))}"
        raise UnsupportedNumba(
            f"numba: found {found}, wanted {wanted} (private parts of it are used). "
            f"Install it: {sys.executable} -m pip install '{wanted}'"
        )


_check_numba()

from numba import njit as _njit  # noqa: E402  (must follow the check)
from numba import typeof as _typeof  # noqa: E402

from shm import jitlink  # noqa: E402
from shm.jitcache import KernelCache  # noqa: E402

JIT_DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def njit(*args: Any, **options: Any) -> Any:
    """``numba.njit`` with our defaults: cached on disk, releases the GIL, no fast-math, no exceptions for division."""
    cached = options.pop("cache", True)
    options.setdefault("nogil", True)
    options.setdefault("error_model", "numpy")
    options.setdefault("no_cfunc_wrapper", True)  # nobody takes a kernel's C address: one compilation less of each
    if args and callable(args[0]):
        return _ours(_njit(*args, **options), cached)
    decorate = _njit(*args, **options)
    return lambda function: _ours(decorate(function), cached)


@overload
def njit_bare(function: F, /) -> F: ...
@overload
def njit_bare(*, forceinline: bool = ..., nogil: bool = ...) -> Callable[[F], F]: ...
def njit_bare(*args: object, **options: object) -> object:
    """:func:`njit` without reference counting, for kernels that allocate nothing and return no array.

    Numba counts references to an array argument in every function that takes it, and each count is an atomic
    instruction that the optimiser often cannot remove.
    """
    return njit(*args, _nrt=False, **options)


def direct(dispatcher: F, *example: object) -> F:
    """The compiled function behind a kernel for arguments of the types of ``example``, called without numba's look at
    each argument's type (a hundred nanoseconds and more per call).

    From then on the caller must pass exactly those types. Where there is nothing behind the kernel (jit disabled), it
    is the kernel itself.
    """
    if not hasattr(dispatcher, "compile"):
        return dispatcher
    typeof: Callable[[object], Any] = _typeof
    signature = tuple(typeof(value) for value in example)
    dispatcher.compile(signature)
    return cast(F, dispatcher.overloads[signature].entry_point)  # type: ignore[attr-defined]


def _ours(dispatcher: Any, cached: bool) -> Any:
    """A jitted function with our cache, whose jitted callers take it into their own compilation."""
    if not hasattr(dispatcher, "get_call_template"):  # jit is disabled: a plain function
        return dispatcher
    path = dispatcher.py_func.__code__.co_filename
    if cached and os.path.isfile(path):
        dispatcher._cache = KernelCache(dispatcher.py_func, os.path.realpath(path))
    return jitlink.call_as_part(dispatcher)


if not JIT_DISABLED:
    jitlink.install()
