"""Money of one simulated venue: locks, fees, fills into wallets or positions, margin, funding. Exact Decimals.

Every movement is posted to the ledger as a double entry before the wallet changes, so the ledger can prove each
balance. Fees are charged per fill at the account's tier, rounded up to ``FEE_DIGITS`` digits; in the received asset
or in quote by the instrument's rule. A futures wallet holds the realised balance; what is available is computed
from it, the marks and the margins (cross margin, one-way mode).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal

from pipeline.model.enums import OrderKind, OrderSide
from pipeline.sim.ledger import Ledger, Posting
from pipeline.sim.types import (
    PPM,
    ZERO,
    AccountEvent,
    BalanceEvent,
    PositionEvent,
    RejectReason,
    SimAccount,
    SimInstrument,
    SimOrder,
    SimPosition,
    SimReject,
)

FEE_DIGITS = Decimal("1e-12")
PNL_DIGITS = Decimal("1e-12")
FUTURES_REASONS = frozenset({"pnl", "fee", "fund", "deposit", "withdraw"})  # of a futures wallet's account book


@dataclass(slots=True, frozen=True)
class MarginAccount:
    """A futures wallet as the venue shows it; all in the settlement asset."""

    total: Decimal  # realised balance
    unrealised_pnl: Decimal
    position_margin: Decimal
    order_margin: Decimal
    available: Decimal  # may be used for new orders; never below 0

    @property
    def equity(self) -> Decimal:
        return self.total + self.unrealised_pnl


@dataclass(slots=True, frozen=True)
class Settled:
    fee: Decimal
    fee_asset: str
    realised_pnl: Decimal
    close_qty: Decimal


class Settlement:
    def __init__(
        self,
        venue: str,
        ledger: Ledger,
        push: Callable[[SimAccount, AccountEvent], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._venue = venue
        self._ledger = ledger
        self._push = push
        self._now_ms = now_ms
        self._locks: dict[int, tuple[str, Decimal]] = {}  # spot: order id -> (asset, locked)
        self._order_margin: dict[int, Decimal] = {}  # futures: order id -> margin
        self.changes: dict[str, list[BalanceEvent]] = {}  # uid -> changes of its futures wallet, oldest first

    # --- deposits ---

    def external(self, account: SimAccount, asset: str, amount: Decimal, reason: str) -> None:
        """A deposit (amount > 0) or withdrawal (< 0) from outside."""
        user = f"user:{account.uid}"
        self._ledger.entry(self._venue, reason, "", [(user, asset, amount), ("external", asset, -amount)])
        account.wallet(asset).free += amount
        self._balance(account, asset, amount, ZERO, reason, "", 0)

    # --- spot ---

    def lock_spot(self, account: SimAccount, instrument: SimInstrument, order: SimOrder, cost: Decimal) -> None:
        """Locks what the order may cost; ``cost`` is its worst notional in quote. Raises ``SimReject`` when short."""
        if order.side is OrderSide.BUY:
            asset, amount = instrument.quote, cost + self._quote_fee(instrument, cost)
        else:
            asset, amount = instrument.base, order.qty
        wallet = account.wallet(asset)
        if wallet.free < amount:
            text = f"{asset}: free={wallet.free} wanted={amount}"
            raise SimReject(RejectReason.INSUFFICIENT_BALANCE, text)
        self._locks[order.order_id] = (asset, amount)
        self._move_lock(account, asset, amount, "order-create", order)

    def relock_spot(self, account: SimAccount, instrument: SimInstrument, order: SimOrder, reason: str) -> None:
        """Shrinks the lock to what is still open (nothing, when the order has ended)."""
        held = self._locks.get(order.order_id)
        if held is None:
            return
        asset, amount = held
        if not order.is_open:
            wanted = ZERO
        elif order.side is OrderSide.BUY:
            notional = order.left_qty * order.price
            wanted = notional + self._quote_fee(instrument, notional)
        else:
            wanted = order.left_qty
        if wanted >= amount:
            return
        if order.is_open:
            self._locks[order.order_id] = (asset, wanted)
        else:
            del self._locks[order.order_id]
        self._move_lock(account, asset, wanted - amount, reason, order)

    def fill_spot(
        self,
        account: SimAccount,
        instrument: SimInstrument,
        order: SimOrder,
        price: Decimal,
        qty: Decimal,
        is_maker: bool,
        trade_id: int,
    ) -> Settled:
        quote = price * qty
        sign = int(order.side)
        user, ref = f"user:{account.uid}", f"trade:{trade_id}"
        base_delta, quote_delta = qty * sign, -quote * sign
        self._release_for_fill(account, order, base_delta, quote_delta)
        self._apply(
            account,
            "order-match",
            ref,
            [
                (user, instrument.base, base_delta),
                ("market", instrument.base, -base_delta),
                (user, instrument.quote, quote_delta),
                ("market", instrument.quote, -quote_delta),
            ],
        )
        rate = instrument.maker_fee_ppm if is_maker else instrument.taker_fee_ppm
        in_base = instrument.fee_asset_is_base_on_buy and order.side is OrderSide.BUY
        fee_asset, basis = (instrument.base, qty) if in_base else (instrument.quote, quote)
        fee = (basis * rate / PPM).quantize(FEE_DIGITS, ROUND_UP).normalize() if rate else ZERO
        fee += ZERO  # no negative zero, no exponent surprises
        if fee:
            self._apply(account, "fee", ref, [(user, fee_asset, -fee), ("fees", fee_asset, fee)])
        fee_of = {fee_asset: fee}
        for asset, delta in ((instrument.base, base_delta), (instrument.quote, quote_delta)):
            change = delta - fee_of.get(asset, ZERO)
            self._balance(account, asset, change, ZERO, "order-match", instrument.symbol, order.order_id)
        return Settled(fee, fee_asset, ZERO, ZERO)

    def _release_for_fill(self, account: SimAccount, order: SimOrder, base: Decimal, quote: Decimal) -> None:
        """Frees, from this order's lock, exactly what the fill is about to spend."""
        held = self._locks.get(order.order_id)
        if held is None:
            return
        asset, amount = held
        spent = min(amount, -quote if order.side is OrderSide.BUY else -base)
        self._locks[order.order_id] = (asset, amount - spent)
        wallet = account.wallet(asset)
        wallet.locked -= spent
        wallet.free += spent

    # --- futures ---

    def margin(
        self, account: SimAccount, asset: str, marks: Callable[[str], Decimal], instruments: dict[str, SimInstrument]
    ) -> MarginAccount:
        """The futures wallet valued at ``marks`` (symbol -> mark price)."""
        total = account.wallet(asset).total
        unrealised = position_margin = ZERO
        for symbol, position in account.positions.items():
            if position.qty and symbol in instruments:
                value = position.qty * marks(symbol)
                unrealised += value - position.cost
                position_margin += abs(value) / position.leverage
        order_margin = sum(self._order_margin.values(), ZERO)
        available = max(ZERO, total + unrealised - position_margin - order_margin)
        return MarginAccount(total, unrealised, position_margin, order_margin, available)

    def reserve_margin(self, order: SimOrder, opening_notional: Decimal, leverage: Decimal, available: Decimal) -> None:
        """Reserves the initial margin of what the order would open; raises ``SimReject`` when short."""
        needed = opening_notional / leverage
        if needed > available:
            raise SimReject(RejectReason.INSUFFICIENT_MARGIN, f"available={available:.8f} wanted={needed:.8f}")
        if needed:
            self._order_margin[order.order_id] = needed

    def release_margin(self, order: SimOrder) -> None:
        """Scales the reservation to what is still open, or drops it."""
        held = self._order_margin.get(order.order_id)
        if held is None:
            return
        if order.is_open and order.qty:
            self._order_margin[order.order_id] = min(held, held * order.left_qty / order.qty)
        else:
            del self._order_margin[order.order_id]

    def fill_futures(
        self,
        account: SimAccount,
        instrument: SimInstrument,
        order: SimOrder,
        price: Decimal,
        qty: Decimal,
        is_maker: bool,
        trade_id: int,
    ) -> Settled:
        position = account.positions.setdefault(instrument.symbol, SimPosition(symbol=instrument.symbol))
        realised, closed = _move_position(position, price, qty * int(order.side))
        user, ref, asset = f"user:{account.uid}", f"trade:{trade_id}", instrument.quote
        rate = instrument.maker_fee_ppm if is_maker else instrument.taker_fee_ppm
        fee = (price * qty * rate / PPM).quantize(FEE_DIGITS, ROUND_UP).normalize() if rate else ZERO
        fee += ZERO
        position.realised_pnl += realised
        position.paid_fees += fee
        symbol, order_id = instrument.symbol, order.order_id
        if realised:
            self._apply(account, "pnl", ref, [(user, asset, realised), ("market", asset, -realised)])
            self._balance(account, asset, realised, ZERO, "pnl", symbol, order_id)
        if fee:
            self._apply(account, "fee", ref, [(user, asset, -fee), ("fees", asset, fee)])
            self._balance(account, asset, -fee, ZERO, "fee", symbol, order_id)
        self._position(account, position)
        return Settled(fee, asset, realised, closed)

    def fund(self, account: SimAccount, instrument: SimInstrument, mark: Decimal, rate: Decimal) -> None:
        """Pays (long, positive rate) or receives funding on the open position."""
        position = account.positions.get(instrument.symbol)
        if position is None or not position.qty:
            return
        paid = (position.qty * mark * rate).quantize(PNL_DIGITS, ROUND_HALF_EVEN).normalize() + ZERO
        asset = instrument.quote
        ref = f"funding:{instrument.symbol}:{self._now_ms()}"
        self._apply(account, "fund", ref, [(f"user:{account.uid}", asset, -paid), ("funding", asset, paid)])
        position.paid_funding += paid
        self._balance(account, asset, -paid, ZERO, "fund", instrument.symbol, 0)
        self._position(account, position)

    # --- inside ---

    def _quote_fee(self, instrument: SimInstrument, notional: Decimal) -> Decimal:
        """What a buy may additionally cost in quote (zero where fees are taken from what is received)."""
        if instrument.fee_asset_is_base_on_buy:
            return ZERO
        rate = max(instrument.taker_fee_ppm, instrument.maker_fee_ppm, 0)
        return (notional * rate / PPM).quantize(FEE_DIGITS, ROUND_UP) if rate else ZERO

    def _apply(self, account: SimAccount, reason: str, ref: str, postings: list[Posting]) -> None:
        self._ledger.entry(self._venue, reason, ref, postings)
        user = f"user:{account.uid}"
        for owner, asset, amount in postings:
            if owner == user:
                account.wallet(asset).free += amount

    def _move_lock(self, account: SimAccount, asset: str, delta: Decimal, reason: str, order: SimOrder) -> None:
        wallet = account.wallet(asset)
        wallet.locked += delta
        wallet.free -= delta
        self._balance(account, asset, ZERO, delta, reason, order.symbol, order.order_id)

    def _balance(
        self,
        account: SimAccount,
        asset: str,
        change: Decimal,
        locked_change: Decimal,
        reason: str,
        symbol: str,
        order_id: int,
    ) -> None:
        wallet = account.wallet(asset)
        wallet.update_seq += 1
        self._ledger.append(
            "balance",
            self._venue,
            uid=account.uid,
            asset=asset,
            free=wallet.free,
            locked=wallet.locked,
            total=wallet.total,
            reason=reason,
            order_id=str(order_id),
        )
        event = BalanceEvent(
            asset, wallet.free, wallet.locked, change, locked_change, reason, symbol, order_id, self._now_ms()
        )
        if change and reason in FUTURES_REASONS:
            self.changes.setdefault(account.uid, []).append(event)
        self._push(account, event)

    def _position(self, account: SimAccount, position: SimPosition) -> None:
        position.update_seq += 1
        position.updated_ms = self._now_ms()
        self._ledger.append(
            "position",
            self._venue,
            uid=account.uid,
            symbol=position.symbol,
            qty=position.qty,
            cost=position.cost,
            realised_pnl=position.realised_pnl,
        )
        self._push(account, PositionEvent(position.copy(), self._now_ms()))


def _move_position(position: SimPosition, price: Decimal, signed: Decimal) -> tuple[Decimal, Decimal]:
    """Adds a signed base quantity at a price; returns (realised PnL, closed quantity)."""
    realised = closed = ZERO
    if position.qty and (position.qty > 0) != (signed > 0):
        closed = min(abs(position.qty), abs(signed))
        if closed == abs(position.qty):
            released = position.cost
        else:
            released = (position.cost * closed / abs(position.qty)).quantize(PNL_DIGITS, ROUND_HALF_EVEN)
        direction = 1 if position.qty > 0 else -1
        realised = price * closed * direction - released
        position.cost -= released
        position.qty -= closed * direction
        signed += closed * direction
    if signed:
        position.qty += signed
        position.cost += price * signed
    return realised.normalize() + ZERO, closed


def opening_qty(position: SimPosition | None, side: OrderSide, qty: Decimal) -> Decimal:
    """The part of an order that would open or increase a position (the rest reduces)."""
    if position is None or not position.qty or (position.qty > 0) == (side is OrderSide.BUY):
        return qty
    return max(ZERO, qty - abs(position.qty))


def is_market(order_kind: OrderKind) -> bool:
    return order_kind is OrderKind.MARKET
