"""Whether the engine may take new risk, and every reason why not, with the command that solves it.

This file has the words (``Reason``, ``TradeState``) and the reasons that only the executor knows: breakers, held
recoveries, reducing, venues, inventory, journal, lease. ``workers/tradable.py`` adds those of processes, feeds,
halt and disk; every view, command and alert shows the union and nothing else.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Hashable, Iterable
from decimal import Decimal
from enum import IntEnum, StrEnum

import msgspec

from pipeline.core import ExecutionCore
from pipeline.execution.external_shares import position_unknown
from pipeline.execution.ledger import Ledger, Operation
from pipeline.execution.market import mid_price
from pipeline.model.enums import InstrumentKind
from pipeline.model.fixedpoint import plain
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.structs import ZERO
from pipeline.open_pairs import directions, nothing_open
from pipeline.risk.breakers import ADOPT, HALTING, LOOK, RESUME, scope, solve
from pipeline.risk.gate import INTENT_BYTES

LASTS_NS = 5_000_000_000  # so long a doubt, a blocked exit or margin without a watch is a note: a retry may end it
REFUSED_NS = 60_000_000_000  # how long a refusal for a position limit is shown
MOVED_NS = 3600_000_000_000  # how long it is shown that the world moved something on an account


class TradeState(StrEnum):
    """The one answer."""

    READY = "ready"  # new risk is taken wherever an opportunity is
    DEGRADED = "degraded"  # new risk is taken, but not everywhere
    STOPPED = "stopped"  # no new risk is taken
    HALTED = "halted"  # no new risk until an operator has looked: the latch, or what nobody can explain (HALTING)


class Effect(IntEnum):
    """What a reason does to trading."""

    NOTE = 0  # worth knowing; what it concerns comes and goes by itself
    DEGRADES = 1
    STOPS = 2
    HALTS = 3


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why the engine takes no new risk, or not everywhere. ``since_wall_ns`` 0: not known.

    ``venues``, ``symbol``: the instruments that take none because of it, where it degrades: ``symbol`` of them, "" all.
    """

    what: str
    solve: str
    effect: Effect
    since_wall_ns: int = 0
    venues: tuple[str, ...] = ()
    symbol: str = ""

    def concerns(self, venue: str, symbol: str) -> bool:
        """Whether this instrument takes no new risk because of it: one that degrades must name it."""
        if self.effect is not Effect.DEGRADES:
            return self.effect > Effect.DEGRADES
        return venue in self.venues and self.symbol in ("", symbol)


def with_solve(what: str, solve_: str) -> str:
    """Both in one line; a text that ends with its solution says it once."""
    return what if what.endswith(solve_) else f"{what}; solve: {solve_}"


def state_of(reasons: Iterable[Reason]) -> TradeState:
    """The answer that follows from all reasons."""
    worst = max((reason.effect for reason in reasons), default=Effect.NOTE)
    return (TradeState.READY, TradeState.DEGRADED, TradeState.STOPPED, TradeState.HALTED)[worst]


def ledger_reasons(
    ledger: Ledger,
    first: Callable[[Operation], str] = lambda _: "",
    solve_of: Callable[[str], str] | None = None,
) -> list[Reason]:
    """Reasons that stand in the journal and so outlive the executor: breakers and recoveries. ``first(operation)``:
    what has to be done before its repairs are approved; ``solve_of(breaker)``: what solves it now, where a core
    knows."""
    found = []
    for name, text in sorted(ledger.breakers.items()):
        venue, symbol = scope(name)
        found.append(
            Reason(
                what=f"breaker {name}: {text}",
                solve=solve_of(name) if solve_of else solve(name, text),
                effect=Effect.DEGRADES if venue else Effect.HALTS if name in HALTING else Effect.STOPS,
                since_wall_ns=ledger.since_wall_ns.get(name, 0),
                venues=(venue,) if venue else (),
                symbol=symbol,
            )
        )
    for record in ledger.recoveries.values():
        since = ledger.since_wall_ns.get(record.recovery_id, 0)
        if record.state == "waiting_approval":
            waiting = ledger.open_operations.get(record.operation_id)
            before = first(waiting) if waiting else ""
            before += "; then " if before else ""
            found.append(
                Reason(
                    what=f"recovery {record.recovery_id} waits for an operator: {record.reason}",
                    solve=f"{before}arb recoveries --approve {record.recovery_id} (or --cancel {record.recovery_id})",
                    effect=Effect.DEGRADES,
                    since_wall_ns=since,
                )
            )
        elif record.state == "cancelled" and record.operation_id in ledger.open_operations:
            legs = ledger.open_operations[record.operation_id].record.legs
            where = " or ".join(dict.fromkeys(f"{leg.venue} {leg.symbol}" for leg in legs))
            found.append(
                Reason(
                    what=f"recovery {record.recovery_id} was taken over by an operator: {record.reason}",
                    solve=f"trade by hand what stands alone (arb recoveries) on {where}, which ends it; or "
                    f"arb recoveries --approve {record.recovery_id} hands it back",
                    effect=Effect.NOTE,
                    since_wall_ns=since,
                )
            )
    return found


