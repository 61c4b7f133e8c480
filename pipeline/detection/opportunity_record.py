"""The opportunity record (``OPPORTUNITY``): its checksum, and the record as a Python user sees it.

The checksum is CRC-32 (IEEE 802.3, as zlib) over the little-endian bytes of all words of the record, with ``seq``
and ``crc32`` taken as 0. It guards against a record that is not what a detector wrote (a bug, another layout);
word-wise atomicity is the queue's business.
"""

from __future__ import annotations

import struct
import zlib
from decimal import Decimal

import msgspec
import numpy as np

from pipeline.model.enums import OpportunityType, OrderSide
from pipeline.model.fixedpoint import from_fp
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ArbitrageOpportunity
from shm.jit import njit_bare
from shm.layout import LEG, OPPORTUNITY
from shm.words import Words

_POLYNOMIAL = 0xEDB88320


def _tables() -> Words:
    """Eight tables of 256: entry [k, v] is the remainder of byte ``v`` followed by ``k`` zero bytes."""
    tables = np.zeros((8, 256), dtype=np.int64)
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        tables[0, value] = crc
    for k in range(1, 8):
        for value in range(256):
            before = int(tables[k - 1, value])
            tables[k, value] = (before >> 8) ^ int(tables[0, before & 0xFF])
    return tables


_CRC_TABLES = _tables()


@njit_bare
def record_crc32(record: Words) -> int:
    """CRC-32 of an opportunity record, int64[OPPORTUNITY.WORDS]; see the module's text. Eight bytes a step."""
    crc = 0xFFFFFFFF
    for at in range(OPPORTUNITY.WORDS):
        word = record[at]
        if at == OPPORTUNITY.seq or at == OPPORTUNITY.crc32:
            word = 0
        word = word ^ crc
        crc = 0
        for k in range(8):
            crc = crc ^ _CRC_TABLES[7 - k, (word >> (8 * k)) & 0xFF]
    return crc ^ 0xFFFFFFFF


def record_crc32_of(record: Words) -> int:
    """The same of int64[OPPORTUNITY.WORDS] by zlib (readers in Python)."""
    copy = record[: OPPORTUNITY.WORDS].astype("<i8")
    copy[OPPORTUNITY.seq] = 0
    copy[OPPORTUNITY.crc32] = 0
    return zlib.crc32(copy.tobytes())


def float_of(word: int) -> float:
    """float64 whose bits a record's word holds."""
    value: float = struct.unpack("<d", struct.pack("<q", int(word)))[0]
    return value


class OpportunityLeg(msgspec.Struct, frozen=True, kw_only=True):
    """One leg of a decoded record; quantities in base coin, times on the monotonic clock."""

    instrument_id: int
    venue: str
    symbol: str
    side: OrderSide
    limit_price: Decimal
    best_price: Decimal
    qty: Decimal
    book_seq: int
    update_id: int
    proof_mono_ns: int
    recv_mono_ns: int
    notional: float
    row_epoch: int
    writer_epoch: int


class OpportunityRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded opportunity record."""

    opportunity_id: int
    kind: OpportunityType
    pair: str
    detect_mono_ns: int
    trigger_recv_mono_ns: int
    trigger_publish_mono_ns: int
    edge_bps: float
    entry_edge_bps: float
    profit_quote: float
    trigger_instrument: int
    direction_key: int
    legs: tuple[OpportunityLeg, ...]

    def as_opportunity(self) -> ArbitrageOpportunity:
        """As a Python user sees it. Buy = first buying leg, sell = last selling leg (a cycle has three)."""
        buy = next(leg for leg in self.legs if leg.side is OrderSide.BUY)
        sell = next(leg for leg in reversed(self.legs) if leg.side is OrderSide.SELL)
        quantity = min(buy.qty, sell.qty) if self.kind is not OpportunityType.TRIANGULAR else self.legs[0].qty
        profit = Decimal(repr(self.profit_quote))
        return ArbitrageOpportunity(
            opportunity_id=str(self.opportunity_id),
            opportunity_type=self.kind,
            symbol=self.pair,
            buy_exchange=buy.venue,
            sell_exchange=sell.venue,
            buy_price=buy.limit_price,
            sell_price=sell.limit_price,
            max_quantity=quantity,
            profit_per_unit=profit / quantity,
            total_profit_estimate=profit,
            profit_margin_bps=Decimal(repr(self.edge_bps)),
        )


def decode_record(record: Words, rows: dict[int, InstrumentRow] | list[InstrumentRow]) -> OpportunityRecord:
    """Decodes int64[OPPORTUNITY.WORDS]. Raises ``ValueError`` for a wrong checksum, ``LookupError`` for an instrument
    that the catalogue does not have."""
    found = int(record[OPPORTUNITY.crc32])
    wanted = record_crc32_of(record)
    if found != wanted:
        raise ValueError(f"opportunity record {int(record[OPPORTUNITY.id])}: checksum {found:#x}, wanted {wanted:#x}")
    legs = []
    for number in range(int(record[OPPORTUNITY.leg_count])):
        words = record[OPPORTUNITY.legs + number * LEG.WORDS : OPPORTUNITY.legs + (number + 1) * LEG.WORDS]
        row = rows[int(words[LEG.instrument])]
        legs.append(
            OpportunityLeg(
                instrument_id=row.instrument_id,
                venue=row.spec.venue,
                symbol=row.spec.symbol,
                side=OrderSide(int(words[LEG.side])),
                limit_price=from_fp(int(words[LEG.limit_price_fp]), row.price_exp),
                best_price=from_fp(int(words[LEG.best_price_fp]), row.price_exp),
                qty=from_fp(int(words[LEG.qty_fp]), row.qty_exp),
                book_seq=int(words[LEG.book_seq]),
                update_id=int(words[LEG.update_id]),
                proof_mono_ns=int(words[LEG.proof_mono_ns]),
                recv_mono_ns=int(words[LEG.recv_mono_ns]),
                notional=float_of(int(words[LEG.notional])),
                row_epoch=int(words[LEG.row_epoch]),
                writer_epoch=int(words[LEG.writer_epoch]),
            )
        )
    return OpportunityRecord(
        opportunity_id=int(record[OPPORTUNITY.id]),
        kind=OpportunityType(int(record[OPPORTUNITY.type])),
        pair=rows[legs[0].instrument_id].spec.pair,
        detect_mono_ns=int(record[OPPORTUNITY.detect_mono_ns]),
        trigger_recv_mono_ns=int(record[OPPORTUNITY.trigger_recv_mono_ns]),
        trigger_publish_mono_ns=int(record[OPPORTUNITY.trigger_publish_mono_ns]),
        edge_bps=float_of(int(record[OPPORTUNITY.edge_bps])),
        entry_edge_bps=float_of(int(record[OPPORTUNITY.entry_edge_bps])),
        profit_quote=float_of(int(record[OPPORTUNITY.profit_quote])),
        trigger_instrument=int(record[OPPORTUNITY.trigger_instrument]),
        direction_key=int(record[OPPORTUNITY.direction_key]),
        legs=tuple(legs),
    )
