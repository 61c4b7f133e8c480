"""What the byte scanners accept, the reference decoders accept with the same meaning; golden frames suit both.

Frames are built from the documented shapes with odd values, order and white space, then damaged byte by byte.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some

from pipeline.book.codec import Decoded, FeedCodec, Number
from pipeline.book.memory import (
    EVENT,
    FRAME_BYTE,
    LEVEL,
    TOPIC_CONTROL,
    TOPIC_DEPTH,
    TOPIC_OTHER,
    TOPIC_SNAPSHOT,
    TOPIC_TICKER,
    TOPIC_UNKNOWN,
    new_memory,
)
from pipeline.book.venue_books import load_codec
from pipeline.exchanges.mexc.protobuf import PushDataV3ApiWrapper
from pipeline.model.errors import ProtocolViolation

SETTINGS = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MARKETS = [("binance", "spot"), ("binance", "futures"), ("gateio", "spot"), ("gateio", "futures")]
MEMORY = {key: new_memory(1, 0, blocks=1) for key in [*MARKETS, ("mexc", "spot")]}


def put(codec: FeedCodec, mem: Any, frame: bytes) -> None:
    codec.rule.write(mem)
    memoryview(mem).cast("B")[FRAME_BYTE : FRAME_BYTE + len(frame)] = frame


def read_event(mem: Any, topic: int) -> Decoded:
    """The scanned event in the reference decoder's form."""
    at = int(mem[EVENT.symbol_byte])
    symbol = bytes(memoryview(mem).cast("B")[at : at + int(mem[EVENT.symbol_len])]).decode()
    if topic in (TOPIC_OTHER, TOPIC_CONTROL):
        return Decoded(topic=topic)

    def levels(off: int, count: int) -> tuple[tuple[Number, Number], ...]:
        rows = [mem[int(mem[off]) + k * LEVEL.WORDS :][:4] for k in range(int(mem[count]))]
        return tuple(((int(r[0]), int(r[2])), (int(r[1]), int(r[3]))) for r in rows)

    def tick(k: int) -> Number | None:
        mantissa, digits = (int(word) for word in mem[EVENT.tick + 2 * k : EVENT.tick + 2 * k + 2])
        return None if digits < 0 else (mantissa, digits)

    first, last = int(mem[EVENT.first_id]), int(mem[EVENT.last_id])
    if topic == TOPIC_TICKER:
        ticks = (tick(0), tick(1), tick(2), tick(3))
        return Decoded(topic=topic, symbol=symbol, last=last, time=int(mem[EVENT.time]), tick=ticks)
    return Decoded(
        topic=topic,
        symbol=symbol if topic == TOPIC_DEPTH else "",
        first=first if topic == TOPIC_DEPTH else last,
        last=last,
        previous=int(mem[EVENT.previous_id]),
        full=bool(mem[EVENT.full]),
        time=int(mem[EVENT.time]),
        bids=levels(EVENT.bid_off, EVENT.bid_count),
        asks=levels(EVENT.ask_off, EVENT.ask_count),
    )


def shortest(number: Number | None) -> Number | None:
    """The same value without zeros at its end."""
    if number is None:
        return None
    mantissa, digits = number
    while digits and mantissa % 10 == 0:
        mantissa, digits = mantissa // 10, digits - 1
    return mantissa, digits


def by_value(event: Decoded) -> Decoded:
    """``event`` with every number as short as it goes."""
    sides = [tuple((shortest(p), shortest(q)) for p, q in side) for side in (event.bids, event.asks)]
    ticks = tuple(shortest(number) for number in event.tick)
    return msgspec.structs.replace(event, bids=sides[0], asks=sides[1], tick=ticks)


def beyond_64_bits(event: Decoded) -> bool:
    """Whether a number needs more than the scanner's word: then zeros at its end may be left out."""
    numbers = [number for level in event.bids + event.asks for number in level]
    return any(number is not None and number[0] >= 2**63 for number in (*numbers, *event.tick))


def compare(codec: FeedCodec, mem: Any, frame: bytes) -> int:
    """Scans, compares with the reference decoder, returns the topic."""
    put(codec, mem, frame)
    topic = int(codec.scan_frame(mem, len(frame)))
    if topic == TOPIC_UNKNOWN:
        return topic
    scanned = read_event(mem, topic)
    try:
        wanted = codec.reference(frame)
    except ProtocolViolation:
        # The rest of a frame that is not for books is not read.
        assert topic in (TOPIC_OTHER, TOPIC_CONTROL), frame
        return topic
    if topic in (TOPIC_OTHER, TOPIC_CONTROL):
        assert wanted.topic == topic, frame
        return topic
    if beyond_64_bits(wanted):
        assert by_value(scanned) == by_value(wanted), frame
    else:
        assert scanned == wanted, frame
    return topic


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
@given(data=some.data())
def test_binance_scanner_agrees_with_the_reference_decoder(market: str, data: Any) -> None:
    frame = data.draw(damaged(binance_frame()))
    compare(load_codec("binance", market), MEMORY["binance", market], frame)


