"""Instruments by id and name, and arithmetic on one book record: depth, prices, fees, reservations.

Book records hold fixed point (``*_fp``, see ``pipeline/model/fixedpoint.py``); everything that leaves is Decimal unless
its name ends in ``_fp``. ``side`` is always the side of our order: a buy meets the asks, a sell the bids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_CEILING, Decimal

from pipeline.execution.events import BookView, MarketPort
from pipeline.execution.records import OperationRecord
from pipeline.model.config import FeeConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OrderSide, TradingStatus
from pipeline.model.fixedpoint import from_fp, quantize_down, quantize_up, to_fp
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.structs import ZERO
from shm.layout import BOOK, FLAGS_UNTRADABLE

ONE = Decimal(1)
PPM = Decimal(1_000_000)
BPS = Decimal(10_000)
BAND_SHARE = Decimal("0.8")  # of a venue's price band: its reference moves while an order is on its way
#: Coins for fees that no book trades. Gate.io: a point stands for 1 USDT of fees.
FEE_COIN_USD = {"POINT": ONE}


class Instruments:
    """Catalogue rows by id and by (venue, symbol). ``update`` exchanges rows as the catalogue changes."""

    def __init__(self, rows: Iterable[InstrumentRow] = ()) -> None:
        self._rows: dict[int, InstrumentRow] = {}
        self._by_symbol: dict[tuple[str, str], InstrumentRow] = {}
        self.update(rows)

    def update(self, rows: Iterable[InstrumentRow]) -> None:
        """Takes in new rows; one of a known id or name replaces the old."""
        for row in rows:
            self._rows[row.instrument_id] = row
            self._by_symbol[row.spec.venue, row.spec.symbol] = row

    def get(self, instrument_id: int) -> InstrumentRow | None:
        """Row by its id of this run."""
        return self._rows.get(instrument_id)

    def find(self, venue: str, symbol: str) -> InstrumentRow | None:
        """Row by name, which is the same in every run."""
        return self._by_symbol.get((venue, symbol))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[InstrumentRow]:
        return iter(self._rows.values())

    def venues(self) -> list[str]:
        """Names of all venues, sorted."""
        return sorted({row.spec.venue for row in self})

    def lists(self, venue: str) -> bool:
        """Whether any instrument of a venue is known: one that could not be reached at the start has none yet."""
        return any(row.spec.venue == venue for row in self)

    def symbols_of(self, venue: str) -> tuple[str, ...]:
        """Symbols of a venue, sorted."""
        return tuple(sorted(row.spec.symbol for row in self if row.spec.venue == venue))


def tradable(view: BookView, row: InstrumentRow) -> bool:
    """Whether no flag forbids trading on the book and its numbers are of the row's epoch; age is not judged."""
    return not view.words[BOOK.flags] & FLAGS_UNTRADABLE and view.words[BOOK.row_epoch] == row.row_epoch


def levels(view: BookView, side: OrderSide) -> Iterable[tuple[int, int]]:
    """(price_fp, qty_fp) that an order of ``side`` meets, best first: asks for a buy, bids for a sell."""
    words = view.words
    if side is OrderSide.BUY:
        count, price, qty = words[BOOK.ask_count], BOOK.ask_price_fp, BOOK.ask_qty_fp
    else:
        count, price, qty = words[BOOK.bid_count], BOOK.bid_price_fp, BOOK.bid_qty_fp
    return zip(words[price : price + count], words[qty : qty + count], strict=True)


def best_price_fp(view: BookView, side: OrderSide) -> int | None:
    """Best price that an order of ``side`` meets; None on an empty side."""
    words = view.words
    if side is OrderSide.BUY:
        return words[BOOK.ask_price_fp] if words[BOOK.ask_count] > 0 else None
    return words[BOOK.bid_price_fp] if words[BOOK.bid_count] > 0 else None


def within(price_fp: int, limit_fp: int, side: OrderSide) -> bool:
    """Whether ``price_fp`` is no worse than ``limit_fp`` for an order of ``side``."""
    return price_fp <= limit_fp if side is OrderSide.BUY else price_fp >= limit_fp


