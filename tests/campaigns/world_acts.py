"""What venues and others do to the account of a running instance, heard by its streams and not: the part ``world`` of
``tests.campaigns.recovery``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pipeline.execution.records import HedgeRecord, OrderIntentRecord
from pipeline.sim.scenarios.specs import load_scenario
from tests.campaigns.outlives.cases import well_again
from tests.worlds.instance_rig import Rig
from tests.worlds.judging.world_acts import Act, acts, left_ms, noticed, taken
from tests.worlds.waiting import until
from workers.last_run.half_done import replayed

FUTURES = "gateio_futures"
VENUES = ("mexc_spot", "gateio_spot", FUTURES)
MONEY = 50  # USDT that comes or goes at once; margin and stock for further rounds stay


@dataclass(slots=True)
class Timed:
    """From the venue's stamp of an act: ``noticed_ms`` to its record, ``left_ms`` to the last fill of what it hurt."""

    noticed_ms: list[float] = field(default_factory=list)
    left_ms: list[float] = field(default_factory=list)


def act_upon(rig: Rig) -> Timed:
    """Each act once while the account's streams tell of it, and once while they are silent."""
    timed = Timed()
    for heard in (True, False):
        for name in RULES:
            try:
                act(rig, name, timed, heard=heard)
            finally:
                rig.simulator.clear_faults()
            well_again(rig)
    return timed


def act(rig: Rig, name: str, timed: Timed, *, heard: bool) -> None:
    """One act, once there is a hedge for it; waits until it is booked and what it took a leg of has ended."""
    happened: dict[Act, int] = {}
    while not happened:
        hedge = _held(rig)
        if not heard:
            for venue in VENUES:
                rig.fault(kind="drop_event", venue=venue, target="private", count=0)
        began_ns = time.monotonic_ns()
        rig.fault(**RULES[name](hedge))
        ledger = rig.ledger()
        ours = {e.record.client_id for e in rig.entries() if isinstance(e.record, OrderIntentRecord)}
        happened = acts(ledger, rig.uids, frozenset(ours), began_ns)  # none: the hedge has left meanwhile
    until(lambda: noticed(happened, rig.entries()).keys() == happened.keys(), f"the notice of {name}")

    def ended() -> bool:
        ledger = replayed(rig.engine.state_dir)
        return ledger is not None and not taken(happened, rig.entries()) & ledger.open_operations.keys()

    until(ended, f"the end of what {name} took a leg of")
    entries = rig.entries()
    timed.noticed_ms += [(at_ns - happened[act]) / 1e6 for act, at_ns in noticed(happened, entries).items()]
    timed.left_ms += left_ms(happened, rig.ledger(), entries, time.monotonic_ns()).values()


def _held(rig: Rig) -> HedgeRecord:
    """The largest open hedge; waits for one."""
    found: list[HedgeRecord] = []

    def is_there() -> bool:
        newest = {e.record.operation_id: e.record for e in rig.entries() if isinstance(e.record, HedgeRecord)}
        found[:] = sorted((h for h in newest.values() if h.qty), key=lambda h: h.qty * h.entry_futures_price)
        return bool(found)

    until(is_there, "an open hedge")
    return found[-1]


def _part(hedge: HedgeRecord) -> Decimal:
    """Half of it, or a contract."""
    lot = load_scenario("demo").pairs[f"{hedge.base}/USDT"].listings[FUTURES].lot
    return max(lot, hedge.qty / 2 // lot * lot)


#: What the venue or others do while this hedge is open.
RULES: dict[str, Callable[[HedgeRecord], dict[str, Any]]] = {
    "adl": lambda hedge: {
        "kind": "adl",
        "venue": FUTURES,
        "symbol": hedge.futures_symbol,
        "amount": float(_part(hedge)),
    },
    "order": lambda hedge: {
        "kind": "manual_order",
        "venue": FUTURES,
        "symbol": hedge.futures_symbol,
        "amount": str(_part(hedge) * int(hedge.spot_side)),
    },
    "whole adl": lambda hedge: {"kind": "adl", "venue": FUTURES, "symbol": hedge.futures_symbol},
    "deposit": lambda _: {"kind": "deposit", "venue": "gateio_spot", "asset": "USDT", "amount": MONEY},
    "withdrawal": lambda _: {"kind": "withdraw", "venue": "mexc_spot", "asset": "USDT", "amount": MONEY},
    "liquidation": lambda _: {"kind": "liquidate", "venue": FUTURES, "symbol": "*"},
}
