"""What earlier runs left to a starting executor: the journal with its newest checkpoint, breakers, the host's boot."""

from __future__ import annotations

from pathlib import Path

from pipeline.execution.core_context import CoreContext
from pipeline.execution.journal import Journal
from pipeline.execution.ledger import Ledger
from pipeline.execution.settled.checkpoint import newest_checkpoint
from workers.base import WorkerContext
from workers.halt_file import read_halt

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def open_journal(ctx: WorkerContext) -> tuple[Journal, Ledger]:
    """The journal, to be written on, and the ledger of everything in it. Raises JournalError."""
    before = newest_checkpoint(ctx.journal_dir())
    for problem in before.problems:
        ctx.say("warning", problem)
    journal = Journal.open(
        ctx.journal_dir(),
        segment_bytes=ctx.config.execution.journal_segment_bytes,
        durability=ctx.config.execution.durability,
        start=before.position,
        each=before.fold,
    )
    return journal, before.ledger


def keep_breakers(state_dir: Path, context: CoreContext) -> None:
    """A journal that begins anew does not forget the breakers that the one before had passed on to the guard."""
    for breaker in read_halt(state_dir).breakers:
        context.trip(breaker.name, f"kept over a lost journal: {breaker.reason}"[:200])


def host_boot_id() -> str:
    """What the kernel calls this boot of the host; "" where it does not say."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
