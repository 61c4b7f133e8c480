"""The virtual world under a schedule, and everything that happens in it as rows of one tape.

The tape is the venues' ledger with more kinds of rows between its own: ``record`` (a journal record as it is
appended), ``wire`` (an order's bytes leave), ``act`` (what the schedule does to the process, the guard's page and the
feeds), ``book`` (what a feed publishes), ``end`` (what the core believes). The checker reads nothing else.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache, partial
from typing import Any

from msgspec import convert, structs

from pipeline.chaos.facts import config_fields, end_fields
from pipeline.chaos.link import BudgetedLink, Budgets
from pipeline.chaos.schedule import COINS, LOSS_LIMITS, MIDS, VENUES, Schedule, Step, symbol_of
from pipeline.chaos.tape import Row, Tape, plain
from pipeline.chaos.wire import as_the_engine_names
from pipeline.chaos.wire_gateio import GateRows
from pipeline.chaos.wire_mexc import MexcRows
from pipeline.execution.events import Action, Append, BookView, CommandKind, NotSent, Now, Opportunity, Place, Tick
from pipeline.execution.records import OperationRecord
from pipeline.model.config import DetectionConfig, EngineConfig, ExecutionConfig, RiskLimits
from pipeline.model.enums import InstrumentKind
from pipeline.risk.last_look import LastLook
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.scenarios.specs import Scenario, load_scenario
from pipeline.takeover import Takeover, TakeoverHalt
from pipeline.virtual.halt_page import WorldHalt
from pipeline.virtual.market import Quote
from pipeline.virtual.venue_link import VenueLink
from pipeline.virtual.venue_rows import VenueRows
from pipeline.virtual.world import LEASE_FOR_EVER_NS, ProcessKilled, VirtualWorld
from shm.layout import ABSENT_ASK, ABSENT_BID, BOOK, FLAG_GAP

WIRE: dict[str, type[VenueRows]] = {"mexc": MexcRows, "gateio": GateRows}  # exchange -> its formats
QTY = {"BTC": Decimal("0.02"), "ETH": Decimal("0.4")}  # base coins at each level of a book
DEATHS_MAX = 12  # of one schedule
FLIGHT_NS = 12_000_000  # the longest way of a request or an answer here, queues included
HEALED_MS = 90_000.0  # virtual time within which everything must be settled after the last fault
BPS = Decimal(10_000)


@cache
def scenario() -> Scenario:
    """The demo's venues with two coins, without a market of their own."""
    whole = load_scenario("demo")
    kept = {name: pair for name, pair in whole.pairs.items() if name in {f"{coin}/USDT" for coin in COINS}}
    return load_scenario({"extends": "demo", "name": "chaos", "pairs": dict.fromkeys(whole.pairs.keys() - kept.keys())})


def settings(schedule: Schedule) -> dict[str, Any]:
    """Sections of the configuration."""
    entry_ms, repair_ms, grace_ms = schedule.windows_ms
    wide = {"min_profit_margin_bps": "3", "max_orders_per_s": 50, "max_slippage_bps": "50"}
    return {
        "risk_limits": convert({**wide, **schedule.limits}, RiskLimits),
        "execution": ExecutionConfig(entry_window_ms=entry_ms, repair_window_ms=repair_ms, unknown_grace_ms=grace_ms),
        "detection": DetectionConfig(cooldown_ms=50),
    }


