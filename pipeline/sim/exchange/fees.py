"""Fees of a fill: at the account's tier in the plain asset, or in a coin that the account has set aside for fees.

Deduction coins: Gate.io GT and points, MEXC MX. A fee that is paid in such a coin costs ``rate`` of the plain one.
Where the coin's stock does not cover a fee, Gate.io takes what is there and the rest in the plain asset; MEXC takes all
of it in the plain asset. Rebates (negative fees) are always plain. Source: Gate.io APIv4 "Get user trading fee rates",
"GT deduction"; MEXC spot v3 "MX Deduct".
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_UP, Decimal

from pipeline.sim.exchange.decimals import MONEY_STEP, ONE, PPM, ZERO
from pipeline.sim.exchange.instruments import SimInstrument

POINTS = "POINT"


@dataclass(slots=True, kw_only=True)
class FeeDeduction:
    """An account's switch: fees are taken in ``coin`` while there is some.

    ``price``: settlement coins per coin; ``rate``: what is charged of the plain fee; ``splits``: a fee may be paid in
    two assets.
    """

    coin: str
    price: Decimal = ONE
    rate: Decimal = ONE
    splits: bool = True
    enabled: bool = True


@dataclass(slots=True, frozen=True)
class FillFee:
    """``amount`` in the plain ``asset`` (negative = rebate) and ``coin_amount`` in the deduction coin ("" = none)."""

    amount: Decimal
    asset: str
    coin_amount: Decimal = ZERO
    coin: str = ""


def plain_fee(instrument: SimInstrument, basis: Decimal, is_maker: bool) -> Decimal:
    """The account's fee on ``basis``, in its asset; negative is a rebate."""
    rate = instrument.maker_fee_ppm if is_maker else instrument.taker_fee_ppm
    fee = (basis * rate / PPM).quantize(MONEY_STEP, ROUND_UP).normalize() if rate else ZERO
    return fee + ZERO  # no negative zero


def fill_fee(fee: Decimal, asset: str, value: Decimal, deduction: FeeDeduction | None, stock: Decimal) -> FillFee:
    """Divides a plain fee, worth ``value`` settlement coins, between its asset and the deduction coin's ``stock``."""
    if deduction is None or not deduction.enabled or fee <= 0 or stock <= 0:
        return FillFee(fee, asset)
    wanted = (value * deduction.rate / deduction.price).quantize(MONEY_STEP, ROUND_UP).normalize()
    if stock >= wanted:
        return FillFee(ZERO, asset, wanted, deduction.coin)
    if not deduction.splits:
        return FillFee(fee, asset)
    paid = stock.quantize(MONEY_STEP, ROUND_DOWN)
    rest = (fee * (1 - paid / wanted)).quantize(MONEY_STEP, ROUND_UP).normalize()
    return FillFee(rest, asset, paid, deduction.coin)
