"""The last look: what is judged once more right before an order's bytes leave, on both paths of an entry.

Between the verdict and the send the process may have been paused, or the journal's device slow. Whatever the guard has
said meanwhile holds, and an entry does not leave on books that have become too old: the same rule, by the time of the
books' proof, as the gate's (``plan.too_old``, ``plan.too_far_apart``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import HaltPort
from pipeline.execution.plan import too_far_apart, too_old
from pipeline.model.config import EngineConfig
from pipeline.model.enums import Refusal
from pipeline.model.units import NS_PER_MS
from pipeline.templates.slots import BOOKS_TOO_OLD, EXPIRED, FIRST_FORBIDDEN

Stop = tuple[Refusal, str]  # why nothing leaves, and the detail
LATE: Stop = (Refusal.STALE_AT_SEND, "order expired before it was sent")


class LaunchPort(HaltPort, Protocol):
    """The halt page, with everything that forbids an entry's leg in one call."""

    def may_launch(self, mono_ns: int, venue_id: int, instrument_id: int) -> bool:
        """Not latched, nothing blocked, and the lease is ours at ``mono_ns``. False for ids that the page lacks."""


class EntryLeg(Protocol):
    """A leg of an entry: where it goes, and when the book that it was judged on was last proved (monotonic ns)."""

    @property
    def venue(self) -> str: ...

    @property
    def symbol(self) -> str: ...

    @property
    def instrument_id(self) -> int: ...

    @property
    def proof_mono_ns(self) -> int: ...


class LastLook:
    """Lease, halt and blocks, and for an entry the age of its books and of its orders. ``venue_ids``: by name."""

    def __init__(self, context: CoreContext, halt: LaunchPort, venue_ids: Mapping[str, int]) -> None:
        self._context = context
        self._halt = halt
        self._venue_ids = venue_ids
        self._set_bounds(context.config)

    def entry(self, legs: Sequence[EntryLeg], now_mono_ns: int, expiry_mono_ns: int, *, first: bool) -> Stop | None:
        """Why these legs of an entry may not leave now; None when they may.

        ``first``: no byte of the entry has left; ``legs`` are all of its legs, and their books must be young and of
        one time. Afterwards the legs that follow complete what has begun, on books of any age. ``expiry_mono_ns``: from
        when on the venues refuse the orders.
        """
        if now_mono_ns >= expiry_mono_ns:
            return LATE
        may_launch, venue_ids = self._halt.may_launch, self._venue_ids
        for leg in legs:
            if not may_launch(now_mono_ns, venue_ids[leg.venue], leg.instrument_id):
                return self._forbidden(leg)
        return self._books(legs, now_mono_ns) if first else None

    def stopped(self, legs: Sequence[EntryLeg], stop: int, now_mono_ns: int) -> Stop:
        """What the jitted last look said of an entry at that moment (``LAUNCH.stop``), in words."""
        if stop == EXPIRED:
            return LATE
        if stop == BOOKS_TOO_OLD:
            return self._books(legs, now_mono_ns) or (Refusal.STALE_AT_SEND, "books were too old at the send")
        return self._forbidden(legs[0 if stop == FIRST_FORBIDDEN else 1])

    def without_risk(self) -> Stop | None:
        """Why an order that adds no risk (exit, repair, remainder) may not leave: the fence alone forbids it. A lease
        is for new risk; a guard that is gone must not leave a leg open."""
        return (Refusal.LEASE, "fenced before the send: the guard has taken over") if self._halt.fenced() else None

    def _forbidden(self, leg: EntryLeg) -> Stop:
        """What forbids the leg, in the gate's order."""
        if self._halt.latched():
            return Refusal.HALT_LATCH, "halted before the send"
        if self._halt.venue_blocked(self._venue_ids[leg.venue]):
            return Refusal.VENUE_BLOCKED, f"{leg.venue} blocked before the send"
        if self._halt.instrument_blocked(leg.instrument_id):
            return Refusal.INSTRUMENT_BLOCKED, f"{leg.venue} {leg.symbol} blocked before the send"
        return Refusal.LEASE, "lease ran out before the send"

    def _books(self, legs: Sequence[EntryLeg], now_mono_ns: int) -> Stop | None:
        if self._config is not self._context.config:
            self._set_bounds(self._context.config)
        proofs = [leg.proof_mono_ns for leg in legs]
        oldest, newest = min(proofs), max(proofs)
        if too_old(oldest, now_mono_ns, self._max_age_ns):
            leg = legs[proofs.index(oldest)]
            age_us = (now_mono_ns - oldest) // 1000
            return Refusal.STALE_AT_SEND, f"{leg.venue} {leg.symbol}: book proved {age_us} us before the send"
        if too_far_apart(oldest, newest, self._max_skew_ns):
            return Refusal.STALE_AT_SEND, f"books {(newest - oldest) // 1000} us apart at the send"
        return None

    def _set_bounds(self, config: EngineConfig) -> None:
        self._config = config
        self._max_age_ns = config.detection.max_age_to_trade_ms * NS_PER_MS
        self._max_skew_ns = config.detection.max_skew_ms * NS_PER_MS