def depth_within(view: BookView, side: OrderSide, limit_fp: int) -> int:
    """Quantity on the visible levels that are no worse than ``limit_fp``."""
    total = 0
    if side is OrderSide.BUY:
        for price_fp, qty_fp in levels(view, side):
            if price_fp > limit_fp:
                break
            total += qty_fp
    else:
        for price_fp, qty_fp in levels(view, side):
            if price_fp < limit_fp:
                break
            total += qty_fp
    return total


def walk(view: BookView, side: OrderSide, qty_fp: int) -> tuple[int, int]:
    """(quantity found, its value in price x quantity units) of up to ``qty_fp`` on the visible levels."""
    left, value = qty_fp, 0
    for price_fp, available in levels(view, side):
        if available >= left:
            return qty_fp, value + left * price_fp
        value += available * price_fp
        left -= available
    return qty_fp - left, value


def average_price(view: BookView, side: OrderSide, qty: Decimal, row: InstrumentRow) -> Decimal | None:
    """Average price of ``qty`` on the visible levels; None when they hold less."""
    wanted = int(qty.scaleb(row.qty_exp))
    found, value = walk(view, side, wanted)
    if wanted <= 0 or found < wanted:
        return None
    return Decimal(value).scaleb(-row.price_exp) / wanted


def best_price(view: BookView, side: OrderSide, row: InstrumentRow) -> Decimal | None:
    """Best price that an order of ``side`` meets, quote per base; None on an empty side."""
    price_fp = best_price_fp(view, side)
    return None if price_fp is None else from_fp(price_fp, row.price_exp)


def mid_price(view: BookView, row: InstrumentRow) -> Decimal | None:
    """Mean of best bid and best ask, quote per base; None where a side is empty."""
    bid, ask = best_price_fp(view, OrderSide.SELL), best_price_fp(view, OrderSide.BUY)
    return None if bid is None or ask is None else from_fp(bid + ask, row.price_exp) / 2


def order_price(price: Decimal, side: OrderSide, tick: Decimal) -> Decimal:
    """``price`` on the tick, rounded so that we never pay more than ``price``: buys down, sells up."""
    return quantize_down(price, tick) if side is OrderSide.BUY else quantize_up(price, tick)


def bounded_price(best: Decimal, side: OrderSide, slippage_bps: Decimal, tick: Decimal) -> Decimal:
    """Worst price that is within ``slippage_bps`` of ``best``, on the tick."""
    step = best * slippage_bps / BPS
    return order_price(best + step if side is OrderSide.BUY else best - step, side, tick)


def within_band(row: InstrumentRow, slippage_bps: Decimal) -> Decimal:
    """``slippage_bps``, or less where the venue refuses limits that far from its own reference price."""
    band_bps = Decimal(row.spec.price_band_ppm) / 100 * BAND_SHARE
    return min(slippage_bps, band_bps) if band_bps else slippage_bps


def can_trade(row: InstrumentRow, side: OrderSide) -> bool:
    """Whether the venue's trading status lets an order of ``side`` in."""
    status = row.spec.status
    if status is TradingStatus.TRADING:
        return True
    return status is (TradingStatus.BUY_ONLY if side is OrderSide.BUY else TradingStatus.SELL_ONLY)


def can_enter(row: InstrumentRow, side: OrderSide) -> bool:
    """Whether an entry may have a leg there: the venue takes it, and trading does not end soon."""
    return can_trade(row, side) and not row.spec.ending


def is_tradable_qty(row: InstrumentRow, qty: Decimal, price: Decimal) -> bool:
    """Whether the venue takes an order of this base quantity (already on the lot) at this price."""
    spec = row.spec
    return qty > 0 and qty >= spec.min_qty and qty * price >= spec.min_notional


def fee_of(
    row: InstrumentRow, side: OrderSide, qty: Decimal, price: Decimal, *, is_maker: bool = False
) -> tuple[Decimal, str]:
    """Expected fee of an execution and the asset in which it is taken."""
    rate = Decimal(row.spec.maker_fee_ppm if is_maker else row.spec.taker_fee_ppm) / PPM
    if row.spec.fee_rule is FeeAssetRule.RECEIVED and side is OrderSide.BUY and row.spec.kind is InstrumentKind.SPOT:
        return qty * rate, row.spec.base
    return qty * price * rate, row.spec.quote


