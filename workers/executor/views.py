"""What operators see of the core: positions, hedges, balances, breakers and recoveries as plain rows.

The same rows are the answers of the control socket and the content of ``executor.json``. Decimals stay Decimals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from pipeline.core import ExecutionCore
from pipeline.equity_watch import EquityWatch
from pipeline.execution.bounds.unmatched import unmatched_quantities
from pipeline.execution.external_shares import coins_of_others, position_unknown
from pipeline.execution.hedging.attempts import CloseAnswer
from pipeline.execution.inventory.prices import InventoryPrices
from pipeline.execution.inventory.targets import (
    NO_NETWORKS,
    blocked_transfers,
    inventory_balances,
    transfer_proposals,
)
from pipeline.execution.ledger import Ledger
from pipeline.execution.orchestrator import PATIENCE
from pipeline.execution.records import HedgeRecord
from pipeline.model.config import InventoryConfig
from pipeline.model.enums import OrderSide
from pipeline.model.networks import CoinNetworks
from pipeline.model.structs import ZERO
from workers.last_run.journal_rows import recovery_is_over, unmatched

BPS = Decimal(10_000)
Row = dict[str, Any]


class CoreViews:
    """Rows of one core. ``watch`` has the marks; ``networks`` reads how coins travel, as the venues listed it."""

    def __init__(
        self, core: ExecutionCore, watch: EquityWatch, networks: Callable[[], CoinNetworks] = lambda: NO_NETWORKS
    ) -> None:
        self._core = core
        self._networks = networks
        self._watch = watch

    def breakers(self) -> list[Row]:
        """Tripped breakers: name, since, reason, and the command that solves each."""
        ledger = self._core.ledger
        return [
            {
                "name": name,
                "since_wall_ns": ledger.since_wall_ns.get(name, 0),
                "reason": reason,
                "solve": self._core.standing.solve(name),
            }
            for name, reason in sorted(ledger.breakers.items())
        ]

    def recoveries(self) -> list[Row]:
        """Recoveries that are not over, those that an operator has taken over among them."""
        core, found = self._core, list[Row]()
        before = core.orders.repairs.before_approval
        for record in core.ledger.recoveries.values():
            operation = core.ledger.operations.get(record.operation_id)
            if recovery_is_over(core.ledger, record) or operation is None:
                continue
            found.append(
                {
                    "recovery_id": record.recovery_id,
                    "operation_id": record.operation_id,
                    "pair": operation.record.pair,
                    "strategy": record.strategy,
                    "state": record.state,
                    "requires_manual_approval": core.recovery.needs_operator(record),
                    "since_wall_ns": core.ledger.since_wall_ns.get(record.recovery_id, 0),
                    "reason": core.recovery.unproved.get(record.operation_id, record.reason),
                    "unmatched": unmatched(operation),
                    "first": before(operation) if record.state == "waiting_approval" else "",
                }
            )
        return found

    def next_repairs(self, recovery_ids: Iterable[str]) -> list[Row]:
        """What each recovery would send first once an operator has approved it: its orders, or ``reason`` why it sends
        none now. Changes nothing."""
        return [self._next_repair(recovery_id) for recovery_id in recovery_ids]

    def _next_repair(self, recovery_id: str) -> Row:
        core = self._core
        ledger, execution, repairs = core.ledger, core.config.execution, core.orders.repairs
        operation = ledger.open_operations.get(ledger.recoveries[recovery_id].operation_id)
        if operation is None:
            return {"recovery_id": recovery_id, "orders": [], "reason": "its operation has ended"}
        dust = ledger.dust if len(ledger.open_operations) == 1 else {}
        quantities = unmatched_quantities(operation, execution.numeraire, dust)
        chosen = [repairs.choose(operation, quantity, execution.unwind_slippage_bps) for quantity in quantities]
        found = [repair for repair, _ in chosen if repair is not None][:1]  # one after the other, each by what is left
        reason = ""
        if position_unknown(ledger, operation, core.recovery.questioned):
            found, reason = [], "what its venues hold is not known yet"
        elif not found and any(worth for _, worth in chosen):
            tried_s = PATIENCE * core.config.risk_limits.max_unhedged_ms / 1000
            reason = f"{repairs.why_none(operation)}; it is tried for {tried_s:g} s, then it waits for you again"
            reason = repairs.waits_for_venue(operation) or reason
        elif not found and any(ledger.unsettled_of_operation(operation)):
            reason = "an order of it has no answer yet: it is asked for"
        elif not found:
            reason = "what is left is below every venue's minimum: it ends, and lists that as dust"
        orders = [
            {
                "venue": repair.row.spec.venue,
                "symbol": repair.row.spec.symbol,
                "side": repair.side.name.lower(),
                "qty": repair.qty,
                "limit_price": repair.price,
            }
            for repair in found
        ]
        return {"recovery_id": recovery_id, "orders": orders, "reason": reason or None}

    def positions(self) -> list[Row]:
        """Open futures positions: entry, mark, unrealised P&L in quote. ``foreign_qty``: what of it no hedge or
        operation of ours holds: from before this journal, or by orders of others (also after an adoption).

        ``age_s`` of the oldest open hedge on it, ``funding`` of all those; None where there is none. Liquidation price
        and distance are None where they are not known.
        """
        core, found = self._core, list[Row]()
        marks = self._watch.marks()
        ledger = core.ledger
        for key in sorted({*ledger.accounts.futures, *ledger.position_offsets}):
            position = ledger.accounts.futures.get(key)
            qty, before = ledger.accounts.futures_qty(*key), ledger.position_offsets.get(key, ZERO)
            row = core.context.instruments.find(*key)
            if not qty + before:
                continue
            entry = position.entry_price if position is not None else ZERO
            mark = None if row is None else self._watch.mark(row, marks)
            found.append(
                {
                    "venue": key[0],
                    "symbol": key[1],
                    "base": "" if row is None else row.spec.base,
                    "quote": "" if row is None else row.spec.quote,
                    "qty": qty + before,
                    "foreign_qty": before + ledger.external.unowned.get(key, ZERO),
                    "entry_price": entry,
                    "mark_price": mark,
                    "unrealised": None if mark is None else qty * (mark - entry),
                    **self._held(key),
                    **self._liquidation(key),
                }
            )
        return found

    def _held(self, key: tuple[str, str]) -> Row:
        """Since when hedges of ours are on a contract, and the funding that they were paid there."""
        ledger, watch = self._core.ledger, self._core.hedges.watch
        hedges = [hedge for hedge in ledger.hedges.values() if (hedge.futures_venue, hedge.futures_symbol) == key]
        began = [since for hedge in hedges if (since := ledger.since_wall_ns.get(hedge.operation_id, 0))]
        funding = [sum(watch.funding_since_entry(hedge), ZERO) for hedge in hedges]
        return {"age_s": self._age_s(min(began, default=0)), "funding": sum(funding, ZERO) if funding else None}

    def _age_s(self, since_wall_ns: int) -> float | None:
        return round((self._core.context.now.wall_ns - since_wall_ns) / 1e9, 1) if since_wall_ns else None

    def foreign_coins(self) -> list[Row]:
        """Coins that trades of others hold at a venue (``foreign_qty``) or that came or went without a trade since the
        journal began (``moved_qty``), with their mark in the numeraire."""
        core, watch, marks = self._core, self._watch, self._watch.marks()
        quote = core.config.execution.numeraire
        return [
            {
                "venue": venue,
                "asset": asset,
                "foreign_qty": foreign,
                "moved_qty": moved,
                "mark_price": marks.get(watch.coin(venue, asset)),
                "quote": quote,
            }
            for (venue, asset), (foreign, moved) in coins_of_others(core.ledger).items()
        ]

    def _liquidation(self, key: tuple[str, str]) -> Row:
        """Liquidation price and distance (bps and percent of the mark) of a contract; None where they are not known."""
        reading = self._core.risk.gate.margin.readings.get(key)
        if reading is None or not reading.distance.is_finite():
            return {"liquidation_price": None, "liquidation_distance_bps": None, "liquidation_distance_pct": None}
        reported = reading.position.liquidation_price
        price = reported if reported else reading.own_liquidation
        return {
            "liquidation_price": price,
            "liquidation_distance_bps": round(reading.distance * BPS, 1),
            "liquidation_distance_pct": round(reading.distance * 100, 3),
        }

    def delta(self) -> dict[str, Decimal]:
        """Net change of exposure per asset: spot changes plus futures positions; those at zero are left out."""
        accounts, instruments = self._core.ledger.accounts, self._core.context.instruments
        bases = {key: row.spec.base for key in accounts.futures if (row := instruments.find(*key)) is not None}
        return {asset: value for asset, value in accounts.delta(bases).items() if value}

    def hedges(self) -> list[Row]:
        """Open hedges: legs, entry, age, marks, unrealised P&L (fees of the exit not taken off), funding so far;
        basis at leaving prices, the basis at which it leaves, why it must leave now."""
        return [self._hedge(hedge) for hedge in self._core.ledger.hedges.values()]

    def _hedge(self, hedge: HedgeRecord) -> Row:
        core, marks = self._core, self._watch.marks()
        ledger, way = core.ledger, int(hedge.spot_side)
        operation = ledger.operations[hedge.operation_id]
        spot = core.context.instruments.find(hedge.spot_venue, hedge.spot_symbol)
        futures = core.context.instruments.find(hedge.futures_venue, hedge.futures_symbol)
        spot_mark = None if spot is None else self._watch.mid(spot.instrument_id) or marks.get(hedge.base)
        futures_mark = None if futures is None else self._watch.mark(futures, marks)
        unrealised = None
        if spot_mark is not None and futures_mark is not None:
            legs = (spot_mark - hedge.entry_spot_price) - (futures_mark - hedge.entry_futures_price)
            unrealised = legs * way * hedge.qty
        since = ledger.since_wall_ns.get(hedge.operation_id, 0)
        answer = core.forced_close.answers.get(hedge.operation_id)
        reading = core.hedges.watch.readings.get(hedge.operation_id)
        must = core.hedges.exits.hard.get(hedge.operation_id)
        return {
            "hedge_id": hedge.operation_id,
            "pair": operation.record.pair,
            "base": hedge.base,
            "quote": operation.record.legs[0].quote,
            "qty": hedge.qty,
            "spot_venue": hedge.spot_venue,
            "spot_symbol": hedge.spot_symbol,
            "spot_side": hedge.spot_side.name.lower(),
            "futures_venue": hedge.futures_venue,
            "futures_symbol": hedge.futures_symbol,
            "entry_spot_price": hedge.entry_spot_price,
            "entry_futures_price": hedge.entry_futures_price,
            "since_wall_ns": since,
            "age_s": self._age_s(since),
            "spot_mark": spot_mark,
            "futures_mark": futures_mark,
            "unrealised": unrealised,
            "funding": sum(core.hedges.watch.funding_since_entry(hedge), ZERO),
            "next_stamp_s": None if reading is None else round(reading.clock.next_funding_h * 3600),
            "next_rate_bps": None if reading is None else reading.clock.rate_bps,
            "basis_bps": None if reading is None else round(reading.y_bps, 3),
            "value_of_leaving_bps": None if reading is None else round(reading.value_bps, 3),
            "leaves_at_bps": None if reading is None else reading.leaves_at_bps,
            "leaving_because": None if must is None else must.reason,
            **self._liquidation((hedge.futures_venue, hedge.futures_symbol)),
            "closing": hedge.operation_id in core.forced_close.wanted,
            "not_closed": (answer.reason if answer is not None else "")
            or (must.why if must is not None else "")
            or core.hedges.lacking.get(hedge.operation_id),
        }

    def proposals(self) -> list[Row]:
        """Transfers that would pay: coin, from, to, qty, network, cost (None = unknown), minutes, worth."""
        return [
            {
                "coin": proposal.coin,
                "from": proposal.from_venue,
                "to": proposal.to_venue,
                "qty": proposal.qty,
                "network": proposal.network,
                "cost": proposal.cost,
                "minutes": proposal.minutes,
                "worth": proposal.worth,
            }
            for proposal in transfer_proposals(*self._lanes())
        ]

    def blocked(self) -> list[str]:
        """What would be sent and cannot travel, and why, in words."""
        return list(blocked_transfers(*self._lanes()))

    def _lanes(self) -> tuple[InventoryPrices, InventoryConfig, CoinNetworks]:
        return self._core.inventory_prices, self._core.config.inventory, self._networks()

    def set_asides(self) -> Row:
        """What operators keep from new orders: name -> venue, asset, amount."""
        kept = self._core.balances.set_asides.items()
        return {name: {"venue": venue, "asset": asset, "amount": amount} for name, ((venue, asset), amount) in kept}

    def balances(self) -> list[Row]:
        """Balances per venue and coin: total and free as the venue says, what our orders reserve, what may be used.

        ``target``: the configured one, else where its inventory has no price; ``time_to_empty_s``: at the last hour's
        flow. None where nothing is known.
        """
        monitor, now_ns = self._core.balances, self._core.context.now.mono_ns
        core = self._core
        known = inventory_balances(core.balances, core.inventory_prices, core.config.inventory)
        rows = {(row.venue, row.coin): row for row in known}
        found = []
        for (venue, asset), total in sorted(monitor.totals().items()):
            reserved = monitor.reserved(venue, asset)
            if not total and not reserved:
                continue
            age_ns = monitor.confirmed_age_ns(venue, asset, now_ns)
            row = rows[venue, asset]
            hours = row.hours_to_empty
            found.append(
                {
                    "venue": venue,
                    "asset": asset,
                    "total": total,
                    "free": monitor.get_balance(venue, asset) or ZERO,
                    "reserved": reserved,
                    "usable": monitor.usable(venue, asset),
                    "age_ms": None if age_ns is None else round(age_ns / 1e6, 1),
                    "target": row.target,
                    "drift": row.drift,
                    "alarm_below": row.alarm_below,
                    "low": row.low,
                    "time_to_empty_s": None if hours is None else round(hours * 3600, 1),
                }
            )
        return found

    def close_answer(self, answer: CloseAnswer) -> Row:
        """One attempt to close a hedge: the orders that it sends (or would send), or why it sends none."""
        legs = [] if answer.plan is None else answer.plan.legs
        return {
            "hedge_id": answer.hedge.operation_id,
            "reason": answer.reason or None,
            "left": answer.left,
            "orders": [
                {
                    "hedge_id": answer.hedge.operation_id,
                    "venue": leg.row.spec.venue,
                    "symbol": leg.row.spec.symbol,
                    "side": OrderSide(leg.side).name.lower(),
                    "qty": leg.qty,
                    "limit_price": leg.limit,
                    "best_price": leg.best,
                }
                for leg in legs
            ],
        }


def order_rows(ledger: Ledger, client_ids: Iterable[str]) -> list[Row]:
    """Orders as they stand, for the reply to a close; without those that have left memory meanwhile, long settled."""
    orders = [order for client_id in client_ids if (order := ledger.orders.get(client_id)) is not None]
    operations = ledger.operations
    return [
        {
            "hedge_id": operations[name].record.closes if (name := order.intent.operation_id) in operations else "",
            "client_id": order.client_id,
            "venue": order.intent.venue,
            "symbol": order.intent.symbol,
            "side": order.intent.side.name.lower(),
            "qty": order.intent.qty,
            "limit_price": order.intent.price,
            "state": order.state.name.lower(),
            "filled": order.filled,
            "average_price": order.average_price if order.filled else None,
            "reason": order.reason,
        }
        for order in orders
    ]
