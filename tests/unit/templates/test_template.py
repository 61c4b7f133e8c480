"""What the fast path is built of: exact kernels, and templates that write what the codecs write."""

from __future__ import annotations

import dataclasses
import zlib
from decimal import Decimal
from hashlib import blake2b

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.exchanges.gateio import orders as gate
from pipeline.exchanges.gateio import websocket_api as wsapi
from pipeline.exchanges.mexc import orders as mexc
from pipeline.execution.core_context import base36
from pipeline.execution.journal.commit import chain_of, crc32_octets
from pipeline.execution.plan import _matched, grid_of
from pipeline.fast_entry import verdict
from pipeline.model.enums import (
    OrderKind,
    OrderSide,
    TimeInForce,
)
from pipeline.model.fixedpoint import plain
from pipeline.model.instruments import VenueRef, build_rows
from pipeline.model.structs import OrderRequest
from pipeline.rehearsal.instruments import spec
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template_writer import fill_template, put_base36, put_number

STEPS = some.sampled_from(["0.01", "0.01", "0.02", "0.025", "0.1"])
LOTS = some.sampled_from(["0.0001", "0.001", "0.0003", "0.01", "0.1"])
QUICK = settings(deadline=None)  # the first example may compile

# --- kernels and their twins ---

BIG = some.integers(1, 2**61)


@QUICK
@given(BIG, BIG, BIG)
def test_mul_div_is_exact(a: int, b: int, c: int) -> None:
    b, c = min(b, c), max(b, c)
    assert verdict.mul_div(a, b, c) == divmod(a * b, c)


@QUICK
@given(some.integers(0, 10**9), some.integers(0, 10**9), LOTS, LOTS, some.integers(500_000, 1_000_000))
def test_lots_are_matched_as_the_exact_path_does(buy: int, sell: int, lot_a: str, lot_b: str, keep: int) -> None:
    with_lots = [spec("mexc_spot", lot=Decimal(lot), reference_price=Decimal(0)) for lot in (lot_a, lot_b)]
    rows = build_rows(
        [with_lots[0], msgspec.structs.replace(with_lots[1], venue="gateio_spot")],
        [VenueRef(name="mexc_spot", venue_id=0, feed_id=0), VenueRef(name="gateio_spot", venue_id=1, feed_id=1)],
    )
    grids = [dataclasses.replace(grid_of(row), keep_ppm=keep) for row in rows]
    lots_fp = [int(grid.lot.scaleb(row.qty_exp)) for grid, row in zip(grids, rows, strict=True)]
    assert list(verdict.match_lots(buy, sell, *lots_fp, keep)) == _matched(grids, [buy, sell], buy=0)


@QUICK
@given(some.integers(-(2**62) + 1, 2**62 - 1), some.integers(0, 28))
def test_numbers_are_written_plainly(value: int, digits: int) -> None:
    out = np.zeros(64, np.uint8)
    end = put_number(out, 3, value, digits)
    assert bytes(out[3:end]).decode() == plain(Decimal(value).scaleb(-digits))


@QUICK
@given(some.integers(1, 2**62))
def test_base_36(value: int) -> None:
    out = np.zeros(32, np.uint8)
    assert bytes(out[: put_base36(out, 0, value)]).decode() == base36(value)


