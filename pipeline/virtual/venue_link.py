"""One simulated venue as the execution core meets it, on virtual time and without a wire format.

Orders travel out and answers back with the venue's latencies; the private stream pushes what the account's listeners
get; REST questions are answered from the venue's own queries. The fault plan and the request budgets of the simulator
decide about each request, and every request is a row of the venue's ledger.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import msgspec

from pipeline.economics.margin import Tier, endless
from pipeline.execution.events import (
    AddMargin,
    CancelOrder,
    FetchFills,
    FetchFunding,
    FetchInstrument,
    FetchMoney,
    FetchRiskTiers,
    FillsAnswer,
    FundingAnswer,
    InstrumentAnswer,
    MarginAnswer,
    MoneyAnswer,
    QueryAnswer,
    QueryOrder,
    RiskTiersAnswer,
    SweepAnswer,
    SweepVenue,
)
from pipeline.model.errors import (
    GatewayRefused,
    OutcomeUnknown,
    RateLimited,
    VenueError,
    VenueRejected,
    VenueUnavailable,
)
from pipeline.model.structs import Fill, OrderRequest, OrderUpdate
from pipeline.model.venue_events import (
    CancelOutcome,
    OutcomeKind,
    PlaceOutcome,
    SessionState,
)
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.events import AccountEvent
from pipeline.sim.exchange.faults import RequestFaults
from pipeline.sim.exchange.history import STALE_NS
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.orders import (
    RejectReason,
    SimReject,
)
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.rate_limits import Budget, WindowLimiter
from pipeline.virtual import histories
from pipeline.virtual.listings import listing_of
from pipeline.virtual.venue_rows import VenueRows, WalletChanged

VenueQuestion = (
    QueryOrder | FetchFills | FetchFunding | FetchMoney | SweepVenue | AddMargin | FetchRiskTiers | FetchInstrument
)
Answer = (
    QueryAnswer
    | FillsAnswer
    | FundingAnswer
    | MoneyAnswer
    | SweepAnswer
    | MarginAnswer
    | RiskTiersAnswer
    | InstrumentAnswer
)
Emit = Callable[[object], None]


class VenueLink:
    """Order entry, private stream and REST of one venue and account. ``emit`` gets everything that it says."""

    def __init__(self, venue: SimVenue, account: SimAccount, emit: Emit, rows: VenueRows | None = None) -> None:
        self.venue = venue
        self.account = account
        self.rows = rows or VenueRows(venue, account)
        self.name = venue.name
        self._emit = emit
        self._clock = venue.clock
        self._limiter = WindowLimiter()
        self._detach: Callable[[], None] | None = None
        self.clock_offset_ns = venue.wall_ns() - venue.clock.mono_ns()  # of its clock, as last measured
        self.connected = False
        self.generation = 0  # of the session: what an older one sent is lost to us

    # --- session ---

    def connect(self) -> None:
        """Order entry and private stream stand, from after one round trip on."""
        self.generation += 1
        generation = self.generation

        def up() -> None:
            if generation != self.generation:
                return
            self.connected = True
            self._detach = self.venue.on_account(self.account, lambda event: self._pushed(generation, event))
            self._emit(SessionState(venue=self.name, state="up", recv_mono_ns=self._clock.mono_ns()))

        self._clock.call_at(self.venue.rest_link.arrival_ns(), up)

    def disconnect(self, reason: str = "") -> None:
        """The session is gone; ``reason`` given = the core is notified, as when a socket closes."""
        self.generation += 1
        self.connected = False
        if self._detach is not None:
            self._detach()
            self._detach = None
        if reason:
            self._emit(SessionState(venue=self.name, state="down", recv_mono_ns=self._clock.mono_ns(), reason=reason))

    # --- orders ---

    def place(self, request: OrderRequest) -> int:
        """Hands the order to the network; returns the send time. Raises ``VenueUnavailable``: nothing was sent."""
        if not self.connected:
            raise VenueUnavailable(f"{self.name}: not connected; nothing was sent", venue=self.name)
        generation, now_ns = self.generation, self._clock.mono_ns()
        signed_ms = (now_ns + self.clock_offset_ns) // NS_PER_MS
        if request.expiry_wall_ms:  # on the venue's clock, as far as it is known
            left_ms = request.expiry_wall_ms - self._clock.wall_ns() // NS_PER_MS
            request = msgspec.structs.replace(request, expiry_wall_ms=signed_ms + left_ms)
        arrival_ns = self.venue.order_link.arrival_ns()
        self._clock.call_at(arrival_ns, lambda: self._arrived(generation, request, signed_ms))
        return now_ns

    def _arrived(self, generation: int, request: OrderRequest, signed_ms: int) -> None:
        faults = self._admit("place", request.symbol, request.client_id)
        if faults.delay_ns:
            self._clock.call_later(faults.delay_ns, lambda: self._execute(generation, request, signed_ms, faults))
        else:
            self._execute(generation, request, signed_ms, faults)

    def _execute(self, generation: int, request: OrderRequest, signed_ms: int, faults: RequestFaults) -> None:
        if faults.drop_request:
            self._outcome(generation, request, OutcomeKind.UNKNOWN, None, self._unknown("connection closed"), faults)
            return
        if faults.status == 429 or not self._within_budget("place"):
            after_s = faults.retry_after_s or 1.0
            self.venue.ledger.append(
                "limited",
                self.name,
                operation="place",
                client_id=request.client_id,
                retry_after_s=after_s,
                injected=faults.status == 429,
                late_ns=faults.delay_after_ns,
            )
            limited = RateLimited(f"{self.name}: too many requests", retry_after_s=after_s, venue=self.name)
            self._outcome(generation, request, OutcomeKind.REJECTED, None, limited, faults)
            return
        if faults.page_status:
            page = GatewayRefused(f"{self.name}: a page", venue=self.name, code=faults.page_status)
            self._outcome(generation, request, OutcomeKind.UNKNOWN, None, page, faults)
            return
        if faults.status:
            error = self._unknown(f"HTTP {faults.status}")
            self._outcome(generation, request, OutcomeKind.UNKNOWN, None, error, faults)
            return
        try:
            ahead_ms = self.venue.signed_ahead_ms_max
            if ahead_ms is not None and signed_ms >= self.venue.now_ms() + ahead_ms:
                text = f"signed at {signed_ms}, now={self.venue.now_ms()}"
                about = {"client_id": request.client_id, "symbol": request.symbol}
                self.venue.ledger.append("reject", self.name, reason=RejectReason.EXPIRED.value, text=text, **about)
                raise SimReject(RejectReason.EXPIRED, text)
            order = self.venue.place(self.account, self.rows.request(request, signed_ms))
        except SimReject as refusal:
            rejected = self.rows.refused(request, refusal)
            self._outcome(generation, request, OutcomeKind.REJECTED, None, rejected, faults)
            return
        if faults.drop_response or faults.status_after:
            error = self._unknown("connection closed" if faults.drop_response else f"HTTP {faults.status_after}")
            self._outcome(generation, request, OutcomeKind.UNKNOWN, None, error, faults)
            return
        self._outcome(generation, request, OutcomeKind.ACKED, self.rows.acked(request, order), None, faults)

    def _outcome(
        self,
        generation: int,
        request: OrderRequest,
        kind: OutcomeKind,
        update: OrderUpdate | None,
        error: VenueError | None,
        faults: RequestFaults,
    ) -> None:
        def deliver() -> None:
            if generation == self.generation:
                self.answered(error, faults)
                self._emit(
                    PlaceOutcome(
                        venue=self.name,
                        symbol=request.symbol,
                        client_id=request.client_id,
                        kind=kind,
                        update=update,
                        error=error,
                        recv_mono_ns=self._clock.mono_ns(),
                    )
                )

        self._clock.call_at(self.venue.ack_link.arrival_ns() + faults.delay_after_ns, deliver)

    def answered(self, error: VenueError | None, faults: RequestFaults) -> None:
        """A hook: the answer to a placement has arrived."""

    def cancel(self, action: CancelOrder) -> None:
        """The answer is a ``CancelOutcome``."""
        generation = self.generation

        def arrived() -> None:
            faults = self._admit("cancel", action.symbol, action.client_id)
            update: OrderUpdate | None = None
            error: VenueError | None = None
            if faults.drop_request or faults.status:
                error = self._unknown("no answer")
            else:
                try:
                    client_id = self.rows.client_id(action.client_id)
                    update = self.rows.cancelled(self.venue.cancel(self.account, action.symbol, client_id=client_id))
                except SimReject as refusal:
                    error = VenueRejected(f"{self.name}: {refusal}", venue=self.name)
            kind = OutcomeKind.ACKED if error is None else OutcomeKind.REJECTED
            outcome = CancelOutcome(
                venue=self.name,
                symbol=action.symbol,
                client_id=action.client_id,
                order_id=action.order_id,
                kind=OutcomeKind.UNKNOWN if isinstance(error, OutcomeUnknown) else kind,
                update=update,
                error=error,
            )
            self._clock.call_at(
                self.venue.ack_link.arrival_ns(),
                lambda: self._emit(outcome) if generation == self.generation else None,
            )

        self._clock.call_at(self.venue.order_link.arrival_ns(), arrived)

    # --- private stream ---

    def _pushed(self, generation: int, event: AccountEvent) -> None:
        if generation != self.generation:
            return
        for pushed in self.rows.pushed(event):
            if isinstance(pushed, WalletChanged):
                self.ask("balances", "*", lambda error: None if error else self._tell_balances())
            else:
                self._emit(pushed)

    def _tell_balances(self) -> None:
        for row in self.rows.balances():
            self._emit(row)

    # --- REST ---

    def ask(self, operation: str, symbol: str, answer: Callable[[str], object], client_id: str = "") -> None:
        """One REST question: ``answer(error)`` runs after the way there, at the venue; it sends what it found by itself
        (:meth:`later`). ``error`` is "" or why there is no answer."""

        def arrived() -> None:
            faults = self._admit(operation, symbol, client_id)
            failed = ""
            if faults.drop_request or faults.drop_response:
                failed = "connection closed"
            elif faults.status or faults.page_status:
                failed = f"HTTP {faults.status or faults.page_status}"

            def serve() -> None:
                token = STALE_NS.set(faults.stale_ns)
                try:
                    answer(failed)
                finally:
                    STALE_NS.reset(token)

            if faults.delay_ns + faults.delay_after_ns:
                self._clock.call_later(faults.delay_ns + faults.delay_after_ns, serve)
            else:
                serve()

        self._clock.call_at(self.venue.rest_link.arrival_ns(), arrived)

    def later(self, event: Answer) -> None:
        """The way back of an answer."""
        self._clock.call_at(self.venue.rest_link.arrival_ns(), lambda: self._emit(event))

    def question(self, action: VenueQuestion) -> None:
        """Asks; the answer comes as an event of the core."""
        asks: dict[type, Callable[..., None]] = {
            SweepVenue: self.sweep,
            QueryOrder: self.query,
            FetchFills: self.fetch_fills,
            FetchFunding: self.fetch_funding,
            FetchMoney: self.fetch_money,
            AddMargin: self.add_margin,
            FetchRiskTiers: self.fetch_risk_tiers,
            FetchInstrument: self.fetch_instrument,
        }
        asks[type(action)](action)

    def sweep(self, action: SweepVenue) -> None:
        """Open and finished orders, trades, balances and positions, as one answer."""
        began_mono_ns, began_wall_ms = self._clock.mono_ns(), self._clock.wall_ns() // NS_PER_MS

        def answer(error: str) -> None:
            since = action.since_wall_ms
            known = [] if error else self.venue.finished_orders(self.account, since_ms=since)
            with self._shown("open_orders"):
                known += [] if error else self.venue.open_orders(self.account)
            with self._shown("trades"):
                fills = () if error else tuple(self.fills(since, set(action.symbols)))
            with self._shown("balances"):
                balances = () if error else tuple(self.rows.balances())
            with self._shown("positions"):
                positions = () if error else tuple(self.rows.positions())
            wanted = set(action.symbols)
            self.later(
                SweepAnswer(
                    venue=self.name,
                    began_mono_ns=began_mono_ns,
                    began_wall_ms=began_wall_ms,
                    since_wall_ms=since,
                    symbols=action.symbols,
                    orders=tuple(self.rows.orders(order for order in known if order.symbol in wanted)),
                    fills=fills,
                    balances=balances,
                    positions=positions,
                    forced=() if error else histories.forced_closes(self.rows, since),
                    error=error,
                )
            )

        self.ask("finished_orders", "*", answer)

    @contextlib.contextmanager
    def _shown(self, operation: str) -> Iterator[None]:
        """Each list of a sweep is an endpoint of its own, with its own staleness."""
        rule = self.venue.faults.stream("stale", self.name, operation)
        token = STALE_NS.set(0 if rule is None else int(rule.delay_ms * NS_PER_MS))
        try:
            yield
        finally:
            STALE_NS.reset(token)

    def query(self, action: QueryOrder) -> None:
        """By the venue's order id where known, else by our own id."""

        def answer(error: str) -> None:
            found = None
            if not error:
                found = (
                    self.venue.order(self.account, action.symbol, order_id=self.rows.order_number(action.order_id))
                    if action.order_id
                    else self.venue.order(self.account, action.symbol, client_id=self.rows.client_id(action.client_id))
                )
            update = None if found is None else self.rows.orders([found])[0]
            self.later(QueryAnswer(action.venue, action.symbol, action.client_id, update, error))

        self.ask("order", action.symbol, answer, action.client_id)

    def fetch_fills(self, action: FetchFills) -> None:
        """Answers with the symbol's fills since ``since_wall_ms``; none where the request failed, with its error."""

        def answer(error: str) -> None:
            fills = () if error else tuple(self.fills(action.since_wall_ms, {action.symbol}))
            self.later(FillsAnswer(action.venue, action.symbol, fills, error))

        self.ask("trades", action.symbol, answer)

    def add_margin(self, action: AddMargin) -> None:
        """Answers whether the amount was added to the symbol's isolated position; ``refused``: the venue said no, and
        it was not."""

        def answer(error: str) -> None:
            refused = False
            if not error:
                position = self.venue.position(self.account, action.symbol)
                available = self.venue.margin_account(self.account).available
                try:
                    if not position.qty or position.is_cross:
                        raise SimReject(RejectReason.INSUFFICIENT_MARGIN, "no isolated position")
                    self.venue.settlement.add_margin(self.account, position, action.amount, available)
                except SimReject as refusal:
                    error, refused = str(refusal), True
            self.later(MarginAnswer(action.venue, action.symbol, action.amount, error, refused))

        self.ask("leverage", action.symbol, answer)

    def fetch_risk_tiers(self, action: FetchRiskTiers) -> None:
        """Answers with the contract's tiers, the last one without an end; none where the request failed."""
        rows = self.venue.instruments[action.symbol].tiers
        tiers = endless([Tier(row.cap, row.maintenance_rate, row.deduction) for row in rows])

        def answer(error: str) -> None:
            self.later(RiskTiersAnswer(action.venue, action.symbol, () if error else tiers, error))

        self.ask("instruments", action.symbol, answer)

    def fetch_instrument(self, action: FetchInstrument) -> None:
        """Answers with the symbol's listing as the venue shows it now; None where the request failed."""

        def answer(error: str) -> None:
            spec = None if error else listing_of(self.venue, action.symbol, {})
            self.later(InstrumentAnswer(action.venue, action.symbol, spec, error))

        self.ask("instruments", action.symbol, answer)

    def fetch_funding(self, action: FetchFunding) -> None:
        """Answers with the account's funding since ``since_wall_ms``; none where the request failed."""

        def answer(error: str) -> None:
            rows = () if error else histories.funding(self.venue, self.account, action.since_wall_ms)
            self.later(FundingAnswer(action.venue, rows, error))

        self.ask("account_book", "*", answer)

    def fetch_money(self, action: FetchMoney) -> None:
        """Answers with what came to the account and left it since ``since_wall_ms``; none where the request failed."""

        def answer(error: str) -> None:
            rows = () if error else histories.money_moves(self.venue, self.account, action.since_wall_ms)
            self.later(MoneyAnswer(action.venue, rows, error))

        self.ask("account_book", "*", answer)

    # --- what the venue shows, in the engine's structures ---

    def fills(self, since_wall_ms: int, symbols: set[str]) -> list[Fill]:
        """The account's fills on these symbols from ``since_wall_ms`` (unix) on, as a REST list shows them."""
        rows = self.venue.trades(self.account, since_ms=since_wall_ms)
        return self.rows.fills(row for row in rows if row.symbol in symbols)

    # --- inside ---

    def _admit(self, operation: str, symbol: str, client_id: str) -> RequestFaults:
        faults = self.venue.faults.request(self.name, operation, symbol)
        self.venue.ledger.request(
            venue=self.name,
            via="virtual",
            operation=operation,
            symbol="" if symbol == "*" else symbol,
            client_id=client_id,
            fault="injected" if faults.rule_id else "",
            detail=faults.marks(),
        )
        return faults

    def _within_budget(self, operation: str) -> bool:
        budget = Budget(self.venue.orders_per_s, 1000)
        return self._limiter.take(budget, operation, self.account.uid, self._clock.wall_ns() // NS_PER_MS).allowed

    def _unknown(self, text: str) -> OutcomeUnknown:
        return OutcomeUnknown(f"{self.name}: {text}", venue=self.name)
