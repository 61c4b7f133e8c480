"""Which instruments may explain what moved on an account: those that a sweep has to ask about."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.execution.ledger import Ledger
from pipeline.model.instruments import InstrumentRow

SUSPECT_NS = 900_000_000_000  # how far back an unexplained movement is searched for among our own orders
HOLDERS_MAX = 40  # instruments of one quote coin that are asked for a resting order: each costs requests


def suspects(
    ledger: Ledger, rows: Iterable[InstrumentRow], venue: str, what: str, now_ns: int, *, held: bool
) -> set[str]:
    """Symbols of that name or base coin, and those traded within ``SUSPECT_NS`` that could have moved ``what``.

    ``held``: the coin was not moved, somebody's resting order holds it; a buy order does so on any instrument that is
    quoted in it.
    """
    since_ns = now_ns - SUSPECT_NS
    found = {
        order.intent.symbol
        for order in ledger.orders.values()
        if order.intent.venue == venue
        and what in (order.intent.base, order.intent.quote, order.intent.symbol)
        and since_ns < order.intent_mono_ns <= now_ns
    }
    specs = [row.spec for row in rows if row.spec.venue == venue]
    found |= {spec.symbol for spec in specs if what in (spec.symbol, spec.base)}
    if held:
        found.update([spec.symbol for spec in specs if spec.quote == what][:HOLDERS_MAX])
    return found
