"""What a run of the benches is asked to do."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent


class BenchFailed(Exception):
    """A result is wrong, or a measurement could not be made as asked; the text says which."""


class BadFile(Exception):
    """A file that was named is not what it should be; the text says which, and what makes one."""


class BenchSkipped(Exception):
    """Something that the bench needs is not on this host; the text says what."""


def captures_path() -> Path:
    """Folder of recorded market data: ``ARB_CAPTURES``, else ``shared/captures`` beside the checkout."""
    return Path(os.environ.get("ARB_CAPTURES") or REPO.parent / "shared" / "captures")


@dataclass(frozen=True, slots=True)
class Settings:
    """``size``: 0 tiny (tests), 1 quick, 2 full. ``cpus``: the two CPUs of the hop; empty = the first two allowed.

    ``peers``: what is installed and does the same, measured in the same rounds. ``gc_on``: the garbage collector runs
    where the executor has it off.
    """

    size: int = 2
    rounds: int = 7
    captures: Path = field(default_factory=captures_path)
    cpus: tuple[int, ...] = ()
    peers: bool = False
    gc_on: bool = False

    def pick(self, tiny: int, quick: int, full: int) -> int:
        """The count for this size."""
        return (tiny, quick, full)[self.size]
