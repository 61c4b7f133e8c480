"""OpportunityDetector: catalogue in, opportunities out, and what its users may ask of it."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.detection.detector import IDLE, first_opportunity_id
from pipeline.detection.memory import DETECTOR, DETECTOR_COUNTERS, DETECTOR_SETTINGS, FEED_READER
from pipeline.detection.opportunity_record import OpportunityRecord, decode_record
from pipeline.detection.topology import DIRECTION
from pipeline.model.catalogue_row import row_to_words
from pipeline.model.enums import OpportunityType, OrderSide, Refusal
from pipeline.model.instruments import build_rows
from pipeline.model.structs import ArbitrageOpportunity
from pipeline.rehearsal.instruments import spec, venue_refs
from shm.bookring import conn_open, init_feed
from shm.layout import HEADER, LEG, OPPORTUNITY, QUEUE
from shm.layout_pages import CAT_FLAG_REMOVED, CATALOGUE, CATALOGUE_CAPACITY, CATALOGUE_ROW, INVENTORY, INVENTORY_PRICE
from shm.metrics import Metrics
from shm.pages import write_row
from shm.queue import pop
from tests.worlds.detector_world import BOOKS, SPEC, DetectorWorld


def test_an_opportunity_reaches_the_user_in_words_and_decimals() -> None:
    setup = DetectorWorld()
    found: list[OpportunityRecord] = []
    detector = setup.detector(on_opportunity=found.append)
    setup.dislocate()
    assert detector.step(idle_ns=0) == IDLE
    (record,) = found
    assert record.kind is OpportunityType.SPOT_SPOT and record.pair == "BTC/USDT"
    buy, sell = record.legs
    assert (buy.venue, buy.symbol, buy.side, buy.limit_price) == ("mexc_spot", "BTC0", OrderSide.BUY, Decimal(60_000))
    assert (sell.venue, sell.side, sell.limit_price) == ("gateio_spot", OrderSide.SELL, Decimal(60_300))
    # 1000 dollars at 60300 on the sell leg, on the lot
    assert sell.qty == Decimal("0.0165") and Decimal("0.0165") <= buy.qty <= Decimal("0.0166")
    view = record.as_opportunity()
    assert (view.buy_exchange, view.sell_exchange, view.max_quantity) == ("mexc_spot", "gateio_spot", sell.qty)
    assert view.profit_margin_bps == pytest.approx(Decimal(40), abs=Decimal("0.5"))
    assert view.total_profit_estimate == pytest.approx(Decimal("3.95"), abs=Decimal("0.2"))
    detector.end_episodes()
    counters = detector.counters()
    assert (counters["opened"], counters["taken"], counters["detected"], counters["open"]) == (1, 1, 1, 0)


def test_a_segment_made_anew_with_the_epoch_of_the_one_before_is_read_from_its_start() -> None:
    """Its notices are fewer than those that were read of the old one: nobody would look at them until they are more."""
    setup = DetectorWorld()
    found: list[OpportunityRecord] = []
    detector = setup.detector(on_opportunity=found.append)
    for _ in range(3):
        setup.publish(0, "60295", "60305")
    setup.publish(2, "60300", "60310")
    detector.step(idle_ns=0)
    setup.feeds[: setup.size] = 0
    setup.feeds[HEADER.epoch] = 1
    init_feed(setup.feeds, 0, BOOKS)
    conn_open(setup.feeds, 0, 0, 0, 0)
    detector.feed_renewed(0)
    setup.publish(0, "59990", "60000")
    detector.step(idle_ns=0)
    assert len(found) == 1


def test_detection_runs_in_a_thread_until_it_is_stopped() -> None:
    setup = DetectorWorld()
    seen = threading.Event()
    detector = setup.detector(on_opportunity=lambda _record: seen.set())
    detector.start_detection()
    detector.start_detection()  # idempotent
    assert detector.is_detecting
    setup.dislocate()
    assert seen.wait(240.0)
    detector.stop_detection()
    detector.stop_detection()
    assert not detector.is_detecting and detector.failure is None


def test_validation_asks_every_gate_of_now() -> None:
    setup = DetectorWorld()
    detector = setup.detector()
    opportunity = ArbitrageOpportunity(
        opportunity_id="1",
        opportunity_type=OpportunityType.SPOT_SPOT,
        symbol="BTC/USDT",
        buy_exchange="mexc_spot",
        sell_exchange="gateio_spot",
        buy_price=Decimal(60_000),
        sell_price=Decimal(60_300),
        max_quantity=Decimal(1),
        profit_per_unit=Decimal(300),
        total_profit_estimate=Decimal(300),
        profit_margin_bps=Decimal(50),
    )
    assert detector.validate_opportunity_risk(opportunity).refusal is Refusal.NO_BOOK
    setup.dislocate()
    verdict = detector.validate_opportunity_risk(opportunity)
    assert verdict and verdict.max_quantity == Decimal("0.0165")
    assert verdict.edge_bps == pytest.approx(40.0, abs=0.1)
    setup.publish(2, "60010", "60020")
    verdict = detector.validate_opportunity_risk(opportunity)
    assert not verdict and verdict.refusal in (Refusal.BELOW_THRESHOLD, Refusal.BELOW_MINIMUM)


def test_a_user_may_narrow_what_is_monitored_and_add_to_it() -> None:
    setup = DetectorWorld()
    found: list[OpportunityRecord] = []
    detector = setup.detector(on_opportunity=found.append)
    assert detector.monitored_symbols == {"BTC/USDT", "ETH/USDT"}
    assert detector.add_symbol_monitoring("ETH/USDT") == 2
    assert detector.monitored_symbols == {"ETH/USDT"}
    setup.dislocate()
    detector.step(idle_ns=0)
    assert found == []
    assert detector.add_symbol_monitoring("BTC/USDT") == 2
    setup.dislocate()
    detector.step(idle_ns=0)
    assert [record.pair for record in found] == ["BTC/USDT"]
    assert detector.add_symbol_monitoring("DOGE/USDT") == 0


def test_a_changed_catalogue_keeps_open_episodes_and_their_cooldowns() -> None:
    setup = DetectorWorld(cooldown_ms=3_600_000)
    found: list[OpportunityRecord] = []
    detector = setup.detector(on_opportunity=found.append)
    setup.dislocate()
    detector.step(idle_ns=0)
    assert len(found) == 1 and detector.memory.mem[DETECTOR_COUNTERS.active] == 1
    setup.rows = build_rows([spec("mexc_spot", "SOL0", "SOL", **SPEC)], venue_refs(setup.config), existing=setup.rows)
    setup.write_catalogue(setup.rows)
    setup.dislocate()
    detector.step(idle_ns=0)
    assert len(detector.memory.topology.instruments) == 5
    assert len(found) == 1 and detector.counters()["opened"] == 1
    setup.publish(2, "60000", "60010")
    detector.step(idle_ns=0)
    assert detector.memory.mem[DETECTOR_COUNTERS.active] == 0
    setup.dislocate()
    detector.step(idle_ns=0)
    assert len(found) == 1  # still cooling down


def test_an_instrument_that_is_removed_ends_its_episodes() -> None:
    setup = DetectorWorld(max_notional_usd=Decimal(1))  # nothing is executable: the episode stays open, refused
    detector = setup.detector()
    setup.dislocate()
    detector.step(idle_ns=0)
    assert detector.counters()["open"] == 1
    at = CATALOGUE.rows + 2 * CATALOGUE_ROW.WORDS
    words = row_to_words(setup.rows[2])
    words[CATALOGUE_ROW.flags] |= CAT_FLAG_REMOVED
    write_row(setup.catalogue, at, words)
    setup.catalogue[CATALOGUE.version] += 1
    detector.step(idle_ns=0)
    counters = detector.counters()
    assert (counters["open"], counters["detected"], counters["refused.below_minimum"]) == (0, 1, 1)
    assert int(detector.memory.feeds[0, FEED_READER.feed_off]) == 0


def test_a_pair_released_from_quarantine_is_judged_anew() -> None:
    setup = DetectorWorld()
    found: list[OpportunityRecord] = []
    words = row_to_words(setup.rows[2])
    words[CATALOGUE_ROW.pair] = -1
    at = CATALOGUE.rows + 2 * CATALOGUE_ROW.WORDS
    write_row(setup.catalogue, at, words)
    detector = setup.detector(on_opportunity=found.append)
    setup.dislocate()
    detector.step(idle_ns=0)
    assert found == [] and detector.counters()["refused.quarantined"] == 1
    write_row(setup.catalogue, at, row_to_words(setup.rows[2]))
    setup.catalogue[CATALOGUE.version] += 1
    setup.dislocate()
    detector.step(idle_ns=0)
    assert len(found) == 1


class Sink:
    def __init__(self) -> None:
        self.labels: list[str] = []
        self.values: dict[int, int] = {}

    def counter(self, label: str, doc: str = "") -> int:
        if label not in self.labels:
            assert doc
            self.labels.append(label)
        return self.labels.index(label)

    def inc(self, index: int, n: int = 1) -> None:
        self.values[index] = self.values.get(index, 0) + n

    def set(self, index: int, value: int) -> None:
        self.values[index] = value

    def __getitem__(self, label: str) -> int:
        return self.values.get(self.labels.index(label), 0)


def test_metrics_get_only_what_is_new() -> None:
    setup = DetectorWorld()
    detector = setup.detector()
    sink = Sink()
    setup.dislocate()
    detector.step(idle_ns=0)
    for _ in range(3):
        detector.publish_counters(sink)
    assert (sink["taken"], sink["detected"], sink["opened"], sink["open"]) == (1, 1, 1, 0)
    assert f"refused.{Refusal.QUIET_UNPROVED.name.lower()}" in sink.labels


def test_ids_grow_over_a_restart() -> None:
    setup = DetectorWorld()
    first = setup.detector()
    setup.dislocate()
    first.step(idle_ns=0)
    last = int(first.memory.mem[DETECTOR_SETTINGS.next_id]) - 1
    assert first_opportunity_id(setup.ports.opps) > last
    setup.ports.opps[QUEUE.slots + OPPORTUNITY.id] = 2**62  # written under a clock that was far ahead
    assert first_opportunity_id(setup.ports.opps) == 2**62 + 1


def test_a_record_with_a_wrong_checksum_is_not_decoded() -> None:
    setup = DetectorWorld()
    detector = setup.detector()
    setup.dislocate()
    detector.step(idle_ns=0)
    record = setup.ports.opps[QUEUE.slots : QUEUE.slots + OPPORTUNITY.WORDS].copy()
    assert detector.decode(record).opportunity_id == record[OPPORTUNITY.id]
    record[OPPORTUNITY.legs + LEG.qty_fp] += 1
    with pytest.raises(ValueError, match="checksum"):
        decode_record(record, {})


def test_prices_on_the_executors_page_move_thresholds_and_survive_another_catalogue() -> None:
    world = DetectorWorld()
    inventory = np.zeros(INVENTORY.END, dtype=np.int64)
    world.ports = world.ports._replace(inventory=inventory)
    detector = world.detector()
    directions = detector.memory.topology.directions

    def price(price_mbps: int) -> None:
        for number, (key, value) in enumerate(((there, price_mbps), (back, -price_mbps // 2))):
            at = INVENTORY.prices + number * INVENTORY_PRICE.WORDS
            inventory[at + INVENTORY_PRICE.key], inventory[at + INVENTORY_PRICE.price_mbps] = key, value
        inventory[INVENTORY.price_count] = 2

    def thresholds() -> dict[int, tuple[int, int]]:
        at = int(detector.memory.mem[DETECTOR.directions_off])
        return table(detector.memory.mem[at : at + directions.size].reshape(directions.shape))

    def table(rows: npt.NDArray[np.int64]) -> dict[int, tuple[int, int]]:
        columns = [DIRECTION.key, DIRECTION.exec_num, DIRECTION.exec_den]
        return {key: (num, den) for key, num, den in rows[:, columns].tolist()}

    there, back = 0 * CATALOGUE_CAPACITY + 2, 2 * CATALOGUE_CAPACITY + 0
    before = thresholds()
    price(2500)
    detector.step(budget_ns=0)
    moved = thresholds()
    assert {key for key, value in moved.items() if value != before[key]} == {there, back}
    detector.refresh_catalogue()
    assert thresholds() == moved
    price(0)
    detector.step(budget_ns=0)
    assert thresholds() == before


def test_opportunities_leave_nothing_in_memory() -> None:
    """Nor what is done around them: rates, counters, a catalogue that is read again."""
    setup, out = DetectorWorld(cooldown_ms=0), np.zeros(OPPORTUNITY.WORDS, np.int64)
    detector, metrics = setup.detector(), Metrics.private("detector")
    ports = setup.ports

    def offers(count: int) -> int:
        found = 0
        for _ in range(count):
            setup.dislocate()
            detector.step(0, 0)
            while pop(ports.opps, 0, ports.opps_cursor, 0, out):
                found += 1
            setup.publish(2, "60000", "60010")
            detector.step(0, 0)
            detector.publish_counters(metrics)
            detector.refresh_caps()
        detector.refresh_catalogue()
        return found

    offers(200)
    tracemalloc.start()
    try:
        offers(200)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        found = offers(4000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == 4000
    # the smallest object that could be kept for each takes 32 bytes; what other threads of the tests keep is less
    assert after - before < 32 * found, f"{(after - before) / found} bytes an opportunity"
