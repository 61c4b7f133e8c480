"""The executor's control socket: manual execution, and what operators ask and decide. Off the hot path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.core import ExecutionCore
from pipeline.execution.events import Command, CommandKind, Opportunity, OpportunityLeg
from pipeline.execution.hedging.watch import exit_key_of
from pipeline.execution.ledger import Operation
from pipeline.execution.market import best_price_fp
from pipeline.execution.orchestrator import RECOVERY_HOLD
from pipeline.execution.records import AdoptedRecord
from pipeline.model.clock import mono_ns
from pipeline.model.enums import ArbitrageState, OpportunityType, OrderSide, Refusal
from pipeline.model.errors import BadInput, VenueUnavailable
from pipeline.model.fixedpoint import parse_decimal, plain, to_fp_ceil, to_fp_floor
from pipeline.recovery.adoption import LEFT
from pipeline.risk.breakers import ADOPTED_ONLY, solve
from workers.audit_log import audit, who
from workers.control_socket import ControlServer
from workers.executor.component_requests import ComponentRequests
from workers.executor.performer import Performer, Say
from workers.executor.request_fields import checked
from workers.executor.views import CoreViews, Row, order_rows

SOCKET = "executor.sock"
RESULT_TIMEOUT_S = 12.0
DECIDING = ("approve", "cancel", "rearm", "adopt", "close", "flatten", "emergency", "recover")
CLOSE_POLL_S = 0.05
READY_POLLS = 200  # one that is not READY is waited for 10 s at most, then the guard is asked, which ends it
CLOSE_POLLS = 200  # a close is waited for about 10 s; it is tried again by itself for longer


def _not_whole(awaited: Mapping[str, str], found: Sequence[str]) -> str:
    """Why nothing can be adopted yet: the venues that are missing and why, what the others have shown, the ways on."""
    missing = (
        "; ".join(f"{venue} ({why})" for venue, why in awaited.items()) or "the venues (their first sweep goes on)"
    )
    seen = ", ".join(found) or "nothing to take over"
    return (
        f"found {missing} not swept yet, wanted all that is there in one list: nothing was adopted. Found so far: "
        f"{seen}. Venues are asked again by themselves: try again in seconds. One that stays away: `arb doctor` says "
        "whether it is the way there or the key (`arb keys test`); until it answers no new risk is taken, and what is "
        "listed can be closed by hand at its venue"
    )


def _leaving(hedges: Sequence[str], fresh: Sequence[Operation]) -> str:
    """What has become of the open hedges whose exit was asked for as an entry: which operations leave them by it."""
    left = {one.record.closes: one.operation_id for one in fresh if one.record.closes in hedges}
    kept = [hedge for hedge in hedges if hedge not in left]
    texts = [
        f"{name} leaves hedge {hedge} instead, by the books of now (arb why {name})" for hedge, name in left.items()
    ]
    texts += [f"arb close {hedge} leaves hedge {hedge} now" for hedge in kept]
    return "; ".join(texts)


class ExecutorControl:
    """Answers requests: reads the core, and changes it by events through the performer, each with a line in the audit
    log of ``state_dir``, where the socket lies."""

    def __init__(
        self,
        state_dir: Path,
        core: ExecutionCore,
        performer: Performer,
        views: CoreViews,
        publish: Callable[[], Awaitable[None]],
        say: Say,
        serving: Callable[[], bool] = lambda: True,
    ) -> None:
        """``publish``: writes what views of the instance read, after each decision. ``serving``: whether the process
        has reported READY, which is what the guard goes by."""
        self._serving = serving
        self._publish = publish
        self._state_dir = state_dir
        self._core = core
        self._performer = performer
        self._views = views
        self._server = ControlServer(state_dir / SOCKET, self.handle, say)
        self._handlers: dict[str, Callable[[Row], Awaitable[Row]]] = {
            "execute": self._execute,
            "operations": self._operations,
            "recoveries": self._recoveries,
            "approve": self._decide,
            "cancel": self._decide,
            "breakers": self._breakers,
            "rearm": self._rearm,
            "adopt": self._adopt,
            "positions": self._positions,
            "hedges": self._hedges,
            "balances": self._balances,
            "close": self._close,
            "flatten": self._close,
            **ComponentRequests(state_dir, core, performer, views, self._manual, say).handlers(),
        }

    async def start(self) -> None:
        await self._server.start()

    async def close(self) -> None:
        await self._server.close()

    async def handle(self, request: Row) -> Row:
        """Answer one request by its ``op``. Raises BadInput for one that cannot be understood."""
        handler = self._handlers.get(str(request.get("op")))
        if handler is None:
            raise BadInput(f"op: found {request.get('op')!r}, wanted one of {', '.join(sorted(self._handlers))}")
        request = checked(request)
        self._core.context.now = self._performer.now()
        reply = await handler(request)
        if request["op"] in DECIDING:
            await self._publish()
        return reply

    def _audit(self, request: Row, **fields: Any) -> None:
        uid = request.get("for_uid", request.get("uid"))
        reason = str(request.get("reason", ""))
        audit(self._state_dir, op=str(request["op"]), by=who(uid), reason=reason, **fields)

    def _command(self, kind: CommandKind, request: Row, argument: str = "") -> None:
        """One command into the core; who asked stands in the records that follow from it."""
        reason = str(request.get("reason", "")).strip() or "by command"
        by = who(request.get("for_uid", request.get("uid")))
        self._performer.feed(Command(kind, argument, f"{reason} ({by})"))

    # --- breakers and recoveries ---

    async def _breakers(self, request: Row) -> Row:
        return {"breakers": self._views.breakers()}

    async def _rearm(self, request: Row) -> Row:
        name, known = str(request.get("name", "")), self._core.ledger.breakers
        if not request.get("dry_run"):
            _want_reason(request)
        if name not in known:
            raise BadInput(f"found {name!r}, wanted a tripped breaker: {', '.join(sorted(known)) or 'none is tripped'}")
        if name in ADOPTED_ONLY:
            raise BadInput(f"found {name}, which a re-arm does not solve, wanted: {solve(name)}")
        still, after = self._core.standing.still(name), self._core.standing.after(name)
        if still and not request.get("anyway"):
            solve_ = self._core.standing.solve(name)
            raise BadInput(f"found {name} with its reason still there ({still}): it would trip again; wanted: {solve_}")
        if request.get("dry_run"):
            waiting = self._core.recovery.waiting() if name == RECOVERY_HOLD else []
            return {"dry_run": True, "breakers": self._views.breakers(), "repairs": self._views.next_repairs(waiting)}
        self._command(CommandKind.REARM, request, name)
        self._audit(request, name=name)
        shown = {"breakers": self._views.breakers(), "recoveries": self._views.recoveries()}
        return {"rearmed": name, "trips_again": still or after or None, **shown}

    async def _recoveries(self, request: Row) -> Row:
        return {"recoveries": self._views.recoveries(), **self._core.recovery.get_recovery_statistics()}

    async def _decide(self, request: Row) -> Row:
        """Approve a recovery, or take it over. Its id may be given without the leading ``r``, or by its beginning."""
        wanted = str(request.get("id", ""))
        ids = [str(row["recovery_id"]) for row in self._views.recoveries()]
        found = _named(wanted, ids) or _named(f"r{wanted}", ids)
        if len(found) != 1:
            how = "several" if found else "none"
            raise BadInput(
                f"found {how} for {wanted!r}, wanted one of the recoveries: {', '.join(ids) or 'none is open'}"
            )
        if request.get("dry_run"):
            repairs = self._views.next_repairs(found if request["op"] == "approve" else [])
            return {"dry_run": True, "recoveries": self._views.recoveries(), "repairs": repairs}
        kind = CommandKind.APPROVE if request["op"] == "approve" else CommandKind.CANCEL_RECOVERY
        self._command(kind, request, found[0])
        self._audit(request, recovery_id=found[0])
        return {"decided": found[0], "recoveries": self._views.recoveries(), "breakers": self._views.breakers()}

    # --- what the journal does not explain ---

    async def _adopt(self, request: Row) -> Row:
        """Take over positions and coins that the journal does not explain; each with what became of it."""
        _want_reason(request)
        awaited = self._core.recovery.awaited()
        if awaited or not self._core.ready:
            raise BadInput(_not_whole(awaited, self._core.recovery.adoption.waiting()))
        records = await self._adopted(request)
        found = [
            {
                "what": record.what,
                "venue": record.venue,
                "symbol": record.symbol,
                "base": record.base,
                "qty": record.qty,
                "price": record.price,
                "operation_id": record.operation_id,
                "detail": record.detail,
            }
            for record in records
        ]
        self._audit(request, adopted=found)
        return {"adopted": found}

    async def _adopted(self, request: Row) -> list[AdoptedRecord]:
        """What one command takes over, and leaves; whether a position on a contract that the catalogue lacks still
        stands is awaited for about 10 s, then it is given once more."""
        adoption = self._core.recovery.adoption
        self._command(CommandKind.ADOPT, request)
        records = list(self._core.adopted)
        if not adoption.asking():
            return records
        for _ in range(CLOSE_POLLS):
            await asyncio.sleep(CLOSE_POLL_S)
            if not adoption.asking():
                break
        self._command(CommandKind.ADOPT, request)
        return [*(record for record in records if record.what != LEFT), *self._core.adopted]

    # --- what is held ---

    async def _positions(self, request: Row) -> Row:
        core = self._core
        return {
            "positions": self._views.positions(),
            "delta": self._views.delta(),
            "dust": dict(core.ledger.dust),
            "targets": core.positions.targets(),
            "changes": {asset: value for asset, value in core.positions.calculate_total_pnl().items() if value},
        }

    async def _hedges(self, request: Row) -> Row:
        return {"hedges": self._views.hedges()}

    async def _balances(self, request: Row) -> Row:
        views = self._views
        return {
            "balances": views.balances(),
            "proposals": views.proposals(),
            "blocked": views.blocked(),
            "set_aside": views.set_asides(),
        }

    # --- leaving ---

    async def _close(self, request: Row) -> Row:
        """Close one hedge (``id``), or all; ``flatten`` also cancels what rests and lets held repairs go on.

        ``dry_run`` shows the orders and sends nothing. Else the answer comes when all are closed, or after
        ``CLOSE_POLLS`` looks with what stays open and why.
        """
        if not request.get("dry_run"):
            await self._until_ready()
        ids, flatten = self._wanted_hedges(request), request["op"] == "flatten"
        closer, hedges = self._core.forced_close, self._core.ledger.hedges
        if request.get("dry_run"):
            shown = self._closed(
                ids, {name: self._views.close_answer(closer.foreseen(hedges[name])) for name in ids}, True
            )
            shown["repairs"] = self._views.next_repairs(self._core.recovery.waiting() if flatten else [])
            return shown
        answers = {name: self._views.close_answer(closer.attempt(hedges[name])) for name in ids}
        known = set(self._core.ledger.operations)
        if flatten:
            self._command(CommandKind.FLATTEN, request)
        else:
            for name in ids:
                self._command(CommandKind.CLOSE_HEDGES, request, name)
        for _ in range(CLOSE_POLLS):
            if not self._still_closing(ids, flatten):
                break
            await asyncio.sleep(CLOSE_POLL_S)
        self._core.context.now = self._performer.now()
        for name in closer.wanted if flatten else ():
            if name in hedges and name not in answers:  # an entry under way has opened it meanwhile
                ids.append(name)
                answers[name] = self._views.close_answer(closer.attempt(hedges[name]))
        for name in ids:
            newest = closer.answers.get(name)
            if name in hedges and newest is not None and newest.reason:
                answers[name] = {**answers[name], "reason": newest.reason}
        result = self._closed(ids, answers, False)
        result["orders"] = self._orders_of(known)
        self._audit(request, hedges=ids, left=[row["hedge_id"] for row in result["open_hedges"]])
        return result

    async def _until_ready(self) -> None:
        """While it reconciles nothing of ours leaves. Raises VenueUnavailable, and nothing was begun: whoever asks goes
        to the guard then, which ends this process before it closes."""
        within_ms = self._core.context.config.guard.restart_within_ms  # later the guard ends it anyway
        polls = min(READY_POLLS, int(within_ms / 1000 / CLOSE_POLL_S))
        for _ in range(polls):
            if self._serving():
                break
            await asyncio.sleep(CLOSE_POLL_S)
        else:
            raise VenueUnavailable(f"the executor is not READY after {polls * CLOSE_POLL_S:g} s: it reconciles")
        self._core.context.now = self._performer.now()

    def _wanted_hedges(self, request: Row) -> list[str]:
        hedges, wanted = self._core.ledger.hedges, str(request.get("id", ""))
        if request["op"] == "flatten" or request.get("all"):
            return list(hedges)
        found = _named(wanted, list(hedges))
        if len(found) != 1:
            how = "several" if found else "none"
            raise BadInput(
                f"found {how} for {wanted!r}, wanted one of the open hedges: {', '.join(hedges) or 'none is'}"
            )
        return found

    def _still_closing(self, ids: list[str], flatten: bool) -> bool:
        core = self._core
        wanted = [*ids, *core.forced_close.wanted] if flatten else ids
        under_way = any(o.record.closes in wanted for o in core.ledger.open_operations.values())
        return under_way or any(n in core.ledger.hedges for n in wanted) or (flatten and not core.idle)

    def _orders_of(self, known: set[str]) -> list[Row]:
        """Orders of the operations that began since ``known``, as they stand."""
        ledger = self._core.ledger
        fresh = [o for name, o in ledger.operations.items() if name not in known and o.record.closes]
        return order_rows(ledger, [client_id for operation in fresh for client_id in operation.orders])

    def _closed(self, ids: list[str], answers: dict[str, Row], dry_run: bool) -> Row:
        """The reply: orders, each hedge's answer, and what is open now."""
        core = self._core
        open_hedges = self._views.hedges()
        left = [row["hedge_id"] for row in open_hedges]
        held = [row for row in self._views.recoveries() if row["requires_manual_approval"] or row["unmatched"]]
        return {
            "dry_run": dry_run,
            "orders": [order for answer in answers.values() for order in answer["orders"]],
            "hedges": [
                {
                    "hedge_id": name,
                    "closed": name not in left,
                    "left": core.ledger.hedges[name].qty if name in core.ledger.hedges else Decimal(0),
                    "reason": answers[name]["reason"] if name in left else None,
                    "goes_on": core.forced_close.goes_on(name) or None,
                }
                for name in ids
            ],
            "open_hedges": open_hedges,
            "positions": self._views.positions(),
            "foreign_coins": self._views.foreign_coins(),
            "recoveries": held,
            "flat": not left and core.idle and not held,
        }

    async def _operations(self, request: Row) -> Row:
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
        self._audit(request, legs=[f"{leg.instrument_id} {leg.side} {leg.qty_fp}" for leg in opportunity.legs])
        known = set(core.ledger.operations)
        before = core.refusals.count
        key, instruments = opportunity.direction_key, core.context.instruments
        hedges = [h.operation_id for h in core.ledger.hedges.values() if exit_key_of(h, instruments) == key]
        self._performer.feed(opportunity)
        fresh = [operation for name, operation in core.ledger.operations.items() if name not in known]
        mine = [o for o in fresh if o.record.manual and o.record.opportunity_id == opportunity.opportunity_id]
        if not mine:
            refused = core.refusals.count > before
            why = core.refusals.last if refused else "asked the venues for balances: look at the operations"
            refusal = core.refusals.newest.name.lower() if refused else "none"
            if refused and core.refusals.newest is Refusal.NETS:
                why += "; " + _leaving(hedges, fresh)
            return {"final_state": "refused" if refused else "pending", "reason": why, "refusal": refusal}
        operation = mine[0]
        if not request.get("wait", True):
            return {"final_state": operation.state.name.lower(), "operation_id": operation.operation_id}
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
            raise ValueError(f"no instrument {leg['venue']} {leg['symbol']} that is traded; see `arb symbols list`")
        side = OrderSide[str(leg["side"]).upper()]
        view = self._core.context.market.book(row.instrument_id)
        best = best_price_fp(view, side) if view is not None else None
        # finer than the pair's exponent: never worse than asked for
        round_price = to_fp_floor if side is OrderSide.BUY else to_fp_ceil
        limit = round_price(parse_decimal(str(leg["limit_price"])), row.price_exp)
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


def _named(wanted: str, names: list[str]) -> list[str]:
    """The names that ``wanted`` may mean: the one that equals it, else those that begin with it."""
    if wanted in names:
        return [wanted]
    return [name for name in names if wanted and name.startswith(wanted)]


def _want_reason(request: Row) -> None:
    if not str(request.get("reason", "")).strip():
        raise BadInput('found no reason, wanted one to be kept in the journal; add --reason "why"')
