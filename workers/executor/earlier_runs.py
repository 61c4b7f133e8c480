"""What earlier runs left to a starting executor: the journal with its newest checkpoint, breakers, the host's boot."""

from __future__ import annotations

import select
from pathlib import Path

from pipeline.execution.core_context import CoreContext
from pipeline.execution.journal import Journal, JournalReader
from pipeline.execution.ledger import Ledger
from pipeline.execution.settled.checkpoint import Recovered, newest_checkpoint
from pipeline.model.config import EngineConfig
from pipeline.model.errors import ConfigInvalid, JournalError
from pipeline.recovery.holds import KEPT
from workers.base import WorkerContext
from workers.halt_file import read_halt
from workers.last_run.journal_mode import mode_problem
from workers.state_folder import room_problem

ROOM_LOOK_S = 1.0
ROOM_EXTEND_US = 10_000_000
READ_AHEAD = 1000  # records between two looks at the fence: some ms
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class JournalOfBefore:
    """The executor's journal at a start. While the guard stands in for the executor it may be read already, which takes
    seconds where it is old: only executors write it, and the one before is dead, as its page was ours to take. It is
    opened, which mends its end, and the guard's records are appended, only once the fence has gone.
    """

    def __init__(self, ctx: WorkerContext) -> None:
        self._ctx = ctx
        self._found: Recovered | None = None
        self._reader: JournalReader | None = None

    def _begun(self) -> Recovered:
        """The newest checkpoint, once."""
        if self._found is None:
            self._found = newest_checkpoint(self._ctx.journal_dir())
            for problem in self._found.problems:
                self._ctx.say("warning", problem)
        return self._found

    def read_ahead(self) -> bool:
        """Folds the next records; whether there may be more. What is wrong with the journal, :meth:`open` says."""
        try:
            found = self._begun()
            if self._reader is None:
                self._reader = JournalReader(self._ctx.journal_dir(), found.position)
            entries = self._reader.poll(READ_AHEAD)
        except (JournalError, OSError):
            self._reader = None  # it has gone on beyond what was folded
            return False
        for entry in entries:
            found.fold(entry)
        found.position = self._reader.position
        return bool(entries)

    def open(self) -> tuple[Journal, Ledger]:
        """The journal, to be written on, and the ledger of everything in it. Raises JournalError."""
        found = self._begun()
        if self._reader is not None:
            self._reader.close()
        journal = Journal.open(
            self._ctx.journal_dir(),
            segment_bytes=self._ctx.config.execution.journal_segment_bytes,
            durability=self._ctx.config.execution.durability,
            start=found.position,
            each=found.fold,
        )
        return journal, found.ledger


def wait_for_room(ctx: WorkerContext) -> bool:
    """Before the journal is opened: without room for it each start would fail, until nobody tries again. It waits, and
    says so once. False when a stop is asked meanwhile."""
    said = False
    while not ctx.stop_requested():
        problem = room_problem(ctx.state_dir, ctx.config.execution.journal_segment_bytes)
        if not problem:
            return True
        if not said:
            said = True
            ctx.say("error", f"{problem}; waits for room, and then begins by itself")
        ctx.wait_longer(ROOM_EXTEND_US, problem)
        ctx.progress()
        select.select([ctx.stop_fd], [], [], ROOM_LOOK_S)
    return False


def check_mode_of_journal(ledger: Ledger, config: EngineConfig, instance: str) -> None:
    """Check that the journal is of this mode: balances, positions and hedges of simulated fills are not those of an
    account. Raises ConfigInvalid."""
    problem = mode_problem(ledger.mode, config.mode, instance)
    if problem:
        raise ConfigInvalid([problem])


def check_traded(ledger: Ledger, config: EngineConfig) -> None:
    """Check that nothing of earlier runs is open where this configuration sends no orders: ``trade: false``, an
    exchange that is not enabled, a venue that it does not have. Raises ConfigInvalid."""
    exchanges = {venue.name: venue.exchange for venue in config.venues}
    found = {order.intent.venue for order in ledger.unsettled.values()}
    found |= {leg.venue for operation in ledger.open_operations.values() for leg in operation.record.legs}
    found |= {venue for hedge in ledger.hedges.values() for venue in (hedge.spot_venue, hedge.futures_venue)}
    errors = []
    for venue in sorted(found - {venue.name for venue in config.trading_venues}):
        left = f"and earlier runs left orders, operations or hedges open at {venue}"
        solve = (
            "until they are closed: `arb hedges`, `arb close --all`; `arb recoveries` lists what waits and what "
            "you have taken over, and `arb recoveries --approve ID` hands it back"
        )
        if venue in exchanges:
            errors.append(f"exchanges.{exchanges[venue]}.trade: found false, {left}; wanted true {solve}")
        else:
            errors.append(f"exchanges: found no {venue} that is enabled, {left}; wanted it {solve}")
    if errors:
        raise ConfigInvalid(errors)


def keep_breakers(state_dir: Path, context: CoreContext) -> None:
    """A journal that begins anew does not forget the breakers that the one before had passed on to the guard."""
    for breaker in read_halt(state_dir).breakers:
        context.trip(breaker.name, f"{KEPT}{breaker.reason}"[:200])


def host_boot_id() -> str:
    """What the kernel calls this boot of the host; "" where it does not say."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
