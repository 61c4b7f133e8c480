"""Positions as venues list them: by the account poller, twice a second, and by sweeps.

The poller's page has contracts of the catalogue only. Whether a position stands on a contract that the catalogue lacks
is known from complete sweeps alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pipeline.execution.events import SweepAnswer
from pipeline.model.structs import Position
from pipeline.recovery.differences import Key


class PositionLists:
    """The newest rows of both; in memory only, a run learns them anew."""

    def __init__(self) -> None:
        self._rows: dict[Key, Position] = {}
        self._swept: dict[str, dict[str, Position]] = {}  # venue -> rows of its newest complete sweep, by symbol
        self._began_mono_ns: dict[str, int] = {}  # venue -> when that sweep began

    def row(self, key: Key) -> Position | None:
        """The newest row of a position; None where no list has it."""
        found = self._rows.get(key)
        return found if found is not None else self._swept.get(key[0], {}).get(key[1])

    def swept(self, answer: SweepAnswer) -> None:
        """A complete sweep of a futures venue: all of its positions, also of contracts that no catalogue knows."""
        rows = {position.symbol: position for position in answer.positions}
        self._swept[answer.venue], self._began_mono_ns[answer.venue] = rows, answer.began_mono_ns
        self._rows.update({(answer.venue, symbol): position for symbol, position in rows.items()})

    def polled(self, rows: Mapping[Key, Position], venues: Iterable[str], unreadable: Collection[Key]) -> None:
        """What the poller's page has of ``venues``; of the ``unreadable`` the rows from before stay."""
        read = set(venues)
        kept = {key: row for key, row in self._rows.items() if key[0] not in read or key in unreadable}
        self._rows = {**kept, **rows}

    def last(self, unreadable: Collection[Key]) -> dict[Key, Position]:
        """The newest rows of these, where there are any."""
        return {key: self._rows[key] for key in unreadable if key in self._rows}

    def swept_since(self, venue: str, mono_ns: int) -> bool:
        """Whether a complete sweep of a venue has begun at ``mono_ns`` or later, and ended."""
        return self._began_mono_ns.get(venue, -1) >= mono_ns

    def lacks(self, key: Key) -> bool:
        """Whether the newest complete sweep has no such position."""
        position = self._swept.get(key[0], {}).get(key[1])
        return key[0] in self._swept and (position is None or not position.qty)
