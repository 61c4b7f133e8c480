"""The halt page of a world, as its executor sees it."""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol


class HaltFields(Protocol):
    """What a world says of its guard."""

    latched: bool
    lease_expiry_ns: int
    fenced: bool

    @property
    def blocked_venues(self) -> Container[int]: ...

    @property
    def blocked_instruments(self) -> Container[int]: ...


class WorldHalt:
    """The page; ids are those of the catalogue, times monotonic."""

    def __init__(self, world: HaltFields) -> None:
        self._world = world

    def latched(self) -> bool:
        return self._world.latched

    def lease_expiry_mono_ns(self) -> int:
        return self._world.lease_expiry_ns

    def fenced(self) -> bool:
        return self._world.fenced

    def venue_blocked(self, venue_id: int) -> bool:
        return venue_id in self._world.blocked_venues

    def instrument_blocked(self, instrument_id: int) -> bool:
        return instrument_id in self._world.blocked_instruments

    def may_launch(self, mono_ns: int, venue_id: int, instrument_id: int) -> bool:
        """As the shared page answers: no latch, no block, a lease."""
        blocked = self.latched() or self.venue_blocked(venue_id) or self.instrument_blocked(instrument_id)
        return not blocked and mono_ns < self.lease_expiry_mono_ns()
