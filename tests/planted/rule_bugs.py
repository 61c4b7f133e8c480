"""Planted bugs for rules that no other bug breaks first."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

import pipeline.exchanges.gateio.orders as gateio_orders
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import Append
from pipeline.execution.evidence import Evidence
from pipeline.execution.records import OrderSentRecord
from pipeline.execution.repair import RepairChooser
from pipeline.model.enums import OrderState
from pipeline.model.errors import ProtocolViolation
from pipeline.risk.manager import RiskManager
from pipeline.risk.margin_state import MarginState
from pipeline.risk.worth import Worth
from pipeline.virtual.world import VirtualWorld
from tests.planted.patches import ZERO, Patch, Wrapped, always


def _end_is_whole(original: Any) -> Any:
    def update(self: Evidence, update: Any) -> Any:
        if update.state is OrderState.CANCELLED:
            update = msgspec.structs.replace(update, state=OrderState.FILLED)
        return original(self, update)

    return update


def _sends_not_written(original: Any) -> Any:
    def drain(self: CoreContext) -> list[Any]:
        actions = original(self)
        return [one for one in actions if not (isinstance(one, Append) and isinstance(one.record, OrderSentRecord))]

    return drain


def _unknown_status(row: Any, filled: Any, venue: str) -> Any:
    raise ProtocolViolation(f"{venue}: order {row.id} with a status that is not known", venue=venue)


def _below_the_begin(self: Worth) -> Decimal:
    return max(ZERO, -self._context.ledger.total_pnl) - min(ZERO, self.unrealised) - min(ZERO, self.foreign_in_all)


RULE_BUGS: dict[str, list[Patch]] = {
    "entries into a journal without room": [(VirtualWorld, "has_room", always(True))],
    "every remainder is dust": [(RepairChooser, "_worth_an_order", always(False))],
    "an order that has ended is whole": [(Evidence, "update", Wrapped(_end_is_whole))],
    "every margin is short": [
        (MarginState, "short", always(True)),
        (MarginState, "bound_bps", always(Decimal(1000))),
    ],
    "sends are not written": [(CoreContext, "drain", Wrapped(_sends_not_written))],
    "the day's loss is not counted": [(Worth, "day_loss", always(ZERO))],
    "a leg may stand alone for ever": [(RiskManager, "_reducing", always(None))],
    "the loss of all days is not counted": [(Worth, "total_loss", always(ZERO))],
    "what was gained may be lost again": [(Worth, "total_loss", _below_the_begin)],
    "an open hedge cannot lose": [(Worth, "_value_hedges", always(None))],
    "a codec knows no state of an order": [(gateio_orders, "_spot_state", _unknown_status)],
}
