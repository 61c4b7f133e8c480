"""What the words of a catalogue row (``CATALOGUE_ROW``) say to the detector."""

from __future__ import annotations

from pipeline.model.catalogue_row import words_to_text
from pipeline.model.enums import FeeAssetRule, InstrumentKind
from shm.layout_pages import CAT_FLAG_REMOVED, CATALOGUE_ROW, CATALOGUE_TEXT_WORDS
from shm.words import Words

FEE_LIMIT_PPM = 100_000  # a taker fee beyond 10 % is not a fee that we understand: never traded


def buy_fees(row: Words) -> tuple[int, int]:
    """(base ppm, quote ppm) of a taker buy: a spot buy pays in what it receives where the venue says so."""
    fee = int(row[CATALOGUE_ROW.taker_fee_ppm])
    in_base = (
        int(row[CATALOGUE_ROW.kind]) == InstrumentKind.SPOT
        and int(row[CATALOGUE_ROW.fee_asset_rule]) == FeeAssetRule.RECEIVED
    )
    return (fee, 0) if in_base else (0, fee)


def pair_text(row: Words) -> str:
    return words_to_text(row[CATALOGUE_ROW.pair_text : CATALOGUE_ROW.pair_text + CATALOGUE_TEXT_WORDS])


def tradable_row(row: Words) -> bool:
    fee = int(row[CATALOGUE_ROW.taker_fee_ppm])
    return (
        not int(row[CATALOGUE_ROW.flags]) & CAT_FLAG_REMOVED
        and abs(fee) <= FEE_LIMIT_PPM
        and int(row[CATALOGUE_ROW.lot_fp]) > 0
    )
