"""The watch over the distance of futures positions to liquidation: at each mark, per position.

::

    distance >= trigger   nothing
    below trigger         free balance of the venue is added to the position's margin, up to the target; what that does
                          not reach is cut off both legs. A cut alone does not move an isolated liquidation price: the
                          margin that it sets free is added at the next reading
    below out             every hedge on the contract is closed

A position is looked at again once the account was read after our last act on it.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal
from typing import Any

from pipeline.economics.margin import share_to_close
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import AccountSnapshot, AddMargin, MarginAnswer, RiskTiersAnswer
from pipeline.execution.hedging.margin_cuts import cut_plan
from pipeline.execution.ledger import Operation
from pipeline.execution.market import BPS, PPM
from pipeline.execution.plan import Plan
from pipeline.execution.records import HedgeRecord
from pipeline.model.structs import ZERO
from pipeline.risk.margin_state import Key, MarginReading, MarginState

STEP = Decimal("0.0001")  # quote; smaller amounts of margin are not moved
ADDING_MAX_NS = 30_000_000_000  # an answer comes within seconds, an error too; without one the reading decides again
Execute = Callable[[Plan, HedgeRecord], Operation | None]  # None: the guard has taken over


class MarginWatch:
    """Acts on ``state`` after each account reading. ``execute(plan, hedge)`` closes a part of a hedge on both legs;
    ``has_budget(plan)``: the venues take its orders now."""

    def __init__(
        self,
        context: CoreContext,
        balances: BalanceMonitor,
        state: MarginState,
        *,
        execute: Execute,
        has_budget: Callable[[Plan], bool],
    ) -> None:
        self._context = context
        self._balances = balances
        self._state = state
        self._execute = execute
        self._has_budget = has_budget
        self._adding: dict[Key, int] = {}  # AddMargin without an answer yet -> asked at, mono ns
        self._cutting: dict[Key, list[str]] = {}  # operations that we began
        self._acted_mono_ns: dict[Key, int] = {}  # readings from before this are of no use
        self._next_look_mono_ns: dict[Key, int] = {}
        self._cannot: dict[Key, str] = {}  # why the last look could not cut: alerted once
        self.cuts = 0
        self.closes = 0
        self.added = ZERO

    # --- events ---

    def handlers(self) -> dict[type, Callable[[Any], object]]:
        """What takes each answer to a question of the watch or of ``state``."""
        return {MarginAnswer: self.on_answer, RiskTiersAnswer: self._state.on_tiers}

    def on_account(self, snapshot: AccountSnapshot) -> None:
        """New account readings; balances are with the monitor already."""
        self._state.update(snapshot.positions, snapshot.positions_recv_mono_ns, snapshot.unreadable)
        self._state.ask_tiers(snapshot.positions_recv_mono_ns)
        for key, reading in list(self._state.readings.items()):
            if key[0] in snapshot.positions_recv_mono_ns:
                self._look(key, reading)

    def on_answer(self, answer: MarginAnswer) -> None:
        """The venue's answer to an added margin; a refusal is seen at the next reading as well."""
        key = (answer.venue, answer.symbol)
        self._adding.pop(key, None)
        self._acted(key)
        if answer.error:
            text = f"{answer.amount} not known to be added: {answer.error}"
            self._context.alert(1, "margin", f"{key[0]} {key[1]}: {text}")
        else:
            self.added += answer.amount

    # --- one position ---

    def _look(self, key: Key, reading: MarginReading) -> None:
        settings, now_ns = self._context.config.detection.hedge.margin, self._context.now.mono_ns
        if self._busy(key) or reading.position.recv_mono_ns <= self._acted_mono_ns.get(key, 0):
            return
        if now_ns < self._next_look_mono_ns.get(key, 0):
            return
        self._next_look_mono_ns[key] = now_ns + settings.mark_interval_ms * 1_000_000
        percent = reading.distance * 100
        if percent < settings.out_pct:
            self._close_all(key, reading)
        elif percent < settings.trigger_pct:
            self._restore(key, reading)
        else:
            self._cannot.pop(key, None)

    def _busy(self, key: Key) -> bool:
        """An act of ours is under way; the time of those that have ended is noted."""
        asked_ns = self._adding.get(key)
        if asked_ns is not None and self._context.now.mono_ns - asked_ns < ADDING_MAX_NS:
            return True
        if asked_ns is not None:
            self.on_answer(MarginAnswer(*key, ZERO, f"no answer in {ADDING_MAX_NS // 1_000_000_000} s"))
        ledger = self._context.ledger
        for name in self._cutting.pop(key, []):
            operation = ledger.operations.get(name)  # none: it ended so long ago that it left memory
            if name in ledger.open_operations:
                self._cutting.setdefault(key, []).append(name)
            elif operation is not None and operation.result is not None:
                self._acted(key, operation.result.ended_mono_ns)
        return key in self._cutting

    def _acted(self, key: Key, mono_ns: int | None = None) -> None:
        at = self._context.now.mono_ns if mono_ns is None else mono_ns
        self._acted_mono_ns[key] = max(at, self._acted_mono_ns.get(key, 0))
        self._next_look_mono_ns[key] = 0

    def _restore(self, key: Key, reading: MarginReading) -> None:
        """Adds margin, and cuts what the free balance does not reach."""
        position, target = reading.position, self._state.target
        row = self._context.instruments.find(*key)
        assert row is not None  # every reading has one
        wanted = reading.shortfall(target)
        free = self._balances.usable(key[0], row.spec.quote)
        added = min(wanted, free).quantize(STEP, ROUND_DOWN)
        text = f"{reading.distance:.2%} from mark {position.mark_price} to liquidation"
        if added > 0:
            self._adding[key] = self._context.now.mono_ns
            self._context.act(AddMargin(*key, added))
            self._context.alert(1, "margin", f"{key[0]} {key[1]}: {text}: {added} {row.spec.quote} added")
        if wanted - added <= STEP:
            return
        execution = self._context.config.execution
        share = share_to_close(
            position.mark_price,
            position.entry_price,
            abs(position.qty),
            position.margin + added,
            reading.side,
            reading.required,
            target,
            row.spec.taker_fee_ppm / PPM + execution.unwind_slippage_bps / BPS,
        )
        done = self._cut(key, reading, share * abs(position.qty))
        if done:
            self.cuts += 1
            self._context.alert(1, "margin", f"{key[0]} {key[1]}: {text}: {done} {row.spec.base} cut off both legs")

    def _close_all(self, key: Key, reading: MarginReading) -> None:
        done = self._cut(key, reading, abs(reading.position.qty), forced=True)
        if done:
            self.closes += 1
            text = f"{reading.distance:.2%} to liquidation: both legs closed"
            self._context.alert(2, "margin", f"{key[0]} {key[1]}: {text}")

    def _cut(self, key: Key, reading: MarginReading, qty: Decimal, *, forced: bool = False) -> Decimal:
        """Closes ``qty`` base coins of the hedges on this contract, oldest first; how much is under way."""
        left, why = qty, "no hedge of ours is on it"
        for hedge in self._hedges(key, reading.side):
            plan = cut_plan(self._context, hedge, left, self._state.bound_bps(*key))
            if isinstance(plan, str):
                why = plan
                continue
            if not forced and not self._has_budget(plan):
                why = "the venues take no more orders now"
                break
            operation = self._execute(plan, hedge)
            if operation is None:
                why = "fenced: the guard has taken over"
                break
            self._cutting.setdefault(key, []).append(operation.operation_id)
            left -= plan.legs[0].qty
            if left <= 0:
                break
        if left < qty:
            self._cannot.pop(key, None)
        elif self._cannot.get(key) != why:
            self._cannot[key] = why
            text = f"{reading.distance:.2%} to liquidation and nothing can be cut: {why}"
            self._context.alert(2, "margin", f"{key[0]} {key[1]}: {text}")
        return qty - left

    def _hedges(self, key: Key, side: int) -> list[HedgeRecord]:
        """Open hedges whose futures leg is part of the position and which nothing else is closing."""
        ledger = self._context.ledger
        closing = {o.record.closes for o in ledger.open_operations.values() if o.record.closes}
        return [
            hedge
            for name, hedge in ledger.hedges.items()
            if (hedge.futures_venue, hedge.futures_symbol) == key
            and -int(hedge.spot_side) == side
            and name not in closing
            and name not in ledger.open_operations
        ]
