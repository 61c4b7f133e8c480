"""MEXC push frames: ``PushDataV3ApiWrapper`` with one body, written byte by byte from the documented field numbers.

Written out by hand and not through the engine's descriptors, so that a wrong field number on either side makes a
test fail instead of two sides agree. Proto3 rules: fields in number order, defaults omitted.

Wrapper: 1 channel, 3 symbol, 5 createTime, 6 sendTime, then the body by its own number.
Source: MEXC websocket-proto (PushDataV3ApiWrapper.proto and its bodies).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# Body numbers inside the wrapper.
LIMIT_DEPTHS = 303
PRIVATE_ORDERS = 304
PRIVATE_DEALS = 306
PRIVATE_ACCOUNT = 307
SPOT_KLINE = 308
MINI_TICKER = 309
MINI_TICKERS = 310
BOOK_TICKER_BATCH = 311
AGGRE_DEPTHS = 313
AGGRE_DEALS = 314
AGGRE_BOOK_TICKER = 315

Level = tuple[bytes, bytes]  # price text, quantity text


def varint(value: int) -> bytes:
    """Base-128, least significant group first. Negative numbers do not occur in these messages."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_LENGTHS = tuple(varint(n) for n in range(512))


def length(size: int) -> bytes:
    """The length prefix of a field."""
    return _LENGTHS[size] if size < 512 else varint(size)


def tag(field: int, wire_type: int) -> bytes:
    """Field number and wire type as a tag."""
    return varint(field << 3 | wire_type)


_TEXT_TAGS = tuple(tag(n, 2) for n in range(64))
_INT_TAGS = tuple(tag(n, 0) for n in range(64))
_BODY_TAGS = {n: tag(n, 2) for n in range(301, 316)}


def text(field: int, value: bytes) -> bytes:
    """A string field; empty is the default and is not sent."""
    return _TEXT_TAGS[field] + length(len(value)) + value if value else b""


def present_text(field: int, value: bytes) -> bytes:
    """A string field with presence (``optional``): sent even when empty."""
    return _TEXT_TAGS[field] + length(len(value)) + value


def number(field: int, value: int) -> bytes:
    """An integer field; 0 is the default and is not sent."""
    return _INT_TAGS[field] + varint(value) if value else b""


def wrap(channel: bytes, symbol: bytes, body: int, payload: bytes, *, send_ms: int, create_ms: int = 0) -> bytes:
    """The whole frame. ``symbol`` has presence; ``createTime`` only on private pushes."""
    head = text(1, channel) + (present_text(3, symbol) if symbol else b"") + number(5, create_ms) + number(6, send_ms)
    return head + _BODY_TAGS[body] + length(len(payload)) + payload


def _levels(field_tag: bytes, levels: Iterable[Level]) -> bytes:
    parts = []
    for price, quantity in levels:
        inner = b"\x0a" + length(len(price)) + price + b"\x12" + length(len(quantity)) + quantity
        parts.append(field_tag + length(len(inner)) + inner)
    return b"".join(parts)


def aggre_depths(
    asks: Sequence[Level], bids: Sequence[Level], event_type: bytes, first_version: int, last_version: int
) -> bytes:
    """Body 313: changed levels; quantity "0" deletes."""
    return (
        _levels(b"\x0a", asks)
        + _levels(b"\x12", bids)
        + text(3, event_type)
        + text(4, b"%d" % first_version)
        + text(5, b"%d" % last_version)
    )


def limit_depths(asks: Sequence[Level], bids: Sequence[Level], event_type: bytes, version: int) -> bytes:
    """Body 303: the best levels, whole."""
    return _levels(b"\x0a", asks) + _levels(b"\x12", bids) + text(3, event_type) + text(4, b"%d" % version)


def _ticker_fields(bid: Level, ask: Level) -> bytes:
    return text(1, bid[0]) + text(2, bid[1]) + text(3, ask[0]) + text(4, ask[1])


def aggre_book_ticker(bid: Level, ask: Level, version: int, order_create_ms: int = 0) -> bytes:
    """Body 315: best bid and ask."""
    return _ticker_fields(bid, ask) + text(5, b"%d" % version) + number(6, order_create_ms)


