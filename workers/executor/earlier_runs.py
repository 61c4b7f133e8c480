"""What earlier runs left to a starting executor: the journal with its newest checkpoint, breakers, the host's boot."""

from __future__ import annotations

from pathlib import Path

from pipeline.execution.core_context import CoreContext
from pipeline.execution.journal import Journal
from pipeline.execution.ledger import Ledger
from pipeline.execution.settled.checkpoint import newest_checkpoint
from pipeline.model.config import EngineConfig
from pipeline.model.errors import ConfigInvalid
from pipeline.recovery.holds import KEPT
from workers.base import WorkerContext
from workers.halt_file import read_halt
from workers.last_run.journal_mode import mode_problem

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
