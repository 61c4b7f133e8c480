"""Warms the execution core up before READY: whole operations against two simulated venues that fill at once.

The first passes of Python code are many times slower than later ones (bytecode is not specialised yet, memory that was
shared with the parent process is copied when first written, modules are imported at first use). So a core that is
thrown away takes operations from the opportunity to the result. It has no socket, no journal and no shared memory.
"""

from __future__ import annotations

from decimal import Decimal

from pipeline.core import ExecutionCore
from pipeline.execution.events import (
    AccountSnapshot,
    BookView,
    CoreEvent,
    Now,
    Opportunity,
    OpportunityLeg,
    Place,
    Sent,
    SweepAnswer,
    SweepVenue,
    Tick,
)
from pipeline.execution.records import Outcome
from pipeline.model.config import EngineConfig, ExchangeConfig, MarketConfig
from pipeline.model.dialects import dialect_names
from pipeline.model.enums import OpportunityType, OrderState
from pipeline.model.structs import Balance, Fill, OrderRequest, OrderUpdate
from pipeline.model.venue_events import OutcomeKind, PlaceOutcome, SessionState
from pipeline.rehearsal.instruments import rows_for, spec
from shm.layout import BOOK

ROUNDS = 24  # bytecode is specialised after 8 passes, what it calls a few later
SYMBOL = "BTCUSDT"
START_NS = 10**15
ROUND_NS = 2_000_000_000  # longer than every limit that counts by the second
STEP_NS = 1_000_000
BIDS = {0: Decimal(100), 1: Decimal(101)}  # venue 0 is cheap, venue 1 dear
SPREAD = Decimal("0.1")
QTY = Decimal(1)