@QUICK
@given(some.binary(max_size=700), some.binary(min_size=8, max_size=8))
def test_chain_and_checksum_are_the_librarys(body: bytes, previous: bytes) -> None:
    octets = np.zeros((len(body) + 15) // 8 * 8, np.uint8)
    octets[: len(body)] = np.frombuffer(body, np.uint8)
    before = np.frombuffer(previous, np.uint64)[0]
    scratch = np.zeros(24, np.uint64)
    chain = chain_of(before, octets.view(np.int64), 0, len(body), scratch[:8], scratch[8:])
    assert int(chain).to_bytes(8, "little") == blake2b(previous + body, digest_size=8).digest()
    assert crc32_octets(octets, 0, len(body), 0) == zlib.crc32(body)


NUMBERS = some.integers(-(2**62), 2**62)


@QUICK
@given(NUMBERS, NUMBERS, some.integers(1, 10**12), some.floats(allow_nan=False))
def test_msgpack_of_a_template_is_decoded_as_what_it_says(a: int, b: int, counter: int, number: float) -> None:
    class Row(msgspec.Struct, array_like=True):
        one: int
        two: Decimal
        name: str
        fixed: str
        real: float

    book = template.TemplateTable()
    values = {
        "one": template.number(0),
        "two": template.amount(template.leg(ENTRY_LEG.lots), Decimal("0.0010")),
        "name": template.id_str(2, "ab"),
        "fixed": "x" * 40,
        "real": template.real(3),
    }
    book.add(template.record_pieces(Row, values))
    program, pool = book.freeze(np.zeros(0, np.int64))
    slots, out = np.zeros(template.SLOTS, np.int64), np.zeros(512, np.uint8)
    slots[0], slots[2 * template.LEG_SLOTS + ENTRY_LEG.lots], slots[2] = a, b, counter
    slots[3] = np.array([number]).view(np.int64)[0]
    end = fill_template(program, pool, 0, slots, 1, out, 0)
    row = msgspec.msgpack.decode(bytes(out[:end]), type=Row)
    assert row == Row(a, Decimal(b) / 1000, "ab" + base36(counter), "x" * 40, number)
    with pytest.raises(ValueError, match="not in both"):
        template.record_pieces(Row, {"one": 1})


# --- orders ---


@given(some.integers(1, 10**8), some.integers(1, 10**8), STEPS, LOTS, some.sampled_from(list(OrderSide)))
@settings(deadline=None)
def test_orders_are_byte_for_byte_what_the_codecs_write(
    lots: int, ticks: int, tick: str, lot: str, side: OrderSide
) -> None:
    prefix, counter, now_ms, window = "a39ux", 77, 1_700_000_000_123, 5000
    multiplier = Decimal(lot)
    terms = template.OrderTerms(
        symbol="BTC_USDT", side=side, tick=Decimal(tick), lot=Decimal(lot), multiplier=multiplier,
        id_prefix=prefix, window_ms=window,
    )  # fmt: skip
    client_id = prefix + base36(counter)
    order = OrderRequest(
        client_id=client_id, venue="v", symbol="BTC_USDT", side=side, kind=OrderKind.LIMIT, tif=TimeInForce.IOC,
        qty=lots * Decimal(lot), price=ticks * Decimal(tick), multiplier=multiplier,
    )  # fmt: skip
    slots = np.zeros(template.SLOTS, np.int64)
    base = template.LEG_SLOTS
    slots[base + ENTRY_LEG.lots], slots[base + ENTRY_LEG.ticks], slots[base + ENTRY_LEG.client] = lots, ticks, counter
    slots[base + ENTRY_LEG.now_ms], slots[base + ENTRY_LEG.now_s] = now_ms, now_ms // 1000
    slots[base + ENTRY_LEG.expiry_ms] = now_ms + window
    query = mexc.place_query(order)
    wanted = {"mexc": f"{query}&timestamp={now_ms}&recvWindow={window}".encode()}
    pieces = {"mexc": mexc.place_pieces(terms, window)}
    for market in ("spot", "futures"):
        body = gate.place_pieces(market, terms)
        assert body is not None
        pieces[market] = wsapi.call_pieces(f"{market}.order_place", f"p-{prefix}", body)
        wanted[market] = wsapi.call_frame(
            f"{market}.order_place", f"p-{client_id}", gate.place_body(market, order), now_ms // 1000, now_ms + window
        )
    for name, parts in pieces.items():
        book = template.TemplateTable()
        book.add(parts)
        program, pool = book.freeze(np.zeros(0, np.int64))
        out = np.zeros(2048, np.uint8)
        assert bytes(out[: fill_template(program, pool, 0, slots, 0, out, 0)]) == wanted[name]


def test_contracts_that_are_no_whole_number_have_no_template() -> None:
    terms = template.OrderTerms(
        symbol="BTC_USDT", side=OrderSide.BUY, tick=Decimal("0.1"), lot=Decimal("0.00005"),
        multiplier=Decimal("0.0001"), id_prefix="a1x", window_ms=5000,
    )  # fmt: skip
    assert gate.place_pieces("futures", terms) is None