class Lasting:
    """Since when something has been seen at every look: what ends by itself within seconds is a note, what lasts
    degrades."""

    def __init__(self) -> None:
        self._since_ns: dict[Hashable, int] = {}
        self._now: set[Hashable] = set()

    def effect(self, key: Hashable, now_mono_ns: int) -> Effect:
        """Of what is seen now."""
        self._now.add(key)
        return lasting(now_mono_ns - self._since_ns.setdefault(key, now_mono_ns))

    def looked(self) -> None:
        """A look is over: what was not seen in it is forgotten."""
        self._since_ns = {key: since_ns for key, since_ns in self._since_ns.items() if key in self._now}
        self._now.clear()


def lasting(age_ns: int) -> Effect:
    """Of something that has kept money from being looked after for so long."""
    return Effect.DEGRADES if age_ns >= LASTS_NS else Effect.NOTE


def executor_reasons(
    core: ExecutionCore, cover: InventoryCover | None = None, seen: Lasting | None = None
) -> list[Reason]:
    """Every reason that the executor knows, at ``core.context.now``; those of inventory where it was looked at.
    ``seen``: of the looks before; without them what must last to degrade is a note."""
    gate, recovery, context = core.risk.gate, core.recovery, core.context
    found = ledger_reasons(core.ledger, core.orders.repairs.before_approval, core.standing.solve)
    found += _alone(core)
    found += [
        Reason(what=text, solve=f"arb recoveries --approve r{operation_id}", effect=Effect.DEGRADES)
        for operation_id, text in recovery.unproved.items()
    ]
    if core.stopping:
        how = f"{LOOK} names the command that starts it again"
        found.append(Reason(what="the executor is stopping", solve=how, effect=Effect.STOPS))
    elif not recovery.ready():
        what = "the venues are not reconciled yet"
        found.append(Reason(what=what, solve=f"{LOOK} (it ends by itself)", effect=Effect.STOPS))
    if gate.reducing:
        record = core.ledger.recoveries.get(f"r{gate.reducing}")
        waits = record is not None and record.state == "waiting_approval"
        ends = f"when recovery r{gate.reducing} is approved or cancelled" if waits else "with the repair"
        what = f"reducing: operation {gate.reducing} is not repaired yet"
        found.append(Reason(what=what, solve=f"arb recoveries (it ends {ends})", effect=Effect.STOPS))
    if not context.now.mono_ns < context.halt.lease_expiry_mono_ns():
        what = "no lease: the guard grants none for new risk"
        found.append(Reason(what=what, solve=f"{LOOK} shows the guard; {RESUME} revives it", effect=Effect.STOPS))
    if not context.journal.has_room(INTENT_BYTES):
        what = "the journal has no room for an intent"
        found.append(Reason(what=what, solve="free space where the state folder lies", effect=Effect.STOPS))
    for name, why in gate.worth.unknown.items():
        what = f"worth of {name} is not known: {why}"
        solve_ = gate.worth.solves.get(name, f"{LOOK} shows the feeds; it ends when the book is live again")
        found.append(Reason(what=what, solve=solve_, effect=Effect.STOPS))
    loss = gate.worth.loss_beyond(context.config.risk_limits)
    if loss is not None and loss.breaker not in core.ledger.breakers:
        what = f"{loss.text}: no entries; where it lasts, it trips breaker {loss.breaker}"
        solve_ = "it ends by itself where prices come back; arb hedges shows what is open"
        found.append(Reason(what=what, solve=solve_, effect=Effect.STOPS))
    found += [
        Reason(
            what=f"margin of {venue} {symbol}: {text}",
            solve="set the contract's leverage and margin mode at the venue as configured; it ends by itself",
            effect=Effect.DEGRADES,
            venues=(venue,),
            symbol=symbol,
        )
        for (venue, symbol), text in gate.margin.doubted.items()
    ]
    seen = Lasting() if seen is None else seen
    found += _account_rows(core) + _not_looked_after(core, seen) + _closing(core)
    found += _notes(core) + _at_limit(core) + _venue_reasons(core) + ([] if cover is None else cover.reasons())
    found += _nothing_open(core, found, seen)
    seen.looked()
    return found