@SETTINGS
@given(frame=damaged(gate_frame()))
@example(b'{"channel":"spot.obu","event":"update","result":{"t":5,"full":true,"s":"ob.XRP_USDT.50","u":7}}')
@example(
    b'{"time":1,"time_ms":0,"channel":"spot.order_book_update","event":"update","result":{"e":"depthUpdate","E":0,'
    b'"s":"BTC_USDT","U":0,"u":1,"b":[],"a":[["0","10000000000.000000000"]],"full":false}}'
)
def test_gateio_scanner_agrees_with_the_reference_decoder(frame: bytes) -> None:
    compare(load_codec("gateio", "spot"), MEMORY["gateio", "spot"], frame)


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
    compare(load_codec("mexc", "spot"), MEMORY["mexc", "spot"], frame)


@some.composite
def snapshot_frame(draw: Any) -> bytes:
    fields: dict[str, Any] = {draw(some.sampled_from(["lastUpdateId", "id"])): draw(update_id)}
    fields.update({"current": 1684930166.384, "asks": draw(levels), "bids": draw(levels)})
    fields.update(draw(some.sampled_from([{}, {}, {"timestamp": 5}, {"x": [1]}, {"id": 7}])))
    return json.dumps(draw(shuffled(fields)), separators=draw(spacing)).encode()


@SETTINGS
@given(frame=damaged(snapshot_frame()))
def test_snapshot_scanner_agrees_with_the_reference_decoder(frame: bytes) -> None:
    codec, mem = load_codec("binance", "spot"), MEMORY["binance", "spot"]
    put(codec, mem, frame)
    if codec.scan_snapshot(mem, len(frame)) == TOPIC_SNAPSHOT:
        assert read_event(mem, TOPIC_SNAPSHOT) == codec.reference_snapshot(frame)


# --- golden frames ---

