"""Announced ends and begins of trading that a venue tells in lists of their own, beside the list of its instruments.

The list must not cost the instruments: it is a reading of its own (:meth:`VenueClient.read_ends`), and their rows have
what it said last. Where it cannot be read that stands (silence withdraws nothing), and ``fault`` says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

import msgspec

from pipeline.exchanges.parsing.rows import Fields
from pipeline.model.errors import VenueError
from pipeline.model.structs import InstrumentSpec

ENDS_TIMEOUT_S = 3.0  # budget and answer; the instruments are asked for after it


class Ends(msgspec.Struct, frozen=True):
    """What one answer says: unix seconds by symbol, and those of ours whose row cannot be read."""

    until_s: dict[str, int] = {}
    unreadable: frozenset[str] = frozenset()
    from_s: dict[str, int] = {}  # begins, where the list is of those


class AnnouncedEnds:
    """What a venue's list has said last, and why it could not be read since, with what is known all the same; "" = it
    could. One per client."""

    def __init__(self) -> None:
        self.known = Ends()
        self.fault = ""
        self._answered = False

    async def read(self, ask: Callable[[], Awaitable[Ends]]) -> Ends:
        """The newest answer, or the one before. An end that was known stays where its row cannot be read by now."""
        try:
            async with asyncio.timeout(ENDS_TIMEOUT_S):
                found = await ask()
        except (VenueError, TimeoutError, OSError) as error:
            known = "those known stand" if self._answered else "none is known"
            self.fault = f"{known}: {str(error) or f'no answer within {ENDS_TIMEOUT_S:.0f} s'}"
            return self.known
        self._answered = True
        untils = {symbol: at for symbol, at in self.known.until_s.items() if symbol in found.unreadable}
        froms = {symbol: at for symbol, at in self.known.from_s.items() if symbol in found.unreadable}
        self.known = Ends({**untils, **found.until_s}, found.unreadable, {**froms, **found.from_s})
        self.fault = ""
        return self.known


class OursAmong:
    """Says of rows that cannot be read that they are foreign, and keeps in ``found`` which of ``symbols`` they name in
    ``key`` (one, or a list). A row that names nothing may be about any of them: it is counted, and costs none."""

    def __init__(self, symbols: Collection[str], key: str) -> None:
        self._symbols = symbols
        self._key = key
        self.found: set[str] = set()

    def __call__(self, fields: Fields) -> bool:
        named = fields.get(self._key)
        for symbol in named if isinstance(named, list) else [named]:
            if isinstance(symbol, str) and symbol in self._symbols:
                self.found.add(symbol)
        return True


def with_end(spec: InstrumentSpec, ends: Ends | None) -> InstrumentSpec:
    """``spec`` with its announced end and begin. One whose announcement cannot be read takes no entries, as one whose
    row cannot."""
    if ends is None:
        return spec
    until_s = spec.trading_until_wall_s or ends.until_s.get(spec.symbol, 0)
    from_s = spec.trading_from_wall_s or ends.from_s.get(spec.symbol, 0)
    doubt = spec.symbol in ends.unreadable
    times = {"trading_until_wall_s": until_s, "trading_from_wall_s": from_s}
    return msgspec.structs.replace(spec, **times, ending=spec.ending or doubt, unreadable=spec.unreadable or doubt)


def ends_of(pairs: Mapping[str, int], ours: OursAmong) -> Ends:
    """An answer out of what could be read, and what ``ours`` met."""
    return Ends(dict(pairs), frozenset(ours.found))