def _nothing_open(core: ExecutionCore, found: Iterable[Reason], seen: Lasting) -> list[Reason]:
    """Where each reason concerns a part and all parts are concerned, nothing can be traded: that stops. What books and
    accounts say for a moment must last. Nothing where a reason that stops stands in ``found``, or the guard's page
    keeps everything from trading."""
    halt, venues = core.context.halt, {row.venue_id for row in core.context.instruments}
    all_blocked = bool(venues) and all(map(halt.venue_blocked, venues))
    if all_blocked or halt.latched() or any(reason.effect >= Effect.STOPS for reason in found):
        return []
    against, effect = nothing_open(core), Effect.STOPS
    if against is None and (against := nothing_open(core, lasting=True)) is not None:
        lasts = seen.effect("nothing is open", core.context.now.mono_ns) is Effect.DEGRADES
        effect = Effect.STOPS if lasts else Effect.NOTE
    if against is None:
        return []
    return [Reason(what=f"nothing can be traded: {against.what}", solve=against.solve, effect=effect)]


def _notes(core: ExecutionCore) -> list[Reason]:
    """What is worth knowing and stops nothing."""
    solve = "it ends by itself; `arb symbols add VENUE SYMBOL` confirms new steps"
    found = [Reason(what=text, solve=solve, effect=Effect.NOTE) for text in core.recovery.rows.texts()]
    found += [
        Reason(what=text, solve=text.rpartition("; ")[2], effect=Effect.NOTE)
        for text in core.fee_stock.differences.values()
    ]
    found += [
        Reason(what=text, solve=f"buy the coin at {venue}, or remove fees.{venue}.deduction", effect=Effect.NOTE)
        for venue, text in core.fee_stock.short.items()
    ]
    found += [
        Reason(
            what=f"moved by others: {text}",
            solve="arb hedges; arb logs --level warning (it is booked; this note ends an hour after it)",
            effect=Effect.NOTE,
            since_wall_ns=at_ns,
        )
        for at_ns, text in core.context.moved
        if core.context.now.wall_ns - at_ns < MOVED_NS
    ]
    unknown = core.hedges.entry_prices.not_known_text()
    if unknown:
        solve = f"it ends by itself when both books live; {LOOK} shows the feeds"
        found.append(Reason(what=unknown, solve=solve, effect=Effect.NOTE))
    found += [
        Reason(
            what=f"{plain(amount)} {asset} at {venue} are kept from new orders as {name!r}",
            solve=f"arb balance --release {shlex.quote(name)}",
            effect=Effect.NOTE,
        )
        for name, ((venue, asset), amount) in sorted(core.balances.set_asides.items())
    ]
    return found


def _not_looked_after(core: ExecutionCore, seen: Lasting) -> list[Reason]:
    """Entries that a doubt of the account stops, margin without a watch, hedges that must leave and do not: each
    degrades once it has lasted."""
    account, gate, now_ns = core.recovery.account, core.risk.gate, core.context.now.mono_ns
    doubts = {f"{venue} {what}: account and ledger differ": venue for venue, what in sorted(account.doubts)}
    unreadable = {text: text.partition(" ")[0] for text in account.unreadable.texts()}
    found = [
        Reason(
            what=f"{text}: no entries there",
            solve=f"{LOOK} (it ends by itself: the venue is asked again); log/executor.log has what it was",
            effect=seen.effect(text, now_ns),
            venues=(venue,),
        )
        for text, venue in {**unreadable, **doubts}.items()
    ]
    awaited = {f"account of {venue}: its modes are not known yet": venue for venue in sorted(gate.settings.awaited)}
    found += [
        Reason(
            what=f"{text}: no entries there",
            solve=f"{LOOK} (the venue is asked again by itself); log/poller.log has its answers",
            effect=seen.effect(text, now_ns),
            venues=(venue,),
        )
        for text, venue in awaited.items()
    ]
    unwatched = {key: seen.effect(key, now_ns) for key in core.margin.unwatched()}
    found += [
        Reason(
            what=f"margin of {venue} {symbol}: {text}",
            solve=f"{LOOK} (the venue is asked again by itself); log/poller.log has its answers",
            effect=unwatched.get((venue, symbol), Effect.NOTE),
            venues=(venue,),
            symbol=symbol,
        )
        for (venue, symbol), text in core.margin.blind().items()
    ]
    return found + [
        Reason(
            what=f"hedge {name} must leave: {exit_.reason}" + (f"; not yet: {exit_.why}" if exit_.why else ""),
            solve="arb hedges (it leaves by itself when what is named ends)",
            effect=lasting(now_ns - exit_.blocked_mono_ns if exit_.why else 0),
        )
        for name, exit_ in core.hedges.exits.hard.items()
    ]


