"""What the fee of a fill is worth, and whether it is dearer than the account's schedule says.

A fee may be taken in the plain asset (what is received, or quote), in a deduction coin (Gate.io GT and points, MEXC MX,
Binance BNB), or in parts of both. Values are in the quote asset of the instrument.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal

from pipeline.execution.accounts import Execution
from pipeline.execution.market import PPM, Instruments, UsdRates, fee_of
from pipeline.execution.records import FillRecord
from pipeline.model.config import EngineConfig
from pipeline.model.dialects import facts_of
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO, Fill

FEE_TOLERANCE_PPM = Decimal(2)  # of the notional
FEE_TOLERANCE_ABS = Decimal("0.00000001")  # of the plain asset
COIN_TOLERANCE = Decimal("0.05")  # of the expected fee: the venue's price of its coin is not that of our books
_UNNAMED = re.compile(r"fee \S+ '([^']+)', expected")
_CHARGED = re.compile(r"fee (.+), expected .*; (\d+) ppm as (taker|maker)")


class AccountFees:
    """Judges and values the fees of fills, by the catalogue's rates and the configuration (``fees``)."""

    def __init__(self, config: EngineConfig, instruments: Instruments, rates: UsdRates) -> None:
        self._instruments = instruments
        self._rates = rates
        self._configured = {venue: fees.deduction.coin for venue, fees in config.fees.items() if fees.deduction}
        self._known = {venue.name: facts_of(venue.dialect).deduction_coins for venue in config.venues}

    def reported(self, fee_coins: Mapping[str, str]) -> None:
        """The coin that each venue says it takes fees in ("" = plain), in place of the configured one."""
        for venue, coin in fee_coins.items():
            self._configured.pop(venue, None)
            if coin:
                self._configured[venue] = coin

    def fault(self, row: InstrumentRow, fill: Fill) -> str:
        """Why a fee must stop trading on its instrument: dearer than expected, or in an asset that nobody named;
        "" when it need not."""
        spec = row.spec
        expected, plain = fee_of(row, fill.side, fill.qty, fill.price, is_maker=fill.is_maker)
        wanted = f"expected {expected.normalize()} {plain}"
        named = {plain} | self._coins(row)
        value = ZERO
        for asset, amount in fill.fees:
            if asset not in named and not (amount < 0 and asset in (spec.base, spec.quote)):  # a maker's rebate
                return f"fee {amount} {asset!r}, {wanted}; a coin for fees is named by fees.{spec.venue}.deduction.coin"
            value += amount * (self._price(row, fill.price, asset) or ZERO)
        unit = fill.price if plain == spec.base else Decimal(1)
        limit = expected * unit + fill.qty * fill.price * FEE_TOLERANCE_PPM / PPM + FEE_TOLERANCE_ABS * unit
        if any(asset not in (spec.base, spec.quote) for asset, _ in fill.fees):
            limit += abs(expected) * unit * COIN_TOLERANCE
        if value > limit:
            ppm = (value / (fill.qty * fill.price) * PPM).to_integral_value(ROUND_CEILING)
            paid = " + ".join(f"{amount} {asset}" for asset, amount in fill.fees)
            return f"fee {paid}, {wanted}; {ppm} ppm as {'maker' if fill.is_maker else 'taker'}"
        return ""

    def _coins(self, row: InstrumentRow) -> set[str]:
        """Assets that a fee may be taken in besides the plain one."""
        spec = row.spec
        coins = {*self._known.get(spec.venue, ())}
        if spec.venue in self._configured:
            coins |= {self._configured[spec.venue], spec.base, spec.quote}
        return coins

    def still(self, row: InstrumentRow, fault: str) -> str | None:
        """How what a :meth:`fault` has found differs from what is counted with now; "" where it does not by now, None
        where the text does not tell."""
        spec = row.spec
        unnamed, charged = _UNNAMED.search(fault), _CHARGED.search(fault)
        if unnamed:
            coin = unnamed[1]
            if coin in (spec.base, spec.quote):
                return None
            return "" if coin in self._coins(row) else f"a fee was taken in {coin}, which nobody has named"
        if not charged:
            return None
        ppm, side = int(charged[2]), charged[3]
        now_ppm = spec.maker_fee_ppm if side == "maker" else spec.taker_fee_ppm
        limit = now_ppm + FEE_TOLERANCE_PPM + 1  # it was rounded up
        if any(part.rpartition(" ")[2] not in (spec.base, spec.quote) for part in charged[1].split(" + ")):
            limit += abs(now_ppm) * COIN_TOLERANCE
        if ppm <= limit:
            return ""
        return f"the account was charged {ppm} ppm as {side}, {now_ppm} ppm is what is counted with"

    def coin_rates(self, fills: Iterable[Execution], start: str) -> dict[str, Decimal]:
        """Value in ``start`` of each asset that only fees of these fills were paid in.

        By the books where they have a price; else the coin paid what was expected of the fees that it paid.
        """
        paid: dict[str, tuple[Decimal, Decimal]] = {}  # coin -> (amount, expected value in start)
        for fill in fills:
            row = self._instruments.find(fill.venue, fill.symbol)
            if row is None:
                continue
            coins = [(asset, amount) for asset, amount in fill.fees if asset not in (fill.base, fill.quote)]
            if not coins:
                continue
            is_maker = isinstance(fill, FillRecord) and fill.is_maker
            expected, plain = fee_of(row, fill.side, fill.qty, fill.price, is_maker=is_maker)
            units = {fill.quote: Decimal(1), fill.base: fill.price}
            plainly = sum((amount * units[asset] for asset, amount in fill.fees if asset in units), ZERO)
            value = max(expected * units[plain] - plainly, ZERO) * self._cross(fill.quote, start)
            for asset, amount in coins:
                total, worth = paid.get(asset, (ZERO, ZERO))
                paid[asset] = (total + amount, worth + value / len(coins))
        found: dict[str, Decimal] = {}
        for asset, (amount, worth) in paid.items():
            priced = self._cross(asset, start)
            found[asset] = priced or (worth / amount if amount else ZERO)
        return found

    def _price(self, row: InstrumentRow, price: Decimal, asset: str) -> Decimal | None:
        """Quote per unit of ``asset``; None where no book has a price of it."""
        if asset == row.spec.quote:
            return Decimal(1)
        return price if asset == row.spec.base else self._cross(asset, row.spec.quote) or None

    def _cross(self, asset: str, other: str) -> Decimal:
        """``other`` per unit of ``asset`` by USD rates; 0 where one of them is unknown."""
        if asset == other:
            return Decimal(1)
        one, two = self._rates.rate(asset), self._rates.rate(other)
        return one / two if one and two else ZERO
