"""Balances and positions that the ledger expected in the last 30 s: a venue's answer that shows one of them is old, and
proves no change."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.execution.core_context import CoreContext

STALE_NS = 30_000_000_000  # how old a venue's answer may be
Key = tuple[str, str]  # venue, and asset or symbol


@dataclass(slots=True)
class _Past:
    newest: Decimal
    older: list[tuple[int, Decimal]] = field(default_factory=list)  # (until mono ns, value)


class PastValues:
    """Expected balances and positions of the last ``STALE_NS``, kept up by :meth:`remember` after every change."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self._past: dict[Key, _Past] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._past

    def remember(self, venue: str, what: str) -> None:
        """What the ledger expects from now on; what it expected until now may still be what an answer shows."""
        ledger, now_ns = self._context.ledger, self._context.now.mono_ns
        is_position = (venue, what) in ledger.position_offsets
        value = ledger.expected_position(venue, what) if is_position else ledger.expected_balance(venue, what)
        if value is None:
            return
        past = self._past.get((venue, what))
        if past is None:
            self._past[venue, what] = _Past(value)
        elif past.newest != value:
            past.older = [(until, old) for until, old in past.older if until > now_ns - STALE_NS]
            past.older.append((now_ns, past.newest))
            past.newest = value

    def forget(self, key: Key) -> None:
        """A value that comes back is no stale answer: what moved is certain."""
        self._past.pop(key, None)

    def looks_stale(self, key: Key, value: Decimal) -> bool:
        """Whether it is what the ledger expected a short while ago."""
        past, oldest_ns = self._past.get(key), self._context.now.mono_ns - STALE_NS
        return past is not None and any(old == value and until > oldest_ns for until, old in past.older)
