"""Instrument rows <-> the words of a catalogue row in shared memory (``shm.layout_pages.CATALOGUE_ROW``).

Coin identity and the reason of a quarantine stay with the supervisor; everything that feeds, detector and executor
need goes through the page: a row read back has ``identity=None`` and no quarantine text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.fixedpoint import FP_LIMIT, from_fp, to_fp, to_fp_ceil, to_fp_floor
from pipeline.model.instruments import InstrumentRow, largest_price
from pipeline.model.structs import CoinIdentity, InstrumentSpec
from shm.layout import WORD_BYTES
from shm.layout_pages import (
    CAT_FLAG_DEPOSIT,
    CAT_FLAG_ENDING,
    CAT_FLAG_IDENTITY,
    CAT_FLAG_UNREADABLE,
    CAT_FLAG_WITHDRAW,
    CATALOGUE_ROW,
    CATALOGUE_TEXT_WORDS,
)
from shm.words import Words


def text_to_words(text: str, words: int) -> Words:
    """UTF-8, zero padded, as int64 of ``words`` words. Raises ``ValueError`` when it does not fit."""
    raw = text.encode()
    if len(raw) > words * WORD_BYTES:
        raise ValueError(f"{text!r} is {len(raw)} bytes long, at most {words * WORD_BYTES} fit")
    return np.frombuffer(raw.ljust(words * WORD_BYTES, b"\0"), dtype="<i8").astype(np.int64)


def words_to_text(words: Words) -> str:
    """Inverse of ``text_to_words``, of int64; raises ``UnicodeDecodeError`` for bytes that are no UTF-8."""
    return words.astype("<i8").tobytes().rstrip(b"\0").decode()


def row_to_words(row: InstrumentRow) -> Words:
    """int64[CATALOGUE_ROW.WORDS], ``seq`` left at 0 for the page's writer."""
    spec = row.spec
    words = np.zeros(CATALOGUE_ROW.WORDS, dtype=np.int64)
    words[CATALOGUE_ROW.venue] = row.venue_id
    words[CATALOGUE_ROW.feed] = row.feed_id
    words[CATALOGUE_ROW.book_index] = row.book_index
    words[CATALOGUE_ROW.pair] = row.pair_id
    words[CATALOGUE_ROW.base_asset] = row.base_asset_id
    words[CATALOGUE_ROW.quote_asset] = row.quote_asset_id
    words[CATALOGUE_ROW.kind] = int(spec.kind)
    words[CATALOGUE_ROW.status] = int(spec.status)
    words[CATALOGUE_ROW.price_exp] = row.price_exp
    words[CATALOGUE_ROW.qty_exp] = row.qty_exp
    words[CATALOGUE_ROW.tick_fp] = to_fp(spec.tick, row.price_exp)
    words[CATALOGUE_ROW.lot_fp] = to_fp(spec.lot, row.qty_exp)
    words[CATALOGUE_ROW.min_qty_fp] = to_fp_ceil(spec.min_qty, row.qty_exp)
    # a maximum beyond what books can hold is no bound
    words[CATALOGUE_ROW.max_qty_fp] = to_fp_floor(min(spec.max_qty, from_fp(FP_LIMIT, row.qty_exp)), row.qty_exp)
    words[CATALOGUE_ROW.min_notional_fp] = to_fp_ceil(spec.min_notional, row.price_exp)
    words[CATALOGUE_ROW.taker_fee_ppm] = spec.taker_fee_ppm
    words[CATALOGUE_ROW.maker_fee_ppm] = spec.maker_fee_ppm
    words[CATALOGUE_ROW.fee_asset_rule] = int(spec.fee_rule)
    words[CATALOGUE_ROW.multiplier_fp] = to_fp(spec.multiplier, row.qty_exp)
    words[CATALOGUE_ROW.row_epoch] = row.row_epoch
    words[CATALOGUE_ROW.funding_rate_ppb] = spec.funding_rate_ppb
    words[CATALOGUE_ROW.funding_interval_s] = spec.funding_interval_s
    words[CATALOGUE_ROW.funding_next_wall_s] = spec.funding_next_wall_s
    words[CATALOGUE_ROW.flags] = _flags(spec) | (CAT_FLAG_ENDING if spec.ending else 0)
    words[CATALOGUE_ROW.flags] |= CAT_FLAG_UNREADABLE if spec.unreadable else 0
    words[CATALOGUE_ROW.price_band_ppm] = spec.price_band_ppm
    words[CATALOGUE_ROW.trading_from_wall_s] = spec.trading_from_wall_s
    words[CATALOGUE_ROW.trading_until_wall_s] = spec.trading_until_wall_s
    words[CATALOGUE_ROW.symbol : CATALOGUE_ROW.symbol + CATALOGUE_TEXT_WORDS] = text_to_words(
        spec.symbol, CATALOGUE_TEXT_WORDS
    )
    words[CATALOGUE_ROW.pair_text : CATALOGUE_ROW.pair_text + CATALOGUE_TEXT_WORDS] = text_to_words(
        spec.pair, CATALOGUE_TEXT_WORDS
    )
    return words


