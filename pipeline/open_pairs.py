"""Which directions of which pairs take an entry, and what stands against each instrument where none does.

The gate judges one opportunity; this asks the same of all that could come, so that an instance in which nothing can be
traded never calls itself ready. What a venue, an operator or a limit has closed stands until somebody ends it
(``lasting=False``); what books and balances say may be over at the next look (``lasting=True`` counts it as well).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.core import ExecutionCore
from pipeline.execution.market import can_enter, tradable
from pipeline.model.enums import InstrumentKind, OpportunityType, OrderSide, TradingStatus
from pipeline.model.instruments import InstrumentRow, wallet_open
from pipeline.risk.breakers import LOOK, RESUME, blocking
from pipeline.risk.scopes import Scopes

NAMED_MAX = 3  # instruments that are named for one cause
CYCLE_LEGS = 3
_SIDES = (OrderSide.BUY, OrderSide.SELL)
_SOLVE_ALONE = "`arb pairs` shows what venues share; `arb symbols add VENUE SYMBOL` takes one in"


class Against(NamedTuple):
    """What stands against an instrument, or a side of it, and what solves it."""

    what: str
    solve: str


Direction = tuple[InstrumentRow, InstrumentRow]  # where is bought, where is sold


def directions(core: ExecutionCore, *, lasting: bool = False) -> Iterator[Direction]:
    """Every direction that takes an entry, whatever the balances are."""
    types = core.risk.gate.enabled_types
    pairs: dict[int, list[tuple[InstrumentRow, list[OrderSide]]]] = {}
    for row in core.context.instruments:
        sides = _open_sides(core, row, lasting=lasting)
        if not sides:
            continue
        known = pairs.setdefault(row.pair_id, [])
        for other, of_other in known:
            if other.spec.venue == row.spec.venue or _type_of(row, other) not in types:
                continue
            if OrderSide.BUY in sides and OrderSide.SELL in of_other:
                yield row, other
            if OrderSide.SELL in sides and OrderSide.BUY in of_other:
                yield other, row
        known.append((row, sides))


def nothing_open(core: ExecutionCore, *, lasting: bool = False) -> Against | None:
    """Why no opportunity of any kind can be entered; None while one could. Quick where something is open."""
    if next(directions(core, lasting=lasting), None) is not None or _cycle_open(core, lasting=lasting):
        return None
    causes: dict[Against, list[str]] = {}
    for row in core.context.instruments:
        against = next(filter(None, (against_side(core, row, side, lasting=lasting) for side in _SIDES)), None)
        if against is not None:
            causes.setdefault(against, []).append(f"{row.spec.venue} {row.spec.symbol}")
    if not causes:  # what is open lacks only the other side of what is not
        listed = bool(list(core.context.instruments))
        what = "no two instruments make an opportunity of detection.types" if listed else "no instrument is listed"
        return Against(what, _SOLVE_ALONE)
    found = sorted(causes.items(), key=lambda item: -len(item[1]))
    texts = [f"{len(names)} {cause.what} ({_some(names)})" for cause, names in found]
    return Against("; ".join(texts)[:400], "; ".join(dict.fromkeys(cause.solve for cause, _ in found))[:400])


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more


def _type_of(row: InstrumentRow, other: InstrumentRow) -> OpportunityType | None:
    """The kind of opportunity between two instruments of a pair; None for two contracts."""
    spots = (row.spec.kind is InstrumentKind.SPOT) + (other.spec.kind is InstrumentKind.SPOT)
    return (None, OpportunityType.SPOT_FUTURES_HEDGE, OpportunityType.SPOT_SPOT)[spots]


def _cycle_open(core: ExecutionCore, *, lasting: bool) -> bool:
    """Whether some venue has as many open spot instruments as a cycle has legs, where cycles are enabled."""
    if OpportunityType.TRIANGULAR not in core.risk.gate.enabled_types:
        return False
    spots: dict[str, int] = {}
    for row in core.context.instruments:
        if row.spec.kind is InstrumentKind.SPOT and _open_sides(core, row, lasting=lasting):
            spots[row.spec.venue] = spots.get(row.spec.venue, 0) + 1
    return max(spots.values(), default=0) >= CYCLE_LEGS


def _open_sides(core: ExecutionCore, row: InstrumentRow, *, lasting: bool) -> list[OrderSide]:
    return [side for side in _SIDES if against_side(core, row, side, lasting=lasting) is None]


def against_side(core: ExecutionCore, row: InstrumentRow, side: OrderSide, *, lasting: bool) -> Against | None:
    """The first thing that stands against an entry with a leg of ``side`` there, in the gate's order."""
    return _against_venue(core, row) or _against_row(core, row, side) or (_for_now(core, row) if lasting else None)


def _against_venue(core: ExecutionCore, row: InstrumentRow) -> Against | None:
    context, gate, spec = core.context, core.risk.gate, row.spec
    if context.halt.venue_blocked(row.venue_id) or context.halt.instrument_blocked(row.instrument_id):
        return Against("blocked", RESUME)
    if name := blocking(context.ledger.breakers, [(spec.venue, spec.symbol)]):
        return Against(f"of breaker {name}", core.standing.solve(name))
    if not core.balances.session_up(spec.venue) or spec.venue not in core.recovery:
        return Against("of a venue that is away", f"{LOOK} (it connects again by itself)")
    if gate.clocks.refusal(spec.venue):
        return Against("of a venue whose clock is apart", "check the host's clock (chronyc tracking)")
    if gate.margin.rows.refusal(spec.venue):
        return Against("of an account without rows", f"{LOOK} (the venue is asked again by itself)")
    return None


def _against_row(core: ExecutionCore, row: InstrumentRow, side: OrderSide) -> Against | None:
    spec = row.spec
    if scope := Scopes(core.context.config.risk_limits).disabled(spec):
        return Against(f"disabled by risk_limits of {scope}", "enable it there (arb config reload)")
    if not row.tradable_pair:
        return Against("in quarantine", "`arb symbols list` says why each is")
    if not can_enter(row, side):
        waits = "it trades again when its venue lets it (arb symbols list)"
        if spec.ending:
            return Against("whose trading ends", "`arb symbols add VENUE SYMBOL` takes in another")
        if spec.status is TradingStatus.HALTED:
            return Against("halted", waits)
        return Against("taken by the venue on one side only", waits)
    if not wallet_open(spec):
        closed = "deposits or withdrawals closed"
        return Against(f"with {closed}", "it trades again when the venue opens them (arb symbols list)")
    return None


def _for_now(core: ExecutionCore, row: InstrumentRow) -> Against | None:
    context, spec = core.context, row.spec
    if core.risk.gate.doubtful(spec):
        return Against("of which account or row is in doubt", f"{LOOK} (the venue is asked again by itself)")
    view = context.market.book(row.instrument_id)
    if view is None or not tradable(view, row) or view.proof_mono_ns < core.risk.gate.worth.oldest_mono_ns:
        solve_ = f"{LOOK} shows the feeds; they connect again by themselves"
        return Against("without a book that is proved current", solve_)
    if not core.balances.reported(spec.venue):
        return Against("of accounts that were not read yet", f"{LOOK} (they are asked again by themselves)")
    return None
