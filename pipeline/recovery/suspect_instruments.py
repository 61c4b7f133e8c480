"""Which instruments may explain what moved on an account: those that a sweep has to ask about."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import SweepAnswer
from pipeline.execution.ledger import LATE_NS, UNKNOWN_PAST, Ledger
from pipeline.model.instruments import InstrumentRow
from pipeline.recovery.earlier_run import EarlierRun

SUSPECT_NS = 900_000_000_000  # how far back an unexplained movement is searched for among our own orders
LATE_MARGIN_MS = LATE_NS // 1_000_000
FIRST_SWEEP_MS = 3_600_000  # how far back the first sweep of a new journal looks for orders of an engine
FIRST_SYMBOLS_MAX = 40  # of a venue, where a past is looked for: each costs requests before the first trade
HOLDERS_MAX = 40  # instruments of one quote coin that are asked for a resting order: each costs requests


def suspects(
    ledger: Ledger, rows: Iterable[InstrumentRow], venue: str, what: str, now_ns: int, *, held: bool
) -> set[str]:
    """Symbols of that name or base coin, and those traded within ``SUSPECT_NS`` that could have moved ``what``.

    ``held``: the coin was not moved, somebody's resting order holds it; a buy order does so on any instrument that is
    quoted in it.
    """
    since_ns = now_ns - SUSPECT_NS
    found = {
        order.intent.symbol
        for order in ledger.orders.values()
        if order.intent.venue == venue
        and what in (order.intent.base, order.intent.quote, order.intent.symbol)
        and since_ns < order.intent_mono_ns <= now_ns
    }
    specs = [row.spec for row in rows if row.spec.venue == venue]
    found |= {spec.symbol for spec in specs if what in (spec.symbol, spec.base)}
    if held:
        found.update([spec.symbol for spec in specs if spec.quote == what][:HOLDERS_MAX])
    return found


def not_listed_yet(context: CoreContext, venue: str) -> bool:
    """Whether no instrument of a venue that we have traded on is known yet: it could not be reached at the start. What
    happened there can neither be booked nor told from money that moved without an order."""
    traded = any(name == venue for name, _ in context.ledger.accounts.flows)
    return traded and not context.instruments.lists(venue)


class LackedPast:
    """Which symbols are still to be swept where the journal lacks what an earlier run did. The start asks about those
    that the journal knows; that run may have traded any. ``lost``: the journal is a new one, whose first sweep has
    asked about all. ``since_wall_ms``: when what the journal lacks may have begun; a sweep from there on shows it."""

    def __init__(self, context: CoreContext, known_to_wait: Callable[[str, str], bool]) -> None:
        """``known_to_wait(venue, symbol)``: executions there wait until it is certain whose they are."""
        self._context = context
        self._known_to_wait = known_to_wait
        self.lost, self.since_wall_ms = False, 0
        self._unasked: dict[str, set[str]] = {}  # venue -> symbols of which no sweep has said what was done there

    def begins(self, earlier: EarlierRun, boot_wall_ms: int) -> None:
        """After the replay. Where a run before this one has tripped the breaker already it is looked back to where the
        journal ended before that one, or as far as with a new journal where that is not known."""
        self.lost, first_ms = not earlier.alive_wall_ms, boot_wall_ms - FIRST_SWEEP_MS
        self.since_wall_ms = first_ms if self.lost else earlier.alive_wall_ms - LATE_MARGIN_MS
        if UNKNOWN_PAST in self._context.ledger.breakers:
            known_ms = self._context.ledger.known_until_wall_ns // 1_000_000
            self.since_wall_ms = min(self.since_wall_ms, known_ms - LATE_MARGIN_MS if known_ms else first_ms)

    def news(self, venues: Iterable[str]) -> list[tuple[str, set[str]]]:
        """(venue, symbols) to sweep now: each venue once, as soon as its instruments are known."""
        if self.lost or UNKNOWN_PAST not in self._context.ledger.breakers:
            self._unasked = {}
            return []
        found: list[tuple[str, set[str]]] = []
        for venue in venues:
            if venue not in self._unasked and (symbols := self._context.instruments.symbols_of(venue)):
                self._unasked[venue] = set(symbols[:FIRST_SYMBOLS_MAX])
                found.append((venue, set(self._unasked[venue])))
        return found

    def swept(self, answer: SweepAnswer) -> None:
        """A complete sweep has shown what was done on its symbols, as far back as it looked."""
        if answer.since_wall_ms > self.since_wall_ms:
            return
        self._unasked.get(answer.venue, set()).difference_update(answer.symbols)

    def why(self, venue: str) -> str:
        """What is not known of a venue yet; "" where nothing is lacking."""
        if self.lost or UNKNOWN_PAST not in self._context.ledger.breakers:
            return ""
        if not self._context.instruments.lists(venue):
            return "its instruments are not known yet" if not_listed_yet(self._context, venue) else ""
        known = venue in self._unasked and not self._unasked[venue]
        return "" if known else "what an earlier run did there is being asked"

    def awaits(self, venue: str, symbol: str) -> bool:
        """Whether executions on an instrument may have moved money or a position that are not booked yet: they wait, or
        are still to be found. A buy and a sale of that run may have left nothing but money."""
        return self._known_to_wait(venue, symbol) or bool(self.why(venue))
