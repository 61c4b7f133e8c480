"""The executor's control socket: manual execution, recoveries, breakers, hedges. For operators, off the hot path."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.core import ExecutionCore
from pipeline.execution.events import Command, CommandKind, Opportunity, OpportunityLeg
from pipeline.execution.market import best_price_fp
from pipeline.model.clock import mono_ns
from pipeline.model.enums import ArbitrageState, OpportunityType, OrderSide
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import parse_decimal, plain, to_fp, to_fp_floor
from workers.control_socket import ControlServer
from workers.executor.performer import Performer

RESULT_TIMEOUT_S = 12.0


class ExecutorControl:
    """Answers requests at the socket ``path``: reads the core, and changes it by events through the performer."""

    def __init__(self, path: Path, core: ExecutionCore, performer: Performer) -> None:
        self._core = core
        self._performer = performer
        self._server = ControlServer(path, self.handle)

    async def start(self) -> None:
        await self._server.start()

    async def close(self) -> None:
        await self._server.close()

    async def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answers ``op``: execute, operations, recoveries, approve, cancel, breakers, rearm, adopt, close_hedges,
        flatten, positions."""
        operation = request.get("op")
        core = self._core
        reason = str(request.get("reason", "by command"))
        if operation == "execute":
            return await self._execute(request)
        if operation == "operations":
            return self._operations()
        if operation == "recoveries":
            return {"recoveries": core.recovery.get_active_recoveries(), **core.recovery.get_recovery_statistics()}
        if operation in ("approve", "cancel"):
            kind = CommandKind.APPROVE if operation == "approve" else CommandKind.CANCEL_RECOVERY
            self._performer.feed(Command(kind, str(request.get("id", "")), reason))
            return {"recoveries": core.recovery.get_active_recoveries()}
        if operation == "breakers":
            status = core.risk.get_circuit_breaker_status()
            return {"triggered_breakers": list(status.triggered_breakers), "reasons": status.reasons}
        if operation == "rearm":
            self._performer.feed(Command(CommandKind.REARM, str(request.get("name", "")), reason))
            return {"triggered_breakers": list(core.risk.get_circuit_breaker_status().triggered_breakers)}
        if operation == "adopt":
            return self._adopt(reason)
        if operation in ("close_hedges", "flatten"):
            kind = CommandKind.FLATTEN if operation == "flatten" else CommandKind.CLOSE_HEDGES
            self._performer.feed(Command(kind, reason=reason))
            return {"open_hedges": len(core.ledger.hedges)}
        if operation == "positions":
            return {
                "delta": {asset: plain(value) for asset, value in core.positions.delta().items()},
                "dust": {asset: plain(value) for asset, value in core.ledger.dust.items()},
                "targets": {asset: plain(value) for asset, value in core.positions.targets().items()},
                "pnl": {asset: plain(value) for asset, value in core.positions.calculate_total_pnl().items()},
            }
        return {"error": f"unknown request {operation!r}"}

    def _adopt(self, reason: str) -> dict[str, Any]:
        """Takes over what the journal does not explain: what was found, and the breakers that still stop new risk."""
        core = self._core
        if not core.ready:
            raise BadInput("the venues are not reconciled yet; see `arb status`, and try again")
        self._performer.feed(Command(CommandKind.ADOPT, reason=reason))
        return {
            "adopted": [
                {
                    "what": record.what,
                    "venue": record.venue,
                    "symbol": record.symbol,
                    "base": record.base,
                    "qty": plain(record.qty),
                    "price": plain(record.price),
                    "operation_id": record.operation_id,
                    "detail": record.detail,
                }
                for record in core.adopted
            ],
            "breakers": dict(core.ledger.breakers),
        }

    def _operations(self) -> dict[str, Any]:
        """Open operations and the statistics of all."""
        core = self._core
        return {
            "open": [
                {
                    "operation_id": operation.operation_id,
                    "pair": operation.record.pair,
                    "state": operation.state.name.lower(),
                    "unsettled": [order.client_id for order in core.ledger.unsettled_of_operation(operation)],
                }
                for operation in core.ledger.open_operations.values()
            ],
            "open_hedges": len(core.ledger.hedges),
            "unsettled_orders": len(core.ledger.unsettled),
            **core.orders.get_execution_statistics(),
        }

    async def _execute(self, request: dict[str, Any]) -> dict[str, Any]:
        """An operator's opportunity through the same gate and saga; waits for its end, bounded."""
        core = self._core
        opportunity = self._manual(request)
        known = set(core.ledger.operations)
        before = core.refused
        self._performer.feed(opportunity)
        fresh = [operation for name, operation in core.ledger.operations.items() if name not in known]
        mine = [o for o in fresh if o.record.manual and o.record.opportunity_id == opportunity.opportunity_id]
        if not mine:
            refused = core.refused > before
            why = core.last_refusal if refused else "asked the venues for balances: look at the operations"
            return {"final_state": "refused" if refused else "pending", "reason": why}
        operation = mine[0]
        if operation.result is None:
            future = self._performer.result_of(operation.operation_id)
            try:
                async with asyncio.timeout(RESULT_TIMEOUT_S):
                    await future
            except TimeoutError:
                return {"final_state": operation.state.name.lower(), "operation_id": operation.operation_id}
        result = operation.result
        assert result is not None
        return {
            "final_state": ArbitrageState(operation.state).name.lower(),
            "operation_id": operation.operation_id,
            "outcome": result.outcome.name.lower(),
            "total_execution_time_ms": round((result.ended_mono_ns - opportunity.dequeued_mono_ns) / 1e6, 3),
            "realized_profit": plain(result.pnl_numeraire),
            "numeraire": result.numeraire,
            "pnl": {asset: plain(value) for asset, value in result.pnl.items()},
            "reason": result.reason,
        }

    def _manual(self, request: dict[str, Any]) -> Opportunity:
        """The request's opportunity: ``type`` and ``legs`` [{venue, symbol, side, qty, limit_price}]."""
        now_ns = mono_ns()
        body = request.get("opportunity", request)
        try:
            kind = OpportunityType[str(body.get("type", "spot_spot")).upper()]
            legs = tuple(self._leg(leg) for leg in body["legs"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"opportunity not understood: {error}") from None
        return Opportunity(
            opportunity_id=now_ns,
            type=int(kind),
            pair_id=-1,
            detect_mono_ns=now_ns,
            trigger_recv_mono_ns=0,
            trigger_publish_mono_ns=0,
            edge_bps=0.0,
            entry_edge_bps=0.0,
            profit_quote=0.0,
            trigger_instrument=legs[0].instrument_id,
            direction_key=legs[0].instrument_id * 4096 + legs[-1].instrument_id,
            legs=legs,
            dequeued_mono_ns=now_ns,
            manual=True,
        )

    def _leg(self, leg: dict[str, Any]) -> OpportunityLeg:
        row = self._core.context.instruments.find(str(leg["venue"]), str(leg["symbol"]))
        if row is None:
            raise ValueError(f"no instrument {leg['venue']} {leg['symbol']}")
        side = OrderSide[str(leg["side"]).upper()]
        view = self._core.context.market.book(row.instrument_id)
        best = best_price_fp(view, side) if view is not None else None
        limit = to_fp(parse_decimal(str(leg["limit_price"])), row.price_exp)
        return OpportunityLeg(
            instrument_id=row.instrument_id,
            side=int(side),
            limit_price_fp=limit,
            qty_fp=to_fp_floor(parse_decimal(str(leg["qty"])), row.qty_exp),
            book_seq=0,
            update_id=0,
            proof_mono_ns=0,
            recv_mono_ns=0,
            best_price_fp=best if best is not None else limit,
            notional=float(Decimal(str(leg["qty"])) * Decimal(str(leg["limit_price"]))),
            row_epoch=row.row_epoch,
            writer_epoch=0,
        )
