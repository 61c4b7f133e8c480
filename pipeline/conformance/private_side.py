"""Orders and account of a dialect against its simulated venue: order life, unknown outcomes, pushes, limits, clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.conformance.venue import Checked, need, until
from pipeline.exchanges.factory import make_trading, make_venue
from pipeline.model.clock import wall_ms
from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import AuthRefused, OrderNotFound, RateLimited, VenueUnavailable
from pipeline.model.fixedpoint import quantize_down, quantize_up
from pipeline.model.structs import Credentials, Fill, InstrumentSpec, OrderRequest, OrderUpdate, Position
from pipeline.model.venue_events import CancelOutcome, OutcomeKind, PlaceOutcome, SessionState, VenueEvent


class Session:
    """A client with a key and a trading session; every event in order."""

    def __init__(self, it: Checked, spec: InstrumentSpec) -> None:
        self.it = it
        self.spec = spec
        self.seen: list[VenueEvent] = []
        self.client = make_venue(it.config, it.key)
        self.trading = make_trading(it.config, it.key, self.seen.append)
        self.began_ms = wall_ms()

    def of(self, kind: type, **fields: object) -> list[Any]:
        """Events of a kind with these fields."""
        return [
            event
            for event in self.seen
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
        ]

    async def one(self, kind: type, **fields: object) -> Any:
        """The first such event, once it is there."""
        await until(lambda: self.of(kind, **fields), f"{kind.__name__} with {fields}")
        return self.of(kind, **fields)[0]

    def order(self, client_id: str, away: str, tif: TimeInForce, **changes: object) -> OrderRequest:
        """A purchase of about 50 quote coins, ``away`` times the reference price."""
        spec = self.spec
        fields: dict[str, Any] = {
            "client_id": client_id,
            "venue": self.it.name,
            "symbol": spec.symbol,
            "side": OrderSide.BUY,
            "kind": OrderKind.LIMIT,
            "tif": tif,
            "qty": quantize_up(max(spec.min_qty, Decimal(50) / spec.reference_price), spec.lot),
            "price": quantize_down(spec.reference_price * Decimal(away), spec.tick),
            "multiplier": spec.multiplier,
            "expiry_wall_ms": wall_ms() + 5000,
        }
        return OrderRequest(**{**fields, **changes})

    def take(self, client_id: str) -> OrderRequest:
        """One that fills at once."""
        return self.order(client_id, "1.02", TimeInForce.IOC)

    def placements(self, client_id: str) -> int:
        """Requests with this id that arrived at the venue."""
        own = {client_id, f"{self.it.sim.client_id_prefix}{client_id}"}
        rows = self.it.server.ledger.rows
        return sum(row.get("operation") == "place" and row.get("client_id") in own for row in rows)


@asynccontextmanager
async def session(it: Checked) -> AsyncIterator[Session]:
    """A connected session."""
    (spec,) = await it.client.instruments(it.config.symbols[:1])
    one = Session(it, spec)
    await one.trading.connect()
    try:
        yield one
    finally:
        await one.trading.close()
        await one.client.close()


async def order_life(it: Checked) -> None:
    """An order that fills and one that rests: acknowledgement, pushes, fills and REST tell the same, exactly."""
    async with session(it) as one:
        one.trading.place(one.take("life1"))
        outcome = await one.one(PlaceOutcome, client_id="life1")
        need(outcome.kind is OutcomeKind.ACKED, f"placing: found {outcome.kind.name}: {outcome.error}")
        end = await one.one(OrderUpdate, client_id="life1", state=OrderState.FILLED)
        await until(lambda: sum(f.qty for f in one.of(Fill, client_id="life1")) == end.filled_qty, "every fill pushed")
        pushed = {fill.trade_id: fill for fill in one.of(Fill, client_id="life1")}
        asked = {fill.trade_id: fill for fill in await one.client.fills(one.spec.symbol, one.began_ms)}
        for trade_id in {*pushed, *asked}:
            need(trade_id in pushed and trade_id in asked, f"trade {trade_id}: pushed and listed do not hold the same")
            left, right = pushed[trade_id], asked[trade_id]
            for field in ("qty", "price", "fee", "fee_asset", "side", "order_id", "client_id", "is_maker"):
                found, wanted = getattr(left, field), getattr(right, field)
                need(found == wanted, f"trade {trade_id}: {field} pushed {found}, listed {wanted}")
        finished = [row.client_id for row in await one.client.finished_orders(one.spec.symbol, one.began_ms)]
        need(finished == ["life1"], f"finished orders: found {finished}, wanted life1")

        one.trading.place(one.order("life2", "0.97", TimeInForce.GTC))
        update = (await one.one(PlaceOutcome, client_id="life2")).update
        await one.one(OrderUpdate, client_id="life2", state=OrderState.OPEN)
        resting = [row.client_id for row in await one.client.open_orders(one.spec.symbol)]
        need(resting == ["life2"], f"open orders: found {resting}, wanted life2")
        for ids in (("life2", ""), ("", update.order_id)):
            row = await one.client.query_order(one.spec.symbol, *ids)
            need(row is not None and row.state is OrderState.OPEN and row.client_id == "life2", f"query {ids}: {row}")
        need(await one.client.query_order(one.spec.symbol, "never") is None, "query of no order: found one")
        one.trading.cancel(one.spec.symbol, "life2", update.order_id)
        cancelled = await one.one(CancelOutcome, client_id="life2")
        need(cancelled.kind is OutcomeKind.ACKED, f"cancelling: found {cancelled.kind.name}")
        await one.one(OrderUpdate, client_id="life2", state=OrderState.CANCELLED)


async def unknown_outcomes(it: Checked) -> None:
    """What gets no good answer is unknown, whatever the venue did, and is never sent twice; asking finds it."""
    async with session(it) as one:
        for kind, executed in (
            ("drop_response", True),
            ("http_error_after", True),
            ("drop_request", False),
            ("http_error", False),
        ):
            client_id = kind.replace("_", "")
            await until(lambda: one.trading.connected, "the session")
            it.fault(kind=kind, target="place")
            one.trading.place(one.take(client_id))
            outcome = await one.one(PlaceOutcome, client_id=client_id)
            need(outcome.kind is OutcomeKind.UNKNOWN, f"{kind}: found {outcome.kind.name}, wanted UNKNOWN")
            it.end_faults()
            rows = await one.client.finished_orders(one.spec.symbol, one.began_ms)
            states = [row.state for row in rows if row.client_id == client_id]
            need(states == ([OrderState.FILLED] if executed else []), f"{kind}: found {states} by asking")
            need(one.placements(client_id) <= 1, f"{kind}: the order was sent {one.placements(client_id)} times")
            need(len(one.of(PlaceOutcome, client_id=client_id)) == 1, f"{kind}: found more than one outcome")


async def refusals(it: Checked) -> None:
    """A definite no is one: too much, no such order; a limit silences; words that break a frame are never sent."""
    async with session(it) as one:
        huge = quantize_down(Decimal(10) ** 9 / one.spec.reference_price, one.spec.lot)
        one.trading.place(one.order("huge", "1.0", TimeInForce.IOC, qty=huge))
        outcome = await one.one(PlaceOutcome, client_id="huge")
        need(outcome.kind is OutcomeKind.REJECTED, f"an order beyond the account: found {outcome.kind.name}")
        one.trading.cancel(one.spec.symbol, "never")
        refused = await one.one(CancelOutcome, client_id="never")
        need(isinstance(refused.error, OrderNotFound), f"cancel of no order: found {refused.error!r}")
        for bad in ({"client_id": 'a"b'}, {"client_id": "x" * 29}, {"symbol": "币USDT"}, {"expiry_wall_ms": 1}):
            try:
                one.trading.place(msgspec.structs.replace(one.take("bad"), **bad))
            except VenueUnavailable:
                continue
            need(False, f"{bad}: was sent")
        it.fault(kind="rate_limit", target="place", retry_after_s=2.0)
        one.trading.place(one.take("limited"))
        limited = await one.one(PlaceOutcome, client_id="limited")
        need(isinstance(limited.error, RateLimited), f"a 429: found {limited.error!r}")
        wanted = OutcomeKind.UNKNOWN if one.trading.throttled_is_unknown else OutcomeKind.REJECTED
        need(limited.kind is wanted, f"a 429: found {limited.kind.name}, wanted {wanted.name}")
        try:
            one.trading.place(one.take("silent"))
        except VenueUnavailable:
            return
        need(False, "an order was sent while the venue had asked for silence")


async def private_stream(it: Checked) -> None:
    """A cut session says down, then up; what comes after is pushed again; positions and balances follow a fill."""
    async with session(it) as one:
        it.fault(kind="disconnect", target="private")
        await one.one(SessionState, state="down")
        await until(lambda: one.trading.connected, "the session again")
        one.trading.place(one.take("after"))
        end = await one.one(OrderUpdate, client_id="after", state=OrderState.FILLED, source="ws")
        quote = one.spec.quote if it.market == "futures" else one.spec.base
        wallet = next((row for row in await one.client.balances() if row.asset == quote), None)
        need(wallet is not None and wallet.free > 0, f"balances: found {wallet} of {quote}")
        if it.market == "futures":
            await one.one(Position, symbol=one.spec.symbol)
            held = [(row.symbol, row.qty) for row in await one.client.positions()]
            need(held == [(one.spec.symbol, end.filled_qty)], f"positions: found {held}")


async def keys_and_clock(it: Checked) -> None:
    """A wrong key is refused in words without its secret; a clock that is apart is corrected by asking."""
    wrong = make_venue(it.config, Credentials(api_key="wrongkey", api_secret="canarysecret", uid="1"))
    try:
        await wrong.balances()
    except AuthRefused as error:
        need("canarysecret" not in str(error), "a refused key: the error shows the secret")
    else:
        need(False, "a wrong key: found balances")
    finally:
        await wrong.close()
    client = make_venue(it.config, it.key)
    try:
        need(await client.balances(), "balances: found none")
        it.fault(kind="clock_skew", delay_ms=-90_000, venue="*")  # one clock per exchange
        need(await client.balances(), "balances with a clock apart: found none")
        fees = {row.symbol for row in await client.fees(it.config.symbols)}
        need(fees == set(it.config.symbols), f"fees: found those of {sorted(fees)}")
    finally:
        await client.close()
