"""Rows of ours that a venue's lists have and that cannot be read: what a list lacks is unknown, its other rows count.

The instrument of such a row takes nothing new until a later list reads whole. An order of ours on it stays unknown and
is asked for by itself; what the other rows say is booked. Of an order that is settled no row is needed any more.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import FORCED_LISTS, ORDER_LISTS, POSITION_LISTS, SweepAnswer
from pipeline.model.structs import InstrumentSpec, UnreadableRow

Key = tuple[str, str]  # venue and symbol


class UnreadableRows:
    """The instruments whose lists lacked a row when they were read last, by sweeps and by the account poller."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self._swept: dict[Key, UnreadableRow] = {}
        self._polled: frozenset[Key] = frozenset()

    def why(self, spec: InstrumentSpec) -> str:
        """Why nothing new may be risked on an instrument; "" where its lists were read whole."""
        return self._text((spec.venue, spec.symbol))

    def texts(self) -> list[str]:
        """The same of every instrument that has such a row."""
        return [self._text(key) for key in sorted(self.places())]

    def _text(self, key: Key) -> str:
        if key in self._swept:
            row = self._swept[key]
            return f"{key[0]} {key[1]}: a row of its {row.what} cannot be read: {row.reason}"
        return f"{key[0]} {key[1]}: its position cannot be read" if key in self._polled else ""

    def places(self) -> frozenset[Key]:
        """The instruments that have such a row."""
        return self._polled.union(self._swept)

    def waiting(self) -> list[Key]:
        """Instruments that a sweep has to ask for again."""
        return list(self._swept)

    def waits(self, venue: str) -> bool:
        """Whether a venue has such an instrument: its sweeps come by themselves, less and less often."""
        return any(key[0] == venue for key in self._swept)

    def lacks_position(self, venue: str, symbol: str) -> bool:
        """Whether the last sweep could not read a position."""
        row = self._swept.get((venue, symbol))
        return row is not None and row.what == POSITION_LISTS

    def polled(self, venues: Iterable[str], unreadable: Iterable[Key]) -> None:
        """The position lists of ``venues`` as the account poller read them."""
        read, known = set(venues), self._polled
        self._polled = frozenset({key for key in known if key[0] not in read} | set(unreadable))
        for venue, symbol in sorted(self._polled - known):
            self._say(venue, symbol, "position cannot be read")

    def after_sweep(self, answer: SweepAnswer) -> tuple[SweepAnswer, SweepAnswer]:
        """A complete sweep, of the instruments for which it shows every execution and the position, and of those among
        them for which it shows every order as well: only there an order that it does not show is proved absent."""
        missing = [row for row in answer.unreadable if not self._needless(answer.venue, row)]
        known = {
            key: row
            for key, row in self._swept.items()
            if key[0] == answer.venue and (key[1] in answer.symbols or row.what in (POSITION_LISTS, FORCED_LISTS))
        }
        for key in known:
            del self._swept[key]
        for row in missing:
            key = (answer.venue, row.name)
            if key not in self._swept or row.what == POSITION_LISTS:
                self._swept[key] = row
            if key not in known:
                known[key] = row
                self._say(
                    *key, f"a row of its {row.what} cannot be read ({row.client_id or row.order_id}): {row.reason}"
                )
        unproved = {row.name for row in missing if row.what != FORCED_LISTS}
        unseen = {row.name for row in missing if row.what not in (ORDER_LISTS, FORCED_LISTS)}
        return _only(answer, unseen), _only(answer, unproved)

    def _needless(self, venue: str, row: UnreadableRow) -> bool:
        ledger = self._context.ledger
        order = ledger.order_of(venue, row.client_id, row.order_id)
        if order is not None:
            return order.settled
        return ledger.settled_long_ago(venue, row.client_id, row.order_id)

    def _say(self, venue: str, symbol: str, text: str) -> None:
        self._context.alert(2, "unreadable", f"{venue} {symbol}: {text}; nothing new there until it can")


def _only(answer: SweepAnswer, left_out: set[str]) -> SweepAnswer:
    if not left_out:
        return answer
    return msgspec.structs.replace(answer, symbols=tuple(s for s in answer.symbols if s not in left_out))