def _closing(core: ExecutionCore) -> list[Reason]:
    """Hedges that an operator closes, and those whose closing was given up."""
    found = [
        Reason(
            what=f"hedge {name} is being closed by command: {text}",
            solve="arb hedges (it ends by itself)",
            effect=Effect.NOTE,
        )
        for name, text in core.forced_close.texts().items()
    ]
    return found + [
        Reason(
            what=f"hedge {name} was to be closed by command and is open: {why}",
            solve=f"arb close {name} tries it again",
            effect=Effect.NOTE,
        )
        for name, why in core.forced_close.given_up.items()
        if name in core.ledger.hedges
    ]


def _account_rows(core: ExecutionCore) -> list[Reason]:
    """Futures venues whose positions nobody shows."""
    venues = {row.spec.venue for row in core.context.instruments}
    missing = core.risk.gate.margin.rows.missing()
    effect = Effect.DEGRADES if len(venues) - len(missing) > 1 else Effect.STOPS
    how = f"{LOOK} (the venue is asked again by itself); log/poller.log has its answers"
    return [
        Reason(
            what=f"account of {venue}: no rows for {age_ns // 1_000_000_000} s: no entries there, margin is watched "
            "by our own books",
            solve=how,
            effect=effect,
            venues=(venue,),
        )
        for venue, age_ns in missing.items()
    ]


def _alone(core: ExecutionCore) -> list[Reason]:
    """Legs that stand alone while how much of the other one is left is not known: nothing is repaired meanwhile."""
    ledger, recovery = core.ledger, core.recovery
    found = []
    for operation in ledger.open_operations.values():
        if not position_unknown(ledger, operation, recovery.questioned):
            continue
        left = {coin: qty for coin, qty in operation.exposure().items() if qty and coin not in USD_COINS}
        if not left:
            continue
        alone = ", ".join(f"{plain(qty)} {coin}" for coin, qty in sorted(left.items()))
        adopts = position_unknown(ledger, operation, lambda venue, symbol: False)
        found.append(
            Reason(
                what=f"operation {operation.operation_id}: {alone} stand alone, and wait until the other leg is known",
                solve=ADOPT if adopts else f"{LOOK} (the venue is being asked)",
                effect=Effect.STOPS if adopts else Effect.DEGRADES,
            )
        )
    return found


def _at_limit(core: ExecutionCore) -> list[Reason]:
    """Limits of all that is open, and of coins' positions, that have refused an entry lately and would refuse it again
    now."""
    gate, context, limits = core.risk.gate, core.context, core.context.config.risk_limits
    since_ns, limit = context.now.mono_ns - REFUSED_NS, limits.max_position_size_usd
    refused = {coin: size for coin, (at_ns, size) in gate.position_refused.items() if at_ns >= since_ns}
    at_ns, size = gate.total_refused
    lately = at_ns > 0 and at_ns >= since_ns
    if not refused and not lately:
        return []
    exposure, found = gate.exposure(), list[Reason]()
    held, full = exposure.by_position, limits.max_total_exposure_usd
    if lately and not exposure.total + size <= full:
        what = f"exposure is at its limit (max_total_exposure_usd {plain(full)})"
        how = "arb hedges (entries go on when a hedge closes); or raise it in risk_limits, and `arb config reload`"
        found.append(Reason(what=what, solve=how, effect=Effect.NOTE))
    return found + [
        Reason(
            what=f"{coin} on {venue} is at its position limit (max_position_size_usd {plain(limit)})",
            solve="arb hedges (it trades again when a hedge closes)",
            effect=Effect.NOTE,
        )
        for (venue, coin), size in sorted(refused.items())
        if held.get((venue, coin), ZERO) > 0 and held[venue, coin] + size > limit
    ]


