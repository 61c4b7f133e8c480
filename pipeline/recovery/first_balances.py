"""When the first balances of each venue were asked for: what a venue stamps later is not in them. And those that lack.

The journal has our clock of that moment, a venue stamps with its own. Where our clock was ahead and has been set back
since, everything that happens until it is there again would pass for older than the first balances: the moment is
reckoned back from now, on the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pipeline.execution.core_context import CoreContext
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import OrderIntentRecord
from pipeline.model.enums import InstrumentKind
from pipeline.model.structs import InstrumentSpec

STEP_MS = 1000  # by less than this clocks differ as a rule, and venues stamp in whole seconds


class FirstBalances:
    """``wall_ms(venue)`` is to be called with every sweep: the first call is the moment that is reckoned from."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self._seen_mono_ns: dict[str, int] = {}  # venue -> when this run first knew of its first balances

    def wall_ms(self, venue: str) -> int | None:
        """Unix time in ms of a venue's first balances in this journal; None before they were taken."""
        based_ms = self._context.ledger.based_wall_ms.get(venue)
        if based_ms is None:
            return None
        return self.reckoned_ms(based_ms, self._seen_mono_ns.setdefault(venue, self._context.now.mono_ns))

    def reckoned_ms(self, wall_ms: int, mono_ns: int) -> int:
        """Unix time in ms of a moment that had ``wall_ms`` by our clock then and was no later than ``mono_ns``."""
        now = self._context.now
        latest_ms = now.wall_ms - (now.mono_ns - mono_ns) // 1_000_000
        return latest_ms if wall_ms - latest_ms > STEP_MS else wall_ms


class Sweeps(Protocol):
    """The part of the recovery manager that starts them."""

    def __contains__(self, venue: object) -> bool:
        """Whether a venue has been swept since its session came up; if not, that is to come."""

    def want(self, venue: str, reason: str) -> None:
        """A venue is to be swept."""


def look_first(ledger: Ledger, sweeps: Sweeps, instruments: Iterable[InstrumentSpec | OrderIntentRecord]) -> None:
    """Wants the first balances of these instruments' coins, or their first positions, where no sweep has taken them:
    nothing is compared with what lies there until then."""
    for one in instruments:
        key, coins = (one.venue, one.symbol), ((one.venue, one.base), (one.venue, one.quote))
        spot = one.kind is InstrumentKind.SPOT
        lacks = any(coin not in ledger.baseline for coin in coins) if spot else key not in ledger.position_offsets
        if lacks and one.venue in sweeps:
            sweeps.want(one.venue, "first balances")
