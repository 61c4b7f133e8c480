"""Fees of the real account: configured rates, and coins that an account has set aside for fees.

Where a deduction coin is on, a fee is worth ``1 - discount`` of the plain one and leaves a stock of its own: a buy
receives all that it bought. Edge, sizes and reservations then take the fee as paid in quote, at the discounted rate.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pipeline.model.config import DeductionConfig, FeeConfig
from pipeline.model.enums import FeeAssetRule
from pipeline.model.structs import InstrumentSpec
from pipeline.model.units import PPM


class FeeSwitch(NamedTuple):
    """What a venue says about the coin that an account's fees are taken in.

    ``coin``: "" = fees are plain. ``discount_ppm``: what a fee in the coin is cheaper; None: the venue does not tell.
    ``held``: there is a stock of it; without one fees are plain until it is filled up.
    """

    coin: str
    discount_ppm: int | None = None
    held: bool = True


def true_fees(fees: FeeConfig | None, reported: FeeSwitch | None) -> FeeConfig | None:
    """The configured ``fees`` of a venue, with the deduction that the venue tells in place of the configured one.

    A coin that is on and not configured has no discount where the venue does not tell one: that may be too dear, never
    too cheap.
    """
    if reported is None:
        return fees
    known = fees or FeeConfig()
    if not reported.coin or not reported.held:
        return msgspec.structs.replace(known, deduction=None)
    deduction = known.deduction
    if deduction is None or deduction.coin != reported.coin:
        deduction = DeductionConfig(coin=reported.coin, discount_ppm=reported.discount_ppm or 0)
    elif reported.discount_ppm is not None:
        deduction = msgspec.structs.replace(deduction, discount_ppm=reported.discount_ppm)
    return msgspec.structs.replace(known, deduction=deduction)


def switch_fault(venue: str, fees: FeeConfig | None, reported: FeeSwitch | None) -> str:
    """How the venue's deduction differs from the configured one, with both and what solves it; "" where it does not."""
    configured = fees.deduction if fees is not None else None
    if reported is None or reported.coin == (configured.coin if configured is not None else ""):
        return ""
    wanted = f"fees in {configured.coin}" if configured is not None else "plain fees"
    found = f"takes fees in {reported.coin}" if reported.coin else "takes plain fees"
    what = f"{venue} {found}, configured are {wanted}; the venue's are counted"
    if reported.coin:
        return f"{what}; set fees.{venue}.deduction.coin: {reported.coin}, or switch it off at the venue"
    return f"{what}; switch the deduction on at the venue, or remove fees.{venue}.deduction"


def discounted(fee_ppm: int, discount_ppm: int) -> int:
    """A fee less the discount, in ppm, rounded up; a rebate (below 0) has none."""
    return -(-fee_ppm * (PPM - discount_ppm) // PPM) if fee_ppm > 0 else fee_ppm


def with_account_fees(spec: InstrumentSpec, fees: FeeConfig | None) -> InstrumentSpec:
    """``spec`` with the configured rates of its venue in place of those that the venue sent, and its deduction."""
    if fees is None:
        return spec
    taker = spec.taker_fee_ppm if fees.taker_ppm is None else fees.taker_ppm
    maker = spec.maker_fee_ppm if fees.maker_ppm is None else fees.maker_ppm
    rule = spec.fee_rule
    if fees.deduction is not None:
        taker, maker = (discounted(fee, fees.deduction.discount_ppm) for fee in (taker, maker))
        rule = FeeAssetRule.QUOTE
    return msgspec.structs.replace(spec, taker_fee_ppm=taker, maker_fee_ppm=maker, fee_rule=rule)
