"""Samples of the private answers of the venues, made from the structs that read them, and words that mean something."""

from __future__ import annotations

import json
from typing import Any

import msgspec

WORDS = (
    "open", "closed", "cancelled", "finished", "NEW", "FILLED", "PARTIALLY_FILLED", "CANCELED", "EXPIRED", "REJECTED",
    "buy", "sell", "BUY", "SELL", "limit", "market", "LIMIT", "ioc", "GTC", "filled", "stp", "liquidated", "fund",
    "t-a1b2", "a1b2", "executionReport", "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "outboundAccountPosition", "update",
    "spot.orders", "futures.orders", "spot.usertrades", "futures.usertrades", "futures.positions", "spot.balances",
    "futures.balances", "BTC_USDT", "BTCUSDT", "USDT", "BTC", "BNB", "TRADE", "LIQUIDATION", "single",
)  # fmt: skip
TEXTS = {"side": "BUY", "status": "FILLED", "symbol": "BTCUSDT", "currency_pair": "BTC_USDT", "contract": "BTC_USDT"}


def sample(kind: type) -> Any:
    """A value that ``kind`` is decoded from."""
    return _value(msgspec.inspect.type_info(kind), "", 5)


def sample_bytes(kind: type, *, listed: bool) -> bytes:
    """The same as JSON; ``listed``: two of them in a list."""
    one = sample(kind)
    return json.dumps([one, one] if listed else one).encode()


def raw_fields(kind: type) -> list[str]:
    """Names, as they are encoded, of the fields that ``kind`` keeps undecoded."""
    found = msgspec.inspect.type_info(kind)
    if not isinstance(found, msgspec.inspect.StructType):
        return []
    return [field.encode_name for field in found.fields if isinstance(field.type, msgspec.inspect.RawType)]


def _value(kind: Any, name: str, depth: int) -> Any:
    inspect = msgspec.inspect
    if isinstance(kind, inspect.StructType):
        fields = {field.encode_name: _value(field.type, field.encode_name, depth - 1) for field in kind.fields}
        return list(fields.values()) if kind.array_like else fields
    if isinstance(kind, inspect.UnionType):
        return _value(next(one for one in kind.types if not isinstance(one, inspect.NoneType)), name, depth)
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return [_value(kind.item_type, name, depth - 1)] if depth else []
    if isinstance(kind, inspect.DictType):
        return {"a": _value(kind.value_type, name, depth - 1)}
    if isinstance(kind, inspect.IntType):
        return 1_700_000_000
    if isinstance(kind, inspect.FloatType):
        return 1.5
    if isinstance(kind, inspect.BoolType):
        return True
    return TEXTS.get(name, "1.5")
