"""A host that has nothing left, by the kernel's own limits: no byte on any disk, no descriptor. No root needed.

With a file-size limit of 0 every write and every preallocation fails as on a full disk (with EFBIG for ENOSPC; the code
under test sees an ``OSError`` of the same calls); shared memory that is mapped already goes on.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def limited(kind: int, soft: int, *pids: int) -> Iterator[None]:
    """The soft limit ``kind`` of these processes (none: this one) is ``soft`` meanwhile."""
    processes = pids or (0,)
    before = {pid: resource.prlimit(pid, kind) for pid in processes}
    try:
        for pid, (_, hard) in before.items():
            resource.prlimit(pid, kind, (soft, hard))
        yield
    finally:
        for pid, limits in before.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, kind, limits)


def full_disk(*pids: int) -> contextlib.AbstractContextManager[None]:
    """No disk takes a byte of these processes (none: this one)."""
    return limited(resource.RLIMIT_FSIZE, 0, *pids)


def no_descriptors(pid: int = 0) -> contextlib.AbstractContextManager[None]:
    """Whatever process ``pid`` (0: this one) opens fails with EMFILE; what it has open stays."""
    return limited(resource.RLIMIT_NOFILE, _lowest_free(pid), *([pid] if pid else []))


def _lowest_free(pid: int) -> int:
    if not pid:
        free = os.dup(0)
        os.close(free)
        return free
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in range(len(used) + 1) if number not in used)