def book_ticker_batch(items: Sequence[tuple[Level, Level]], version: int) -> bytes:
    """Body 311: best quotes, one or more."""
    parts = []
    for bid, ask in items:
        inner = _ticker_fields(bid, ask)
        parts.append(b"\x0a" + length(len(inner)) + inner)
    return b"".join(parts) + text(2, b"%d" % version)


def aggre_deals(deals: Sequence[tuple[bytes, bytes, int, int, bytes]], event_type: bytes) -> bytes:
    """``deals``: (price, quantity, trade type 1 buy or 2 sell, time ms, trade id)."""
    parts = []
    for price, quantity, trade_type, time_ms, trade_id in deals:
        inner = text(1, price) + text(2, quantity) + number(3, trade_type) + number(4, time_ms) + text(5, trade_id)
        parts.append(b"\x0a" + length(len(inner)) + inner)
    return b"".join(parts) + text(2, event_type)


def spot_kline(
    interval: bytes, start_s: int, prices: tuple[bytes, bytes, bytes, bytes], base: bytes, quote: bytes, end_s: int
) -> bytes:
    """``prices``: open, close, high, low. Times are seconds."""
    opened, closed, highest, lowest = prices
    return (
        text(1, interval)
        + number(2, start_s)
        + text(3, opened)
        + text(4, closed)
        + text(5, highest)
        + text(6, lowest)
        + text(7, base)
        + text(8, quote)
        + number(9, end_s)
    )


def mini_ticker(symbol: bytes, price: bytes, rate: bytes, high: bytes, low: bytes, quote: bytes, base: bytes) -> bytes:
    """The zone's figures equal the plain ones: the simulated day starts with the process."""
    return (
        text(1, symbol)
        + text(2, price)
        + text(3, rate)
        + text(4, rate)
        + text(5, high)
        + text(6, low)
        + text(7, quote)
        + text(8, base)
        + text(9, rate)
        + text(10, rate)
        + text(11, high)
        + text(12, low)
    )


def mini_tickers(items: Sequence[bytes]) -> bytes:
    """Body 310: bodies of ``mini_ticker`` together."""
    return b"".join(b"\x0a" + length(len(item)) + item for item in items)


def private_orders(
    *,
    order_id: bytes,
    client_id: bytes,
    price: bytes,
    quantity: bytes,
    amount: bytes,
    average_price: bytes,
    order_type: int,
    trade_type: int,
    is_maker: bool,
    remain_amount: bytes,
    remain_quantity: bytes,
    last_deal_quantity: bytes,
    cumulative_quantity: bytes,
    cumulative_amount: bytes,
    status: int,
    create_ms: int,
) -> bytes:
    """Body 304: an order after a change. Decimals are text."""
    return (
        text(1, order_id)
        + text(2, client_id)
        + text(3, price)
        + text(4, quantity)
        + text(5, amount)
        + text(6, average_price)
        + number(7, order_type)
        + number(8, trade_type)
        + number(9, int(is_maker))
        + text(10, remain_amount)
        + text(11, remain_quantity)
        + (present_text(12, last_deal_quantity) if last_deal_quantity else b"")
        + text(13, cumulative_quantity)
        + text(14, cumulative_amount)
        + number(15, status)
        + number(16, create_ms)
    )


def private_deals(
    *,
    price: bytes,
    quantity: bytes,
    amount: bytes,
    trade_type: int,
    is_maker: bool,
    trade_id: bytes,
    client_id: bytes,
    order_id: bytes,
    fee: bytes,
    fee_asset: bytes,
    time_ms: int,
) -> bytes:
    """Body 306: one execution. Decimals are text."""
    return (
        text(1, price)
        + text(2, quantity)
        + text(3, amount)
        + number(4, trade_type)
        + number(5, int(is_maker))
        + text(7, trade_id)
        + text(8, client_id)
        + text(9, order_id)
        + text(10, fee)
        + text(11, fee_asset)
        + number(12, time_ms)
    )


def private_account(
    *,
    asset: bytes,
    coin_id: bytes,
    available: bytes,
    available_change: bytes,
    frozen: bytes,
    frozen_change: bytes,
    kind: bytes,
    time_ms: int,
) -> bytes:
    """Body 307: a balance after a change. Decimals are text."""
    return (
        text(1, asset)
        + text(2, coin_id)
        + text(3, available)
        + text(4, available_change)
        + text(5, frozen)
        + text(6, frozen_change)
        + text(7, kind)
        + number(8, time_ms)
    )
