"""Venues whose account modes could not be read since the process began, or that stand in one that we do not trade in.
Balances and positions count, exits and repairs go on, but nothing is entered there: in another mode (one pot for spot,
futures and loans) the sums differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class VenueSettings:
    """``refusal(venue)``: why no entry may be made there, "" while its modes are known and as wanted."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()  # venues at which no entry may be made
        self.awaited: set[str] = set()  # those of them of which nothing was heard yet

    def wait_for(self, venues: Iterable[str]) -> None:
        """No entry at these before the account poller's first word of each."""
        self.awaited = set(venues)
        self.unknown |= self.awaited

    def reported(self, known: Mapping[str, bool]) -> None:
        """By venue, as the account poller read it last: whether its modes are known, and as wanted."""
        self.awaited -= known.keys()
        for venue, is_known in known.items():
            (self.unknown.discard if is_known else self.unknown.add)(venue)

    def refusal(self, venue: str) -> str:
        """Why no entry may be made at a venue."""
        return f"{venue}: its account modes are not known, or not as wanted" if venue in self.unknown else ""
