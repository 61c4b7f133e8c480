"""Simulated venues, an execution core and a journal in memory on one virtual clock.

``VirtualWorld(scenario, seed)`` builds the venues, tells the core of them and performs its actions. ``run(ms)`` lets
time pass. The core may die at any action (``crash_after``) and is born again on its journal; the venues go on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.core import ExecutionCore
from pipeline.execution.core_context import GUARD_ID_PREFIX, ID_PREFIX
from pipeline.execution.events import (
    AccountSnapshot,
    Action,
    Alert,
    Append,
    BalancesAnswer,
    BookView,
    CancelOrder,
    CatalogueChanged,
    Command,
    CommandKind,
    FetchBalances,
    HaltPort,
    NotSent,
    Now,
    Opportunity,
    Place,
    Question,
    Refused,
    Report,
    Sent,
    Tick,
)
from pipeline.execution.journal import JournalEntry
from pipeline.execution.journal.guard_journal import Base, base_of, missing
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import TYPE_OF_RECORD, TakeoverRecord
from pipeline.model.enums import InstrumentKind, OpportunityType, Refusal
from pipeline.model.errors import VenueUnavailable
from pipeline.model.instruments import InstrumentRow, VenueRef, build_rows
from pipeline.model.structs import ZERO, Balance
from pipeline.model.venue_clock import MEASURE_EVERY_S
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.fault_actions import apply_action
from pipeline.sim.exchange.faults import ACTION_KINDS, FaultPlan, FaultRule
from pipeline.sim.exchange.futures.timers import arm_timers, follow_funding_paths
from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S, ManualClock
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.exchange.venue_ledger import VenueLedger
from pipeline.sim.factory import build_venues
from pipeline.sim.scenarios.specs import Scenario, load_scenario
from pipeline.takeover import TakeoverHalt
from pipeline.virtual.books import book_words, offered_leg
from pipeline.virtual.engine_config import engine_config
from pipeline.virtual.halt_page import WorldHalt
from pipeline.virtual.listings import FeeRows, listing_of
from pipeline.virtual.market import Quote, ScriptedMarket
from pipeline.virtual.orders import reported_coins
from pipeline.virtual.venue_link import VenueLink
from shm.layout import BOOK

START_NS = 1_000 * NS_PER_S
TICK_NS = 20 * NS_PER_MS
LEASE_FOR_EVER_NS = 2**62


class ProcessKilled(Exception):
    """The core's process dies at this action."""


