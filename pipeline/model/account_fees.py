"""Fees of the real account: configured rates, and coins that an account has set aside for fees.

Where a deduction coin is on, a fee is worth ``1 - discount`` of the plain one and leaves a stock of its own: a buy
receives all that it bought. Edge, sizes and reservations then take the fee as paid in quote, at the discounted rate.
"""

from __future__ import annotations

import msgspec

from pipeline.model.config import FeeConfig
from pipeline.model.enums import FeeAssetRule
from pipeline.model.structs import InstrumentSpec

PPM = 1_000_000


def discounted(fee_ppm: int, discount_ppm: int) -> int:
    """A fee less the discount, in ppm, rounded up; a rebate (below 0) has none."""
    return -(-fee_ppm * (PPM - discount_ppm) // PPM) if fee_ppm > 0 else fee_ppm


def with_account_fees(spec: InstrumentSpec, fees: FeeConfig | None) -> InstrumentSpec:
    """``spec`` with the configured rates of its venue in place of those that the venue told, and its deduction."""
    if fees is None:
        return spec
    taker = spec.taker_fee_ppm if fees.taker_ppm is None else fees.taker_ppm
    maker = spec.maker_fee_ppm if fees.maker_ppm is None else fees.maker_ppm
    rule = spec.fee_rule
    if fees.deduction is not None:
        taker, maker = (discounted(fee, fees.deduction.discount_ppm) for fee in (taker, maker))
        rule = FeeAssetRule.QUOTE
    return msgspec.structs.replace(spec, taker_fee_ppm=taker, maker_fee_ppm=maker, fee_rule=rule)
