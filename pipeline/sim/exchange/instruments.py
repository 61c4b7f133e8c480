"""One instrument of a simulated venue, and the two kinds of numbers.

The market moves in integers: prices in **ticks** and quantities in **units** of one instrument (a unit is the book's
own quantum: for futures one contract, for spot a fraction of the lot, because real books hold orders finer than
today's lot). Everything an account can see or the venue ledger keeps is exact ``Decimal`` in base coin, quote coin and
price. ``SimInstrument`` converts; its ``*_text`` methods never build a Decimal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.structs import CoinIdentity
from pipeline.sim.exchange.decimals import ONE, ZERO
from pipeline.sim.exchange.orders import RejectReason, SimReject
from pipeline.sim.exchange.paths import Path

Level = tuple[int, int]  # (price in ticks, quantity in units); quantity 0 in a delta deletes the level


@dataclass(slots=True, frozen=True, kw_only=True)
class RiskTier:
    """One risk limit tier of a contract: positions up to ``cap`` quote coins of value.

    Maintenance margin = value x ``maintenance_rate`` - ``deduction``.
    """

    cap: Decimal
    initial_rate: Decimal
    maintenance_rate: Decimal
    leverage_max: int
    deduction: Decimal = ZERO


DEFAULT_RISK_LIMIT = Decimal(1_000_000)  # cap that the only tier of a contract shows


@dataclass(slots=True)
class SimInstrument:
    """One symbol of one simulated venue. Quantities are base coin unless the name says units.

    ``taker_fee_ppm``/``maker_fee_ppm`` are the account's own tier (what fills are charged); ``list_*`` are the
    public row's base tier. ``unit`` is the base quantity of one book unit; ``lot`` is a whole multiple of it.
    """

    symbol: str
    base: str
    quote: str
    kind: InstrumentKind
    tick: Decimal
    lot: Decimal
    unit: Decimal
    multiplier: Decimal = ONE  # base coins per contract; 1 on spot
    min_qty: Decimal = ZERO
    max_qty: Decimal = ZERO  # 0 = none
    min_notional: Decimal = ZERO
    max_notional: Decimal = ZERO  # 0 = none
    taker_fee_ppm: int = 0
    maker_fee_ppm: int = 0
    list_taker_fee_ppm: int = 1000
    list_maker_fee_ppm: int = 1000
    fee_rule: FeeAssetRule = FeeAssetRule.QUOTE
    status: TradingStatus = TradingStatus.TRADING
    identity: CoinIdentity = field(default_factory=lambda: CoinIdentity(asset=""))
    price_band_ppm: int = 500_000  # |price - mark| <= mark * band
    funding_rate: Decimal = ZERO
    funding_interval_s: int = 0
    funding_next_s: int = 0  # wall seconds
    funding_path: Path = ()  # (seconds since the paths began, rate): the rate follows it
    leverage_max: int = 100
    maintenance_rate: Decimal = Decimal("0.005")
    risk_tiers: tuple[RiskTier, ...] = ()  # rising caps; empty = one tier of the two fields above
    trigger_keeps_fee: bool = True  # a position must keep its taker fee of closing, too (Gate.io; Binance: no)
    delisting_s: int = 0  # wall seconds of an announced delisting: reduce-only from here (0 = none)
    delisted_s: int = 0  # its end
    only_reduces: bool = False  # between the two
    is_delisted: bool = False
    reference: Callable[[], Decimal] | None = None  # set by the venue: mark price now
    price_digits: int = field(init=False)
    qty_digits: int = field(init=False)
    lot_units: int = field(init=False)
    _tick_int: int = field(init=False)
    _tick_factor: int = field(init=False, default=1)
    _unit_int: int = field(init=False)

    def __post_init__(self) -> None:
        self.price_digits, self._tick_int = _mantissa(self.tick)
        self.qty_digits, self._unit_int = _mantissa(self.unit)
        units = self.lot / self.unit
        if units != int(units) or units < 1:
            raise ValueError(f"lot must be a multiple of unit: {self.symbol} lot={self.lot} unit={self.unit}")
        self.lot_units = int(units)

    @property
    def pair(self) -> str:
        """BASE/QUOTE."""
        return f"{self.base}/{self.quote}"

    @property
    def is_futures(self) -> bool:
        """True for a perpetual contract."""
        return self.kind is InstrumentKind.PERPETUAL

    @property
    def fee_asset_is_base_on_buy(self) -> bool:
        """True where fees are taken from what is received, so that a buy pays in base coin."""
        return self.fee_rule is FeeAssetRule.RECEIVED

    @property
    def tiers(self) -> tuple[RiskTier, ...]:
        """The risk limit tiers, at least one. Values above the last cap stay in the last tier."""
        if self.risk_tiers:
            return self.risk_tiers
        initial = round(ONE / self.leverage_max, 8)
        return (
            RiskTier(
                cap=DEFAULT_RISK_LIMIT,
                initial_rate=initial,
                maintenance_rate=self.maintenance_rate,
                leverage_max=self.leverage_max,
            ),
        )

    def reference_price(self) -> Decimal:
        """Mark (futures) or last mid (spot) now; 0 before the market has started."""
        return self.reference() if self.reference is not None else ZERO

    def price(self, ticks: int) -> Decimal:
        """Price in quote coin of a number of ticks; exact."""
        return Decimal(ticks * self._tick_int).scaleb(-self.price_digits)

    def qty(self, units: int) -> Decimal:
        """Base coins of a number of units; exact."""
        return Decimal(units * self._unit_int).scaleb(-self.qty_digits)

    def price_text(self, ticks: int) -> str:
        """Fixed digits of the tick: 6500050 ticks of 0.01 -> "65000.50"."""
        return _fixed(ticks * self._tick_int, self.price_digits)

    def qty_text(self, units: int) -> str:
        """Base coin, digits of the unit. A futures dialect sends contracts: the integer ``units`` itself."""
        return _fixed(units * self._unit_int, self.qty_digits)

    def ticks(self, price: Decimal) -> int:
        """Exact; raises ``SimReject(BAD_PRICE_TICK)`` when off the tick."""
        count = price / self.tick
        whole = int(count)
        if whole != count:
            raise SimReject(RejectReason.BAD_PRICE_TICK, f"price {price} is not a multiple of {self.tick}")
        return whole * self._tick_factor

    def coarsen_tick(self, factor: int) -> None:
        """From now on orders need a tick ``factor`` times as large; the book keeps counting in the old one."""
        self.tick *= factor
        self._tick_factor *= factor

    def coarsen_lot(self, factor: int) -> None:
        """From now on orders need a lot ``factor`` times as large."""
        self.lot *= factor
        self.lot_units *= factor

    def units(self, qty: Decimal) -> int:
        """Exact in lots; raises ``SimReject(BAD_QTY_STEP)`` when off the lot."""
        lots = qty / self.lot
        whole = int(lots)
        if whole != lots:
            raise SimReject(RejectReason.BAD_QTY_STEP, f"quantity {qty} is not a multiple of {self.lot}")
        return whole * self.lot_units


def _mantissa(step: Decimal) -> tuple[int, int]:
    """(fraction digits, integer mantissa) of a step: 0.05 -> (2, 5), 10 -> (0, 10)."""
    normal = step.normalize()
    exponent = normal.as_tuple().exponent
    if not isinstance(exponent, int) or step <= 0:
        raise ValueError(f"step must be a positive number: step={step}")
    digits = max(0, -exponent)
    return digits, int(step.scaleb(digits))


def _fixed(value: int, digits: int) -> str:
    if digits == 0:
        return str(value)
    sign = "-" if value < 0 else ""
    text = str(abs(value)).rjust(digits + 1, "0")
    return f"{sign}{text[:-digits]}.{text[-digits:]}"