class _World:
    """A core and its ports: fresh books, no halt, room in the journal."""

    def __init__(self) -> None:
        market = MarketConfig(symbols=(SYMBOL,))
        exchanges = {
            name: ExchangeConfig(dialect=dialect_names()[0], markets={"spot": market}) for name in ("cheap", "dear")
        }
        self.config = EngineConfig(engine_name="rehearsal", exchanges=exchanges)
        self.rows = rows_for(
            self.config,
            [
                spec(venue.name, SYMBOL, taker_fee_ppm=0, min_qty=Decimal(0), min_notional=Decimal(1))
                for venue in self.config.venues
            ],
        )
        self.now_ns = START_NS
        self.core = ExecutionCore(self.config, self.rows, market=self, halt=self, journal=self)

    def book(self, instrument_id: int) -> BookView:
        row, words = self.rows[instrument_id], [0] * BOOK.WORDS
        words[BOOK.seq], words[BOOK.instrument], words[BOOK.row_epoch] = 2, instrument_id, row.row_epoch
        words[BOOK.recv_mono_ns] = self.now_ns
        bid = BIDS[row.venue_id]
        for count, price_at, qty_at, price in (
            (BOOK.bid_count, BOOK.bid_price_fp, BOOK.bid_qty_fp, bid),
            (BOOK.ask_count, BOOK.ask_price_fp, BOOK.ask_qty_fp, bid + SPREAD),
        ):
            words[count], words[price_at] = 1, int(price.scaleb(row.price_exp))
            words[qty_at] = int((2 * QTY).scaleb(row.qty_exp))
        return BookView(words, self.now_ns)

    def latched(self) -> bool:
        return False

    def lease_expiry_mono_ns(self) -> int:
        return self.now_ns + 1

    def fenced(self) -> bool:
        return False

    def venue_blocked(self, venue_id: int) -> bool:
        return False

    def instrument_blocked(self, instrument_id: int) -> bool:
        return False

    def has_room(self, size_bytes: int) -> bool:
        return True

    def now(self) -> Now:
        return Now(self.now_ns, self.now_ns)

    def feed(self, event: CoreEvent) -> list[OrderRequest]:
        """Feeds one event to the core; returns the orders that it places. Sweeps are answered at once."""
        orders = []
        for action in self.core.handle(event, self.now()):
            if isinstance(action, Place):
                orders.append(action.request)
            elif isinstance(action, SweepVenue):
                self._answer(action)
        return orders

    def _answer(self, sweep: SweepVenue) -> None:
        balances = self.balances(sweep.venue)
        wall_ms = self.now().wall_ms
        self.feed(SweepAnswer(sweep.venue, self.now_ns, wall_ms, wall_ms, sweep.symbols, balances=balances))

    def balances(self, venue: str) -> tuple[Balance, ...]:
        return tuple(
            Balance(venue=venue, asset=asset, free=free, locked=Decimal(0), recv_mono_ns=self.now_ns, source="rest")
            for asset, free in (("BTC", 100 * QTY), ("USDT", Decimal(100_000)))
        )

    def opportunity(self, number: int) -> Opportunity:
        legs = []
        for row, side in zip(self.rows, (1, -1), strict=True):
            best = BIDS[row.venue_id] + (SPREAD if side > 0 else 0)
            legs.append(
                OpportunityLeg(
                    instrument_id=row.instrument_id,
                    side=side,
                    limit_price_fp=int(best.scaleb(row.price_exp)),
                    qty_fp=int(QTY.scaleb(row.qty_exp)),
                    book_seq=2,
                    update_id=0,
                    proof_mono_ns=self.now_ns,
                    recv_mono_ns=self.now_ns,
                    best_price_fp=int(best.scaleb(row.price_exp)),
                    notional=float(QTY * best),
                    row_epoch=row.row_epoch,
                    writer_epoch=1,
                )
            )
        return Opportunity(
            opportunity_id=number,
            type=int(OpportunityType.SPOT_SPOT),
            pair_id=0,
            detect_mono_ns=self.now_ns,
            trigger_recv_mono_ns=self.now_ns,
            trigger_publish_mono_ns=self.now_ns,
            edge_bps=80.0,
            entry_edge_bps=80.0,
            profit_quote=0.8,
            trigger_instrument=0,
            direction_key=1,
            legs=tuple(legs),
            dequeued_mono_ns=self.now_ns,
        )

    def fill(self, order: OrderRequest) -> None:
        """Feeds the messages of a venue about an order that fills at once."""
        self.feed(Sent(order.client_id, self.now_ns))
        self.now_ns += STEP_NS
        opened = self._update(order, OrderState.OPEN, Decimal(0))
        self.feed(
            PlaceOutcome(
                venue=order.venue,
                symbol=order.symbol,
                client_id=order.client_id,
                kind=OutcomeKind.ACKED,
                update=opened,
                recv_mono_ns=self.now_ns,
            )
        )
        self.feed(
            Fill(
                venue=order.venue,
                symbol=order.symbol,
                trade_id=f"t{order.client_id}",
                order_id=opened.order_id,
                client_id=order.client_id,
                side=order.side,
                qty=order.qty,
                price=order.price,
                fee=Decimal(0),
                fee_asset="USDT",
                is_maker=False,
                venue_wall_ms=opened.venue_wall_ms,
                recv_mono_ns=self.now_ns,
                source="ws",
            )
        )
        self.feed(self._update(order, OrderState.FILLED, order.qty))

    def _update(self, order: OrderRequest, state: OrderState, filled: Decimal) -> OrderUpdate:
        return OrderUpdate(
            venue=order.venue,
            symbol=order.symbol,
            client_id=order.client_id,
            order_id=f"o{order.client_id}",
            state=state,
            filled_qty=filled,
            average_price=order.price if filled else None,
            venue_wall_ms=self.now().wall_ms,
            recv_mono_ns=self.now_ns,
            source="ws",
        )


def rehearse(rounds: int = ROUNDS) -> int:
    """Takes ``rounds`` operations from the opportunity to the result; returns how many were completed (all of them)."""
    world = _World()
    core, venues = world.core, [venue.name for venue in world.config.venues]
    for action in core.boot([], now=world.now(), first_epoch=1, instance="rehearsal", pid=0, build_hash=0):
        if isinstance(action, SweepVenue):
            world._answer(action)
    for venue in venues:
        world.feed(SessionState(venue=venue, state="up", recv_mono_ns=world.now_ns))
    for number in range(1, rounds + 1):
        world.now_ns += ROUND_NS
        world.feed(Tick())
        world.feed(AccountSnapshot(tuple(balance for venue in venues for balance in world.balances(venue))))
        for order in world.feed(world.opportunity(number)):
            world.fill(order)
    return core.ledger.outcomes[Outcome.COMPLETED]
