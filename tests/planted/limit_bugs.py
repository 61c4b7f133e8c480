"""Planted bugs that ignore one limit each: whoever forgets a single check is seen, not only who forgets them all."""

from __future__ import annotations

from typing import Any

import msgspec

import pipeline.risk.gate as gate
import pipeline.risk.scopes as scopes
from pipeline.model.enums import Refusal
from pipeline.recovery.external_book import ExternalBook
from pipeline.risk.gate import Gate
from pipeline.risk.naked import NakedWatch
from pipeline.risk.order_rate import SendTimes
from pipeline.risk.scopes import Scopes
from tests.planted.patches import Patch, Wrapped, always

_SCOPE_OF = {"per_venue": "venue", "per_asset": "base", "per_pair": "pair"}  # limits -> the field of an instrument
_WORD_OF = {"per_venue": "venue ", "per_asset": "asset ", "per_pair": "pair "}  # as a refusal begins


def _passes(ignored: Refusal) -> Wrapped:
    def make(original: Any) -> Any:
        def limits(self: Gate, plan: Any) -> Any:
            found = original(self, plan)
            return None if found is not None and found.refusal is ignored else found

        return limits

    return Wrapped(make)


def _without(scope: str, field: str) -> Wrapped:
    def make(original: Any) -> Any:
        def refusal(name: str, limit: Any, *rest: Any) -> Any:
            if limit is not None and name.startswith(_WORD_OF[scope]):
                limit = msgspec.structs.replace(limit, **{field: None})
            return original(name, limit, *rest)

        return refusal

    return Wrapped(make)


def _never_off(scope: str) -> Wrapped:
    def make(original: Any) -> Any:
        def disabled(self: Scopes, spec: Any) -> str:
            found: str = original(self, spec)
            return "" if found == getattr(spec, _SCOPE_OF[scope]) else found

        return disabled

    return Wrapped(make)


def _venues_not_counted(original: Any) -> Any:
    return lambda self, mono_ns, venue="": 0 if venue else original(self, mono_ns)


LIMIT_BUGS: dict[str, list[Patch]] = {
    "max_position_size_usd is ignored": [(Gate, "_limits", _passes(Refusal.POSITION_LIMIT))],
    "max_total_exposure_usd is ignored": [(Gate, "_limits", _passes(Refusal.EXPOSURE_LIMIT))],
    "max_open_operations is ignored": [(Gate, "_limits", _passes(Refusal.IN_FLIGHT_LIMIT))],
    "min_profit_usd is ignored": [(gate, "least_profit", always(None))],
    "max_naked_usd_s is ignored": [(NakedWatch, "tick", always(None))],
    "max_unexplained_loss_usd is ignored": [(ExternalBook, "_bound", always(None))],
    "per_venue.max_orders_per_s is ignored": [(SendTimes, "last_second", Wrapped(_venues_not_counted))],
    **{f"{scope}.enabled is ignored": [(Scopes, "disabled", _never_off(scope))] for scope in _SCOPE_OF},
    **{
        f"{scope}.{field} is ignored": [(scopes, "_refusal", _without(scope, field))]
        for scope in _SCOPE_OF
        for field in ("max_position_size_usd", "max_exposure_usd")
    },
}