def _flags(spec: InstrumentSpec) -> int:
    if spec.identity is None:
        return CAT_FLAG_DEPOSIT | CAT_FLAG_WITHDRAW
    flags = CAT_FLAG_IDENTITY
    if spec.identity.deposit_enabled:
        flags |= CAT_FLAG_DEPOSIT
    if spec.identity.withdraw_enabled:
        flags |= CAT_FLAG_WITHDRAW
    return flags


def _identity(asset: str, flags: int) -> CoinIdentity | None:
    """The wallet switches; networks stay with the supervisor, who has judged them."""
    if not flags & CAT_FLAG_IDENTITY:
        return None
    return CoinIdentity(
        asset=asset,
        deposit_enabled=bool(flags & CAT_FLAG_DEPOSIT),
        withdraw_enabled=bool(flags & CAT_FLAG_WITHDRAW),
    )


def words_to_row(instrument_id: int, words: Words, venue_name: str) -> InstrumentRow:
    """The row as every process but the supervisor sees it. ``words``: int64[CATALOGUE_ROW.WORDS];
    ``venue_name``: of their ``venue``."""
    price_exp, qty_exp = int(words[CATALOGUE_ROW.price_exp]), int(words[CATALOGUE_ROW.qty_exp])
    base, _, quote = words_to_text(
        words[CATALOGUE_ROW.pair_text : CATALOGUE_ROW.pair_text + CATALOGUE_TEXT_WORDS]
    ).partition("/")
    spec = InstrumentSpec(
        venue=venue_name,
        symbol=words_to_text(words[CATALOGUE_ROW.symbol : CATALOGUE_ROW.symbol + CATALOGUE_TEXT_WORDS]),
        base=base,
        quote=quote,
        kind=InstrumentKind(int(words[CATALOGUE_ROW.kind])),
        tick=from_fp(int(words[CATALOGUE_ROW.tick_fp]), price_exp).normalize(),
        lot=from_fp(int(words[CATALOGUE_ROW.lot_fp]), qty_exp).normalize(),
        min_qty=from_fp(int(words[CATALOGUE_ROW.min_qty_fp]), qty_exp).normalize(),
        max_qty=from_fp(int(words[CATALOGUE_ROW.max_qty_fp]), qty_exp).normalize(),
        min_notional=from_fp(int(words[CATALOGUE_ROW.min_notional_fp]), price_exp).normalize(),
        multiplier=from_fp(int(words[CATALOGUE_ROW.multiplier_fp]), qty_exp).normalize(),
        status=TradingStatus(int(words[CATALOGUE_ROW.status])),
        taker_fee_ppm=int(words[CATALOGUE_ROW.taker_fee_ppm]),
        maker_fee_ppm=int(words[CATALOGUE_ROW.maker_fee_ppm]),
        fee_rule=FeeAssetRule(int(words[CATALOGUE_ROW.fee_asset_rule])),
        price_band_ppm=int(words[CATALOGUE_ROW.price_band_ppm]),
        funding_rate_ppb=int(words[CATALOGUE_ROW.funding_rate_ppb]),
        funding_interval_s=int(words[CATALOGUE_ROW.funding_interval_s]),
        funding_next_wall_s=int(words[CATALOGUE_ROW.funding_next_wall_s]),
        trading_from_wall_s=int(words[CATALOGUE_ROW.trading_from_wall_s]),
        trading_until_wall_s=int(words[CATALOGUE_ROW.trading_until_wall_s]),
        ending=bool(int(words[CATALOGUE_ROW.flags]) & CAT_FLAG_ENDING),
        unreadable=bool(int(words[CATALOGUE_ROW.flags]) & CAT_FLAG_UNREADABLE),
        identity=_identity(base, int(words[CATALOGUE_ROW.flags])),
    )
    return InstrumentRow(
        instrument_id=instrument_id,
        venue_id=int(words[CATALOGUE_ROW.venue]),
        feed_id=int(words[CATALOGUE_ROW.feed]),
        book_index=int(words[CATALOGUE_ROW.book_index]),
        pair_id=int(words[CATALOGUE_ROW.pair]),
        base_asset_id=int(words[CATALOGUE_ROW.base_asset]),
        quote_asset_id=int(words[CATALOGUE_ROW.quote_asset]),
        price_exp=price_exp,
        qty_exp=qty_exp,
        row_epoch=int(words[CATALOGUE_ROW.row_epoch]),
        spec=spec,
    )


def fit(rows: Sequence[InstrumentRow]) -> bool:
    """Whether the largest price that books of the pair must hold, and the rows' own numbers, fit their exponents."""
    if largest_price([row.spec for row in rows]).scaleb(rows[0].price_exp) > FP_LIMIT:
        return False
    try:
        for row in rows:
            row_to_words(row)
    except ValueError:
        return False
    return True
