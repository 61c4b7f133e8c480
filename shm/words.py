"""The one array type of shared memory, fixed-width text in it, and pages of memory mapped as such arrays."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref

import numpy as np
import numpy.typing as npt

from shm.declare import padded, unpadded
from shm.errors import ShmError

Words = npt.NDArray[np.int64]
"""A segment or a part of it: C-contiguous ``int64``, shape (n,), little-endian."""

Octets = npt.NDArray[np.uint8]

_WORD_BYTES = 8
MAP_FIXED = 0x10
MAP_NORESERVE = 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value
_PAGE_WORDS = mmap.PAGESIZE // _WORD_BYTES

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def pack_text(text: str, width_words: int) -> Words:
    """UTF-8, zero padded, as int64 of shape (width_words,); cut at the last whole character that fits."""
    return np.frombuffer(padded(text, width_words), dtype="<i8").astype(np.int64)


def unpack_text(words: Words) -> str:
    """Inverse of :func:`pack_text`; bytes that are no UTF-8 become replacement characters."""
    return unpadded(words.astype("<i8").tobytes())


class Mapping:
    """Owns one mapping; unmapped when the last array that looks at it is gone."""

    def __init__(self, address: int, size_bytes: int) -> None:
        self.address = address
        # numpy keeps this object as the array's base. The array says "writable" also where the pages are not: the MMU
        # guards them (a store is SIGSEGV), and numba would compile every kernel twice for numpy's read-only flag.
        self.__array_interface__ = {
            "shape": (size_bytes // _WORD_BYTES,),
            "typestr": "<i8",
            "data": (address, False),
            "version": 3,
        }
        weakref.finalize(self, _libc.munmap, address, size_bytes).atexit = False

    def array(self) -> Words:
        """The whole mapping as words, shape (size_bytes // 8,)."""
        return np.asarray(self)


def map_pages(address: int | None, size_bytes: int, writable: bool, flags: int, fd: int) -> int:
    """mmap of ``size_bytes`` of ``fd`` (-1 with MAP_ANONYMOUS); the address. ``address`` None: the kernel chooses it.
    Raises ShmError."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    found = _libc.mmap(address, size_bytes, protection, flags, fd, 0)
    if found is None or found == _MAP_FAILED:
        code = ctypes.get_errno()
        raise ShmError(f"mmap of {size_bytes} bytes failed: {os.strerror(code)}")
    return int(found)


def pages_bytes(size_words: int) -> int:
    """Bytes of the whole pages that hold ``size_words`` words."""
    return -(-size_words // _PAGE_WORDS) * mmap.PAGESIZE
