"""What the components of the Python package ask of a running core, at the executor's control socket.

Reading: risk metrics and alerts, positions by operation, operations by state. Judging: an opportunity through the gate,
without an order. Deciding: cancels, the emergency stop, a recovery begun by hand, money that is set aside; each with a
line in the audit log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from pipeline.core import ExecutionCore
from pipeline.execution.events import Command, CommandKind, Opportunity, Tick
from pipeline.execution.ledger import Operation
from pipeline.execution.plan import Rejected
from pipeline.model.enums import ArbitrageState
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import parse_decimal, plain
from pipeline.model.structs import ZERO
from pipeline.risk.exposure import RiskMetrics
from workers.audit_log import audit, who
from workers.executor.performer import Performer, Say
from workers.executor.set_aside import read_set_aside, write_set_aside
from workers.executor.views import CoreViews, Row

ALERTS_KEPT = 256
OPERATIONS_SHOWN = 1000
Manual = Callable[[Row], Opportunity]


class ComponentRequests:
    """Handlers by ``op``. What was set aside before a restart is set aside again (``set_aside.json``)."""

    def __init__(
        self, state_dir: Path, core: ExecutionCore, performer: Performer, views: CoreViews, manual: Manual, say: Say
    ) -> None:
        """``manual``: the opportunity of a request."""
        self._state_dir = state_dir
        self._core = core
        self._performer = performer
        self._views = views
        self._manual = manual
        self._alerts: deque[Row] = deque(maxlen=ALERTS_KEPT)
        self._alert_count = 0
        core.risk.start_monitoring(self._alert)
        kept, problem = read_set_aside(state_dir)
        if problem:
            say("critical", f"nothing is set aside: {problem}; set the amounts aside again, the file is kept")
        for name, (venue, asset, amount) in kept.items():
            core.balances.set_aside(name, venue, asset, amount)

    def handlers(self) -> dict[str, Callable[[Row], Awaitable[Row]]]:
        """``op`` -> who answers it."""
        return {
            "risk": self._risk,
            "validate": self._validate,
            "entries": self._entries,
            "by_state": self._by_state,
            "check_balance": self._check_balance,
            "cancel_orders": self._cancel_orders,
            "emergency": self._emergency,
            "recover": self._recover,
            "set_aside": self._set_aside,
            "release": self._release,
        }

    # --- reading ---

    def _alert(self, kind: str, metrics: RiskMetrics) -> None:
        self._alert_count += 1
        self._alerts.append({"number": self._alert_count, "type": kind, "metrics": _plain_metrics(metrics)})

    async def _risk(self, request: Row) -> Row:
        """Metrics and statistics; ``alerts`` behind the number ``after``; ``alert_count``: how many there have been."""
        after = int(request.get("after", self._alert_count))
        risk = self._core.risk
        return {
            "metrics": _plain_metrics(risk.get_current_risk_metrics()),
            "statistics": risk.get_risk_statistics(),
            "breakers": self._views.breakers(),
            "alerts": [row for row in self._alerts if row["number"] > after],
            "alert_count": self._alert_count,
        }

    async def _validate(self, request: Row) -> Row:
        """What the gate says of an opportunity now; nothing is sent, nothing reserved."""
        opportunity = self._manual(request)
        self._core.context.now = self._performer.now()  # not before the opportunity's own moment
        verdict = self._core.risk.ask(opportunity)
        self._performer.feed(Tick())  # a judgement may trip a breaker: its record is written now
        if isinstance(verdict, Rejected):
            return {"approved": False, "refusal": verdict.refusal.name.lower(), "reason": verdict.detail}
        return {
            "approved": True,
            "refusal": "none",
            "reason": "",
            "legs": [
                {"venue": leg.row.spec.venue, "symbol": leg.row.spec.symbol, "qty": leg.qty, "limit_price": leg.limit}
                for leg in verdict.legs
            ],
        }

    async def _entries(self, request: Row) -> Row:
        """Positions by operation and instrument. ``all``: of every operation in memory, else of open ones."""
        positions = self._core.positions
        entries = positions.get_positions(
            exchange=request.get("exchange"), symbol=request.get("symbol"), open_only=not request.get("all")
        )
        now_ns = self._core.context.now.mono_ns
        return {
            "entries": [
                {
                    **msgspec.structs.asdict(entry),
                    "side": int(entry.side),
                    "age_s": positions.age_ns(entry, now_ns) / 1e9,
                }
                for entry in entries
            ],
            "total_exposure_usd": positions.calculate_total_exposure(),
            "total_pnl": {asset: value for asset, value in positions.calculate_total_pnl().items() if value},
            "delta": self._views.delta(),
        }

    async def _by_state(self, request: Row) -> Row:
        """The newest operations in memory that are in ``state``, the newest last; with ``id`` one, with its steps."""
        states = self._core.states
        if request.get("id"):
            operation = self._core.ledger.operations.get(str(request["id"]))
            if operation is None:
                raise BadInput(f"found no operation {request['id']!r} in memory, wanted one; see `arb why`")
            trail = [
                {
                    "mono_ns": at_ns,
                    "from": step.from_state.name.lower(),
                    "to": step.to_state.name.lower(),
                    "reason": step.reason,
                }
                for at_ns, step in states.audit_trail(operation.operation_id)
            ]
            return {"operations": [_operation_row(operation)], "trail": trail}
        try:
            state = ArbitrageState[str(request.get("state", "")).upper()]
        except KeyError:
            known = ", ".join(state.name.lower() for state in ArbitrageState if state.persists)
            raise BadInput(f"state: found {request.get('state')!r}, wanted one of {known}") from None
        found = states.get_operations_by_state(state)
        return {"operations": [_operation_row(one) for one in found[-OPERATIONS_SHOWN:]]}

    async def _check_balance(self, request: Row) -> Row:
        """Whether a balance is proved now and covers ``amount`` with every reservation taken off."""
        venue, asset, amount = _place(request)
        refusal, detail = self._core.balances.check_sufficient_balance(
            [(venue, asset, amount)], self._core.context.now.mono_ns
        )
        return {"sufficient": not refusal, "refusal": refusal.name.lower(), "reason": detail}

    # --- deciding ---

    def _feed(self, kind: CommandKind, request: Row, argument: str = "", **fields: Any) -> None:
        """One command into the core, and its line in the audit log; who asked stands in the records that follow."""
        by = who(request.get("for_uid", request.get("uid")))
        reason = str(request.get("reason", "")).strip() or "by command"
        self._performer.feed(Command(kind, argument, f"{reason} ({by})"))
        audit(self._state_dir, op=str(request["op"]), by=by, reason=reason, **fields)

    async def _cancel_orders(self, request: Row) -> Row:
        """Cancel every order of ours that may still rest; the answers come as evidence."""
        unsettled = [order.client_id for order in self._core.ledger.unsettled.values()]
        self._feed(CommandKind.CANCEL_ORDERS, request, orders=unsettled)
        return {"asked": unsettled}

    async def _emergency(self, request: Row) -> Row:
        """No new risk until the breaker ``emergency`` is re-armed; what rests is cancelled. Exits stay possible."""
        self._feed(CommandKind.EMERGENCY, request)
        self._performer.feed(Command(CommandKind.CANCEL_ORDERS))
        return {"breakers": self._views.breakers()}

    async def _recover(self, request: Row) -> Row:
        """Begin the recovery of an open operation now."""
        wanted = str(request.get("id", ""))
        if wanted not in self._core.ledger.open_operations:
            known = ", ".join(self._core.ledger.open_operations) or "none is open"
            raise BadInput(f"found {wanted!r}, wanted an open operation: {known}")
        self._feed(CommandKind.RECOVER, request, wanted, operation_id=wanted)
        return {"recovery_id": f"r{wanted}", "recoveries": self._views.recoveries()}

    async def _set_aside(self, request: Row) -> Row:
        """Keep ``amount`` of a balance from new orders until it is released by its ``name``."""
        venue, asset, amount = _place(request)
        name = str(request.get("name", ""))
        if not name:
            raise BadInput("name: found none, wanted the name by which it is released")
        balances = self._core.balances
        usable, (key, old) = balances.usable(venue, asset), balances.set_asides.get(name, ((venue, asset), ZERO))
        if key == (venue, asset):
            usable += old  # it takes the old one's place
        if not amount <= usable:
            raise BadInput(
                f"amount: found {plain(amount)} {asset} at {venue}, wanted at most {plain(usable)}, the usable"
            )
        self._write({**balances.set_asides, name: ((venue, asset), amount)})
        balances.set_aside(name, venue, asset, amount)
        return self._reserved(request, name=name, venue=venue, asset=asset, amount=plain(amount))

    async def _release(self, request: Row) -> Row:
        name, balances = str(request.get("name", "")), self._core.balances
        if name not in balances.set_asides:
            known = ", ".join(balances.set_asides) or "none is there"
            raise BadInput(f"found {name!r}, wanted a reservation: {known}")
        self._write({other: kept for other, kept in balances.set_asides.items() if other != name})
        balances.release(name)
        return self._reserved(request, name=name)

    def _write(self, wanted: Mapping[str, tuple[tuple[str, str], Decimal]]) -> None:
        """On the disk before it is in force: what a command was answered holds after a restart. Raises OSError."""
        write_set_aside(self._state_dir, {name: (*key, amount) for name, (key, amount) in wanted.items()})

    def _reserved(self, request: Row, **fields: Any) -> Row:
        """Bring the fast path up to what is set aside now."""
        self._performer.feed(Tick())
        by = who(request.get("for_uid", request.get("uid")))
        audit(self._state_dir, op=str(request["op"]), by=by, reason=str(request.get("reason", "")), **fields)
        return {"set_aside": self._views.set_asides()}


def _place(request: Row) -> tuple[str, str, Decimal]:
    """Venue, asset and amount of a request. Raises BadInput."""
    try:
        amount = parse_decimal(str(request.get("amount", "")))
    except ValueError as error:
        raise BadInput(f"amount: {error}") from None
    if amount <= 0:
        raise BadInput(f"amount: found {plain(amount)}, wanted more than 0")
    return str(request.get("venue", "")), str(request.get("asset", "")).upper(), amount


def _plain_metrics(metrics: RiskMetrics) -> Row:
    return {**msgspec.structs.asdict(metrics), "tripped_breakers": list(metrics.tripped_breakers)}


def _operation_row(operation: Operation) -> Row:
    result = operation.result
    return {
        "operation_id": operation.operation_id,
        "opportunity_id": operation.record.opportunity_id,
        "pair": operation.record.pair,
        "state": operation.state.name.lower(),
        "manual": operation.record.manual,
        "orders": list(operation.orders),
        "outcome": None if result is None else result.outcome.name.lower(),
        "profit": None if result is None else result.pnl_numeraire,
        "reason": None if result is None else result.reason,
    }