def _venue_reasons(core: ExecutionCore) -> list[Reason]:
    """Venues that take no order: away, not reconciled, or their request budget is used up for now."""
    venues = sorted({row.spec.venue for row in core.context.instruments})
    away = [v for v in venues if not core.balances.session_up(v) or v not in core.recovery]
    paused = [v for v in venues if v not in away and not core.risk.gate.has_room(v, 1)]
    left = len(venues) - len(away)
    found = [
        Reason(
            what=f"venue {venue}: "
            + ("not reconciled" if core.balances.session_up(venue) else "no order entry, private stream down"),
            solve=f"{LOOK} (it connects again by itself); where it does not, its log/executor.log says why",
            effect=Effect.DEGRADES if left > 1 else Effect.STOPS,
            venues=(venue,),
        )
        for venue in away
    ]
    found += [
        Reason(
            what=f"venue {text}",
            solve="check the host's clock (chronyc tracking); it ends by itself when the clocks agree",
            effect=Effect.DEGRADES if left > 1 else Effect.STOPS,
            venues=(venue,),
        )
        for venue in venues
        if venue not in away and (text := core.risk.gate.clocks.refusal(venue))
    ]
    all_paused = bool(paused) and left - len(paused) < 1
    return found + [
        Reason(
            what=f"venue {venue}: paused by its request limit",
            solve="it ends by itself",
            effect=Effect.STOPS if all_paused else Effect.NOTE,
        )
        for venue in paused
    ]


class InventoryCover:
    """Which instruments the balances cover, looked at a few at a time so that no look is long."""

    def __init__(self, core: ExecutionCore) -> None:
        self._core = core
        self._known: dict[int, tuple[bool, bool]] = {}  # instrument -> whether the smallest buy, sell is covered

    def look(self, rows: Iterable[InstrumentRow]) -> None:
        """Look at these instruments."""
        for row in rows:
            self._known[row.instrument_id] = _affordable(self._core, row)

    def reasons(self) -> list[Reason]:
        """Directions that no balance covers or soon covers no more, and balances below their alarm: a note each; and a
        stop where balances cover none of those that are open. Nothing before every instrument was looked at."""
        core = self._core
        rows = [row for row in core.context.instruments if row.tradable_pair]
        if not core.ready or any(row.instrument_id not in self._known for row in rows):
            return []
        empty: set[str] = set()
        for row in rows:
            buys, sells = self._known[row.instrument_id]
            spec = row.spec
            if not buys:
                empty.add(f"{spec.venue}: too little {spec.quote} to buy {spec.base}")
            if not sells and spec.kind is InstrumentKind.SPOT:
                empty.add(f"{spec.venue}: too little {spec.base} to sell")
        unread = [venue for venue in core.context.instruments.venues() if not core.balances.reported(venue)]
        known = self._known
        covered = any(known[buy.instrument_id][0] and known[sell.instrument_id][1] for buy, sell in directions(core))
        if not covered and next(directions(core), None) is not None:
            if unread:
                what = f"accounts of {', '.join(unread)} are not read yet"
                how = f"{LOOK} (they are being asked); where it lasts, log/poller.log has their answers"
                return [Reason(what=what, solve=how, effect=Effect.STOPS)]
            what = "no direction of any pair is covered by balances: " + "; ".join(sorted(empty))
            how = "arb balance; move coins or quote between the venues"
            return [Reason(what=what[:400], solve=how, effect=Effect.STOPS)]
        empty = {text for text in empty if text.partition(":")[0] not in unread}
        low = [f"{venue} {coin}: less is free than inventory.alarms says" for venue, coin in core.balances.low]
        found = sorted([*empty, *low, *core.inventory_prices.running_out()])
        return [Reason(what=text, solve="arb balance", effect=Effect.NOTE) for text in found]


def _affordable(core: ExecutionCore, row: InstrumentRow) -> tuple[bool, bool]:
    """Whether the balances cover the smallest buy and the smallest sell of an instrument. What orders reserve is left
    out: it comes and goes with every operation."""
    spec, leverage = row.spec, core.config.detection.hedge.leverage
    view = None if spec.reference_price else core.context.market.book(row.instrument_id)
    price = spec.reference_price or (mid_price(view, row) if view is not None else None) or ZERO
    least_quote = max(spec.min_notional, spec.min_qty * price)
    quote = _for_entries(core, spec.venue, spec.quote)
    if spec.kind is InstrumentKind.PERPETUAL:
        covered = quote * leverage >= least_quote and quote > 0
        return covered, covered
    base = _for_entries(core, spec.venue, spec.base)
    return quote >= least_quote and quote > 0, base >= spec.min_qty and base * price >= spec.min_notional and base > 0


def _for_entries(core: ExecutionCore, venue: str, asset: str) -> Decimal:
    """The free balance less what an operator has set aside."""
    return (core.balances.get_balance(venue, asset) or ZERO) - core.balances.kept(venue, asset)
