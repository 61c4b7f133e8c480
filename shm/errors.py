"""Root of the engine's errors, and the errors of shared memory and of compilation.

::

    ArbitrageEngineError         root of everything that this engine raises on purpose
    +-- UnsupportedNumba         numba is of a version whose private parts may be other ones
    +-- ShmError                 shared memory
        +-- SegmentMismatch      wrong layout, schema, build, kind, owner, mode or size: refused, nothing mapped
        +-- SegmentBusy          a live owner holds it
        +-- SegmentMissing       nobody has created it (or it is being created: not READY)
        +-- ShmFull              no room in the shared-memory file system

They live here because ``shm`` is the lowest package; ``pipeline.model.errors`` re-exports them in its tree.
"""

from __future__ import annotations


class ArbitrageEngineError(Exception):
    """Root of everything that this engine raises on purpose."""

    def __init__(self, message: str, *, code: int = 0, api_code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.api_code = api_code


class UnsupportedNumba(ArbitrageEngineError):
    """This numba is not one of those that the kernels were compiled and tested with."""


class ShmError(ArbitrageEngineError):
    """Shared memory could not be created, attached or read."""


class SegmentMismatch(ShmError):
    """A segment is not what the name promises; never mapped for use."""


class SegmentBusy(ShmError):
    """A live process holds the segment's owner lock."""


class SegmentMissing(ShmError):
    """No segment of that name, or its owner has not marked it READY yet."""


class ShmFull(ShmError):
    """The shared-memory file system has no room for the segment."""
