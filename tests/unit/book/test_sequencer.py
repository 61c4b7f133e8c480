"""Gap detection and resync: each venue's rule on a table, then random streams against the plain twin, with levels."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from pipeline.book import sequencer
from pipeline.book.codec import OutOfRange, PricePrecision, exact_price, exact_qty
from pipeline.book.memory import BOOK_ROW, BOOKS, STATE_ALIGNING, STATE_EMPTY, STATE_LIVE, STATE_WAITING, new_memory
from pipeline.book.results import FrameResult, SnapshotResult
from pipeline.book.scaling import scale_price, scale_qty, significant_digits
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec
from pipeline.exchanges.mexc.protobuf import PushDataV3ApiWrapper
from pipeline.model.fixedpoint import from_fp
from shm import bookring
from shm.layout import feed_segment_words
from tests.naive.book import NaiveBook, decimals

BINANCE_SPOT, BINANCE_USDM = feed_codec("binance", "spot").rule, feed_codec("binance", "futures").rule
GATEIO, MEXC = feed_codec("gateio", "spot").rule, feed_codec("mexc", "spot").rule
A, OLD, GAP, WAIT = sequencer.APPLY, sequencer.OLD, sequencer.GAP, sequencer.WAIT
ALIGNING, LIVE = STATE_ALIGNING, STATE_LIVE

#: rule, state, local id, (first, last, previous), verdict
CASES = [
    (BINANCE_SPOT, STATE_EMPTY, 100, (1, 2, 0), WAIT),
    (BINANCE_SPOT, STATE_WAITING, 100, (101, 102, 0), WAIT),
    (BINANCE_SPOT, ALIGNING, 100, (90, 100, 0), OLD),
    (BINANCE_SPOT, ALIGNING, 100, (90, 101, 0), A),
    (BINANCE_SPOT, ALIGNING, 100, (101, 101, 0), A),
    (BINANCE_SPOT, ALIGNING, 100, (102, 105, 0), GAP),
    (BINANCE_SPOT, LIVE, 100, (101, 105, 0), A),
    (BINANCE_SPOT, LIVE, 100, (99, 100, 0), OLD),
    (BINANCE_SPOT, LIVE, 100, (99, 105, 0), A),
    (BINANCE_SPOT, LIVE, 100, (102, 105, 0), GAP),
    (BINANCE_USDM, ALIGNING, 100, (90, 99, 80), OLD),
    (BINANCE_USDM, ALIGNING, 100, (90, 100, 80), A),
    (BINANCE_USDM, ALIGNING, 100, (104, 110, 100), A),
    (BINANCE_USDM, ALIGNING, 100, (104, 110, 101), GAP),
    (BINANCE_USDM, LIVE, 100, (120, 130, 100), A),
    (BINANCE_USDM, LIVE, 100, (101, 130, 99), GAP),
    (BINANCE_USDM, LIVE, 100, (90, 100, 80), OLD),
    (GATEIO, ALIGNING, 203083287, (203083273, 203083287, 0), OLD),
    (GATEIO, ALIGNING, 203083287, (203083288, 203083299, 0), A),
    (GATEIO, LIVE, 5, (7, 7, 0), GAP),
    (GATEIO, LIVE, 5, (6, 9, 0), A),
    (MEXC, ALIGNING, 10, (5, 9, 0), OLD),
    (MEXC, ALIGNING, 10, (5, 10, 0), A),
    (MEXC, ALIGNING, 10, (11, 12, 0), A),
    (MEXC, ALIGNING, 10, (12, 12, 0), GAP),
    (MEXC, LIVE, 10, (11, 14, 0), A),
    (MEXC, LIVE, 10, (10, 14, 0), GAP),
    (MEXC, LIVE, 10, (5, 10, 0), OLD),
]


@pytest.mark.parametrize(("rule", "state", "local", "ids", "verdict"), CASES)
def test_each_rule_admits_what_its_venue_says(
    rule: sequencer.SequenceRule, state: int, local: int, ids: tuple[int, int, int], verdict: int
) -> None:
    mem = new_memory(1, 0, blocks=1)
    rule.write(mem)
    book = int(mem[BOOKS.rows_off])
    mem[book + BOOK_ROW.state], mem[book + BOOK_ROW.update_id] = state, local
    assert sequencer.judge(mem, book, *ids) == verdict


VENUES = {
    "spot": ("binance", "spot", "BTCUSDT"),
    "usdm": ("binance", "futures", "BTCUSDT"),
    "gate": ("gateio", "spot", "BTC_USDT"),
    "mexc": ("mexc", "spot", "BTCUSDT"),
}


def encode(rule: str, symbol: str, event: dict[str, Any]) -> bytes:
    if rule == "mexc":
        push = PushDataV3ApiWrapper(channel="c", symbol=symbol)
        depth = push.publicAggreDepths
        depth.fromVersion, depth.toVersion = str(event["U"]), str(event["u"])
        for side, rows in ((depth.bids, event["b"]), (depth.asks, event["a"])):
            for price, qty in rows:
                side.add(price=price, quantity=qty)
        return bytes(push.SerializeToString())
    if rule == "gate":
        body = {"t": 1, "s": symbol, **event}
        return json.dumps({"time": 1, "channel": "spot.order_book_update", "event": "update", "result": body}).encode()
    return json.dumps({"e": "depthUpdate", "E": 1, "s": symbol, **event}).encode()


def rows(draw: random.Random, low: int, high: int) -> list[list[str]]:
    picked = draw.sample(range(low, high), draw.randrange(0, 6))
    return [[f"{price / 10:.1f}", str(draw.choice([0, 0, 1, 2.5, 7]))] for price in picked]


def stream(draw: random.Random, rule: str) -> list[dict[str, Any]]:
    """A venue's updates, some lost, repeated or out of order; Gate.io also pushes whole books."""
    events = []
    last = 50
    for _ in range(80):
        skip = draw.randrange(0, 4) if rule == "usdm" else 0
        event: dict[str, Any] = {"U": last + 1 + skip, "u": last + 1 + skip + draw.randrange(0, 3), "pu": last}
        event.update(b=rows(draw, 900, 1000), a=rows(draw, 1001, 1100))
        if rule != "usdm":
            del event["pu"]
        if rule == "gate" and draw.random() < 0.05:
            event["full"] = True
        events.append(event)
        last = event["u"]
    for _ in range(draw.randrange(0, 5)):
        at = draw.randrange(len(events) - 1)
        how = draw.randrange(3)
        if how == 0:
            del events[at]
        elif how == 1:
            events.insert(at + draw.randrange(1, 3), events[at])
        else:
            events[at], events[at + 1] = events[at + 1], events[at]
    return events


