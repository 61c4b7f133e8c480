"""The judge of an execution world: what the core believes against what the venues' own books say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from pipeline.core import ExecutionCore
from pipeline.execution.bounds.unmatched import unmatched_quantities
from pipeline.execution.journal import JournalEntry
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import RetiredRecord
from tests.worlds.venue_model import ModelVenue


def whole_history(core: ExecutionCore, entries: Sequence[JournalEntry]) -> Ledger:
    """A ledger of ``entries`` that no operation has left; the core's own where none has."""
    if not core.ledger.retired_operations:
        return core.ledger
    ledger = Ledger()
    for entry in entries:
        if not isinstance(entry.record, RetiredRecord):
            ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
    assert set(core.ledger.orders) <= set(ledger.orders)
    assert core.ledger.retired_operations + len(core.ledger.operations) == len(ledger.operations)
    for client_id, order in ledger.orders.items():
        known = client_id in core.ledger.orders
        assert known != core.ledger.settled_long_ago(order.intent.venue, client_id, ""), f"{client_id} was forgotten"
    assert all(core.ledger.fill_known(*key) for key in ledger.fills_seen)
    return ledger


def judge(
    core: ExecutionCore,
    venues: Mapping[str, ModelVenue],
    initial: Mapping[tuple[str, str], Decimal],
    entries: Sequence[JournalEntry],
) -> None:
    """I1-I4, I6, I12 and the money: the core's ledger against the venues' own books; ``initial``: (venue, asset) ->
    what each venue held at first. ``entries``: the core's journal."""
    ledger, every = core.ledger, whole_history(core, entries)
    placed = [client_id for venue in venues.values() for client_id in venue.requests]
    assert len(placed) == len(set(placed)), "an order was sent twice (I6)"
    for client_id in placed:
        assert client_id in every.orders, f"the venue saw {client_id}, the journal did not (I4)"
    venue_fills = sorted((f.venue, f.trade_id) for v in venues.values() for f in v.fills)
    ours = sorted((venue, trade_id) for venue, _, trade_id in every.fills_seen)
    assert ours == venue_fills, "fills differ (I3)"
    assert not ledger.unsettled, f"unsettled: {[o.state for o in ledger.unsettled.values()]}"
    for order in every.orders.values():
        assert 0 <= order.filled <= order.intent.qty
        model = venues[order.intent.venue].orders.get(order.client_id)
        assert order.filled == (model.filled if model is not None else 0)
    flows = dict(ledger.accounts.flows)
    for venue in venues.values():
        if not venue.spot and venue.position:
            continue  # an open hedge: the model settles only closed positions
        for asset, amount in venue.balances.items():
            moved = amount - initial[venue.name, asset]
            assert flows.get((venue.name, asset), Decimal(0)) == moved, f"money differs (I2): {venue.name} {asset}"
    held = [o for o in ledger.open_operations.values() if o.result is not None]  # wait for an operator
    assert len(held) == len(ledger.open_operations), "an operation was forgotten"
    assert bool(held) <= ("recovery_hold" in ledger.breakers)
    unmatched = [d.amount for o in held for d in unmatched_quantities(o, "USDT", {}) if d.asset == "BTC"]
    known = sum(unmatched, ledger.dust.get("BTC", Decimal(0)))
    delta = core.positions.delta().get("BTC", Decimal(0))
    assert delta == known, f"not flat (I1): {delta} {known} {ledger.dust}"
