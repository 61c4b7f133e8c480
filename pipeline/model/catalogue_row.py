"""Instrument rows <-> the 48 words of a catalogue row in shared memory (``shm.layout``, ``CR_*``).

Coin identity and the reason of a quarantine stay with the supervisor; everything that feeds, detector and executor
need goes through the page: a row read back has ``identity=None`` and no quarantine text.
"""

from __future__ import annotations

import numpy as np

from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.fixedpoint import FP_LIMIT, from_fp, to_fp, to_fp_ceil, to_fp_floor
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import CoinIdentity, InstrumentSpec
from shm import layout as ly
from shm.words import Words


def text_to_words(text: str, words: int) -> Words:
    """UTF-8, zero padded, in ``words`` 64-bit words. Raises ``ValueError`` when it does not fit."""
    raw = text.encode()
    if len(raw) > words * ly.WORD_BYTES:
        raise ValueError(f"{text!r} is {len(raw)} bytes long, at most {words * ly.WORD_BYTES} fit")
    return np.frombuffer(raw.ljust(words * ly.WORD_BYTES, b"\0"), dtype="<i8").astype(np.int64)


def words_to_text(words: Words) -> str:
    """Inverse of ``text_to_words``."""
    return words.astype("<i8").tobytes().rstrip(b"\0").decode()


def row_to_words(row: InstrumentRow) -> Words:
    """48 words, ``CR_SEQ`` left at 0 for the page's writer."""
    spec = row.spec
    words = np.zeros(ly.CATALOGUE_ROW_WORDS, dtype=np.int64)
    words[ly.CR_VENUE] = row.venue_id
    words[ly.CR_FEED] = row.feed_id
    words[ly.CR_BOOK_INDEX] = row.book_index
    words[ly.CR_PAIR] = row.pair_id
    words[ly.CR_BASE_ASSET] = row.base_asset_id
    words[ly.CR_QUOTE_ASSET] = row.quote_asset_id
    words[ly.CR_KIND] = int(spec.kind)
    words[ly.CR_STATUS] = int(spec.status)
    words[ly.CR_PRICE_EXP] = row.price_exp
    words[ly.CR_QTY_EXP] = row.qty_exp
    words[ly.CR_TICK_FP] = to_fp(spec.tick, row.price_exp)
    words[ly.CR_LOT_FP] = to_fp(spec.lot, row.qty_exp)
    words[ly.CR_MIN_QTY_FP] = to_fp_ceil(spec.min_qty, row.qty_exp)
    # a maximum beyond what books can hold is no bound
    words[ly.CR_MAX_QTY_FP] = to_fp_floor(min(spec.max_qty, from_fp(FP_LIMIT, row.qty_exp)), row.qty_exp)
    words[ly.CR_MIN_NOTIONAL_FP] = to_fp_ceil(spec.min_notional, row.price_exp)
    words[ly.CR_TAKER_FEE_PPM] = spec.taker_fee_ppm
    words[ly.CR_MAKER_FEE_PPM] = spec.maker_fee_ppm
    words[ly.CR_FEE_ASSET_RULE] = int(spec.fee_rule)
    words[ly.CR_MULTIPLIER_FP] = to_fp(spec.multiplier, row.qty_exp)
    words[ly.CR_ROW_EPOCH] = row.row_epoch
    words[ly.CR_FUNDING_RATE_PPB] = spec.funding_rate_ppb
    words[ly.CR_FUNDING_INTERVAL_S] = spec.funding_interval_s
    words[ly.CR_FUNDING_NEXT_WALL_S] = spec.funding_next_wall_s
    words[ly.CR_FLAGS] = _flags(spec)
    words[ly.CR_PRICE_BAND_PPM] = spec.price_band_ppm
    words[ly.CR_SYMBOL : ly.CR_SYMBOL + ly.CR_SYMBOL_WORDS] = text_to_words(spec.symbol, ly.CR_SYMBOL_WORDS)
    words[ly.CR_PAIR_TEXT : ly.CR_PAIR_TEXT + ly.CR_PAIR_TEXT_WORDS] = text_to_words(spec.pair, ly.CR_PAIR_TEXT_WORDS)
    return words