GOLDEN: list[tuple[str, str, bytes, Decoded]] = [
    (
        "binance",
        "spot",
        b'{"e":"depthUpdate","E":1633998512068,"s":"NKNUSDT","U":499869750,"u":499869752,'
        b'"b":[["0.35130000","6195.00000000"]],"a":[]}',
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="NKNUSDT",
            first=499869750,
            last=499869752,
            time=1633998512068,
            bids=(((35130000, 8), (619500000000, 8)),),
        ),
    ),
    (
        "binance",
        "spot",
        b'{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}',
        Decoded(
            topic=TOPIC_TICKER,
            symbol="BNBUSDT",
            last=400900217,
            tick=((2535190000, 8), (3121000000, 8), (2536520000, 8), (4066000000, 8)),
        ),
    ),
    (
        "binance",
        "futures",
        b'{"stream":"sushiusdt@depth@0ms","data":{"e":"depthUpdate","E":1626992741037,"T":1626992741024,'
        b'"s":"SUSHIUSDT","U":600859599090,"u":600859600917,"pu":600859598061,'
        b'"b":[["7.5040","813"],["7.6090","0"]],"a":[["7.6150","1563"]],"ps":"SUSHIUSDT","st":1}}',
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="SUSHIUSDT",
            first=600859599090,
            last=600859600917,
            previous=600859598061,
            time=1626992741037,
            bids=(((75040, 4), (813, 0)), ((76090, 4), (0, 0))),
            asks=(((76150, 4), (1563, 0)),),
        ),
    ),
    (
        "binance",
        "futures",
        b'{"e":"bookTicker","u":600859600576,"s":"SUSHIUSDT","b":"7.6110","B":"2","a":"7.6120","A":"297",'
        b'"T":1626992741000,"E":1626992741003}',
        Decoded(
            topic=TOPIC_TICKER,
            symbol="SUSHIUSDT",
            last=600859600576,
            time=1626992741003,
            tick=((76110, 4), (2, 0), (76120, 4), (297, 0)),
        ),
    ),
    ("binance", "spot", b'{"result":null,"id":1}', Decoded(topic=TOPIC_CONTROL)),
    ("binance", "spot", b'{"code":2,"msg":"Invalid request: unknown"}', Decoded(topic=TOPIC_CONTROL)),
    ("binance", "spot", b'{"e":"serverShutdown","E":1633998512068}', Decoded(topic=TOPIC_CONTROL)),
    (
        "binance",
        "spot",
        b'{"e":"trade","E":1,"s":"X","t":12345,"p":"0.001","q":"100","T":1,"m":true,"M":true}',
        Decoded(topic=TOPIC_OTHER),
    ),
    (
        "gateio",
        "spot",
        b'{"time":1606294781,"time_ms":1606294781236,"channel":"spot.order_book_update","event":"update","result":'
        b'{"t":1606294781123,"e":"depthUpdate","E":1606294781,"s":"BTC_USDT","U":48776301,"u":48776306,'
        b'"b":[["19137.74","0.0001"]],"a":[],"l":"100"}}',
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="BTC_USDT",
            first=48776301,
            last=48776306,
            time=1606294781123,
            bids=(((1913774, 2), (1, 4)),),
        ),
    ),
    (
        "gateio",
        "futures",
        b'{"time":1684930165,"time_ms":1684930165254,"channel":"futures.order_book_update","event":"update",'
        b'"result":{"U":203083177,"a":[{"p":"0.2983","s":0}],"b":[],"s":"RDNT_USDT","t":1684930165217,"u":203083177}}',
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="RDNT_USDT",
            first=203083177,
            last=203083177,
            time=1684930165217,
            asks=(((2983, 4), (0, 0)),),
        ),
    ),
    (
        "gateio",
        "spot",
        b'{"time":1,"channel":"spot.obu","event":"update","result":{"t":5,"full":true,"s":"ob.XRP_USDT.50",'
        b'"u":9649549324,"b":[["1.414","1397.899"]],"a":[["1.415","17344.926"]]}}',
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="XRP_USDT",
            first=9649549324,
            last=9649549324,
            full=True,
            time=5,
            bids=(((1414, 3), (1397899, 3)),),
            asks=(((1415, 3), (17344926, 3)),),
        ),
    ),
    (
        "gateio",
        "futures",
        b'{"time":1,"channel":"futures.book_ticker","event":"update","result":{"t":5,"u":6,"s":"BTC_USDT",'
        b'"b":"54696.6","B":37000,"a":"","A":0}}',
        Decoded(topic=TOPIC_TICKER, symbol="BTC_USDT", last=6, time=5, tick=((546966, 1), (37000, 0), None, (0, 0))),
    ),
    (
        "gateio",
        "spot",
        b'{"time":1619093532,"channel":"spot.order_book_update","event":"subscribe","result":{"status":"success"}}',
        Decoded(topic=TOPIC_CONTROL),
    ),
    (
        "gateio",
        "spot",
        b'{"time":1,"time_ms":1,"channel":"spot.pong","event":"","error":null,"result":null}',
        Decoded(topic=TOPIC_CONTROL),
    ),
    (
        "mexc",
        "spot",
        bytes.fromhex(
            "0a2f73706f74407075626c69632e61676772652e64657074682e76332e6170692e7062403130306d7340425443555344541a07425443"
            "5553445430fbd095ffbc31ca13560a0d0a0836353030302e353112013012100a0836353030302e35301204302e32351a2773706f7440"
            "7075626c69632e61676772652e64657074682e76332e6170692e7062403130306d732204313030312a0431303033"
        ),
        Decoded(
            topic=TOPIC_DEPTH,
            symbol="BTCUSDT",
            first=1001,
            last=1003,
            time=1700000000123,
            asks=(((6500051, 2), (0, 0)),),
            bids=(((6500050, 2), (25, 2)),),
        ),
    ),
    (
        "mexc",
        "spot",
        bytes.fromhex(
            "0a3473706f74407075626c69632e61676772652e626f6f6b5469636b65722e76332e6170692e7062403130306d734042544355534454"
            "1a074254435553445430a7d3d2f18b34da133e0a0838303533352e38381208302e3338303439371a0838303533352e3839220a302e33"
            "333333363335362a0b3831373231363736323137308ed3d2f18b34"
        ),
        Decoded(
            topic=TOPIC_TICKER,
            symbol="BTCUSDT",
            last=81721676217,
            time=1789897517479,
            tick=((8053588, 2), (380497, 6), (8053589, 2), (33336356, 8)),
        ),
    ),
    ("mexc", "spot", b'{"id":0,"code":0,"msg":"PONG"}', Decoded(topic=TOPIC_CONTROL)),
]


@pytest.mark.parametrize(
    ("dialect", "market", "frame", "wanted"), GOLDEN, ids=[f"{g[0]}-{g[1]}-{k}" for k, g in enumerate(GOLDEN)]
)
def test_golden_frames_take_the_fast_path_and_mean_the_same_to_both(
    dialect: str, market: str, frame: bytes, wanted: Decoded
) -> None:
    codec, mem = load_codec(dialect, market), MEMORY[dialect, market]
    put(codec, mem, frame)
    topic = int(codec.scan_frame(mem, len(frame)))
    assert topic == wanted.topic
    assert read_event(mem, topic) == wanted
    assert codec.reference(frame) == wanted
