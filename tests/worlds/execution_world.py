"""A tiny world on virtual time for the execution core: venues that match orders, lose messages and are late.

Independent bookkeeping: the venues keep their own balances, positions, orders and fills in Decimals and import nothing
of the engine's accounting. Everything random comes from one seed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pipeline.core import ExecutionCore
from pipeline.exchanges.base import FundingNotice, OutcomeKind, SessionState
from pipeline.execution.events import (
    AccountSnapshot,
    Action,
    Append,
    BalancesAnswer,
    BookView,
    CancelOrder,
    FetchBalances,
    FetchFills,
    FetchFunding,
    FetchInstrument,
    FetchMoney,
    FetchRiskTiers,
    FillsAnswer,
    FundingAnswer,
    MoneyAnswer,
    NotSent,
    Now,
    Opportunity,
    Place,
    QueryAnswer,
    QueryOrder,
    Refused,
    Sent,
    SweepAnswer,
    SweepVenue,
    Tick,
)
from pipeline.execution.journal import JournalEntry
from pipeline.execution.records import TYPE_OF_RECORD
from pipeline.model.config import (
    EngineConfig,
)
from pipeline.model.enums import OrderSide, OrderState, Refusal
from pipeline.model.errors import OutcomeUnknown, VenueRejected
from pipeline.model.structs import Balance, Fill, Funding, OrderRequest, OrderUpdate, Position
from tests.worlds.judging.world_judge import judge
from tests.worlds.venue_model import (
    LOT,
    MS,
    START_NS,
    WALL_OFFSET_NS,
    Faults,
    ModelOrder,
    ModelVenue,
    detected,
    facts_of,
    listed,
    make_config,
    make_rows,
    outcome,
)


class World:
    """Venues, time, transport, journal and a core that can be killed and born again."""

    def __init__(self, seed: int, faults: Faults | None = None, config: EngineConfig | None = None) -> None:
        self.rng = random.Random(seed)
        self.faults = faults or Faults()
        self.config = config or make_config()
        self.rows = make_rows(self.config)
        self.now_ns = START_NS
        self.heap: list[tuple[int, int, int, Callable[[], None]]] = []
        self.counter = 0
        self.life = 0
        self.entries: list[JournalEntry] = []
        self.refusals: list[Refusal] = []
        self.alerts: list[str] = []
        self.reports: list[Action] = []
        self.latched = False
        self.lease_ns = 2**62
        self.fenced = False
        self.journal_room = True
        self.crash_after: int | None = None  # actions until the process dies
        self.actions_done = 0
        self.venues = {
            "mexc_spot": ModelVenue("mexc_spot", True, False, {"USDT": Decimal(10000), "BTC": Decimal(50)}),
            "gateio_spot": ModelVenue("gateio_spot", True, True, {"USDT": Decimal(10000), "BTC": Decimal(50)}),
            "gateio_futures": ModelVenue("gateio_futures", False, False, {"USDT": Decimal(10000)}),
        }
        self.initial = {(v.name, a): amount for v in self.venues.values() for a, amount in v.balances.items()}
        self.trade_ids = 0
        self.order_ids = 0
        self.opportunity_ids = 0
        self.up = dict.fromkeys(self.venues, True)
        self.host_boot = "first"
        self.epoch_step = 1
        self.blind = False  # no book is there
        self.sweeps: list[SweepVenue] = []
        self.depth = Decimal(2)
        self.core = self._born()

    # --- ports ---

    def book(self, instrument_id: int) -> BookView | None:
        if self.blind:
            return None
        row = self.rows[instrument_id]
        self.counter += 1
        venue = self.venues[row.spec.venue]
        return venue.book((row.price_exp, row.qty_exp), instrument_id, self.now_ns, self.counter, self.depth)

    def has_room(self, size_bytes: int) -> bool:
        return self.journal_room

    # --- life ---

    def _born(self) -> ExecutionCore:
        world = self

        class Halt:
            latched = staticmethod(lambda: world.latched)
            lease_expiry_mono_ns = staticmethod(lambda: world.lease_ns)
            fenced = staticmethod(lambda: world.fenced)
            venue_blocked = staticmethod(lambda venue_id: False)
            instrument_blocked = staticmethod(lambda instrument_id: False)

        core = ExecutionCore(self.config, self.rows, market=self, halt=Halt(), journal=self)
        self.core = core
        actions = core.boot(
            list(self.entries),
            now=self.now(),
            first_epoch=77,
            instance="world",
            pid=1,
            build_hash=2,
            host_boot=self.host_boot,
            epoch_step=self.epoch_step,
        )
        self._perform(actions, self.now())
        for venue in self.venues:
            if self.up[venue]:
                self._later(1, lambda v=venue: self.feed(SessionState(venue=v, state="up", recv_mono_ns=self.now_ns)))
        self._later(1, self._account)
        self._later(2, self._tick)
        return core

    def kill(self) -> None:
        """SIGKILL and restart: the journal survives, every message to the dead process is lost."""
        self.life += 1
        self.crash_after = None
        self._born()

    def now(self) -> Now:
        return Now(self.now_ns, self.now_ns + WALL_OFFSET_NS)

    def _later(self, delay_ms: float, work: Callable[[], None], *, ours: bool = True) -> None:
        """``ours``: dies with the process; else it happens at the venue whatever becomes of us."""
        self.counter += 1
        life = self.life

        def run() -> None:
            if not ours or life == self.life:
                work()

        heapq.heappush(self.heap, (self.now_ns + int(delay_ms * MS), self.counter, life, run))

    def run(self, ms: float) -> None:
        end_ns = self.now_ns + int(ms * MS)
        while self.heap and self.heap[0][0] <= end_ns:
            at, _, _, work = heapq.heappop(self.heap)
            self.now_ns = max(self.now_ns, at)
            try:
                work()
            except Crash:
                self.kill()
        self.now_ns = end_ns

    def _tick(self) -> None:
        self._later(20, self._tick)
        self.feed(Tick())

    def _account(self) -> None:
        self._later(200, self._account)
        balances = tuple(b for v in self.venues.values() for b in self.rest_balances(v))
        self.feed(AccountSnapshot(balances, self.rest_positions(), {"gateio_futures": self.now_ns}))

    def feed(self, event: Any) -> None:
        now = self.now()
        self._perform(self.core.handle(event, now), now)

    def feed_safely(self, event: Any) -> None:
        """``feed``, with a restart when the process dies in it."""
        try:
            self.feed(event)
        except Crash:
            self.kill()

    def _survive(self) -> None:
        """One more thing is about to be done: the process may die instead."""
        if self.crash_after is not None:
            if self.crash_after == 0:
                raise Crash
            self.crash_after -= 1
        self.actions_done += 1

    def _perform(self, actions: list[Action], now: Now) -> None:
        followers: list[Any] = []
        for action in actions:
            self._survive()
            if isinstance(action, Append):
                self.entries.append(
                    JournalEntry(
                        len(self.entries) + 1,
                        TYPE_OF_RECORD[type(action.record)],
                        now.mono_ns,
                        now.wall_ns,
                        self.core.ledger.boot_epoch,
                        action.record,
                    )
                )
            elif isinstance(action, Place):
                followers.append(self._place(action))
            elif isinstance(action, SweepVenue):
                self.sweeps.append(action)
                self._later(self._delay(), lambda a=action: self._sweep(a))
            elif isinstance(action, QueryOrder):
                self._later(self._delay(), lambda a=action: self._query(a))
            elif isinstance(action, FetchFills):
                self._later(self._delay(), lambda a=action: self._fetch_fills(a))
            elif isinstance(action, FetchRiskTiers | FetchInstrument):
                answer = facts_of(action, self.core.context.instruments)
                self._later(0.0, lambda a=answer: self.feed(a))
            elif isinstance(action, FetchFunding):
                self._later(self._delay(), lambda a=action: self._fetch_funding(a))
            elif isinstance(action, FetchMoney):
                self._later(self._delay(), lambda a=action: self._fetch_money(a))
            elif isinstance(action, FetchBalances):
                self._later(self._delay(), lambda a=action: self._fetch_balances(a))
            elif isinstance(action, Refused):
                self.refusals.append(action.refusal)
            elif isinstance(action, CancelOrder):
                pass  # every order of the model has ended when its answer is out
            else:
                self.reports.append(action)
        for event in followers:
            self.feed(event)

    # --- the venues ---

    def _chance(self, name: str) -> bool:
        return self.rng.random() < getattr(self.faults, name)

    def _delay(self) -> float:
        return self.rng.uniform(300, 900) if self._chance("late") else self.rng.uniform(1, 8)

    def _place(self, action: Place) -> Any:
        request = action.request
        if self._chance("not_sent") or not self.up[request.venue]:
            return NotSent(request.client_id, Refusal.SESSION_DOWN, "model")
        self.check_limits(action)
        if not self._chance("drop_request"):
            self._later(self._delay(), lambda: self._arrive(request), ours=False)
        return Sent(request.client_id, self.now_ns)

    def check_limits(self, action: Place) -> None:
        """I7 and I10 at the moment of the send."""
        request = action.request
        if action.purpose.adds_risk:
            assert not self.latched, "entry placed under a halt"
            assert self.position_usd(request.venue) <= self.config.risk_limits.max_position_size_usd
            open_usd = sum(o.record.notional_usd for o in self.core.ledger.open_operations.values())
            assert open_usd <= self.config.risk_limits.max_total_exposure_usd

    def position_usd(self, venue: str) -> Decimal:
        """Worst case of what is open in the coin on a venue, out of the ledger's records: whole legs and hedges."""
        ledger = self.core.ledger
        legs = [
            leg.qty * leg.limit_price
            for operation in ledger.open_operations.values()
            for leg in operation.record.legs
            if leg.venue == venue and not operation.record.closes
        ]
        hedges = [
            hedge.qty * hedge.entry_futures_price
            for name, hedge in ledger.hedges.items()
            if venue in (hedge.spot_venue, hedge.futures_venue) and name not in ledger.open_operations
        ]
        return sum(legs + hedges, Decimal(0))

    def _arrive(self, request: OrderRequest) -> None:
        venue = self.venues[request.venue]
        venue.requests.append(request.client_id)
        if request.expiry_wall_ms and self.now().wall_ms > request.expiry_wall_ms:
            self._answer_reject(request, "expired")
            return
        if self._chance("reject"):
            self._answer_reject(request, "model says no")
            return
        self.order_ids += 1
        order = ModelOrder(request, f"{request.venue}-{self.order_ids}")
        venue.orders[request.client_id] = order
        fills = self._match(venue, order)
        order.done = True
        self._tell(venue, order, fills)

    def _answer_reject(self, request: OrderRequest, text: str) -> None:
        if not self._chance("drop_response"):
            error = VenueRejected(text, venue=request.venue)
            self._deliver(outcome(request, OutcomeKind.REJECTED, None, error, self.now_ns))

    def _match(self, venue: ModelVenue, order: ModelOrder) -> list[Fill]:
        request = order.request
        buy = request.side is OrderSide.BUY
        price = venue.ask if buy else venue.bid
        if venue.phantom or self._chance("no_fill") or (price > request.price if buy else price < request.price):
            return []
        qty = request.qty
        if self._chance("partial"):
            qty = (qty * Decimal(self.rng.randint(1, 9)) / 10 / LOT).to_integral_value() * LOT
        pieces = [qty] if qty < 3 * LOT or self.rng.random() < 0.5 else [LOT, qty - LOT]
        return [self._execute(venue, order, piece, price) for piece in pieces if piece > 0]

    def _execute(self, venue: ModelVenue, order: ModelOrder, qty: Decimal, price: Decimal) -> Fill:
        request, sign = order.request, int(order.request.side)
        self.trade_ids += 1
        order.filled += qty
        order.value += qty * price
        in_base = venue.spot and venue.fee_in_base_on_buy and sign > 0
        fee = (qty if in_base else qty * price) * Decimal(100) / 1_000_000
        fee_asset = "BTC" if in_base else "USDT"
        if venue.spot:
            venue.balances["BTC"] += sign * qty
            venue.balances["USDT"] -= sign * qty * price
        else:
            venue.move_position(sign * qty, price)
        venue.balances[fee_asset] -= fee
        assert all(amount >= 0 for amount in venue.balances.values()), "a balance went below zero: I11"
        fill = Fill(
            venue=venue.name,
            symbol=request.symbol,
            trade_id=str(self.trade_ids),
            order_id=order.order_id,
            client_id=request.client_id,
            side=request.side,
            qty=qty,
            price=price,
            fee=fee,
            fee_asset=fee_asset,
            is_maker=False,
            venue_wall_ms=self.now().wall_ms,
            recv_mono_ns=self.now_ns,
            source="ws",
        )
        venue.fills.append(fill)
        return fill

    def _tell(self, venue: ModelVenue, order: ModelOrder, fills: list[Fill]) -> None:
        """Answer and stream messages, in any order, some lost, some twice, some late."""
        request = order.request
        messages: list[Any] = list(fills)
        state = OrderState.FILLED if order.filled == request.qty else OrderState.CANCELLED
        messages.append(order.update(state, "ws", self.now()))
        if venue.spot:
            messages += venue.shown_balances(self.now_ns, "ws")
        messages = [m for m in messages if not self._chance("drop_stream")]
        messages += [m for m in messages if self._chance("duplicate")]
        if self._chance("late"):
            self.rng.shuffle(messages)
        if not self._chance("drop_response"):
            if self._chance("unknown_response"):
                error = OutcomeUnknown("504", venue=venue.name)
                answer = outcome(request, OutcomeKind.UNKNOWN, None, error, self.now_ns)
            else:
                opened = order.update(OrderState.OPEN, "ws_api", self.now(), Decimal(0))
                answer = outcome(request, OutcomeKind.ACKED, opened, None, self.now_ns)
            messages.insert(self.rng.randint(0, len(messages)), answer)
        for message in messages:
            self._deliver(message)

    def _deliver(self, message: Any) -> None:
        self._later(self._delay(), lambda: self.feed(message))

    # --- REST ---

    def rest_balances(self, venue: ModelVenue) -> list[Balance]:
        return venue.shown_balances(self.now_ns, "rest")

    def rest_positions(self) -> tuple[Position, ...]:
        return self.venues["gateio_futures"].shown_positions(self.now_ns)

    def _ended(self, order: ModelOrder) -> OrderUpdate:
        full = order.filled == order.request.qty
        return order.update(OrderState.FILLED if full else OrderState.CANCELLED, "rest", self.now())

    def _sweep(self, action: SweepVenue) -> None:
        venue = self.venues[action.venue]
        failed = self._chance("rest_error") or not self.up[action.venue]
        began = self.now_ns
        answer = SweepAnswer(
            venue=action.venue,
            began_mono_ns=began,
            began_wall_ms=self.now().wall_ms,
            since_wall_ms=action.since_wall_ms,
            symbols=action.symbols,
            orders=() if failed else tuple(self._ended(o) for o in venue.orders.values()),
            fills=() if failed else listed(venue),
            balances=() if failed else tuple(self.rest_balances(venue)),
            positions=() if failed or venue.spot else self.rest_positions(),
            error="model" if failed else "",
        )
        self._later(self.rng.uniform(0, 3), lambda: self.feed(answer))

    def _query(self, action: QueryOrder) -> None:
        if self._chance("rest_error"):
            self.feed(QueryAnswer(action.venue, action.symbol, action.client_id, None, "model"))
            return
        order = self.venues[action.venue].orders.get(action.client_id)
        update = self._ended(order) if order is not None else None
        self.feed(QueryAnswer(action.venue, action.symbol, action.client_id, update))

    def _fetch_fills(self, action: FetchFills) -> None:
        failed = self._chance("rest_error")
        fills = () if failed else listed(self.venues[action.venue])
        self.feed(FillsAnswer(action.venue, action.symbol, fills, "model" if failed else ""))

    def _fetch_balances(self, action: FetchBalances) -> None:
        balances = tuple(b for name in action.venues for b in self.rest_balances(self.venues[name]))
        self.feed(BalancesAnswer(action.token, balances))

    # --- funding ---

    def fund(self, amount: Decimal, *, listed_after_ms: float = 0) -> None:
        """The futures venue books a payment, perhaps lists it late, and its stream may say so."""
        venue = self.venues["gateio_futures"]
        venue.balances["USDT"] += amount
        self.trade_ids += 1
        row = Funding(
            venue=venue.name,
            symbol="BTCUSDT",
            event_id=str(self.trade_ids),
            asset="USDT",
            amount=amount,
            venue_wall_ms=self.now().wall_ms,
        )
        self._later(listed_after_ms, lambda: venue.funding.append(row), ours=False)
        if not self._chance("drop_stream"):
            self._deliver(
                FundingNotice(
                    venue=venue.name, symbol="BTCUSDT", venue_wall_ms=row.venue_wall_ms, recv_mono_ns=self.now_ns
                )
            )

    def _fetch_funding(self, action: FetchFunding) -> None:
        if self._chance("rest_error"):
            self.feed(FundingAnswer(action.venue, (), "model"))
            return
        rows = [row for row in self.venues[action.venue].funding if row.venue_wall_ms >= action.since_wall_ms]
        self.feed(FundingAnswer(action.venue, tuple(rows)))

    def _fetch_money(self, action: FetchMoney) -> None:
        """No venue of the model keeps a list of it."""
        self.feed(MoneyAnswer(action.venue, (), "model" if self._chance("rest_error") else ""))

    # --- opportunities ---

    def offer(
        self, buy: str, sell: str, qty: Decimal = Decimal(1), edge_bps: float = 20.0, **changes: Any
    ) -> Opportunity:
        """Makes the books offer an edge between two venues, and the detector's record of it."""
        self.venues[buy].bid, self.venues[buy].ask = Decimal("99.90"), Decimal("99.95")
        self.venues[sell].bid, self.venues[sell].ask = Decimal("100.40"), Decimal("100.45")
        self.opportunity_ids += 1
        return detected(
            self.opportunity_ids, self.rows, self.venues[buy], self.venues[sell], qty, self.now_ns, edge_bps, **changes
        )

    def calm(self, ms: float = 30_000) -> None:
        """Faults stop, books are fair everywhere, time passes."""
        self.faults = Faults()
        self.crash_after = None
        for venue in self.venues.values():
            venue.bid, venue.ask = Decimal("99.95"), Decimal("100.05")
        self.run(ms)

    def judge(self) -> None:
        """I1-I4, I6, I12 and the money, against the venues' own books."""
        judge(self.core, self.venues, self.initial, self.entries)


class Crash(Exception):
    """The process was killed at this action."""
