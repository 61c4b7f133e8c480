"""Funding rates near their stamps, by answers that tell nothing else: rows with fees and coins are too heavy for that.

A rate turns in the last minutes before it is paid, and an exit must end a minute before; after a stamp the row must say
the next one. Both matter to exits and entries alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.model.errors import ArbitrageEngineError
from pipeline.model.instruments import InstrumentRow

if TYPE_CHECKING:
    from pipeline.exchanges.base import VenueClient

BEFORE_S = 160
SETTLED_AFTER_S, ASKED_FOR_S = 2, 60  # a new stamp is there some seconds later; then the ordinary reading looks
EVERY_S = 10
TIMEOUT_S = 5.0
Start = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]  # begins work beside the caller's loop


class FundingRates:
    """One per supervisor. ``clients``: by venue name; ``rows()``, ``write(row)``: the catalogue; ``say``: (level, text)
    for operators."""

    def __init__(
        self,
        clients: Mapping[str, VenueClient],
        rows: Callable[[], Sequence[InstrumentRow]],
        write: Callable[[InstrumentRow], None],
        say: Callable[[str, str], None],
    ) -> None:
        self._clients = clients
        self._rows = rows
        self._write = write
        self._say = say
        self._asked_wall_s = 0
        self._reading: asyncio.Task[None] | None = None
        self._faults: dict[str, str] = {}  # venue -> why its last reading failed: said once

    def look(self, wall_s: int, start: Start) -> None:
        """Begins a reading where one is due and none is under way."""
        if abs(wall_s - self._asked_wall_s) < EVERY_S or not (self._reading is None or self._reading.done()):
            return
        due = self.due(wall_s)
        if due:
            self._asked_wall_s = wall_s
            self._reading = start(self.read(due))

    def due(self, wall_s: int) -> dict[str, list[str]]:
        """Venue -> contracts whose stamp is near, or has passed and is still the last one known."""
        found: dict[str, list[str]] = {}
        for row in self._rows():
            since_s = wall_s - row.spec.funding_next_wall_s
            if -BEFORE_S <= since_s < 0 or SETTLED_AFTER_S <= since_s < ASKED_FOR_S:
                found.setdefault(row.spec.venue, []).append(row.spec.symbol)
        return found

    async def read(self, due: Mapping[str, Sequence[str]]) -> None:
        """Asks all venues at once. One that does not answer keeps its rates; it is asked again at the next turn."""
        await asyncio.gather(*(self._read(venue, symbols) for venue, symbols in due.items()))

    async def _read(self, venue: str, symbols: Sequence[str]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                terms = await self._clients[venue].funding_terms(symbols)
        except (ArbitrageEngineError, TimeoutError, OSError) as error:
            text = str(error) or "no answer"
            if self._faults.get(venue) != text:
                self._say("warning", f"{venue}: funding rates cannot be read before their stamp: {text}")
            self._faults[venue] = text
            return
        self._faults.pop(venue, None)
        for row in list(self._rows()):
            new = terms.get(row.spec.symbol) if row.spec.venue == venue else None
            if new is None:
                continue
            stamp_s = new.next_wall_s or row.spec.funding_next_wall_s
            spec = msgspec.structs.replace(row.spec, funding_rate_ppb=new.rate_ppb, funding_next_wall_s=stamp_s)
            if spec != row.spec:
                self._write(msgspec.structs.replace(row, spec=spec))
