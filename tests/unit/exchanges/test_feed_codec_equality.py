"""What the byte scanners accept, the reference decoders accept with the same meaning; golden frames suit both.

Frames are built from the documented shapes with odd values, order and white space, then damaged byte by byte.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from pipeline.book.codec import Decoded
from pipeline.conformance.frames import put_frame, read_event
from pipeline.exchanges.factory import feed_codec
from pipeline.exchanges.mexc.protobuf import PushDataV3ApiWrapper
from tests.worlds.feed_frames import GOLDEN, MEMORY, assert_scan_equal, assert_snapshot_equal

SETTINGS = settings(max_examples=400)


# --- frames ---

plain_number = some.builds(
    lambda whole, part: f"{whole}.{part}" if part else whole,
    some.from_regex(r"(0|[1-9][0-9]{0,12})", fullmatch=True),
    some.from_regex(r"[0-9]{0,12}", fullmatch=True),
)
odd_number = some.sampled_from(
    ["", "0", "0.0", "00.5", "1.", ".5", "-1", "+1", "1e5", "1E-8", "NaN", "Infinity", "1_000", "١٢", "1,5", " 1", "1 ",
     "99999999999999999999.1", "0.00000000000000000000000000001", "9223372036854775807", "9223372036854775808"]
)  # fmt: skip
number = some.one_of(plain_number, plain_number, plain_number, odd_number)
quantity = some.one_of(number, some.integers(-2, 10**12))
list_level = some.tuples(number, quantity).map(list)
object_level = some.builds(lambda p, s: {"p": p, "s": s}, number, quantity)
levels = some.one_of(
    some.lists(list_level, max_size=6),
    some.lists(object_level, max_size=6),
    some.lists(some.sampled_from([["1"], ["1", "2", []], "x", {"p": "1"}, {"s": 1, "p": "2"}, []]), max_size=2),
)
update_id = some.one_of(some.integers(1, 10**15), some.integers(1, 10**15), some.integers(-1, 2**64))
symbol = some.sampled_from(["BTCUSDT", "BTC_USDT", "A", "", "ob.BTC_USDT.50", "ob.X", "X" * 25, "Ä", 'A"B', "A\\B"])
extra = some.dictionaries(
    some.sampled_from(["T", "ps", "st", "l", "x1", "lastUpdateX", "lastUpdateId", "id", "result", "E", "pu", "full"]),
    some.one_of(some.integers(-5, 10**13), some.text(max_size=4), some.booleans(), some.none(), some.just(1.5)),
    max_size=2,
)


clean_level = some.tuples(plain_number, plain_number)
clean_levels = some.one_of(
    some.lists(clean_level.map(list), max_size=12),
    some.lists(some.builds(lambda p, s: {"p": p, "s": s}, plain_number, some.integers(0, 10**9)), max_size=12),
)


@some.composite
def clean_body(draw: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """What a venue sends: every key right."""
    last = draw(some.integers(1, 10**15))
    name = draw(some.sampled_from(names))
    if not draw(some.integers(0, 3)):
        keys = ("b", "B", "a", "A")
        return {"u": last, "s": name, "t": 5, **{key: draw(plain_number) for key in keys}}
    first = draw(some.integers(0, last))
    body: dict[str, Any] = {"e": "depthUpdate", "E": draw(some.integers(0, 10**16)), "s": name, "U": first, "u": last}
    if name == "BTCUSDT":
        body["pu"] = draw(some.integers(0, last))
    body["b"], body["a"] = draw(clean_levels), draw(clean_levels)
    if draw(some.booleans()):
        body.update({"t": 1684930165217, "l": "100"})
    if not draw(some.integers(0, 5)):
        body["full"] = draw(some.booleans())
    return body


@some.composite
def depth_body(draw: Any) -> dict[str, Any]:
    last = draw(update_id)
    body: dict[str, Any] = {
        "e": draw(some.sampled_from(["depthUpdate"] * 6 + ["trade", "bookTicker"])),
        "E": draw(some.integers(0, 10**16)),
        "t": draw(some.integers(0, 10**13)),
        "s": draw(symbol),
        "U": draw(some.one_of(some.just(last), some.integers(0, 10**15))),
        "u": last,
        "pu": draw(update_id),
        "b": draw(levels),
        "a": draw(levels),
    }
    body.update(draw(extra))
    for key in draw(some.lists(some.sampled_from(sorted(body)), max_size=1)):
        del body[key]
    return body


@some.composite
def ticker_body(draw: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"u": draw(update_id), "s": draw(symbol), "t": 5}
    body.update({key: draw(quantity) for key in ("b", "B", "a", "A")})
    if draw(some.booleans()):
        body["e"] = "bookTicker"
    return body


binance_body = some.one_of(clean_body(("BTCUSDT",)), clean_body(("BTCUSDT",)), depth_body(), ticker_body())
gate_names = ("BTC_USDT", "ob.BTC_USDT.50")
gate_body = some.one_of(clean_body(gate_names), clean_body(gate_names), depth_body(), ticker_body())
spacing = some.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])


@some.composite
def shuffled(draw: Any, fields: dict[str, Any]) -> dict[str, Any]:
    keys = draw(some.permutations(sorted(fields))) if draw(some.booleans()) else list(fields)
    return {key: fields[key] for key in keys}


@some.composite
def binance_frame(draw: Any) -> bytes:
    inner = draw(shuffled(draw(binance_body)))
    frame = {"stream": "btcusdt@depth", "data": inner} if draw(some.booleans()) else inner
    return json.dumps(frame, separators=draw(spacing), ensure_ascii=draw(some.booleans())).encode()


@some.composite
def gate_frame(draw: Any) -> bytes:
    channels = ["spot.order_book_update", "futures.order_book_update", "spot.obu", "spot.book_ticker", "spot.trades"]
    frame: dict[str, Any] = {
        "time": 1,
        "time_ms": draw(some.one_of(some.integers(0, 10**13), some.just("x"))),
        "channel": draw(some.sampled_from(channels)),
        "event": draw(some.sampled_from(["update"] * 5 + ["all", "subscribe", ""])),
        "result": draw(shuffled(draw(gate_body))),
    }
    if draw(some.booleans()):
        frame = draw(shuffled(frame))
    return json.dumps(frame, separators=draw(spacing), ensure_ascii=draw(some.booleans())).encode()


@some.composite
def damaged(draw: Any, frames: some.SearchStrategy[bytes]) -> bytes:
    frame = bytearray(draw(frames))
    for _ in range(draw(some.integers(0, 2))):
        if not frame:
            break
        at = draw(some.integers(0, len(frame) - 1))
        how = draw(some.integers(0, 3))
        if how == 0:
            frame[at] = draw(some.integers(0, 255))
        elif how == 1:
            del frame[at : at + draw(some.integers(1, 4))]
        elif how == 2:
            frame[at:at] = draw(some.sampled_from([b'"', b"0", b",", b"{", b"]", b"\\", b"\x00", b"9" * 19, b"e"]))
        else:
            frame = frame[:at]
    return bytes(frame)


@pytest.mark.parametrize("market", ["spot", "futures"])
@SETTINGS
@given(frame=damaged(binance_frame()))
def test_binance_scanner_agrees_with_the_reference_decoder(market: str, frame: bytes) -> None:
    assert_scan_equal(feed_codec("binance", market), MEMORY["binance", market], frame)


@SETTINGS
@given(frame=damaged(gate_frame()))
@example(b'{"channel":"spot.obu","event":"update","result":{"t":5,"full":true,"s":"ob.XRP_USDT.50","u":7}}')
@example(
    b'{"time":1,"time_ms":0,"channel":"spot.order_book_update","event":"update","result":{"e":"depthUpdate","E":0,'
    b'"s":"BTC_USDT","U":0,"u":1,"b":[],"a":[["0","10000000000.000000000"]],"full":false}}'
)
def test_gateio_scanner_agrees_with_the_reference_decoder(frame: bytes) -> None:
    assert_scan_equal(feed_codec("gateio", "spot"), MEMORY["gateio", "spot"], frame)


@some.composite
def mexc_frame(draw: Any) -> bytes:
    push = PushDataV3ApiWrapper(channel=draw(some.sampled_from(["spot@public@BTCUSDT", "", "ä@B"])))
    if draw(some.integers(0, 4)):
        push.symbol = draw(some.sampled_from(["BTCUSDT", "", "X" * 25]))
    if draw(some.booleans()):
        push.sendTime = draw(some.integers(-1, 10**13))
    if draw(some.booleans()):
        push.createTime = draw(some.integers(0, 10**13))
    texts = some.one_of(number, some.sampled_from(["", "5"]))
    kind = draw(some.integers(0, 3))
    if kind <= 1:
        depth = push.publicAggreDepths
        last = draw(some.integers(0, 10**12))
        depth.fromVersion = draw(some.one_of(some.just(str(last)), texts))
        depth.toVersion = str(last) if draw(some.integers(0, 5)) else draw(texts)
        depth.eventType = draw(some.sampled_from(["", "x@100ms", "ä"]))
        depth.lastOrderCreateTime = draw(some.sampled_from([0, 48, 10**12]))
        clean = draw(some.booleans())
        if clean:
            push.channel, push.symbol = "spot@public@BTCUSDT", "BTCUSDT"
            depth.eventType, depth.fromVersion, depth.toVersion = "x@100ms", str(last), str(last + 3)
        for side in (depth.asks, depth.bids):
            pair = clean_level if clean else some.tuples(number, texts)
            for price, qty in draw(some.lists(pair, max_size=6)):
                side.add(price=price, quantity=qty)
    elif kind == 2:
        tick = push.publicAggreBookTicker
        tick.bidPrice, tick.bidQuantity, tick.askPrice, tick.askQuantity = (draw(texts) for _ in range(4))
        tick.version = draw(some.sampled_from(["81721676217", "", "0", "x", "1.5"]))
    else:
        push.publicAggreDeals.eventType = "deals"
    return bytes(push.SerializeToString())


@SETTINGS
@given(frame=damaged(mexc_frame()))
def test_mexc_scanner_agrees_with_google_protobuf(frame: bytes) -> None:
    assert_scan_equal(feed_codec("mexc", "spot"), MEMORY["mexc", "spot"], frame)


@some.composite
def snapshot_frame(draw: Any) -> bytes:
    fields: dict[str, Any] = {draw(some.sampled_from(["lastUpdateId", "id"])): draw(update_id)}
    fields.update({"current": 1684930166.384, "asks": draw(levels), "bids": draw(levels)})
    fields.update(draw(some.sampled_from([{}, {}, {"timestamp": 5}, {"x": [1]}, {"id": 7}])))
    return json.dumps(draw(shuffled(fields)), separators=draw(spacing)).encode()


@SETTINGS
@given(frame=damaged(snapshot_frame()))
def test_snapshot_scanner_agrees_with_the_reference_decoder(frame: bytes) -> None:
    assert_snapshot_equal(feed_codec("binance", "spot"), MEMORY["binance", "spot"], frame)


@pytest.mark.parametrize(
    ("dialect", "market", "frame", "wanted"), GOLDEN, ids=[f"{g[0]}-{g[1]}-{k}" for k, g in enumerate(GOLDEN)]
)
def test_golden_frames_take_the_fast_path_and_mean_the_same_to_both(
    dialect: str, market: str, frame: bytes, wanted: Decoded
) -> None:
    codec, mem = feed_codec(dialect, market), MEMORY[dialect, market]
    put_frame(codec, mem, frame)
    topic = int(codec.scan_frame(mem, len(frame)))
    assert topic == wanted.topic
    assert read_event(mem, topic) == wanted
    assert codec.reference(frame) == wanted