RESULTS = {
    FrameResult.APPLIED: "applied",
    FrameResult.DROPPED: "dropped",
    FrameResult.BUFFERED: "buffered",
    FrameResult.NEED_SNAPSHOT: "gap",
}


@pytest.mark.parametrize("rule", sorted(VENUES))
@pytest.mark.parametrize("seed", range(25))
def test_random_streams_equal_the_plain_twin(rule: str, seed: int) -> None:
    draw = random.Random(f"{rule}{seed}")
    dialect, market, symbol = VENUES[rule]
    words = np.zeros(feed_segment_words(1), dtype=np.int64)
    bookring.init_feed(words, 0, 1)
    books = VenueBooks(codec=feed_codec(dialect, market), words=words, feed_off=0, venue_id=0, capacity=1)
    books.add(book_index=0, instrument_id=0, symbol=symbol, price_exp=2, qty_exp=3)
    naive = NaiveBook(rule)
    for number, event in enumerate(stream(draw, rule)):
        ours = RESULTS[FrameResult(books.on_frame(encode(rule, symbol, event), number, 0))]
        decimal_event = {**event, "b": decimals(event["b"]), "a": decimals(event["a"])}
        wanted = naive.update(decimal_event)
        assert ours == wanted or (number == 0 and (ours, wanted) == ("gap", "buffered")), number
        if naive.last is None and draw.random() < 0.3:
            last = event["u"] - draw.randrange(-2, 6)
            bids, asks = ([row for row in rows(draw, *span) if Decimal(row[1])] for span in ((900, 1000), (1001, 1100)))
            body = {"id" if rule == "gate" else "lastUpdateId": last, "bids": bids, "asks": asks}
            result = books.on_snapshot(0, json.dumps(body).encode(), number, 0)
            assert (result is SnapshotResult.SYNCED) == naive.snapshot(last, decimals(bids), decimals(asks))
        assert books.is_synced(0) == (naive.last is not None)
        if naive.last is not None:
            ours_levels = tuple([(from_fp(p, 2), from_fp(q, 3)) for p, q in side] for side in books.levels(0))
            assert ours_levels == naive.levels()
            assert books.top(0).update_id == naive.last
    counters = books.counters
    assert counters.applied == naive.applied and counters.dropped == naive.dropped
    assert counters.gaps == naive.gaps and counters.messages == number + 1


def numbers(draw: random.Random) -> tuple[int, int]:
    return draw.choice([0, 1, 10, draw.randrange(10**6), draw.randrange(2**63)]), draw.randrange(0, 25)


@pytest.mark.parametrize("seed", range(4))
def test_scaling_in_kernels_equals_exact_integers_or_leaves_it_to_them(seed: int) -> None:
    draw = random.Random(seed)
    decided = 0
    for _ in range(3000):
        mantissa, digits = numbers(draw)
        exp, mult, mult_exp = draw.randrange(0, 19), draw.choice([1, 1, 25, 10**7, 10**12]), draw.randrange(0, 5)
        price = scale_price(mantissa, digits, exp)
        try:
            assert price in (exact_price((mantissa, digits), exp), -2)
        except PricePrecision as error:
            assert price in (-1, -2) and error.digits > exp
            assert significant_digits(mantissa, digits) == error.digits
        except OutOfRange:
            assert price == -2
        qty, cut = scale_qty(mantissa, exp - digits - mult_exp, mult)
        decided += price != -2 and qty != -2
        if qty == -2:
            continue
        assert (qty, bool(cut)) == exact_qty((mantissa, digits), exp, mult, mult_exp)
    assert decided > 500