def gross_qty(row: InstrumentRow, side: OrderSide, qty: Decimal) -> Decimal:
    """Quantity to trade so that ``qty`` arrives: a buy whose fee is taken in base needs more."""
    spec = row.spec
    if side is OrderSide.SELL or spec.kind is not InstrumentKind.SPOT or spec.fee_rule is not FeeAssetRule.RECEIVED:
        return qty
    return qty / (1 - Decimal(spec.taker_fee_ppm) / PPM)


def reserved_share(row: InstrumentRow, side: OrderSide, leverage: Decimal) -> tuple[str, Decimal]:
    """(asset, share of the notional) that an order may take at worst, in whole ppm, rounded up.

    A spot buy takes its notional and the fee where that is taken in quote, a futures order margin and fee; a spot sell
    takes its quantity of base (returned as share 0).
    """
    spec = row.spec
    if spec.kind is InstrumentKind.PERPETUAL:
        margin_ppm = (PPM / leverage).to_integral_value(ROUND_CEILING)
        return spec.quote, (margin_ppm + spec.taker_fee_ppm) / PPM
    if side is OrderSide.SELL:
        return spec.base, ZERO
    fee_ppm = spec.taker_fee_ppm if spec.fee_rule is FeeAssetRule.QUOTE else 0
    return spec.quote, (PPM + fee_ppm) / PPM


def reservation(
    row: InstrumentRow, side: OrderSide, qty: Decimal, price: Decimal, leverage: Decimal
) -> tuple[str, Decimal]:
    """(asset, amount) that an order may take at worst."""
    asset, share = reserved_share(row, side, leverage)
    return asset, qty * price * share if share else qty


class UsdRates:
    """USD value of one unit of an asset, for limits only: USD coins count 1, others the mid of a book against one.

    ``declared``: prices of coins that no book tells (coins for fees); a book's comes first.
    """

    def __init__(
        self, instruments: Instruments, market: MarketPort, declared: Mapping[str, Decimal] = FEE_COIN_USD
    ) -> None:
        self._instruments = instruments
        self._market = market
        self._declared = declared

    def rate(self, asset: str) -> Decimal | None:
        """USD per unit; None where no tradable book gives it (a limit that cannot be computed refuses)."""
        return self.rate_since(asset, -1)

    def rate_since(self, asset: str, mono_ns: int) -> Decimal | None:
        """The same by books that were proved current at ``mono_ns`` or later: one of a feed that has died is none."""
        if asset in USD_COINS:
            return ONE
        for row in self._instruments:
            if row.spec.base == asset and row.spec.quote in USD_COINS and row.tradable_pair:
                view = self._market.book(row.instrument_id)
                alive = view is not None and view.proof_mono_ns >= mono_ns and tradable(view, row)
                mid = mid_price(view, row) if view is not None and alive else None
                if mid is not None:
                    return mid
        return self._declared.get(asset)

    def booking_rate(self, record: OperationRecord, asset: str) -> Decimal:
        """USD per unit of ``asset``, in which an operation is booked: by a book, else as its entry was valued."""
        known = self.rate(asset)
        if known is not None:
            return known
        largest = max((leg.qty * leg.limit_price for leg in record.legs if leg.quote == asset), default=ZERO)
        return record.notional_usd / largest if largest else ZERO


def declared_usd(fees: Mapping[str, FeeConfig]) -> dict[str, Decimal]:
    """USD per unit of the coins for fees that have a price without a book: the documented ones, and the configured."""
    own = {
        fee.deduction.coin: fee.deduction.price_usd
        for fee in fees.values()
        if fee.deduction is not None and fee.deduction.price_usd is not None
    }
    return {**FEE_COIN_USD, **own}


def shows_less(view: BookView | None, side: OrderSide, limit: Decimal, qty: Decimal, row: InstrumentRow) -> bool:
    """Whether a living book holds less than ``qty`` within the limit."""
    if view is None:
        return False
    found_fp = depth_within(view, side, to_fp(limit, row.price_exp))
    return from_fp(found_fp, row.qty_exp) < qty
