"""Two bounds in time: how long coins of an operation stand alone while an order could end that, and how long a hedge
stays open that the guard is to close.

An operation is naked by its proven fills, when every order of it is settled. Something can be done about it while a
venue of its legs has been swept since its session stands, asks for no silence, has the symbol open, a book that is no
gap, money for the order, and no order of ours in doubt. From where all of it holds, an order must be intended within
the bound; after a repair that did not close it the next one may wait, longer with each. What waits for an operator, or
was touched by others, is excused. Only tapes with what the feeds published have all that is needed to judge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.chaos.checker.claims import Claims, Operation
from pipeline.chaos.checker.exits import of_exit
from pipeline.chaos.checker.finding import Find
from pipeline.chaos.checker.traffic import Silences
from pipeline.chaos.checker.truth import ZERO, Place, Row, Truth

BOUND_NS = 200_000_000
PAUSE_FIRST_NS, PAUSE_MAX_NS = 20_000_000, 2_000_000_000  # behind a repair; twice as long behind each further one
PAGE_NS = 6_000_000_000  # for so long a page of a gateway may keep a venue silent
KEPT_NS = 1_000_000_000  # of a hedge, from where the guard could close it
ANSWER_NS = 3_200_000_000  # until which the guard waits for a venue's first answers
READ_NS = 4_000_000_000  # until which one asks whether an instrument that was suspended is open again
MARKET = Decimal("0.05")  # prices and fees between a book and the order that it leads to


@dataclass(slots=True)
class Naked:
    """``since_ns``: operation -> since when something could be done about it, and nothing was."""

    since_ns: dict[str, int] = field(default_factory=dict)
    kept_ns: dict[str, int] = field(default_factory=dict)  # the same of hedges, while the guard stands in
    reported: set[str] = field(default_factory=set)

    def look(self, row: Row, truth: Truth, claims: Claims, silences: Silences, find: Find) -> None:
        """After any row."""
        now_ns = row["mono_ns"]
        if not truth.config.get("feeds_seen") or now_ns < truth.awake_ns:
            self.since_ns.clear()
            self.kept_ns.clear()
            return
        self._kept(now_ns, truth, claims, silences, find)
        for name, operation in claims.operations.items():
            if not operation.open or not operation.fills:
                self.since_ns.pop(name, None)
                continue
            place = _able(operation, now_ns, truth, claims, silences)
            if place is None:
                self.since_ns.pop(name, None)
                continue
            began_ns = max(self.since_ns.setdefault(name, now_ns), _rested_ns(operation, claims))
            alone_ns = now_ns - began_ns
            if alone_ns > BOUND_NS and name not in self.reported:
                self.reported.add(name)
                base = truth.instruments[place]["base"]
                text = f"{operation.exposure(base)} {base} alone for {alone_ns // 10**6} ms"
                find("naked", f"operation {name}: {text}, and {place} would take an order")

    def _kept(self, now_ns: int, truth: Truth, claims: Claims, silences: Silences, find: Find) -> None:
        """Hedges that the guard leaves open where both venues would take an order."""
        leaving = {one.body["closes"] for one in claims.open_operations()}
        for name, hedge in claims.hedges.items():
            spot = hedge["qty"] if hedge["spot_side"] == "BUY" else -hedge["qty"]
            legs = [((hedge["spot_venue"], hedge["spot_symbol"]), spot)]
            legs.append(((hedge["futures_venue"], hedge["futures_symbol"]), -spot))
            if (
                truth.by != "guard"
                or name in leaving
                or hedge["base"] in claims.externals
                or abs(truth.positions.get(legs[1][0], ZERO)) < hedge["qty"]  # its venue has ended it, as will be seen
                or _answers_awaited(now_ns, truth, claims)
                or not all(_takes(place, qty, now_ns, truth, claims, silences) for place, qty in legs)
            ):
                self.kept_ns.pop(name, None)
                continue
            stood_ns = now_ns - self.kept_ns.setdefault(name, now_ns)
            if stood_ns > KEPT_NS and name not in self.reported:
                self.reported.add(name)
                find("takeover", f"hedge {name}: left open for {stood_ns // 10**6} ms, both venues would take orders")


def _answers_awaited(now_ns: int, truth: Truth, claims: Claims) -> bool:
    """Whether a venue has not answered the guard's first questions yet: it waits for all of them, but not for long. A
    whole hedge can be hurt by no price."""
    waits = any(claims.swept_ns.get(venue, -1) < truth.life_ns for venue in truth.config["venues"])
    return waits and now_ns - truth.life_ns < ANSWER_NS


def _rested_ns(operation: Operation, claims: Claims) -> int:
    """Until when the pause behind its newest repair may last."""
    orders = (claims.orders[name] for name in operation.orders)
    repairs = [claim.at_ns for claim in orders if claim.body["purpose"] in ("REPAIR", "DUST")]
    return repairs[-1] + min(PAUSE_MAX_NS, PAUSE_FIRST_NS << len(repairs)) if repairs else 0


def _able(operation: Operation, now_ns: int, truth: Truth, claims: Claims, silences: Silences) -> Place | None:
    """Where an order could end what stands alone; None where nothing does, or nothing can be done."""
    if operation.external or operation.recovery in ("waiting_approval", "cancelled"):
        return None
    if any(not claims.orders[name].settled for name in operation.orders):
        return None
    for base in {leg["base"] for leg in operation.body["legs"]} - claims.externals:
        exposure = operation.exposure(base)
        if not exposure:
            continue
        for leg in operation.body["legs"]:
            place = (leg["venue"], leg["symbol"])
            part = of_exit(truth.by, leg["kind"], base, exposure, operation, claims)
            if leg["base"] == base and part and _takes(place, part, now_ns, truth, claims, silences):
                return place
    return None


def _takes(place: Place, exposure: Decimal, now_ns: int, truth: Truth, claims: Claims, silences: Silences) -> bool:
    venue, book, instrument = place[0], truth.books.get(place), truth.instruments[place]
    if book is None or book["flags"] or not book["bid"] or not book["ask"]:
        return False
    if truth.stalled_ns.get(venue, now_ns) < now_ns or place in truth.halted:
        return False
    if now_ns - truth.resumed_ns.get(place, -READ_NS) < READ_NS:
        return False
    if claims.swept_ns.get(venue, 0) < max(truth.life_ns, truth.down_ns.get(venue, 0)):
        return False
    if silences.silent(venue, now_ns) or now_ns - truth.paged_ns.get(venue, -PAGE_NS) < PAGE_NS:
        return False
    if claims.unsettled(place):
        return False
    qty = abs(exposure) // instrument["lot"] * instrument["lot"]
    price = book["bid"] if exposure > 0 else book["ask"]
    if qty < instrument["min_qty"] or qty * price < instrument["min_notional"] * (1 + MARKET):
        return False
    if exposure > 0 and instrument["instrument_kind"] == "spot":
        return bool(truth.free.get((venue, instrument["base"]), ZERO) >= qty)
    return bool(truth.free.get((venue, instrument["quote"]), ZERO) >= qty * price * (1 + MARKET))