def _flags(spec: InstrumentSpec) -> int:
    if spec.identity is None:
        return ly.CAT_FLAG_DEPOSIT | ly.CAT_FLAG_WITHDRAW
    flags = ly.CAT_FLAG_IDENTITY
    if spec.identity.deposit_enabled:
        flags |= ly.CAT_FLAG_DEPOSIT
    if spec.identity.withdraw_enabled:
        flags |= ly.CAT_FLAG_WITHDRAW
    return flags


def _identity(asset: str, flags: int) -> CoinIdentity | None:
    """The wallet switches; networks stay with the supervisor, who has judged them."""
    if not flags & ly.CAT_FLAG_IDENTITY:
        return None
    return CoinIdentity(
        asset=asset,
        deposit_enabled=bool(flags & ly.CAT_FLAG_DEPOSIT),
        withdraw_enabled=bool(flags & ly.CAT_FLAG_WITHDRAW),
    )


def words_to_row(instrument_id: int, words: Words, venue_name: str) -> InstrumentRow:
    """The row as every process but the supervisor sees it. ``words``: int64[48]; ``venue_name`` of ``CR_VENUE``."""
    price_exp, qty_exp = int(words[ly.CR_PRICE_EXP]), int(words[ly.CR_QTY_EXP])
    base, _, quote = words_to_text(words[ly.CR_PAIR_TEXT : ly.CR_PAIR_TEXT + ly.CR_PAIR_TEXT_WORDS]).partition("/")
    spec = InstrumentSpec(
        venue=venue_name,
        symbol=words_to_text(words[ly.CR_SYMBOL : ly.CR_SYMBOL + ly.CR_SYMBOL_WORDS]),
        base=base,
        quote=quote,
        kind=InstrumentKind(int(words[ly.CR_KIND])),
        tick=from_fp(int(words[ly.CR_TICK_FP]), price_exp).normalize(),
        lot=from_fp(int(words[ly.CR_LOT_FP]), qty_exp).normalize(),
        min_qty=from_fp(int(words[ly.CR_MIN_QTY_FP]), qty_exp).normalize(),
        max_qty=from_fp(int(words[ly.CR_MAX_QTY_FP]), qty_exp).normalize(),
        min_notional=from_fp(int(words[ly.CR_MIN_NOTIONAL_FP]), price_exp).normalize(),
        multiplier=from_fp(int(words[ly.CR_MULTIPLIER_FP]), qty_exp).normalize(),
        status=TradingStatus(int(words[ly.CR_STATUS])),
        taker_fee_ppm=int(words[ly.CR_TAKER_FEE_PPM]),
        maker_fee_ppm=int(words[ly.CR_MAKER_FEE_PPM]),
        fee_rule=FeeAssetRule(int(words[ly.CR_FEE_ASSET_RULE])),
        price_band_ppm=int(words[ly.CR_PRICE_BAND_PPM]),
        funding_rate_ppb=int(words[ly.CR_FUNDING_RATE_PPB]),
        funding_interval_s=int(words[ly.CR_FUNDING_INTERVAL_S]),
        funding_next_wall_s=int(words[ly.CR_FUNDING_NEXT_WALL_S]),
        identity=_identity(base, int(words[ly.CR_FLAGS])),
    )
    return InstrumentRow(
        instrument_id=instrument_id,
        venue_id=int(words[ly.CR_VENUE]),
        feed_id=int(words[ly.CR_FEED]),
        book_index=int(words[ly.CR_BOOK_INDEX]),
        pair_id=int(words[ly.CR_PAIR]),
        base_asset_id=int(words[ly.CR_BASE_ASSET]),
        quote_asset_id=int(words[ly.CR_QUOTE_ASSET]),
        price_exp=price_exp,
        qty_exp=qty_exp,
        row_epoch=int(words[ly.CR_ROW_EPOCH]),
        spec=spec,
    )
