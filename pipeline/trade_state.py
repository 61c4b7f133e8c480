"""Whether the engine may take new risk, and every reason why not, with the command that solves it.

This file has the words (``Reason``, ``TradeState``) and the reasons that only the executor knows: breakers, held
recoveries, reducing, venues, inventory, journal, lease. ``workers/tradable.py`` adds those of processes, feeds,
halt and disk; every view, command and alert shows the union and nothing else.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Hashable, Iterable
from decimal import Decimal
from enum import IntEnum, StrEnum

import msgspec

from pipeline.core import ExecutionCore
from pipeline.execution.external_shares import position_unknown
from pipeline.execution.ledger import Ledger
from pipeline.execution.market import mid_price
from pipeline.model.enums import InstrumentKind, OpportunityType
from pipeline.model.fixedpoint import plain
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.structs import ZERO
from pipeline.risk.breakers import ADOPT, blocking, scope, solve, stops_everything
from pipeline.risk.gate import INTENT_BYTES, REPAIR_HEADROOM

RESUME = "arb resume --reason R"
LOOK = "arb status"
LASTS_NS = 5_000_000_000  # so long a doubt, a blocked exit or margin without a watch is a note: a retry may end it
REFUSED_NS = 60_000_000_000  # how long a refusal for a position limit is shown


class TradeState(StrEnum):
    """The one answer."""

    READY = "ready"  # new risk is taken wherever an opportunity is
    DEGRADED = "degraded"  # new risk is taken, but not everywhere
    STOPPED = "stopped"  # no new risk is taken
    HALTED = "halted"  # an operator or the supervisor has latched the halt


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


def state_of(reasons: Iterable[Reason]) -> TradeState:
    """The answer that follows from all reasons."""
    worst = max((reason.effect for reason in reasons), default=Effect.NOTE)
    return (TradeState.READY, TradeState.DEGRADED, TradeState.STOPPED, TradeState.HALTED)[worst]


def ledger_reasons(ledger: Ledger) -> list[Reason]:
    """Reasons that stand in the journal and so outlive the executor: breakers and recoveries."""
    found = []
    for name, text in sorted(ledger.breakers.items()):
        venue, symbol = scope(name)
        found.append(
            Reason(
                what=f"breaker {name}: {text}",
                solve=solve(name),
                effect=Effect.DEGRADES if venue else Effect.STOPS,
                since_wall_ns=ledger.since_wall_ns.get(name, 0),
                venues=(venue,) if venue else (),
                symbol=symbol,
            )
        )
    for record in ledger.recoveries.values():
        since = ledger.since_wall_ns.get(record.recovery_id, 0)
        if record.state == "waiting_approval":
            found.append(
                Reason(
                    what=f"recovery {record.recovery_id} waits for an operator: {record.reason}",
                    solve=f"arb recoveries --approve {record.recovery_id} (or --cancel {record.recovery_id})",
                    effect=Effect.DEGRADES,
                    since_wall_ns=since,
                )
            )
        elif record.state == "cancelled" and record.operation_id in ledger.open_operations:
            found.append(
                Reason(
                    what=f"recovery {record.recovery_id} was taken over by an operator: {record.reason}",
                    solve="trade what stands alone by hand on its own instruments, which ends it; or "
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

    def effect(self, key: Hashable, now_mono_ns: int) -> Effect:
        """Of what is seen now."""
        return lasting(now_mono_ns - self._since_ns.setdefault(key, now_mono_ns))

    def forget(self, keys: Collection[Hashable]) -> None:
        """Forgets all but ``keys``, which are seen now."""
        for key in [key for key in self._since_ns if key not in keys]:
            del self._since_ns[key]


def lasting(age_ns: int) -> Effect:
    """Of something that has kept money from being looked after for so long."""
    return Effect.DEGRADES if age_ns >= LASTS_NS else Effect.NOTE


def executor_reasons(
    core: ExecutionCore, cover: InventoryCover | None = None, seen: Lasting | None = None
) -> list[Reason]:
    """Every reason that the executor knows, at ``core.context.now``; those of inventory where it was looked at.
    ``seen``: of the looks before; without them what must last to degrade is a note."""
    gate, recovery, context = core.risk.gate, core.recovery, core.context
    found = ledger_reasons(core.ledger)
    if any(not stops_everything(name) for name in core.ledger.breakers) and not _trades_somewhere(core):
        found = [  # each alone degrades; together they stop
            msgspec.structs.replace(reason, effect=Effect.STOPS) if reason.what.startswith("breaker ") else reason
            for reason in found
        ]
    found += _alone(core)
    found += [
        Reason(what=text, solve=f"arb recoveries --approve r{operation_id}", effect=Effect.DEGRADES)
        for operation_id, text in recovery.unproved.items()
    ]
    if core.stopping:
        found.append(
            Reason(
                what="the executor is stopping",
                solve=f"{LOOK} names the command that starts it again",
                effect=Effect.STOPS,
            )
        )
    elif not recovery.ready():
        what = "the venues are not reconciled yet"
        found.append(Reason(what=what, solve=f"{LOOK} (it ends by itself)", effect=Effect.STOPS))
    if gate.reducing:
        what = f"reducing: {gate.reducing} is not repaired yet"
        found.append(Reason(what=what, solve="arb recoveries (it ends with the repair)", effect=Effect.STOPS))
    if not context.now.mono_ns < context.halt.lease_expiry_mono_ns():
        what = "no lease: the guard grants none for new risk"
        found.append(Reason(what=what, solve=f"{LOOK} shows the guard; {RESUME} revives it", effect=Effect.STOPS))
    if not context.journal.has_room(INTENT_BYTES):
        what = "the journal has no room for an intent"
        found.append(Reason(what=what, solve="free space where the state folder lies", effect=Effect.STOPS))
    found += [
        Reason(
            what=f"worth of {what} is not known: {why}",
            solve=gate.worth.solves.get(what, f"{LOOK} shows the feeds; it ends when the book is live again"),
            effect=Effect.STOPS,
        )
        for what, why in gate.worth.unknown.items()
    ]
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
    found += _account_rows(core)
    found += _not_looked_after(core, Lasting() if seen is None else seen)
    return found + _notes(core) + _at_limit(core) + _venue_reasons(core) + ([] if cover is None else cover.reasons())


def _notes(core: ExecutionCore) -> list[Reason]:
    """What is worth knowing and stops nothing."""
    found = [
        Reason(
            what=text, solve="it ends by itself; `arb symbols add VENUE SYMBOL` confirms new steps", effect=Effect.NOTE
        )
        for text in core.recovery.rows.texts()
    ]
    found += [
        Reason(what=text, solve=text.rpartition("; ")[2], effect=Effect.NOTE)
        for text in core.fee_stock.differences.values()
    ]
    found += [
        Reason(what=text, solve=f"buy the coin at {venue}, or remove fees.{venue}.deduction", effect=Effect.NOTE)
        for venue, text in core.fee_stock.short.items()
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
    seen.forget({*unreadable, *doubts, *awaited, *unwatched})
    return found + [
        Reason(
            what=f"hedge {name} must leave: {exit_.reason}" + (f"; not yet: {exit_.why}" if exit_.why else ""),
            solve="arb hedges (it leaves by itself when what is named ends)",
            effect=lasting(now_ns - exit_.blocked_mono_ns if exit_.why else 0),
        )
        for name, exit_ in core.hedges.exits.hard.items()
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
    """Coins of which the gate refused an entry lately because of their position, and would refuse it again now."""
    gate, context = core.risk.gate, core.context
    since_ns, limit = context.now.mono_ns - REFUSED_NS, context.config.risk_limits.max_position_size_usd
    refused = {coin: size for coin, (at_ns, size) in gate.position_refused.items() if at_ns >= since_ns}
    if not refused:
        return []
    held = gate.exposure().by_position
    return [
        Reason(
            what=f"{coin} on {venue} is at its position limit (max_position_size_usd {plain(limit)})",
            solve="arb hedges (it trades again when a hedge closes)",
            effect=Effect.NOTE,
        )
        for (venue, coin), size in sorted(refused.items())
        if held.get((venue, coin), ZERO) > 0 and held[venue, coin] + size > limit
    ]


def _trades_somewhere(core: ExecutionCore) -> bool:
    """Whether breakers and venues that are away leave the instruments of one opportunity: two of a pair, one of them on
    spot, or three on spot of one venue where cycles are enabled."""
    pairs: dict[int, list[InstrumentRow]] = {}
    spots: dict[str, int] = {}
    for row in core.context.instruments:
        spec = row.spec
        away = not core.balances.session_up(spec.venue) or spec.venue not in core.recovery
        if away or not row.tradable_pair or blocking(core.ledger.breakers, [(spec.venue, spec.symbol)]):
            continue
        pairs.setdefault(row.pair_id, []).append(row)
        if spec.kind is InstrumentKind.SPOT:
            spots[spec.venue] = spots.get(spec.venue, 0) + 1
    if OpportunityType.TRIANGULAR in core.risk.gate.enabled_types and max(spots.values(), default=0) >= 3:
        return True
    return any(len(rows) > 1 and any(r.spec.kind is InstrumentKind.SPOT for r in rows) for rows in pairs.values())


def _venue_reasons(core: ExecutionCore) -> list[Reason]:
    """Venues that take no order: away, not reconciled, or their request budget is used up for now."""
    venues = sorted({row.spec.venue for row in core.context.instruments})
    away = [v for v in venues if not core.balances.session_up(v) or v not in core.recovery]
    paused = [v for v in venues if v not in away and not core.risk.gate.has_budget(v, 1 + REPAIR_HEADROOM)]
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
        """Directions that no balance covers, and balances below their alarm: a note each; and a stop where no direction
        of any pair is left. Nothing before every instrument was looked at."""
        rows = [row for row in self._core.context.instruments if row.tradable_pair]
        if not self._core.ready or any(row.instrument_id not in self._known for row in rows):
            return []
        buyers: dict[int, set[str]] = {}
        sellers: dict[int, set[str]] = {}
        empty: set[str] = set()
        for row in rows:
            buys, sells = self._known[row.instrument_id]
            spec = row.spec
            if buys:
                buyers.setdefault(row.pair_id, set()).add(spec.venue)
            else:
                empty.add(f"{spec.venue}: too little {spec.quote} to buy {spec.base}")
            if sells:
                sellers.setdefault(row.pair_id, set()).add(spec.venue)
            elif spec.kind is InstrumentKind.SPOT:
                empty.add(f"{spec.venue}: too little {spec.base} to sell")
        covered = any(buy != sell for pair in buyers for buy in buyers[pair] for sell in sellers.get(pair, ()))
        if rows and not covered:
            what = "no direction of any pair is covered by balances: " + "; ".join(sorted(empty))
            how = "arb balance; move coins or quote between the venues"
            return [Reason(what=what[:400], solve=how, effect=Effect.STOPS)]
        low = [f"{venue} {coin}: less is free than inventory.alarms says" for venue, coin in self._core.balances.low]
        return [Reason(what=text, solve="arb balance", effect=Effect.NOTE) for text in sorted([*empty, *low])]


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
