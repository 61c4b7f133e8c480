"""Venues whose account modes could not be read since the process began. Balances and positions count, exits and
repairs go on, but nothing is entered there: in another mode (one pot for spot, futures and loans) the sums differ.
"""

from __future__ import annotations

from collections.abc import Mapping


class VenueSettings:
    """``refusal(venue)``: why no entry may be made there, "" while its modes are known or have none."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()  # venues at which no entry may be made

    def reported(self, known: Mapping[str, bool]) -> None:
        """By venue, as the account poller read it last: whether its modes are known."""
        for venue, is_known in known.items():
            (self.unknown.discard if is_known else self.unknown.add)(venue)

    def refusal(self, venue: str) -> str:
        """Why no entry may be made at a venue."""
        return f"{venue}: its account modes are not known" if venue in self.unknown else ""
