"""What the execution world is made of: configuration, instruments, venues that keep their own books, faults.

Independent bookkeeping: the venues keep their own balances, positions, orders and fills in Decimals and import nothing
of the engine's accounting.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.execution.events import (
    BookView,
    FetchInstrument,
    FetchRiskTiers,
    InstrumentAnswer,
    Now,
    Opportunity,
    OpportunityLeg,
    RiskTiersAnswer,
)
from pipeline.execution.market import Instruments
from pipeline.model.config import (
    DetectionConfig,
    EngineConfig,
    ExchangeConfig,
    ExecutionConfig,
    HedgeConfig,
    MarketConfig,
    RiskLimits,
)
from pipeline.model.enums import Mode, OpportunityType, OrderState
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import Balance, Fill, Funding, OrderRequest, OrderUpdate, Position
from pipeline.model.venue_events import OutcomeKind, PlaceOutcome
from pipeline.rehearsal.instruments import rows_for, spec
from shm.layout import BOOK

MS = 1_000_000
START_NS = 5_000 * MS
WALL_OFFSET_NS = 1_700_000_000_000 * MS
LOT = Decimal("0.01")


def facts_of(question: FetchRiskTiers | FetchInstrument, known: Instruments) -> RiskTiersAnswer | InstrumentAnswer:
    """Rows that never change here; no list of risk tiers: what positions report counts."""
    if isinstance(question, FetchRiskTiers):
        return RiskTiersAnswer(question.venue, question.symbol)
    row = known.find(question.venue, question.symbol)
    return InstrumentAnswer(question.venue, question.symbol, None if row is None else row.spec)


def make_config(**overrides: Any) -> EngineConfig:
    """Three venues of two exchanges, limits wide enough for the default world."""
    market = MarketConfig(symbols=("BTCUSDT",))
    execution: dict[str, Any] = {
        "entry_window_ms": 500,
        "unknown_grace_ms": 1000,
        "order_timeout_ms": 400,
        "balance_refresh_interval_ms": 1000,
    }
    execution.update(overrides.pop("execution", {}))
    limits: dict[str, Any] = {
        "min_profit_margin_bps": Decimal(5),
        "min_profit_usd": Decimal("0.001"),  # trades here are of 100 USD and less
        "max_slippage_bps": Decimal(200),
    }
    limits.update(overrides.pop("limits", {}))
    detection: dict[str, Any] = {"cooldown_ms": 5, "hedge": HedgeConfig()}
    detection.update(overrides.pop("detection", {}))
    if detection["hedge"].expected_exit_basis_bps is None:
        # Its books stand as they are from the first moment: what their basis is otherwise is said here.
        detection["hedge"] = msgspec.structs.replace(detection["hedge"], expected_exit_basis_bps=Decimal(0))
    return EngineConfig(
        engine_name="world",
        mode=Mode.SIM,
        exchanges={
            "mexc": ExchangeConfig(dialect="mexc", markets={"spot": market}),
            "gateio": ExchangeConfig(dialect="gateio", markets={"spot": market, "futures": market}),
        },
        detection=DetectionConfig(**detection),
        risk_limits=RiskLimits(**limits),
        execution=ExecutionConfig(**execution),
        **overrides,
    )


def make_rows(config: EngineConfig) -> list[InstrumentRow]:
    """BTC/USDT on every venue: fees 100 ppm, in base on Gate.io spot buys as the real venue does."""
    changes = {"lot": LOT, "min_qty": LOT}
    return rows_for(config, [spec(venue.name, "BTCUSDT", **changes) for venue in config.venues])


@dataclass
class ModelOrder:
    request: OrderRequest
    order_id: str
    filled: Decimal = Decimal(0)
    value: Decimal = Decimal(0)
    done: bool = False

    def update(self, state: OrderState, source: str, now: Now, filled: Decimal | None = None) -> OrderUpdate:
        """What the venue says of the order; ``filled``: another quantity than the true one."""
        return OrderUpdate(
            venue=self.request.venue,
            symbol=self.request.symbol,
            client_id=self.request.client_id,
            order_id=self.order_id,
            state=state,
            filled_qty=self.filled if filled is None else filled,
            average_price=None,
            venue_wall_ms=now.wall_ms,
            recv_mono_ns=now.mono_ns,
            source=source,
        )


@dataclass
class Faults:
    """Probabilities of what goes wrong with one order or message."""

    drop_request: float = 0.0
    drop_response: float = 0.0
    unknown_response: float = 0.0
    reject: float = 0.0
    no_fill: float = 0.0
    partial: float = 0.0
    drop_stream: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    rest_error: float = 0.0
    not_sent: float = 0.0

    @classmethod
    def storm(cls, rng: random.Random) -> Faults:
        names = list(cls.__dataclass_fields__)
        chosen = rng.sample(names, rng.randint(1, len(names)))
        return cls(**{name: rng.choice([0.05, 0.2, 0.5]) for name in chosen})


@dataclass
class ModelVenue:
    """One venue with its own books of account."""

    name: str
    spot: bool
    fee_in_base_on_buy: bool
    balances: dict[str, Decimal]
    position: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    orders: dict[str, ModelOrder] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    funding: list[Funding] = field(default_factory=list)
    bid: Decimal = Decimal("99.95")
    ask: Decimal = Decimal("100.05")
    phantom: bool = False  # its prices never fill

    def book(self, exp: tuple[int, int], instrument_id: int, now_ns: int, seq: int, depth: Decimal) -> BookView:
        words = [0] * BOOK.WORDS
        price_exp, qty_exp = exp
        words[BOOK.seq] = 2 * seq
        words[BOOK.instrument] = instrument_id
        words[BOOK.row_epoch] = 1
        words[BOOK.update_id] = seq
        words[BOOK.recv_mono_ns] = now_ns
        words[BOOK.venue_wall_ns] = now_ns + WALL_OFFSET_NS
        words[BOOK.bid_count] = words[BOOK.ask_count] = 3
        for level in range(3):
            step = Decimal("0.01") * level
            words[BOOK.bid_price_fp + level] = int((self.bid - step).scaleb(price_exp))
            words[BOOK.ask_price_fp + level] = int((self.ask + step).scaleb(price_exp))
            words[BOOK.bid_qty_fp + level] = words[BOOK.ask_qty_fp + level] = int(depth.scaleb(qty_exp))
        return BookView(words, now_ns)

    def move_position(self, signed: Decimal, price: Decimal) -> None:
        """Sum of cash flows as if settled at once: exact, realised when the position is back at zero."""
        self.position += signed
        self.cost += signed * price
        if self.position == 0:
            self.balances["USDT"] -= self.cost
            self.cost = Decimal(0)

    def shown_balances(self, now_ns: int, source: str) -> list[Balance]:
        """Its balances as REST (``rest``) or the stream (``ws``) says them."""
        return [
            Balance(venue=self.name, asset=asset, free=amount, locked=Decimal(0), recv_mono_ns=now_ns, source=source)
            for asset, amount in self.balances.items()
        ]

    def shown_positions(self, now_ns: int) -> tuple[Position, ...]:
        """Its open position, if any."""
        if not self.position:
            return ()
        entry = self.cost / self.position
        return (
            Position(
                venue=self.name,
                symbol="BTCUSDT",
                qty=self.position,
                entry_price=entry,
                mark_price=entry,
                recv_mono_ns=now_ns,
            ),
        )


def outcome(
    request: OrderRequest, kind: OutcomeKind, update: OrderUpdate | None, error: Any, now_ns: int
) -> PlaceOutcome:
    """The answer to a placed order."""
    return PlaceOutcome(
        venue=request.venue,
        symbol=request.symbol,
        client_id=request.client_id,
        kind=kind,
        update=update,
        error=error,
        recv_mono_ns=now_ns,
    )


def detected(
    number: int,
    rows: list[InstrumentRow],
    buy: ModelVenue,
    sell: ModelVenue,
    qty: Decimal,
    now_ns: int,
    edge_bps: float,
    **changes: Any,
) -> Opportunity:
    """The detector's record of an opportunity between two venues, at their best prices; ``changes`` by field."""
    legs = []
    futures = "gateio_futures" in (buy.name, sell.name)
    for venue, side, price in ((buy, 1, buy.ask), (sell, -1, sell.bid)):
        row = next(r for r in rows if r.spec.venue == venue.name)
        limit = price + Decimal("0.02") * side
        legs.append(
            OpportunityLeg(
                instrument_id=row.instrument_id,
                side=side,
                limit_price_fp=int(limit.scaleb(row.price_exp)),
                qty_fp=int(qty.scaleb(row.qty_exp)),
                book_seq=1,
                update_id=1,
                proof_mono_ns=now_ns,
                recv_mono_ns=now_ns,
                best_price_fp=int(price.scaleb(row.price_exp)),
                notional=float(qty * price),
                row_epoch=1,
                writer_epoch=1,
            )
        )
    values: dict[str, Any] = {
        "opportunity_id": number,
        "type": int(OpportunityType.SPOT_FUTURES_HEDGE if futures else OpportunityType.SPOT_SPOT),
        "pair_id": 0,
        "detect_mono_ns": now_ns,
        "trigger_recv_mono_ns": now_ns,
        "trigger_publish_mono_ns": now_ns,
        "edge_bps": edge_bps,
        "entry_edge_bps": edge_bps,
        "profit_quote": 1.0,
        "trigger_instrument": legs[0].instrument_id,
        "direction_key": legs[0].instrument_id * 4096 + legs[1].instrument_id,
        "legs": tuple(legs),
        "dequeued_mono_ns": now_ns,
    }
    values.update(changes)
    return Opportunity(**values)


def listed(venue: ModelVenue) -> tuple[Fill, ...]:
    """The venue's fills as REST lists them."""
    return tuple(msgspec.structs.replace(fill, source="rest") for fill in venue.fills)
