"""MEXC's push messages as google protobuf classes, built from a table: the reference decoder's and the simulator's.

Field numbers and types are those of the venue's published definitions; proto3 leaves default values out. The wrapper
holds one body, chosen by field number::

    PushDataV3ApiWrapper | 1 channel | 3 symbol | 4 symbolId | 5 createTime | 6 sendTime | 301..315 body |

Source: MEXC spot WebSocket definitions (read 2026). No generated file: the classes come from descriptors at import.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "arb.mexc"
_Type = descriptor_pb2.FieldDescriptorProto
STR, I32, I64, BOOL = _Type.TYPE_STRING, _Type.TYPE_INT32, _Type.TYPE_INT64, _Type.TYPE_BOOL

#: message -> {field number: (name, type or message name, "" | "?" optional | "R" repeated)}
MESSAGES: dict[str, dict[int, tuple[str, int | str, str]]] = {
    "DepthItem": {1: ("price", STR, ""), 2: ("quantity", STR, "")},
    "DealItem": {
        1: ("price", STR, ""),
        2: ("quantity", STR, ""),
        3: ("tradeType", I32, ""),
        4: ("time", I64, ""),
        5: ("tradeId", STR, ""),
    },
    "AggreDepths": {
        1: ("asks", "DepthItem", "R"),
        2: ("bids", "DepthItem", "R"),
        3: ("eventType", STR, ""),
        4: ("fromVersion", STR, ""),
        5: ("toVersion", STR, ""),
        6: ("lastOrderCreateTime", I64, ""),
    },
    "LimitDepths": {
        1: ("asks", "DepthItem", "R"),
        2: ("bids", "DepthItem", "R"),
        3: ("eventType", STR, ""),
        4: ("version", STR, ""),
        5: ("lastOrderCreateTime", I64, ""),
    },
    "AggreDeals": {1: ("deals", "DealItem", "R"), 2: ("eventType", STR, "")},
    "AggreBookTicker": {
        1: ("bidPrice", STR, ""),
        2: ("bidQuantity", STR, ""),
        3: ("askPrice", STR, ""),
        4: ("askQuantity", STR, ""),
        5: ("version", STR, ""),
        6: ("lastOrderCreateTime", I64, ""),
    },
    "BookTickerItem": {
        1: ("bidPrice", STR, ""),
        2: ("bidQuantity", STR, ""),
        3: ("askPrice", STR, ""),
        4: ("askQuantity", STR, ""),
    },
    "BookTickerBatch": {
        1: ("items", "BookTickerItem", "R"),
        2: ("version", STR, ""),
        3: ("lastOrderCreateTime", I64, ""),
    },
    "PrivateOrders": {
        1: ("id", STR, ""),
        2: ("clientId", STR, ""),
        3: ("price", STR, ""),
        4: ("quantity", STR, ""),
        5: ("amount", STR, ""),
        6: ("avgPrice", STR, ""),
        7: ("orderType", I32, ""),
        8: ("tradeType", I32, ""),
        9: ("isMaker", BOOL, ""),
        10: ("remainAmount", STR, ""),
        11: ("remainQuantity", STR, ""),
        12: ("lastDealQuantity", STR, "?"),
        13: ("cumulativeQuantity", STR, ""),
        14: ("cumulativeAmount", STR, ""),
        15: ("status", I32, ""),
        16: ("createTime", I64, ""),
        17: ("market", STR, "?"),
        18: ("triggerType", I32, "?"),
        19: ("triggerPrice", STR, "?"),
        20: ("state", I32, "?"),
        21: ("ocoId", STR, "?"),
        22: ("routeFactor", STR, "?"),
        23: ("symbolId", STR, "?"),
        24: ("marketId", STR, "?"),
        25: ("marketCurrencyId", STR, "?"),
        26: ("currencyId", STR, "?"),
    },
    "PrivateDeals": {
        1: ("price", STR, ""),
        2: ("quantity", STR, ""),
        3: ("amount", STR, ""),
        4: ("tradeType", I32, ""),
        5: ("isMaker", BOOL, ""),
        6: ("isSelfTrade", BOOL, ""),
        7: ("tradeId", STR, ""),
        8: ("clientOrderId", STR, ""),
        9: ("orderId", STR, ""),
        10: ("feeAmount", STR, ""),
        11: ("feeCurrency", STR, ""),
        12: ("time", I64, ""),
    },
    "PrivateAccount": {
        1: ("vcoinName", STR, ""),
        2: ("coinId", STR, ""),
        3: ("balanceAmount", STR, ""),
        4: ("balanceAmountChange", STR, ""),
        5: ("frozenAmount", STR, ""),
        6: ("frozenAmountChange", STR, ""),
        7: ("type", STR, ""),
        8: ("time", I64, ""),
    },
    "PushDataV3ApiWrapper": {
        1: ("channel", STR, ""),
        3: ("symbol", STR, "?"),
        4: ("symbolId", STR, "?"),
        5: ("createTime", I64, "?"),
        6: ("sendTime", I64, "?"),
        303: ("publicLimitDepths", "LimitDepths", "B"),
        304: ("privateOrders", "PrivateOrders", "B"),
        306: ("privateDeals", "PrivateDeals", "B"),
        307: ("privateAccount", "PrivateAccount", "B"),
        311: ("publicBookTickerBatch", "BookTickerBatch", "B"),
        313: ("publicAggreDepths", "AggreDepths", "B"),
        314: ("publicAggreDeals", "AggreDeals", "B"),
        315: ("publicAggreBookTicker", "AggreBookTicker", "B"),
    },
}


def _add_field(message: descriptor_pb2.DescriptorProto, number: int, name: str, kind: int | str, mark: str) -> None:
    field = message.field.add(name=name, number=number)
    field.label = _Type.LABEL_REPEATED if mark == "R" else _Type.LABEL_OPTIONAL
    if isinstance(kind, str):
        field.type = _Type.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
    else:
        field.type = kind  # type: ignore[assignment]
    if mark == "B":
        field.oneof_index = 0


def _add_optional(message: descriptor_pb2.DescriptorProto, names: list[str]) -> None:
    """Presence of proto3 ``optional`` fields: each gets a oneof of its own, after the real ones."""
    for field in message.field:
        if field.name in names:
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="arb/mexc_push.proto", package=_PACKAGE, syntax="proto3")
    for message_name, fields in MESSAGES.items():
        message = file.message_type.add(name=message_name)
        if any(mark == "B" for _, _, mark in fields.values()):
            message.oneof_decl.add(name="body")
        for number, (name, kind, mark) in fields.items():
            _add_field(message, number, name, kind, mark)
        _add_optional(message, [name for name, _, mark in fields.values() if mark == "?"])
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


PushDataV3ApiWrapper = _class("PushDataV3ApiWrapper")
AggreDepths = _class("AggreDepths")
LimitDepths = _class("LimitDepths")
AggreDeals = _class("AggreDeals")
AggreBookTicker = _class("AggreBookTicker")
BookTickerBatch = _class("BookTickerBatch")
PrivateOrders = _class("PrivateOrders")
PrivateDeals = _class("PrivateDeals")
PrivateAccount = _class("PrivateAccount")
