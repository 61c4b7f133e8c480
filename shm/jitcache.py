"""Where numba keeps a kernel's machine code: by the content that made it, not by where and when the file was written.

Numba's own locators name the folder by the source's path and discard what another modification time made, so that a
second checkout, or the same one cloned anew, compiles everything again. Our folder's name is a hash over every source
that a kernel may inline from (``shm.jit``): path and time say nothing more. Named to numba by
``NUMBA_CACHE_LOCATOR_CLASSES``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core import config as _config
from numba.core.caching import UserProvidedCacheLocator

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("shm", "pipeline")

config: Any = _config  # its names are made at import


class ContentLocator(UserProvidedCacheLocator):
    """Locator of functions in ``shm/`` and ``pipeline/``; every other function is somebody else's."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        self._lineno = py_func.__code__.co_firstlineno
        self._cache_path = os.path.join(config.CACHE_DIR, Path(py_file).resolve().relative_to(ROOT).parent)

    def get_source_stamp(self) -> str:
        """The same for ever: another content lies in another folder."""
        return Path(config.CACHE_DIR).name

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> ContentLocator | None:
        """None = not ours, or no folder by content."""
        path = Path(py_file).resolve()
        if not config.CACHE_DIR or not any(path.is_relative_to(ROOT / room) for room in ROOMS):
            return None
        locator = cls(py_func, py_file)
        try:
            os.makedirs(locator._cache_path, exist_ok=True)
        except OSError:
            return None
        return locator if os.access(locator._cache_path, os.W_OK) else None