class ChaosWorld(VirtualWorld):
    """A world that keeps a tape and can be hurt by every step of a schedule."""

    def __init__(self, schedule: Schedule, on_row: Callable[[Row], None]) -> None:
        super().__init__(scenario(), schedule.seed, settings=settings(schedule))
        self.schedule = schedule
        early, self.ledger.rows = self.ledger.rows, []
        self._budgets = {
            name: Budgets(venue.orders_per_s, self.clock, random.Random(f"{schedule.seed}:{name}:pauses"))
            for name, venue in self.venues.items()
        }
        self._wire: dict[str, VenueRows] = {}
        if schedule.wire:
            for name, venue in self.venues.items():
                self._wire[name] = WIRE[venue.exchange](venue, next(iter(venue.accounts.values())))
        self._gapped: set[tuple[str, str]] = set()
        self._pause_ms = 0
        self._asleep = False
        self._backlog: deque[Any] = deque()
        self._begun: set[str] = set()  # operations of which a byte has left
        self._deaths: deque[int] = deque()  # of the lives that follow: actions until each ends
        self.counted: list[int] = []  # actions done by the "count" steps
        self.life_began: list[int] = []  # actions done before each life
        self._takeover: Takeover | None = None
        self._offered: deque[Opportunity] = deque(maxlen=6)
        self._look: LastLook
        self._note_config(self.config)
        listener = (lambda row: on_row(as_the_engine_names(row))) if schedule.wire else on_row
        self.tape = self.ledger.rows = Tape(self.ledger.rows + early, listener)

    # --- the tape ---

    def note(self, kind: str, **fields: Any) -> None:
        """A row of the tape that is none of the venues'."""
        row = {"seq": len(self.ledger.rows) + 1, "kind": kind, "venue": "", "wall_ns": self.clock.wall_ns()}
        self.ledger.rows.append({**row, "mono_ns": self.clock.mono_ns(), **fields})

    def _note_config(self, config: EngineConfig) -> None:
        lags = {name: self._feed_lag_ns(name) for name in self.venues}
        self.note("config", **config_fields(config, flight_ns=FLIGHT_NS, send_ns=0, notice_ns=0, feed_lag_ns=lags))

    def _append(self, action: Append, now: Now) -> None:
        super()._append(action, now)
        by = "guard" if self.takes_over else "executor"
        name = type(action.record).__name__
        self.note("record", life=self.lives, by=by, record=name, body=plain(action.record))

    def _book_changed(self, venue: str, symbol: str) -> None:
        row = self._row_of.get((venue, symbol))
        if row is not None and row.spec.kind is InstrumentKind.PERPETUAL:
            self.note("mark", at=venue, symbol=symbol, price=self.venues[venue].mark_price(symbol))
        super()._book_changed(venue, symbol)

    def _publish(self, venue: str, symbol: str) -> None:
        row = self._row_of[venue, symbol]
        seq = self._book_seq + 1
        finding, self.finder_on = self.finder_on, False
        super()._publish(venue, symbol)
        view = self._books[row.instrument_id]
        assert self._book_seq == seq
        if (venue, symbol) in self._gapped:
            view.words[BOOK.flags] |= FLAG_GAP  # type: ignore[index]
        self.note(
            "book",
            at=venue,
            symbol=symbol,
            book_seq=view.words[BOOK.seq],
            flags=view.words[BOOK.flags],
            bid=_price(view.words[BOOK.bid_price_fp], ABSENT_BID, row.price_exp),
            ask=_price(view.words[BOOK.ask_price_fp], ABSENT_ASK, row.price_exp),
        )
        self.finder_on = finding
        if finding:
            self.find(row)

    def book(self, instrument_id: int) -> BookView | None:
        """A proof is of the moment of the look: the view that a decision keeps does not grow younger."""
        view = super().book(instrument_id)
        return None if view is None else BookView(view.words, view.proof_mono_ns)

    # --- the process ---

    def link(self, venue: SimVenue, account: SimAccount, emit: Callable[[Any], None]) -> VenueLink:
        """Each venue through its budgets."""
        return BudgetedLink(venue, account, emit, self._budgets[venue.name], self._wire.get(venue.name))

    def _start_life(self) -> None:
        self._asleep, self._takeover = False, None
        self.life_began.append(self.actions_done)
        self._backlog.clear()
        self.note("act", act="life", life=self.lives + 1, by="guard" if self.takes_over else "executor")
        self.crash_after = self._deaths.popleft() if self._deaths else None
        super()._start_life()
        if self.takes_over:
            self._takeover = Takeover(self.core, None)
            self._repeat(self.lives, 100 * NS_PER_MS, self._command_takeover)

    def on_core(self) -> None:
        """The core of a new life exists and has not acted yet."""
        self.core.risk.gate.order_budget = lambda venue, orders: self._budgets[venue].can_place(orders)
        ids = {venue.name: venue.venue_id for venue in self.config.venues}
        self._look = LastLook(self.core.context, TakeoverHalt() if self.takes_over else WorldHalt(self), ids)

    def kill(self) -> None:
        """As in every world; the next life may die at its start as well, so often as the schedule wants it."""
        while True:
            self.note("act", act="death", life=self.lives)
            try:
                super().kill()
                return
            except ProcessKilled:
                continue

    def open(self, quotes: dict[tuple[str, str], Quote] | None = None) -> None:
        """The first life may die while it starts."""
        try:
            super().open(quotes)
        except ProcessKilled:
            self.kill()

    def die_after(self, actions: int) -> None:
        """The process dies at that action from now on; while one is to die already, its successor does."""
        if self.crash_after is None:
            self.crash_after = actions
        elif len(self._deaths) < DEATHS_MAX:
            self._deaths.append(actions)

    def feed(self, event: Any) -> None:
        """A process that stands still finds its events when it goes on; ticks are not made up for."""
        if not self._asleep:
            super().feed(event)
        elif not isinstance(event, Tick):
            self._backlog.append(event)

    def _perform(self, actions: list[Action], now: Now) -> None:
        self._go_on(deque(actions), [], now, self.lives)

    def _go_on(self, actions: deque[Action], followers: list[Any], now: Now, life: int) -> None:
        while actions:
            action = actions[0]
            if self._pause_ms and isinstance(action, Place) and action.purpose.adds_risk:
                self._sleep(partial(self._go_on, actions, followers, now, life))
                return
            actions.popleft()
            self._survive()
            self._do(action, now, followers)
        for event in followers:
            self.feed(event)

    def _sleep(self, go_on: Callable[[], None]) -> None:
        life, pause_ms, self._pause_ms, self._asleep = self.lives, self._pause_ms, 0, True
        self.note("act", act="pause", for_ms=pause_ms)

        def wake() -> None:
            if life != self.lives:
                return
            self._asleep = False
            go_on()
            while self._backlog and not self._asleep:
                super(ChaosWorld, self).feed(self._backlog.popleft())

        self.clock.call_later(pause_ms * NS_PER_MS, wake)

    def _place(self, action: Place) -> Any:
        """The last look of the executor, then the wire."""
        stop = self._look.without_risk()
        if action.purpose.adds_risk:
            request, legs = action.request, self.core.ledger.operations[action.operation_id].record.legs
            first = action.operation_id not in self._begun
            if not first:
                legs = tuple(leg for leg in legs if (leg.venue, leg.symbol) == (request.venue, request.symbol))
            left_ns = request.expiry_wall_ms * NS_PER_MS - self.clock.wall_ns()
            now_ns = self.clock.mono_ns()
            stop = self._look.entry(legs, now_ns, now_ns + left_ns, first=first)
        if stop is not None:
            return NotSent(action.request.client_id, *stop)
        sent = super()._place(action)
        if not isinstance(sent, NotSent):
            self._begun.add(action.operation_id)
            self.note("wire", client_id=action.request.client_id, life=self.lives)
        return sent

    def _command_takeover(self) -> None:
        if self._takeover is not None:
            for command in self._takeover.commands(self.clock.mono_ns(), "the executor is gone"):
                self.feed(command)

    # --- steps ---

    def carry_out(self, step: Step) -> None:
        """Does a step of the schedule now; the process may be killed at a point that it reaches thereby."""
        try:
            self._carry_out(step)
        except ProcessKilled:
            self.kill()

    def _carry_out(self, step: Step) -> None:
        word, for_ns = step["do"], int(step.get("for_ms", 0)) * NS_PER_MS
        if word == "fault":
            self.arm(**step["rule"])
        elif word == "crash":
            self.die_after(step["after"])
        elif word == "pause":
            self._pause_ms = step["for_ms"]
        elif word == "takeover":
            if not self.takes_over:
                self.fence(True, step.get("deaths", ()))
                self.clock.call_later(for_ns, lambda: self.fence(False, step.get("deaths_after", ())))
        elif word == "move":
            self._dislocate(step, for_ns)
        elif word == "rearm":
            self.rearm()
        elif word == "repeat":
            self._repeat_offers(step["times"])
        elif word == "count":
            self.counted.append(self.actions_done)
        else:
            begin, end = self._spans(step)[word]
            begin()
            self.clock.call_later(for_ns, end)

    def _spans(self, step: Step) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
        venue, symbol = step.get("venue", ""), step.get("symbol", "")
        return {
            "halt": (lambda: self.halt(True), lambda: self.halt(False)),
            "lease": (lambda: self.lease(False), lambda: self.lease(True)),
            "drain": (lambda: self.drain(venue, True), lambda: self.drain(venue, False)),
            "stall": (lambda: self.stall(venue, True), lambda: self.stall(venue, False)),
            "gap": (lambda: self.gap(venue, symbol, True), lambda: self.gap(venue, symbol, False)),
            "full": (lambda: self.room(False), lambda: self.room(True)),
        }

    def halt(self, on: bool) -> None:
        """Sets or clears the latch."""
        self.latched = on
        self.note("act", act="halt", on=on)

    def lease(self, held: bool) -> None:
        """Grants the lease, or lets it run out."""
        self.lease_expiry_ns = LEASE_FOR_EVER_NS if held else self.clock.mono_ns()
        self.note("act", act="lease", on=held)

    def drain(self, venue: str, on: bool) -> None:
        """Blocks new risk on a venue, or lets it in again."""
        number = self.config.venue(venue).venue_id
        (self.blocked_venues.add if on else self.blocked_venues.discard)(number)
        self.note("act", act="drain", at=venue, on=on)

    def stall(self, venue: str, on: bool) -> None:
        """Silences a public feed, or lets it speak again."""
        (self.stalled.add if on else self.stalled.discard)(venue)
        self.note("act", act="stall", at=venue, on=on)
        if not on:
            for name, symbol in self.market.quotes:
                if name == venue:
                    self._publish(name, symbol)

    def gap(self, venue: str, symbol: str, on: bool) -> None:
        """Flags a book as gapped, or has it synchronised again."""
        (self._gapped.add if on else self._gapped.discard)((venue, symbol))
        if venue not in self.stalled:
            self._publish(venue, symbol)

    def room(self, there: bool) -> None:
        """Whether the journal has room for new risk."""
        self.journal_room = there
        self.note("act", act="room", on=there)

    def fence(self, on: bool, deaths: Sequence[int] = ()) -> None:
        """The guard takes over from the process, or gives back; a core that has not finished gives back all the
        same. ``deaths``: actions until each of the lives that follow ends."""
        if on is self.takes_over:
            return
        self._deaths.clear()
        self._deaths.extend(deaths)
        if on:
            self.take_over()
        else:
            self.give_back()

    def opportunity(self, *args: Any, **changes: Any) -> Opportunity | None:
        """As in every world; the newest are kept, for a detector that offers twice."""
        found = super().opportunity(*args, **changes)
        if found is not None:
            self._offered.append(found)
        return found

    def _repeat_offers(self, times: int) -> None:
        """A restarted or faulty detector: what it has offered comes again."""
        for offer in list(self._offered) * times:
            self.feed(offer)

    def _dislocate(self, step: Step, for_ns: int) -> None:
        venue, symbol = step["venue"], step["symbol"]
        self.set_mid(venue, symbol, step["bps"])
        self.clock.call_later(for_ns, lambda: self.set_mid(venue, symbol, 0))

    def set_mid(self, venue: str, symbol: str, bps: int) -> None:
        """A whole new book around the coin's price and ``bps``."""
        old = self.market.quotes[venue, symbol]
        coin = next(coin for coin in COINS if symbol.startswith(coin))
        self.market.quote(venue, symbol, replace(old, mid=MIDS[coin] * (1 + Decimal(bps) / BPS)))

    # --- a run ---

    def begin(self) -> None:
        """Opens the books, waits until the core is ready and lets it find opportunities."""
        self.open(
            {
                (venue, symbol_of(venue, coin)): Quote(Decimal(MIDS[coin]), qty=QTY[coin])
                for coin in COINS
                for venue in VENUES
            }
        )
        self.run_until(lambda: self.core.ready, limit_ms=5_000)
        self.finder_on = True

    def heal(self) -> None:
        """Ends every fault and whatever stands in the way of trading by the schedule's doing."""
        self.faults.clear()
        self._deaths.clear()
        self.crash_after, self._pause_ms = None, 0
        self.fence(False)
        for venue in sorted(self.stalled):
            self.stall(venue, False)
        for venue, symbol in sorted(self._gapped):
            self.gap(venue, symbol, False)
        for venue in VENUES:
            self.drain(venue, False)
            self.venues[venue].skew_ms = 0
        for name, symbol in self.market.quotes:
            self.set_mid(name, symbol, 0)
        self.arm(kind="resume_symbol")
        self.halt(False)
        self.lease(True)
        self.room(True)
        self.raise_loss_limit()
        for link in self.links.values():
            if not link.connected:
                link.connect()
        self.note("act", act="healed")

    def raise_loss_limit(self) -> None:
        """What an operator does before he re-arms the breakers of a loss."""
        tight = LOSS_LIMITS & self.schedule.limits.keys()
        if tight:
            wide = {name: getattr(RiskLimits(), name) for name in tight}
            self.config = structs.replace(self.config, risk_limits=structs.replace(self.config.risk_limits, **wide))
            self.core.reconfigure(self.config)
            self._note_config(self.config)

    def settle(self) -> bool:
        """Lets the core come to rest and an operator release what waits for him; whether nothing is open."""
        rested = self.run_until(lambda: self.core.ready and self._at_rest(), limit_ms=HEALED_MS, step_ms=100)
        self.rearm()
        for one in self.core.recovery.get_active_recoveries():
            if one["requires_manual_approval"]:
                self.note("act", act="approve", name=one["recovery_id"], reason=one["reason"])
                self.command(CommandKind.APPROVE, str(one["recovery_id"]))
        return rested and self.run_until(self._knows_all, limit_ms=HEALED_MS, step_ms=100)

    def _knows_all(self) -> bool:
        """Nothing is open, and no position waits for what its venue may still list."""
        return self.core.idle and not self.core.recovery.account.open_questions()

    def rearm(self) -> None:
        """An operator re-arms what has tripped."""
        for name in list(self.core.ledger.breakers):
            adopt = name in ("unknown_past", "second_engine")
            self.note("act", act="rearm", name=name)
            self.command(CommandKind.ADOPT if adopt else CommandKind.REARM, "" if adopt else name)

    def _at_rest(self) -> bool:
        """Nothing is open but what waits for an operator."""
        waiting = {str(one["operation_id"]) for one in self.core.recovery.get_active_recoveries() if _waits(one)}
        ledger = self.core.ledger
        unsettled = {order.intent.operation_id for order in ledger.unsettled.values()}
        return (ledger.open_operations.keys() | unsettled) <= waiting

    def plant(self) -> bool:
        """Offers opportunities until one is taken; whether one was. Hedges that stay may fill a limit, as they should:
        then the operator has them closed, and it is tried again."""
        if self._takes_one():
            return True
        if not self.core.ledger.hedges:
            return False
        self.command(CommandKind.CLOSE_HEDGES)
        return self.run_until(lambda: self.core.idle, limit_ms=HEALED_MS, step_ms=100) and self._takes_one()

    def _takes_one(self) -> bool:
        """The operator re-arms what trips late."""
        before = len(self.entries)
        for coin, venue, bps in [(coin, venue, bps) for bps in (60, -60) for coin in COINS for venue in VENUES[:2]]:
            self.set_mid(venue, symbol_of(venue, coin), bps)
            self.run(300)
            self.set_mid(venue, symbol_of(venue, coin), 0)
            self.run(1500)
            self.rearm()
            records = [entry.record for entry in self.entries[before:]]
            if any(isinstance(record, OperationRecord) and not record.closes for record in records):
                return True
        return False

    def end(self, *, rested: bool, planted: bool) -> None:
        """The last row: what the core believes after a stop as an operator commands it."""
        self.finder_on = False
        ready = self.core.ready
        self.command(CommandKind.STOP)
        self.run_until(lambda: self.core.finished, limit_ms=HEALED_MS, step_ms=100)
        self.run(500)
        ledger = self.core.ledger
        self.note(
            "end",
            rested=rested,
            planted=planted,
            idle=self.core.idle,
            ready=ready,
            waiting=list(self.core.recovery.waiting()),
            refused=[refusal.name for refusal in self.refusals[-3:]],
            **end_fields(ledger, self.entries),
        )


def _waits(recovery: dict[str, object]) -> bool:
    return bool(recovery["requires_manual_approval"])


def _price(fp: int, absent: int, exp: int) -> Decimal | None:
    return None if fp == absent else Decimal(fp).scaleb(-exp)
