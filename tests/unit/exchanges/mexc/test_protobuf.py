"""The table of MEXC's push messages against the compiled definitions that ccxt ships."""

from __future__ import annotations

from typing import Any

from pipeline.exchanges.mexc.protobuf import PushDataV3ApiWrapper
from tests.worlds.later import mexc_push

#: What the venue added to its definitions after the ones that ccxt compiled: "message.field".
NEWER = {
    "publicLimitDepths.lastOrderCreateTime",
    "publicBookTickerBatch.version",
    "publicBookTickerBatch.lastOrderCreateTime",
    "publicAggreDepths.lastOrderCreateTime",
    "publicAggreDeals.deals.tradeId",
    "publicAggreBookTicker.version",
    "publicAggreBookTicker.lastOrderCreateTime",
}
#: Bodies of streams that nobody here subscribes.
UNUSED = {"publicDeals", "publicIncreaseDepths", "publicBookTicker", "publicSpotKline", "publicMiniTicker"}
UNUSED |= {"publicMiniTickers", "publicIncreaseDepthsBatch"}


def fields_of(message: Any, path: str = "") -> dict[str, tuple[int, int, bool, bool]]:
    """Path -> (number, type, repeated, whether absence shows), bodies and their rows included."""
    found: dict[str, tuple[int, int, bool, bool]] = {}
    for field in message.fields:
        name = f"{path}{field.name}"
        found[name] = (field.number, field.type, field.is_repeated, field.has_presence)
        if field.message_type is not None:
            found |= fields_of(field.message_type, f"{name}.")
    return found


def test_the_table_is_that_of_the_compiled_definitions() -> None:
    ours = fields_of(PushDataV3ApiWrapper.DESCRIPTOR)
    compiled = fields_of(mexc_push.PushDataV3ApiWrapper.DESCRIPTOR)
    assert set(compiled) - set(ours) == {path for path in compiled if path.partition(".")[0] in UNUSED}
    assert set(ours) - set(compiled) <= NEWER
    assert {path: row for path, row in ours.items() if path in compiled and compiled[path] != row} == {}
