"""Money of one simulated venue: locks, fees, fills into wallets or positions, margin, funding. Exact Decimals.

Every movement is posted to the ledger as a double entry before the wallet changes, so the ledger can prove each
balance. Fees are charged per fill at the account's tier, rounded up to 12 digits; in the received asset or in quote by
the instrument's rule, or in a deduction coin (``fees``). A futures wallet holds the realised balance; what is available
is computed from it, the marks and the margins (``margin``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.accounts import BookEntry, SimAccount, SimPosition
from pipeline.sim.exchange.decimals import MONEY_STEP, PPM, ZERO
from pipeline.sim.exchange.events import AccountEvent, BalanceEvent, CloseEvent, PositionEvent
from pipeline.sim.exchange.fees import POINTS, FillFee, fill_fee, plain_fee
from pipeline.sim.exchange.futures.margin import MarginAccount, initial_margin, valued
from pipeline.sim.exchange.futures.positions import apply_fill, mode_of, position_of, positions_of, record_span
from pipeline.sim.exchange.history import History
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.orders import RejectReason, SimOrder, SimReject
from pipeline.sim.exchange.venue_ledger import Posting, VenueLedger


@dataclass(slots=True, frozen=True)
class Settled:
    fees: FillFee
    realised_pnl: Decimal
    close_qty: Decimal


class Settlement:
    def __init__(
        self,
        venue: str,
        ledger: VenueLedger,
        push: Callable[[SimAccount, AccountEvent], None],
        now_ms: Callable[[], int],
        mono_ns: Callable[[], int],
        settle_asset: str,
    ) -> None:
        self._settle_asset = settle_asset
        self._mono_ns = mono_ns
        self.history = History()
        self._venue = venue
        self._ledger = ledger
        self._push = push
        self._now_ms = now_ms
        self._locks: dict[int, tuple[str, Decimal]] = {}  # spot: order id -> (asset, locked)
        self._order_margin: dict[int, tuple[Decimal, Decimal]] = {}  # futures: order id -> (margin, open quantity then)
        self._held_margin: dict[int, Decimal] = {}  # what of it is held now
        self._margin_owner: dict[int, SimAccount] = {}

    # --- deposits ---

    def external(self, account: SimAccount, asset: str, amount: Decimal, reason: str) -> None:
        """A deposit (amount > 0) or withdrawal (< 0) from outside."""
        user = f"user:{account.uid}"
        self._apply(account, reason, "", [(user, asset, amount), ("external", asset, -amount)])
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

    def amend_lock(
        self, account: SimAccount, instrument: SimInstrument, order: SimOrder, price: Decimal, left: Decimal
    ) -> None:
        """Locks what the rest of an amended order needs; raises ``SimReject`` when short (nothing has changed)."""
        asset, held = self._locks[order.order_id]
        if order.side is OrderSide.BUY:
            wanted = price * left + self._quote_fee(instrument, price * left)
        else:
            wanted = left
        wallet = account.wallet(asset)
        if wallet.free < wanted - held:
            text = f"{asset}: free={wallet.free} wanted={wanted - held}"
            raise SimReject(RejectReason.INSUFFICIENT_BALANCE, text)
        if wanted != held:
            self._locks[order.order_id] = (asset, wanted)
            self._move_lock(account, asset, wanted - held, "order-update", order)

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
            order,
            trade_id,
        )
        in_base = instrument.fee_asset_is_base_on_buy and order.side is OrderSide.BUY
        fee_asset, basis = (instrument.base, qty) if in_base else (instrument.quote, quote)
        value = basis * price if in_base else basis
        fees = self._fees(account, instrument, order, basis, fee_asset, value, is_maker)
        fee = fees.amount
        if fee:
            self._apply(account, "fee", ref, [(user, fee_asset, -fee), ("fees", fee_asset, fee)], order, trade_id)
        fee_of = {fee_asset: fee}
        for asset, delta in ((instrument.base, base_delta), (instrument.quote, quote_delta)):
            change = delta - fee_of.get(asset, ZERO)
            self._balance(account, asset, change, ZERO, "order-match", instrument.symbol, order.order_id)
        self._take_coin(account, fees, order, trade_id)
        return Settled(fees, ZERO, ZERO)

    def _fees(
        self,
        account: SimAccount,
        instrument: SimInstrument,
        order: SimOrder,
        basis: Decimal,
        asset: str,
        value: Decimal,
        is_maker: bool,
    ) -> FillFee:
        """``value``: of ``basis`` in quote. Only fees that are worth settlement coins can be paid in another coin."""
        if order.forced in ("adl", "settlement"):  # nothing is known of a fee on these: none is taken
            return FillFee(ZERO, asset)
        fee = plain_fee(instrument, basis, is_maker)
        deduction = account.fee_deduction
        if deduction is None or order.forced or instrument.quote != self._settle_asset:
            return FillFee(fee, asset)
        worth = plain_fee(instrument, value, is_maker)
        return fill_fee(fee, asset, worth, deduction, account.wallet(deduction.coin).free)

    def _take_coin(self, account: SimAccount, fees: FillFee, order: SimOrder, trade_id: int) -> None:
        if fees.coin_amount:
            reason, amount = "point-fee" if fees.coin == POINTS else "trade-fee-deduct", fees.coin_amount
            postings = [(f"user:{account.uid}", fees.coin, -amount), ("fees", fees.coin, amount)]
            self._apply(account, reason, f"trade:{trade_id}", postings, order, trade_id)
            self._balance(account, fees.coin, -amount, ZERO, reason, order.symbol, order.order_id)

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
        held = [one for one in account.positions.values() if one.symbol in instruments]
        order_margin = sum(
            (margin for order_id, margin in self._held_margin.items() if self._margin_owner[order_id] is account), ZERO
        )
        return valued(account.wallet(asset).total, held, marks, order_margin, instruments)

    def reserve_margin(
        self, account: SimAccount, order: SimOrder, opening_notional: Decimal, leverage: Decimal, available: Decimal
    ) -> None:
        """Reserves the initial margin of what the order would open; raises ``SimReject`` when short."""
        needed = opening_notional / leverage
        if needed > available:
            raise SimReject(RejectReason.INSUFFICIENT_MARGIN, f"available={available:.8f} wanted={needed:.8f}")
        self._hold_margin(account, order, needed, order.left_qty)

    def amend_margin(
        self,
        account: SimAccount,
        order: SimOrder,
        left: Decimal,
        opening_notional: Decimal,
        leverage: Decimal,
        available: Decimal,
    ) -> None:
        """The same for what an amended order would open with ``left``; what it held is available to it."""
        held = self._held_margin.get(order.order_id, ZERO)
        needed = opening_notional / leverage
        if needed > available + held:
            raise SimReject(RejectReason.INSUFFICIENT_MARGIN, f"available={available + held:.8f} wanted={needed:.8f}")
        self._hold_margin(account, order, needed, left)

    def _hold_margin(self, account: SimAccount, order: SimOrder, needed: Decimal, left: Decimal) -> None:
        for table in (self._order_margin, self._held_margin, self._margin_owner):
            table.pop(order.order_id, None)
        if needed:
            self._margin_owner[order.order_id] = account
            self._order_margin[order.order_id] = (needed, left)
            self._held_margin[order.order_id] = needed

    def release_margin(self, order: SimOrder) -> None:
        """Scales the reservation to what is still open, or drops it."""
        reserved = self._order_margin.get(order.order_id)
        if reserved is None:
            return
        if order.is_open:
            needed, left = reserved
            self._held_margin[order.order_id] = min(needed, needed * order.left_qty / left)
        else:
            del self._order_margin[order.order_id], self._held_margin[order.order_id]
            del self._margin_owner[order.order_id]

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
        position = position_of(account, instrument.symbol, mode_of(account, order.side, order.reduce_only))
        before = position.qty
        realised, closed = apply_fill(position, price, qty * int(order.side))
        user, ref, asset = f"user:{account.uid}", f"trade:{trade_id}", instrument.quote
        fees = self._fees(account, instrument, order, price * qty, asset, price * qty, is_maker)
        fee = fees.amount
        if not before:
            position.span.start(position, self._now_ms())
        position.realised_pnl += realised
        position.paid_fees += fee
        ended = record_span(
            account,
            position,
            before=before,
            price=price,
            closed=closed,
            opened=qty - closed,
            now_ms=self._now_ms(),
            text=order.text or order.client_id or "api",
        )
        symbol, order_id = instrument.symbol, order.order_id
        if realised:
            self._apply(account, "pnl", ref, [(user, asset, realised), ("market", asset, -realised)], order, trade_id)
            self._balance(account, asset, realised, ZERO, "pnl", symbol, order_id)
        if fee:
            self._apply(account, "fee", ref, [(user, asset, -fee), ("fees", asset, fee)], order, trade_id)
            self._balance(account, asset, -fee, ZERO, "fee", symbol, order_id)
        self._take_coin(account, fees, order, trade_id)
        self._position(account, position)
        if ended is not None:
            self._push(account, CloseEvent(ended, self._now_ms()))
        return Settled(fees, realised, closed)

    def fund(self, account: SimAccount, instrument: SimInstrument, mark: Decimal, rate: Decimal) -> int:
        """Pays (long, positive rate) or receives funding on what is open: how many positions."""
        held = [position for position in positions_of(account, instrument.symbol) if position.qty]
        for position in held:
            paid = (position.qty * mark * rate).quantize(MONEY_STEP, ROUND_HALF_EVEN).normalize() + ZERO
            asset, symbol = instrument.quote, instrument.symbol
            ref = f"funding:{symbol}:{self._now_ms()}"
            postings = [(f"user:{account.uid}", asset, -paid), ("funding", asset, paid)]
            self._apply(account, "fund", ref, postings, symbol=symbol)
            position.paid_funding += paid
            self._balance(account, asset, -paid, ZERO, "fund", symbol, 0)
            self._position(account, position)
        return len(held)

    def add_margin(self, account: SimAccount, position: SimPosition, change: Decimal, available: Decimal) -> None:
        """Moves money into (or out of) one position's margin by hand; raises ``SimReject`` when it is not there."""
        least = abs(position.cost) / position.leverage if change < 0 else ZERO
        if change > available or position.margin + change < least:
            raise SimReject(RejectReason.INSUFFICIENT_MARGIN, f"available={available:.8f} wanted={change}")
        position.margin += change
        self._position(account, position)

    def set_margin_mode(
        self,
        account: SimAccount,
        position: SimPosition,
        leverage: Decimal,
        is_cross: bool,
        mark: Decimal,
        free: Decimal,
    ) -> None:
        """Another leverage or margin mode; ``free``: what may be used besides what the position holds now.

        Raises ``SimReject`` (nothing has changed) when the new margin is not there.
        """
        holds = initial_margin(position, mark) if position.is_cross else position.margin
        margin = (abs(position.cost) / leverage).quantize(MONEY_STEP, ROUND_HALF_EVEN)
        wanted = abs(position.qty) * mark / leverage if is_cross else margin
        if wanted - holds > free:
            raise SimReject(RejectReason.INSUFFICIENT_MARGIN, f"available={free:.8f} wanted={wanted - holds:.8f}")
        changed = (position.leverage, position.is_cross) != (leverage, is_cross)
        position.leverage, position.is_cross = leverage, is_cross
        if changed:
            position.margin = margin
        if changed and position.qty:
            self._position(account, position)

    # --- inside ---

    def _quote_fee(self, instrument: SimInstrument, notional: Decimal) -> Decimal:
        """What a buy may additionally cost in quote (zero where fees are taken from what is received)."""
        if instrument.fee_asset_is_base_on_buy:
            return ZERO
        rate = max(instrument.taker_fee_ppm, instrument.maker_fee_ppm, 0)
        return (notional * rate / PPM).quantize(MONEY_STEP, ROUND_UP) if rate else ZERO

    def _apply(
        self,
        account: SimAccount,
        reason: str,
        ref: str,
        postings: list[Posting],
        order: SimOrder | None = None,
        trade_id: int = 0,
        *,
        symbol: str = "",
    ) -> None:
        """Ledger, wallet, account book."""
        seq = self._ledger.entry(self._venue, reason, ref, postings)
        user = f"user:{account.uid}"
        for owner, asset, amount in postings:
            if owner == user:
                wallet = account.wallet(asset)
                wallet.free += amount
                account.book.append(
                    BookEntry(
                        entry_id=seq,
                        ts_ms=self._now_ms(),
                        asset=asset,
                        change=amount,
                        balance=wallet.total,
                        reason=reason,
                        symbol=order.symbol if order is not None else symbol,
                        order_id=order.order_id if order is not None else 0,
                        trade_id=trade_id,
                    )
                )

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
        self.history.record_wallet(self._mono_ns(), account, asset, wallet)
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
        self._push(account, event)

    def _position(self, account: SimAccount, position: SimPosition) -> None:
        position.update_seq += 1
        position.updated_ms = self._now_ms()
        self.history.record_position(self._mono_ns(), account, position)
        self._ledger.append(
            "position",
            self._venue,
            uid=account.uid,
            symbol=position.symbol,
            mode=position.mode,
            qty=position.qty,
            cost=position.cost,
            margin=position.margin,
            realised_pnl=position.realised_pnl,
        )
        self._push(account, PositionEvent(position.copy(), self._now_ms()))


def opening_qty(position: SimPosition | None, side: OrderSide, qty: Decimal) -> Decimal:
    """The part of an order that would open or increase a position (the rest reduces)."""
    if position is None or not position.qty or (position.qty > 0) == (side is OrderSide.BUY):
        return qty
    return max(ZERO, qty - abs(position.qty))
