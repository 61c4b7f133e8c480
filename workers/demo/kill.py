"""SIGKILL of a process of a running demo at the worst moment.

For the executor that moment is: one leg filled, the other in flight. A fault rule of the simulated venue delays one
order by ``IN_FLIGHT_MS``; when the journal shows a fill of the other leg and no state of the delayed order, the process
is killed. Nothing inside the engine takes part.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pipeline.execution.journal import JournalReader
from pipeline.execution.records import FillRecord, OrderIntentRecord, OrderStateRecord, Purpose
from pipeline.model.errors import BadInput
from workers.control_plane.launch import Launched
from workers.demo.simulator import SimulatorProcess

KILLABLE = ("feed", "detector", "executor")
IN_FLIGHT_MS = 2600.0  # longer than a restart with its sweep: the filled leg is repaired before the other arrives
SETTLED_AFTER_S = 0.1  # an order that was not delayed is answered by then
LOOK_AFTER_S = 0.25  # two looks at a rule that has hit: the leg that it delayed would be known by then
REARM_AFTER_S = 2.0  # sooner, repairs of what was delayed would be too: the fifth fault in a row stops the venue
GIVE_UP_S = 15.0
POLL_S = 0.001


def check_killable(process: str) -> None:
    """Raises BadInput for a process that a demo does not kill."""
    if process and process.partition(".")[0] not in KILLABLE:
        raise BadInput(f"--kill: found {process!r}, wanted one of {', '.join(KILLABLE)}; see `arb demo --help`")


class HalfDone:
    """Follows the journal for an operation with one leg filled and another that has no answer yet."""

    def __init__(self, journal_dir: Path) -> None:
        self._reader = JournalReader(journal_dir)
        self._legs: dict[str, dict[str, OrderIntentRecord]] = {}  # operation -> its entry orders
        self._filled: set[str] = set()
        self._ended: set[str] = set()

    def poll(self) -> None:
        """Take the journal's new records."""
        for entry in self._reader.poll():
            record = entry.record
            if isinstance(record, OrderIntentRecord) and record.purpose is Purpose.ENTRY:
                self._legs.setdefault(record.operation_id, {})[record.client_id] = record
            elif isinstance(record, FillRecord):
                self._filled.add(record.client_id)
            elif isinstance(record, OrderStateRecord) and record.state.is_terminal:
                self._ended.add(record.client_id)

    def find(self, venue: str) -> tuple[OrderIntentRecord, OrderIntentRecord] | None:
        """(filled leg, leg in flight to ``venue``) of the newest such operation."""
        for legs in reversed(self._legs.values()):
            filled = [leg for name, leg in legs.items() if name in self._filled]
            flying = [leg for name, leg in legs.items() if name not in self._filled and name not in self._ended]
            if filled and flying and flying[0].venue == venue:
                return filled[0], flying[0]
        return None

    def close(self) -> None:
        """Close the journal."""
        self._reader.close()


def await_half_done(
    engine: Launched, simulator: SimulatorProcess, venue: str, goes_on: Callable[[], bool]
) -> tuple[OrderIntentRecord, OrderIntentRecord] | None:
    """Delays orders at ``venue``, one at a time, until an operation has one leg filled and the delayed one in flight.

    Every order is in flight for a moment; a leg counts when it still has no answer ``SETTLED_AFTER_S`` later. Returns
    (filled leg, leg in flight); None where ``goes_on`` said False first.
    """
    watch = HalfDone(engine.state_dir / "journal")
    rule = msgspec.json.encode(
        {"kind": "delay_request", "venue": venue, "target": "place", "count": 1, "delay_ms": IN_FLIGHT_MS}
    )
    rule_id, has_hit, look_at, arm_at = 0, True, 0.0, 0.0
    seen, seen_at = None, 0.0
    try:
        watch.poll()
        while goes_on():
            if time.monotonic() >= look_at and seen is None:
                look_at, had_hit = time.monotonic() + LOOK_AFTER_S, has_hit
                has_hit = all(row["rule_id"] != rule_id for row in simulator.control("/faults")["armed"])
                # What was delayed was an exit, a repair, or a leg whose other one got nothing.
                if has_hit and had_hit and time.monotonic() >= arm_at:
                    (rule_id,) = simulator.control("/faults", rule)["ids"]
                    has_hit, arm_at = False, time.monotonic() + REARM_AFTER_S
            watch.poll()
            found = watch.find(venue)
            if found != seen:
                seen, seen_at = found, time.monotonic()
            elif found is not None and time.monotonic() - seen_at >= SETTLED_AFTER_S:
                return found
            time.sleep(POLL_S)
    finally:
        watch.close()
    return None


def kill_executor(
    engine: Launched, simulator: SimulatorProcess, venue: str, goes_on: Callable[[], bool]
) -> dict[str, Any]:
    """SIGKILL the executor with one leg filled and the other in flight; in any state where that does not come in 15 s.

    ``goes_on``: False ends the wait. Returns what was killed, for the summary.
    """
    give_up = time.monotonic() + GIVE_UP_S
    found = await_half_done(engine, simulator, venue, lambda: goes_on() and time.monotonic() < give_up)
    pid = engine.kill("executor")
    if found is None:
        return {"at": "no operation with one leg filled came; killed in any state", "pid": pid}
    return {"at": "one leg filled, the other in flight", "pid": pid, **_legs(*found)}


def _legs(filled: OrderIntentRecord, flying: OrderIntentRecord) -> dict[str, Any]:
    def text(leg: OrderIntentRecord) -> str:
        return f"{leg.side.name.lower()} {leg.qty} {leg.venue} {leg.symbol}"

    return {"operation_id": filled.operation_id, "filled_leg": text(filled), "leg_in_flight": text(flying)}
