"""The watch over the distance of futures positions to liquidation: at each mark, per position.

Marks and margins come with the venue's account rows. Where those are missing, too old or without a mark, the watch goes
on by a tick of its own: the mid of our own live book is the mark, and our own formula on what was known last is the
distance (``position_rows.py``).

::

    distance >= trigger   nothing
    below trigger         free balance of the venue is added to the position's margin, up to the target; what that does
                          not reach is cut off both legs. A cut alone does not move an isolated liquidation price: the
                          margin that it sets free is added at the next reading
    below out             every hedge on the contract is closed; where its spot leg cannot be traded now, or waits for
                          its venue since an earlier cut, the contract alone: the coins follow on their own side. An
                          exit that waits for an operator with only the contract left to close goes on without him:
                          the venue would decide before he does. Where margin is short no more, it waits for him again

A position is looked at again once the account was read after our last act on it; one that no row tells of, once that
act has ended. Orders that closed nothing are followed by others after the growing pauses that all forced exits share
(``execution/hedging/attempts.py``), however often a position is looked at; but for pauses that were earned before the
distance fell below ``trigger`` or ``out``, and below ``out`` for half a second at most. Where the venue refuses to take
margin, the watch cuts without it for a while. An answer that is lost refuses nothing: the next reading shows whether it
was added, and decides again; several in a row are taken for a venue that takes none.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.economics.margin import share_to_close
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import AccountSnapshot, AddMargin, MarginAnswer, RiskTiersAnswer
from pipeline.execution.hedging.attempts import ForcedAttempts
from pipeline.execution.hedging.margin_cuts import contract_alone_plan, cut_plan, unclaimed
from pipeline.execution.ledger import Operation
from pipeline.execution.market import BPS, PPM
from pipeline.execution.plan import Plan
from pipeline.execution.records import HedgeRecord
from pipeline.model.fixedpoint import plain, quantize_down
from pipeline.model.structs import ZERO
from pipeline.risk.gate import Gate
from pipeline.risk.margin_cuts_sent import SentCut, SentCuts, to_come
from pipeline.risk.margin_state import STEP, MarginReading
from pipeline.risk.position_rows import Key

BLIND_LOOK_NS = 100_000_000  # between two looks at positions that no row tells of
UNWATCHED = "no account row tells of it and no live book has a mark"
UNHEARD_MAX = 2  # in a row
ADDING_MAX_NS = 30_000_000_000  # an answer comes within seconds, an error too; without one the reading decides again
Execute = Callable[[Plan, HedgeRecord], Operation | None]  # None: the guard has taken over


class MarginWatch:
    """Acts on the margin that ``gate`` judges entries by, after each account reading. ``attempts``: the pace of exits
    that must be. ``execute(plan, hedge)`` closes a part of a hedge on both legs; ``release(recovery_id, reason)``: it
    waits for no operator while margin is short."""

    def __init__(
        self,
        context: CoreContext,
        gate: Gate,
        attempts: ForcedAttempts,
        *,
        execute: Execute,
        release: Callable[[str, str], None],
    ) -> None:
        self._context = context
        self._state = gate.margin
        self._attempts = attempts
        self._execute = execute
        self._has_budget = gate.has_budget_for
        self._release = release
        self._adding: dict[Key, int] = {}  # AddMargin without an answer yet -> asked at, mono ns
        self._cuts = SentCuts(context)
        self._acted_mono_ns: dict[Key, int] = {}  # readings from before this are of no use
        self._next_look_mono_ns: dict[Key, int] = {}
        self._level: dict[Key, int] = {}  # below trigger (1) or out (2) since it was at the target last
        self._alone: dict[Key, str] = {}  # why the last cut left the spot leg out
        self._cannot: dict[Key, str] = {}  # why the last look could not cut: alerted once
        self._blind: dict[Key, str] = {}  # contracts that no row tells of: how they are watched; alerted once
        self._blind_looked_mono_ns = 0
        self.cuts = 0  # times that orders were sent which cut both legs,
        self.closes = 0  # which close all
        self.added = ZERO  # as the venues confirmed

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

    def tick(self) -> None:
        """Says what has ended, and looks at the positions that no row of their venue tells of by now."""
        self._note_ends()
        now_ns = self._context.now.mono_ns
        if now_ns - self._blind_looked_mono_ns < BLIND_LOOK_NS:
            return
        self._blind_looked_mono_ns = now_ns
        old = self._state.rows.old()
        for key in [key for key in self._blind if key not in old]:
            del self._blind[key]
            self._context.alert(0, "margin", f"{key[0]} {key[1]}: its account rows tell of it again, or it is flat")
        for key in old:
            reading = self._state.estimate(key)
            self._say_blind(key, reading)
            if reading is not None:
                self._look(key, reading)

    def _say_blind(self, key: Key, reading: MarginReading | None) -> None:
        text = "no account row tells of it; its margin is watched by the mid of our own book"
        if reading is None:
            text = f"{UNWATCHED}: its margin is not watched{self._last(key)}"
        if self._blind.get(key) != text:
            self._blind[key] = text
            self._context.alert(1 if reading is not None else 2, "margin", f"{key[0]} {key[1]}: {text}")

    def _last(self, key: Key) -> str:
        last = self._state.readings.get(key)
        return "" if last is None else f" (last known distance {last.distance:.1%})"

    def blind(self) -> dict[Key, str]:
        """Contracts that no row of their venue tells of by now: -> how they are watched meanwhile."""
        return dict(self._blind)

    def unwatched(self) -> list[Key]:
        """Those of them that nobody watches: no live book has a mark either."""
        return [key for key, text in self._blind.items() if text.startswith(UNWATCHED)]

    def on_answer(self, answer: MarginAnswer) -> None:
        """The venue's answer to an added margin, or that there is none; what was added is seen at the next reading."""
        key = (answer.venue, answer.symbol)
        self._adding.pop(key, None)
        self._acted(key)
        if answer.error:
            text = f"{answer.amount} not known to be added: {answer.error}"
            self._state.unheard[key] = self._state.unheard.get(key, 0) + 1
            if answer.refused or self._state.unheard[key] >= UNHEARD_MAX:
                self._state.refused_mono_ns[key] = self._context.now.mono_ns
                del self._state.unheard[key]
            self._context.alert(1, "margin", f"{key[0]} {key[1]}: {text}")
        else:
            self._state.refused_mono_ns.pop(key, None)
            self._state.unheard.pop(key, None)
            self._state.rows.added(key, answer.amount)
            self.added += answer.amount
            self._context.alert(0, "margin", f"{key[0]} {key[1]}: {plain(answer.amount)} of margin added")

    # --- one position ---

    def _look(self, key: Key, reading: MarginReading) -> None:
        settings, now_ns = self._context.config.detection.hedge.margin, self._context.now.mono_ns
        acted_mono_ns = max(self._acted_mono_ns.get(key, 0), self._cuts.heard_mono_ns(key))
        if self._busy(key) or reading.position.recv_mono_ns <= acted_mono_ns:
            return
        if now_ns < self._next_look_mono_ns.get(key, 0):
            return
        self._next_look_mono_ns[key] = now_ns + settings.mark_interval_ms * 1_000_000
        percent = reading.distance * 100
        before, level = self._level.get(key, 0), int(percent < settings.trigger_pct) + int(percent < settings.out_pct)
        self._level[key] = level if level > before or percent >= settings.target_pct else before
        if level > before:
            for hedge in self._hedges(key, reading.side):
                self._attempts.at_once(hedge.operation_id)
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
        self._note_ends()
        return self._cuts.under_way(key)

    def _note_ends(self) -> None:
        for key, ended_mono_ns in self._cuts.ended():
            self._acted(key, ended_mono_ns)

    def _acted(self, key: Key, mono_ns: int | None = None) -> None:
        at = self._context.now.mono_ns if mono_ns is None else mono_ns
        self._acted_mono_ns[key] = max(at, self._acted_mono_ns.get(key, 0))
        self._next_look_mono_ns[key] = 0

    def _restore(self, key: Key, reading: MarginReading) -> None:
        """Adds margin, and cuts what the free balance does not reach."""
        position, target = reading.position, self._state.target
        row = self._context.instruments.find(*key)
        assert row is not None  # every reading has one
        wanted, added = reading.shortfall(target), self._state.addable(key, reading)
        text = f"{reading.distance:.2%} from mark {position.mark_price} to liquidation"
        if added > 0:
            self._adding[key] = self._context.now.mono_ns
            self._context.act(AddMargin(*key, added))
            self._say_sent(key, 1, f"{text}: {plain(added)} {row.spec.quote} are being added")
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
            self._say_sent(key, 1, f"{text}: {plain(done)} {row.spec.base} are being cut off both legs")

    def _held_exits(self, key: Key, side: int) -> list[Operation]:
        """Exits that wait for an operator where what stands alone is some of this contract (``side``: of its position)
        and every order is known: their next order only reduces it. Those that close nothing wait again soon."""
        ledger, found = self._context.ledger, list[Operation]()
        for operation in ledger.open_operations.values():
            recovery = ledger.recoveries.get(_recovery_id(operation))
            if recovery is None or recovery.state != "waiting_approval" or not operation.record.closes:
                continue
            for leg in operation.record.legs:
                alone = operation.exposure().get(leg.base, ZERO) - operation.moved_to_dust.get(leg.base, ZERO)
                here = (leg.venue, leg.symbol) == key and int(leg.side) == -side
                if here and alone * side > 0 and not any(ledger.unsettled_of_operation(operation)):
                    found.append(operation)
        return found if self._context.config.features.enable_recovery_mode else []

    def _decisions(self, key: Key) -> str:
        """The commands by which an operator lets exits on a contract go on that wait for him; "" where none does."""
        ledger = self._context.ledger
        waiting = [
            f"arb recoveries --approve {_recovery_id(operation)}"
            for operation in ledger.open_operations.values()
            if operation.record.closes and any((leg.venue, leg.symbol) == key for leg in operation.record.legs)
            if (recovery := ledger.recoveries.get(_recovery_id(operation))) is not None and recovery.is_held
        ]
        return f"what has to leave waits for an operator: {', '.join(waiting)}" if waiting else ""

    def _close_all(self, key: Key, reading: MarginReading) -> None:
        for operation in self._held_exits(key, reading.side):
            text = f"{reading.distance:.2%} to liquidation: operation {operation.operation_id} goes on by itself"
            self._say_sent(key, 2, f"{text}, it only has to close the contract")
            self._release(_recovery_id(operation), text)
        done = self._cut(key, reading, abs(reading.position.qty), forced=True)
        if done:
            self.closes += 1
            held = plain(abs(reading.position.qty))
            legs = f"alone, its coins follow ({self._alone[key]})" if key in self._alone else "on both legs"
            self._say_sent(
                key, 2, f"{reading.distance:.2%} to liquidation: {plain(done)} of {held} are being closed {legs}"
            )

    def _say_sent(self, key: Key, severity: int, text: str) -> None:
        """What was asked of the venues; what came of it is said when it has ended."""
        self._context.alert(severity, "margin", f"{key[0]} {key[1]}: {text}")

    def _cut(self, key: Key, reading: MarginReading, qty: Decimal, *, forced: bool = False) -> Decimal:
        """Closes ``qty`` base coins of the hedges on this contract, oldest first; how much of it is sent. What repairs
        of earlier exits have still to close there is not cut again."""
        qty -= to_come(self._context, key, reading.side)
        if qty <= 0:
            return ZERO
        left, held = qty, self._decisions(key)
        why = held or "no hedge of ours is on it"
        self._alone.pop(key, None)
        for hedge in self._hedges(key, reading.side, forced=forced):
            if not self._attempts.is_due(hedge, urgent=forced):
                why = ""  # the orders before closed nothing: what was said of them stands
                continue
            plan = self._plan(key, hedge, left, forced=forced)
            if isinstance(plan, str):
                why = f"{plan}; {held}" if held else plan
                continue
            if not forced and not self._has_budget(plan):
                why = "the venues take no more orders now"
                break
            operation = self._execute(plan, hedge)
            if operation is None:
                why = "fenced: the guard has taken over"
                break
            self._attempts.attempted(hedge)
            self._cuts.sent(key, SentCut(operation.operation_id, hedge.operation_id, hedge.base, hedge.qty))
            left -= plan.legs[0].qty
            if left <= 0:
                break
        if left < qty:
            self._cannot.pop(key, None)
        elif why and self._cannot.get(key) != why:
            self._cannot[key] = why
            text = f"{reading.distance:.2%} to liquidation and nothing can be cut: {why}"
            self._context.alert(2, "margin", f"{key[0]} {key[1]}: {text}")
        return qty - left

    def _plan(self, key: Key, hedge: HedgeRecord, qty: Decimal, *, forced: bool) -> Plan | str:
        """Both legs, as far as the coins reach; ``forced``: the contract alone where the spot leg cannot be traded
        now."""
        bound_bps = self._state.bound_bps(*key)
        plan: Plan | str
        plan = self._waits_for_coins(hedge)
        if not plan and self._attempts.under_way(hedge.operation_id):
            hedge = msgspec.structs.replace(hedge, qty=unclaimed(self._context, hedge, alone=False))
            plan = "" if hedge.qty else f"{hedge.base}: an earlier exit is to close what is open of it"
        plan = plan or self._both_legs(hedge, qty, bound_bps)
        if not forced or isinstance(plan, Plan):
            return plan
        alone = contract_alone_plan(self._context, hedge, qty, bound_bps)
        if isinstance(alone, str):
            return f"{plan}; {alone}"
        self._alone[key] = plan
        return alone

    def _both_legs(self, hedge: HedgeRecord, qty: Decimal, bound_bps: Decimal) -> Plan | str:
        """A cut that the spot leg's balance covers: where the coins lie, or as much as lies at its own venue. An order
        that its venue refuses would leave the contract's alone."""
        plan = cut_plan(self._context, hedge, qty, bound_bps)
        covered = None if isinstance(plan, str) else self._attempts.most_covered(plan)
        if isinstance(plan, str) or covered is None:
            return plan
        usual_bps = self._context.config.execution.unwind_max_slippage_bps
        other = self._attempts.elsewhere(hedge, plan, usual_bps, qty)
        least = quantize_down(covered, max(leg.row.spec.lot for leg in plan.legs))
        smaller = cut_plan(self._context, hedge, least, bound_bps) if isinstance(other, str) and least else other
        if isinstance(smaller, str) or self._attempts.most_covered(smaller) is not None:
            return other
        return smaller

    def _waits_for_coins(self, hedge: HedgeRecord) -> str:
        """Why the spot leg of a hedge takes no order beside an exit under way: coins of that wait for one there, or an
        order there is not settled. "" where none is under way, or it has still to close some of the contract alone."""
        ledger, where = self._context.ledger, f"{hedge.spot_venue} {hedge.spot_symbol}"
        for exit_ in ledger.closings.get(hedge.operation_id, ()):
            if exit_.operation_id not in ledger.open_operations:
                continue
            alone = exit_.exposure().get(hedge.base, ZERO) - exit_.moved_to_dust.get(hedge.base, ZERO)
            if alone * int(hedge.spot_side) > 0:
                return f"{where}: coins of an earlier exit wait for an order there"
            if any(ledger.unsettled_of_symbol(hedge.spot_venue, hedge.spot_symbol)):
                return f"{where}: an order of an earlier exit there is not settled yet"
        return ""

    def _hedges(self, key: Key, side: int, *, forced: bool = False) -> list[HedgeRecord]:
        """Open hedges whose futures leg is part of the position and which nothing else is closing; ``forced``: and
        those of which what closes them waits for the spot leg alone."""
        ledger = self._context.ledger
        closing = {o.record.closes for o in ledger.open_operations.values() if o.record.closes}
        if forced:
            moving = {order.intent.operation_id for order in ledger.unsettled_of_symbol(*key)}
            closing = {ledger.operations[name].record.closes for name in moving if name in ledger.operations}
        return [
            hedge
            for name, hedge in ledger.hedges.items()
            if (hedge.futures_venue, hedge.futures_symbol) == key
            and -int(hedge.spot_side) == side
            and name not in closing
            and name not in ledger.open_operations
        ]


def _recovery_id(operation: Operation) -> str:
    return f"r{operation.operation_id}"
