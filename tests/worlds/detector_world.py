"""A detector on two venues: catalogue page, feed segments and books in plain arrays."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from pipeline.detection.detector import OpportunityDetector
from pipeline.detection.kernel_arrays import Ports, private_ports
from pipeline.model.catalogue_row import row_to_words
from pipeline.model.config import DetectionConfig, EngineConfig, ExchangeConfig, MarketConfig, RiskLimits
from pipeline.model.enums import FeeAssetRule
from pipeline.model.fixedpoint import to_fp
from pipeline.model.instruments import InstrumentRow
from pipeline.rehearsal.detection_world import book_record
from pipeline.rehearsal.instruments import rows_for, spec
from shm.atomics import mono_ns
from shm.bookring import conn_frame, conn_open, init_feed, publish_book
from shm.layout import HEADER, feed_segment_words
from shm.layout_pages import CATALOGUE, CATALOGUE_ROW
from shm.pages import write_row

BOOKS = 8
SPEC: dict[str, Any] = {"taker_fee_ppm": 500, "fee_rule": FeeAssetRule.RECEIVED, "reference_price": Decimal(60_000)}


#: A book that a test has just published is young enough, however slow the machine.
PATIENT = {"max_age_to_trade_ms": 600_000, "max_skew_ms": 600_000}


def engine_config(**detection: object) -> EngineConfig:
    market = {"spot": MarketConfig(symbols=("X",))}
    return EngineConfig(
        exchanges={
            "mexc": ExchangeConfig(dialect="mexc", markets=market),
            "gateio": ExchangeConfig(dialect="gateio", markets=market),
        },
        detection=DetectionConfig(**{**PATIENT, "max_notional_usd": Decimal(1_000), **detection}),  # type: ignore[arg-type]
        risk_limits=RiskLimits(min_profit_margin_bps=Decimal(5)),
    )


class DetectorWorld:
    """Two venues with BTC and ETH, a catalogue page in a plain array, and their books."""

    def __init__(self, **detection: object) -> None:
        self.config = engine_config(**detection)
        self.specs = [
            spec(venue, f"{base}{n}", base, **SPEC)
            for n, venue in enumerate(("mexc_spot", "gateio_spot"))
            for base in ("BTC", "ETH")
        ]
        self.rows = rows_for(self.config, self.specs)
        self.size = feed_segment_words(BOOKS)
        self.feeds = np.zeros(2 * self.size, dtype=np.int64)
        self.catalogue = np.zeros(CATALOGUE.END, dtype=np.int64)
        self.write_catalogue(self.rows)
        for feed in range(2):
            self.feeds[feed * self.size + HEADER.epoch] = 1
            init_feed(self.feeds, feed * self.size, BOOKS)
            conn_open(self.feeds, feed * self.size, 0, feed, 0)
        self.ports: Ports = private_ports(self.feeds)._replace(catalogue=self.catalogue)

    def write_catalogue(self, rows: list[InstrumentRow]) -> None:
        for row in rows:
            at = CATALOGUE.rows + row.instrument_id * CATALOGUE_ROW.WORDS
            write_row(self.catalogue, at, row_to_words(row))
        self.catalogue[CATALOGUE.count] = len(rows)
        self.catalogue[CATALOGUE.version] += 1

    def detector(self, **options: object) -> OpportunityDetector:
        detector = OpportunityDetector(self.config, self.ports, **options)  # type: ignore[arg-type]
        for feed in range(2):
            detector.set_feed(feed, offset=feed * self.size)
        detector.warm()  # so that no book grows old while kernels load
        return detector

    def publish(self, instrument: int, bid: str, ask: str, qty: str = "1") -> None:
        row = self.rows[instrument]
        now = int(mono_ns())
        quantity = to_fp(qty, row.qty_exp)
        record = book_record(
            [(to_fp(bid, row.price_exp), quantity)],
            [(to_fp(ask, row.price_exp), quantity)],
            instrument=instrument,
            recv_mono_ns=now,
            conn_generation=1,
            publish_mono_ns=now,
        )
        publish_book(self.feeds, row.feed_id * self.size, row.book_index, record)
        conn_frame(self.feeds, row.feed_id * self.size, 0, now)

    def dislocate(self) -> None:
        """BTC: buy on MEXC at 60000, sell on Gate.io at 60300."""
        self.publish(0, "59990", "60000")
        self.publish(2, "60300", "60310")
