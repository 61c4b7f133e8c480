"""The halt where no guard answers: any process of the instance's user (or root) latches the page itself.

The one store into a segment by another process than its owner: the latch only ever gets tighter by it, and the
guard makes it its own (``unsaved``) as soon as it runs. Loads neither numba nor numpy: a command uses it that must not
wait.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from shm.declare import padded
from shm.errors import SegmentMismatch, SegmentMissing
from shm.layout import HEADER, MAGIC, WORD_BYTES
from shm.layout_pages import HALT, HALT_REASON_WORDS
from shm.schema import schema_hash

SHM_FOLDER = Path("/dev/shm")


def latch_page(instance: str, reason: str) -> None:
    """Latch the halt page of ``instance``; in force at once, whatever hangs. ``reason``: at most 256 bytes are kept.

    Raises SegmentMissing where there is no page, SegmentMismatch where it is not ours or of another build.
    """
    with _page(instance) as words:
        # Aligned words, stored whole and in this order (x86); the reason is for people.
        words[HALT.latch] = 1  # SYNC halt.latch: release; pairs with may_send
        for number, word in enumerate(memoryview(padded(reason, HALT_REASON_WORDS)).cast("q")):
            words[HALT.reason + number] = word
        words[HALT.unsaved] = 1  # SYNC halt.unsaved: release; pairs with HaltPage.unsaved
        words[HALT.latch] = 1  # a guard that had looked for the mark before has released it meanwhile


def forget_unsaved(instance: str) -> None:
    """After a resume without a guard: the next one does not take over what stands on the page. Raises as above."""
    with _page(instance) as words:
        words[HALT.unsaved] = 0


@contextlib.contextmanager
def _page(instance: str) -> Iterator[memoryview[int]]:
    path = SHM_FOLDER / f"arb.{instance}.halt"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SegmentMissing(f"no segment {path}: has the instance ever started?") from None
    except OSError as error:
        raise SegmentMismatch(f"segment {path} is not ours to open: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        ours = os.geteuid() in (0, found.st_uid)
        if not ours or not stat.S_ISREG(found.st_mode) or found.st_size != HALT.END * WORD_BYTES:
            raise SegmentMismatch(f"segment {path} refused: uid {found.st_uid}, {found.st_size} bytes is no halt page")
        mapped = mmap.mmap(descriptor, found.st_size)
    except OSError as error:
        raise SegmentMismatch(f"segment {path} cannot be mapped: {error.strerror}") from None
    finally:
        os.close(descriptor)
    with mapped, memoryview(mapped) as octets, octets.cast("q") as words:
        wanted = {HEADER.magic: MAGIC, HEADER.kind: HALT.KIND, HEADER.schema_hash: schema_hash(), HEADER.ready: 1}
        if any(words[offset] != value for offset, value in wanted.items()):
            raise SegmentMismatch(f"segment {path} is of another build, or its guard has not made it yet")
        yield words