class VirtualWorld:
    """See the module's text. Prices come from ``market`` only; nothing trades unless the test or ``find`` offers it."""

    account_poll_ns = 200 * NS_PER_MS  # more often than the product, for what is not about the age of its readings

    def __init__(
        self,
        scenario: Scenario | str | Path | dict[str, Any] | None = None,
        seed: int = 1,
        *,
        settings: dict[str, Any] | None = None,
        expected_exit_basis_bps: Decimal | None = ZERO,
    ) -> None:
        """``settings``: sections of ``EngineConfig`` as structs. ``expected_exit_basis_bps``: of ``HedgeConfig``, where
        they leave it out: books that stand from the first moment say nothing of what their basis is otherwise."""
        self.scenario = scenario if isinstance(scenario, Scenario) else load_scenario(scenario)
        self.rng = random.Random(f"{seed}:world")
        self.clock = ManualClock(mono_ns=START_NS)
        self.ledger = VenueLedger(self.clock.mono_ns)
        self.faults = FaultPlan(self.clock, random.Random(f"{seed}:faults"))
        self.venues: dict[str, SimVenue] = build_venues(self.scenario, self.clock, self.ledger, self.faults, seed)
        self.market = ScriptedMarket(self.venues, self.clock)
        self.config = engine_config(self.scenario, self.venues, settings or {}, expected_exit_basis_bps)
        self.instruments: list[InstrumentRow] = []
        self.entries: list[JournalEntry] = []
        self.guard_entries: list[JournalEntry] = []
        self.refusals: list[Refusal] = []
        self.alerts: list[Alert] = []
        self.reports: list[Report] = []
        self.latched = False
        self.lease_expiry_ns = LEASE_FOR_EVER_NS
        self.fenced = False
        self.takes_over, self.host_boot = False, "virtual"  # whether the guard's core lives; which boot of the host
        self.blocked_venues: set[int] = set()
        self.blocked_instruments: set[int] = set()
        self.journal_room = True
        self.stalled: set[str] = set()  # venues whose public feed is silent
        self.crash_after: int | None = None  # actions until the process dies
        self.actions_done = 0
        self.lives = 0
        self.finder_on = False
        self._books: dict[int, BookView] = {}
        self._row_of: dict[tuple[str, str], InstrumentRow] = {}
        self._book_seq = 0
        self._fee_rows = FeeRows(self.venues, self.config.fees)
        self._clock_read_ns: dict[str, int] = {}  # venue -> when the account poller last read its clock
        self._opportunity_ids = 0
        self.links: dict[str, VenueLink] = {}
        self.core: ExecutionCore
        self.market.on_change.append(self._book_changed)
        for name, venue in self.venues.items():
            venue.on_own_fill.append(lambda symbol, *_, name=name: self._book_changed(name, symbol))

    # --- set-up ---

    def open(self, quotes: dict[tuple[str, str], Quote] | None = None) -> None:
        """Books as ``quotes`` say, accounts and timers; then the core's first life."""
        for (name, symbol), quote in (quotes or {}).items():
            self.market.quote(name, symbol, quote)
        specs = [
            listing_of(venue, symbol, self.config.fees)
            for venue in self.venues.values()
            for symbol in venue.instruments
        ]
        refs = [VenueRef(name=v.name, venue_id=v.venue_id, feed_id=v.feed_id) for v in self.config.venues]
        self.instruments = build_rows(specs, refs)
        self._row_of = {(row.spec.venue, row.spec.symbol): row for row in self.instruments}
        for venue in self.venues.values():
            venue.open_charts()
            arm_timers(venue)
            follow_funding_paths(venue)
        for name, symbol in self.market.quotes:
            self._publish(name, symbol)
        for rule in self.scenario.faults:
            self.arm(**rule)
        self._start_life()

    # --- ports of the core ---

    def book(self, instrument_id: int) -> BookView | None:
        view = self._books.get(instrument_id)
        if view is None:
            return None
        row = self.instruments[instrument_id]
        if row.spec.venue not in self.stalled:  # frames of other topics go on arriving
            view.proof_mono_ns = max(view.proof_mono_ns, self.clock.mono_ns() - self._feed_lag_ns(row.spec.venue))
        return view

    def has_room(self, size_bytes: int) -> bool:
        return self.journal_room

    def now(self) -> Now:
        """The virtual clock's time: it stands still between runs."""
        return Now(self.clock.mono_ns(), self.clock.wall_ns())

    # --- time ---

    def run(self, ms: float) -> None:
        """Lets ``ms`` of virtual time pass; a death of the core is followed by its next life at once."""
        end_ns = self.clock.mono_ns() + int(ms * NS_PER_MS)
        while self.clock.mono_ns() < end_ns:
            try:
                self.clock.advance(end_ns - self.clock.mono_ns())
            except ProcessKilled:
                self.kill()

    def run_until(self, condition: Callable[[], bool], *, limit_ms: float, step_ms: float = 5.0) -> bool:
        """Runs until ``condition`` holds, ``limit_ms`` of virtual time at most; whether it holds."""
        end_ns = self.clock.mono_ns() + int(limit_ms * NS_PER_MS)
        while not condition():
            if self.clock.mono_ns() >= end_ns:
                return False
            self.run(step_ms)
        return True

    # --- life and death ---

    def _start_life(self) -> None:
        self.lives += 1
        life = self.lives
        halt: HaltPort = TakeoverHalt() if self.takes_over else WorldHalt(self)
        ledger, base, more = self.replayed()
        self.core = ExecutionCore(self.config, self.instruments, market=self, halt=halt, journal=self, ledger=ledger)
        self.on_core()
        actions = self.core.boot(
            more,
            now=self.now(),
            first_epoch=77,
            instance="virtual",
            pid=life,
            build_hash=1,
            host_boot=self.host_boot,
            epoch_step=1,
            id_prefix=GUARD_ID_PREFIX if self.takes_over else ID_PREFIX,
        )
        self.links = {
            name: self.link(venue, next(iter(venue.accounts.values())), self._ours(life, self.feed))
            for name, venue in self.venues.items()
        }
        if self.takes_over:
            actions.insert(0, Append(TakeoverRecord(*base, "virtual")))
        self._perform(actions, self.now())
        for link in self.links.values():
            link.connect()
        self._repeat(life, TICK_NS, lambda: self.feed(Tick()))
        self._repeat(life, self.account_poll_ns, self._poll_accounts)

    def replayed(self) -> tuple[Ledger, Base, list[JournalEntry]]:
        """What a starting core knows: the fold of the executor's journal; what a run of the guard continues; what the
        journal lacked of the guard's, which an executor has appended to it by now."""
        ledger = Ledger()
        for entry in self.entries:
            ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
        base, more = base_of(ledger, self.guard_entries), missing(ledger, self.guard_entries)
        if not self.takes_over:
            self.entries += more
        return ledger, base, more

    def on_core(self) -> None:
        """A hook: the core of a new life exists and has not acted yet."""

    def link(self, venue: SimVenue, account: SimAccount, emit: Callable[[Any], None]) -> VenueLink:
        """How a process meets a venue."""
        return VenueLink(venue, account, emit)

    def _ours(self, life: int, work: Callable[[Any], None]) -> Callable[[Any], None]:
        """What reaches the process only while it is the one that asked."""
        return lambda event: work(event) if life == self.lives else None

    def _repeat(self, life: int, period_ns: int, work: Callable[[], None]) -> None:
        def turn() -> None:
            if life == self.lives:
                self.clock.call_later(period_ns, turn)
                work()

        self.clock.call_later(period_ns, turn)

    def kill(self) -> None:
        """SIGKILL and the next life: the journal survives, messages to the dead process are lost."""
        self.crash_after = None
        for link in self.links.values():
            link.disconnect()
        self._start_life()

    def take_over(self) -> None:
        """SIGKILL, and the guard's core begins: what it does is written into ``guard_entries``."""
        self.takes_over = True
        self.kill()

    def give_back(self) -> None:
        """The guard's core ends; the executor's next life folds the guard's journal into its own."""
        self.takes_over = False
        self.kill()

    def _survive(self) -> None:
        if self.crash_after is not None:
            if self.crash_after == 0:
                raise ProcessKilled
            self.crash_after -= 1
        self.actions_done += 1

    # --- events and actions ---

    def feed(self, event: Any) -> None:
        """One event into the core, and all that follows from it."""
        now = self.now()
        self._perform(self.core.handle(event, now), now)

    def command(self, kind: CommandKind, argument: str = "", reason: str = "virtual") -> None:
        """An operator's command."""
        self.feed(Command(kind, argument, reason))

    def _perform(self, actions: list[Action], now: Now) -> None:
        followers: list[Any] = []
        for action in actions:
            self._survive()
            self._do(action, now, followers)
        for event in followers:
            self.feed(event)

    def _do(self, action: Action, now: Now, followers: list[Any]) -> None:
        if isinstance(action, Append):
            self._append(action, now)
        elif isinstance(action, Place):
            followers.append(self._place(action))
        elif isinstance(action, CancelOrder):
            self.links[action.venue].cancel(action)
        elif isinstance(action, FetchBalances):
            self._fetch_balances(action)
        elif isinstance(action, Question):
            self.links[action.venue].question(action)
        elif isinstance(action, Refused):
            self.refusals.append(action.refusal)
        elif isinstance(action, Report):
            self.reports.append(action)
        elif isinstance(action, Alert):
            self.alerts.append(action)

    def _append(self, action: Append, now: Now) -> None:
        journal = self.guard_entries if self.takes_over else self.entries
        journal.append(
            JournalEntry(
                len(journal) + 1,
                TYPE_OF_RECORD[type(action.record)],
                now.mono_ns,
                now.wall_ns,
                self.core.ledger.boot_epoch,
                action.record,
            )
        )

    def _place(self, action: Place) -> Any:
        try:
            sent_ns = self.links[action.request.venue].place(action.request)
        except VenueUnavailable as error:
            return NotSent(action.request.client_id, Refusal.SESSION_DOWN, str(error))
        return Sent(action.request.client_id, sent_ns)

    def _fetch_balances(self, action: FetchBalances) -> None:
        rows: list[Balance] = []
        failed: list[str] = []
        missing = set(action.venues)

        def collect(venue: str, error: str) -> None:
            missing.discard(venue)
            if error:
                failed.append(f"{venue}: {error}")
            else:
                rows.extend(self.links[venue].rows.balances())
            if not missing:
                self.feed(BalancesAnswer(action.token, tuple(rows), "; ".join(failed)))

        life = self.lives

        def asked(venue: str) -> Callable[[str], None]:
            return lambda error: collect(venue, error) if life == self.lives else None

        for venue in action.venues:
            self.links[venue].ask("balances", "*", asked(venue))

    def _poll_accounts(self) -> None:
        """What the account poller publishes: every venue's balances, and positions of the catalogue's contracts (its
        page has no others), each with its own time; now and then its clock. And the catalogue's rows where the coin of
        fees has become short, or is filled up again."""
        life = self.lives
        for row in self._fee_rows.changed(self.instruments, self.core.fee_stock.short):
            self.instruments[row.instrument_id] = self._row_of[row.spec.venue, row.spec.symbol] = row
            self.feed(CatalogueChanged((row,)))

        def take(link: VenueLink, error: str) -> None:
            if error or life != self.lives:
                return
            listed, now_ns = self.core.context.instruments, self.clock.mono_ns()
            positions = [row for row in link.rows.positions() if listed.find(row.venue, row.symbol) is not None]
            times = {link.name: now_ns} if link.venue.kind is InstrumentKind.PERPETUAL else {}
            clocks, read = dict[str, int](), dict[str, int]()
            if now_ns - self._clock_read_ns.get(link.name, 0) >= MEASURE_EVERY_S * NS_PER_S:
                link.clock_offset_ns = link.venue.wall_ns() - now_ns
                clocks, read = {link.name: link.clock_offset_ns}, {link.name: now_ns}
                self._clock_read_ns[link.name] = now_ns
            coins = reported_coins(link.venue, self.config.fees.get(link.name))
            self.feed(AccountSnapshot(tuple(link.rows.balances()), tuple(positions), times, clocks, read, coins))

        for link in self.links.values():
            link.ask("balances", "*", partial(take, link))

    # --- books ---

    def _feed_lag_ns(self, venue: str) -> int:
        return int(self.venues[venue].latency.feed_us * 1000)

    def _book_changed(self, venue: str, symbol: str) -> None:
        if (venue, symbol) not in self._row_of or venue in self.stalled:
            return
        self.clock.call_later(self._feed_lag_ns(venue), lambda: self._publish(venue, symbol))

    def _publish(self, venue: str, symbol: str) -> None:
        row, sim = self._row_of[venue, symbol], self.venues[venue]
        self._book_seq += 1
        now_ns = self.clock.mono_ns()
        sent_ns = sim.wall_ns() - self._feed_lag_ns(venue)
        words = book_words(row, sim, seq=2 * self._book_seq, recv_mono_ns=now_ns, venue_wall_ns=sent_ns)
        self._books[row.instrument_id] = BookView(words, now_ns)
        if self.finder_on:
            self.find(row)

    # --- opportunities ---

    def find(self, row: InstrumentRow) -> None:
        """Offers to the core what this instrument's best prices promise against every other one of its pair."""
        for other in self.instruments:
            if other.pair_id != row.pair_id or other is row or not row.tradable_pair:
                continue
            if row.spec.kind is InstrumentKind.PERPETUAL and other.spec.kind is InstrumentKind.PERPETUAL:
                continue
            for buy, sell in ((row, other), (other, row)):
                offered = self.opportunity(buy.spec.venue, sell.spec.venue, buy.spec.pair)
                if offered is not None:
                    self.feed(offered)

    def opportunity(
        self, buy_venue: str, sell_venue: str, pair: str, *, qty: Decimal | None = None, **changes: Any
    ) -> Opportunity | None:
        """The detector's record of buying at the best ask of one venue and selling at the best bid of another; None
        where the best prices do not cross. ``qty`` in base coins; None: what both best levels hold."""
        buy, sell = self._listing(buy_venue, pair), self._listing(sell_venue, pair)
        books = self._books.get(buy.instrument_id), self._books.get(sell.instrument_id)
        if books[0] is None or books[1] is None:
            return None
        ask, bid = books[0].words[BOOK.ask_price_fp], books[1].words[BOOK.bid_price_fp]
        if not books[0].words[BOOK.ask_count] or not books[1].words[BOOK.bid_count] or ask >= bid:
            return None
        there = min(books[0].words[BOOK.ask_qty_fp], books[1].words[BOOK.bid_qty_fp])
        wanted = there if qty is None else min(there, int(qty.scaleb(buy.qty_exp)))
        now_ns = self.clock.mono_ns()
        futures = InstrumentKind.PERPETUAL in (buy.spec.kind, sell.spec.kind)
        edge_bps = float(bid - ask) / float(ask) * 1e4
        legs = tuple(
            offered_leg(row, side, price, wanted, view)
            for row, side, price, view in ((buy, 1, ask, books[0]), (sell, -1, bid, books[1]))
        )
        self._opportunity_ids += 1
        values: dict[str, Any] = {
            "opportunity_id": self._opportunity_ids,
            "type": int(OpportunityType.SPOT_FUTURES_HEDGE if futures else OpportunityType.SPOT_SPOT),
            "pair_id": buy.pair_id,
            "detect_mono_ns": now_ns,
            "trigger_recv_mono_ns": now_ns,
            "trigger_publish_mono_ns": now_ns,
            "edge_bps": edge_bps,
            "entry_edge_bps": edge_bps,
            "profit_quote": 0.0,
            "trigger_instrument": buy.instrument_id,
            "direction_key": buy.instrument_id * 4096 + sell.instrument_id,
            "legs": legs,
            "dequeued_mono_ns": now_ns,
            **changes,
        }
        return Opportunity(**values)

    def _listing(self, venue: str, pair: str) -> InstrumentRow:
        return next(row for row in self.instruments if row.spec.venue == venue and row.spec.pair == pair)

    # --- what the world does ---

    def follow_scenario(self, *, seconds: float, step_ms: int = 100) -> None:
        """The quoted listings follow the scenario's price and basis paths from now on."""
        self.market.follow_scenario(self.scenario, seconds=seconds, step_ms=step_ms)

    def arm(self, **rule: Any) -> int:
        """Arms a fault (sim/exchange/faults.py) or carries out a venue's own act, at once or ``at_s`` from now."""
        parsed = FaultRule.parse(rule)
        if parsed.at_s > 0:

            def due() -> None:
                self._arm_now(replace(parsed, at_s=0.0))

            self.clock.call_later(int(parsed.at_s * NS_PER_S), due)
            return 0
        return self._arm_now(parsed)

    def _arm_now(self, parsed: FaultRule) -> int:
        self.ledger.append("fault", parsed.venue, fault=parsed.kind, target=parsed.target, symbol=parsed.symbol)
        if parsed.kind == "disconnect":
            for name, link in self.links.items():
                if parsed.venue in ("*", name):
                    link.disconnect("connection closed by the venue")
                    self.clock.call_later(300 * NS_PER_MS, link.connect)
            return 1
        return apply_action(self.venues, parsed) if parsed.kind in ACTION_KINDS else self.faults.add(parsed)

    # --- the venue's truth ---

    def wallet(self, venue: str, asset: str) -> Decimal:
        """Total (free and locked) at the venue."""
        account = next(iter(self.venues[venue].accounts.values()))
        return account.wallet(asset).total

    def position(self, venue: str, symbol: str) -> Decimal:
        """Futures position at the venue, base coins, signed."""
        sim = self.venues[venue]
        return sum((row.qty for row in sim.shown_positions(next(iter(sim.accounts.values())), symbol)), Decimal(0))
