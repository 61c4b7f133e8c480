"""Compiles a floor of ``bench/floors`` with the host's C compiler, once per source, compiler and CPU."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from bench.settings import BenchFailed
from shm.sources import cache_root
from shm.words import Words

FLAGS = ("-O3", "-march=native", "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC")
_FOLDER = Path(__file__).resolve().parent / "floors"
I64 = ctypes.c_int64
PTR = ctypes.c_void_p


@cache
def compiler() -> tuple[str, str] | None:
    """(path, first line of its version), or None: then there are no floors."""
    for name in (os.environ.get("CC") or "cc", "gcc", "clang"):
        path = shutil.which(name)
        if path is not None:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            return path, said.stdout.partition("\n")[0]
    return None


@cache
def cpu_flags() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


@cache
def load(name: str) -> ctypes.CDLL | None:
    """The floor ``name`` as a library; None without a compiler. Raises ``BenchFailed`` when it does not compile."""
    found = compiler()
    if found is None:
        return None
    path, version = found
    source = _FOLDER / f"{name}.c"
    texts = [source.read_bytes(), *(header.read_bytes() for header in sorted(_FOLDER.glob("*.h")))]
    digest = hashlib.blake2b("\0".join([version, *FLAGS, cpu_flags()]).encode(), digest_size=8)
    for text in texts:
        digest.update(text)
    folder = cache_root() / "floors"
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / f"{name}-{digest.hexdigest()}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / library.name
            run = subprocess.run(
                [path, *FLAGS, "-o", str(made), str(source)], capture_output=True, text=True, check=False
            )
            if run.returncode:
                raise BenchFailed(f"floor does not compile: {source.name}: {run.stderr.strip()}")
            made.rename(library)
    return ctypes.CDLL(str(library))


def address(array: Words | np.ndarray) -> int:
    """Address of an array's first byte, for a C argument."""
    return int(array.ctypes.data)
