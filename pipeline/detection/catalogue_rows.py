"""What the words of a catalogue row (``shm.layout`` CR_*) say to the detector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.model.catalogue_row import words_to_text
from pipeline.model.enums import FeeAssetRule, InstrumentKind
from shm import layout as ly

Words = npt.NDArray[np.int64]

FEE_LIMIT_PPM = 100_000  # a taker fee beyond 10 % is not a fee that we understand: never traded
#: Count as one dollar where a cap in dollars is applied; as assets they stay different (a pair has one quote).
STABLE_QUOTES = frozenset({"USD", "USDT", "USDC", "FDUSD", "TUSD", "DAI", "USDE", "PYUSD"})


def buy_fees(row: Words) -> tuple[int, int]:
    """(base ppm, quote ppm) of a taker buy: a spot buy pays in what it receives where the venue says so."""
    fee = int(row[ly.CR_TAKER_FEE_PPM])
    in_base = int(row[ly.CR_KIND]) == InstrumentKind.SPOT and int(row[ly.CR_FEE_ASSET_RULE]) == FeeAssetRule.RECEIVED
    return (fee, 0) if in_base else (0, fee)


def pair_text(row: Words) -> str:
    return words_to_text(row[ly.CR_PAIR_TEXT : ly.CR_PAIR_TEXT + ly.CR_PAIR_TEXT_WORDS])


def tradable_row(row: Words) -> bool:
    fee = int(row[ly.CR_TAKER_FEE_PPM])
    return not int(row[ly.CR_FLAGS]) & ly.CAT_FLAG_REMOVED and abs(fee) <= FEE_LIMIT_PPM and int(row[ly.CR_LOT_FP]) > 0
