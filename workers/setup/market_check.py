"""Asks venues what they list and which coins that is, over public REST; with keys also what only a key may read."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

import msgspec

from pipeline.exchanges.factory import make_venue
from pipeline.model.config import TRUSTED_COINS, EngineConfig, VenueConfig
from pipeline.model.errors import BadInput, VenueError
from pipeline.model.instruments import VenueRef
from pipeline.model.structs import Credentials, InstrumentSpec, Listed
from workers.control_plane.preflight import CouldNotStart
from workers.setup.proposals import Proposal, SharedPair, judged, shared_pairs
from workers.setup.venue_plan import with_symbols

ANSWER_TIMEOUT_S = 30.0
JUDGED_PER_WANTED = 3  # a proposal in doubt makes room for the next
JUDGED_MIN = 20
Keys = Mapping[str, Credentials | None]  # by exchange


class MarketCheck(msgspec.Struct, frozen=True, kw_only=True):
    """``shared``: how many pairs the venues share; ``proposals``: the most traded of them, judged."""

    venues: list[str]
    shared: int
    proposals: list[Proposal]


async def _each(venues: Sequence[VenueConfig], what: str, answers: Sequence[object]) -> None:
    lines = [
        f"{venue.name} ({venue.rest}): {what}: {str(answer) or 'no answer'}"
        for venue, answer in zip(venues, answers, strict=True)
        if isinstance(answer, BaseException)
    ]
    if lines:
        raise CouldNotStart("; ".join(lines) + "; see `arb doctor`, or name other --venues or --urls")


async def _listing(venue: VenueConfig) -> list[Listed]:
    client = make_venue(venue)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await client.listing()
    finally:
        await client.close()


async def _instruments(venue: VenueConfig, keys: Keys) -> list[InstrumentSpec]:
    client = make_venue(venue, keys.get(venue.exchange))
    try:
        await client.read_ends(venue.symbols)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await client.instruments(venue.symbols)
    finally:
        await client.close()


async def check_markets(
    config: EngineConfig,
    keys: Keys,
    *,
    quotes: Collection[str],
    wanted: int | Sequence[str],
    trusted_coins: Collection[str] = TRUSTED_COINS,
) -> MarketCheck:
    """Pairs that the venues of ``config`` share: so many, or the named ones.

    Raises CouldNotStart where a venue does not answer, BadInput for a named pair that fewer than two venues list.
    """
    venues = config.venues
    answers = await asyncio.gather(*(_listing(venue) for venue in venues), return_exceptions=True)
    await _each(venues, "what it lists", _expected(answers))
    listings = {venue.name: rows for venue, rows in zip(venues, answers, strict=True) if isinstance(rows, list)}
    found = shared_pairs(listings, quotes if isinstance(wanted, int) else {name.rpartition("/")[2] for name in wanted})
    chosen = _chosen(found, wanted)
    asked = [
        with_symbols(venue, [pair.symbols[venue.name] for pair in chosen if venue.name in pair.symbols])
        for venue in venues
    ]
    rows = await asyncio.gather(*(_instruments(venue, keys) for venue in asked), return_exceptions=True)
    await _each(venues, "its instruments", _expected(rows))
    specs = [spec for row in rows if isinstance(row, list) for spec in row]
    refs = [VenueRef(name=v.name, venue_id=v.venue_id, feed_id=v.feed_id, trade=v.trade) for v in venues]
    proposals = judged(chosen, specs, refs, trusted_coins)
    return MarketCheck(venues=[v.name for v in venues], shared=len(found), proposals=proposals)


def _expected(answers: Sequence[object]) -> Sequence[object]:
    """``answers``; an error that no venue can cause is raised."""
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, VenueError | TimeoutError | OSError):
            raise answer
    return answers


def _chosen(found: Sequence[SharedPair], wanted: int | Sequence[str]) -> list[SharedPair]:
    if isinstance(wanted, int):
        return list(found[: max(JUDGED_MIN, JUDGED_PER_WANTED * wanted)])
    by_name = {pair.pair: pair for pair in found}
    missing = [name for name in wanted if name not in by_name]
    if missing:
        raise BadInput(
            f"--pairs: {', '.join(missing)}: found on fewer than two of the venues, wanted BASE/QUOTE that two list; "
            "`arb pairs` shows them"
        )
    return [by_name[name] for name in wanted]
