"""Which pairs several venues share, whether they are the same coin everywhere, and how much is traded: for proposals.

No sockets: ``market_check.py`` asks the venues.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

import msgspec

from pipeline.model.enums import TradingStatus
from pipeline.model.instruments import InstrumentRow, VenueRef, build_rows, unknown_identity
from pipeline.model.structs import ZERO, InstrumentSpec, Listed

VENUES_MIN = 2
Listings = Mapping[str, Sequence[Listed]]  # by venue


class SharedPair(msgspec.Struct, frozen=True, kw_only=True):
    """A pair that at least two venues list. ``day_volume``: quote coin in 24 h on the venue that trades least of those
    that tell; None where none tells."""

    pair: str
    symbols: dict[str, str]  # by venue
    day_volume: Decimal | None


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A shared pair, judged as the engine will judge it.

    ``identity``: ``proved`` (the venues name the same contract), ``trusted`` (a coin of ``detection.trusted_coins``),
    ``same_exchange``, or ``doubted`` (it would be quarantined: ``reason``). ``symbols``: of the venues that pair.
    ``entry_mins``: the smallest entry in quote coin that each venue takes; 0 where it tells no price.
    """

    pair: str
    symbols: dict[str, str]
    day_volume: Decimal | None
    identity: str
    reason: str
    entry_mins: dict[str, Decimal]
    price: Decimal

    @property
    def usable(self) -> bool:
        """Whether the engine would trade it."""
        return self.identity != "doubted"


def within_entry(row: Proposal, entry_max: Decimal) -> Proposal:
    """``row`` without the venues at which an entry of ``entry_max`` (quote) could not be cut to half and still pass;
    ``doubted`` where fewer than two remain."""
    small = {venue: symbol for venue, symbol in row.symbols.items() if row.entry_mins.get(venue, ZERO) * 2 <= entry_max}
    if not row.usable or len(small) == len(row.symbols):
        return row
    if len(small) >= VENUES_MIN:
        return msgspec.structs.replace(row, symbols=small)
    least = ", ".join(f"{venue} {amount:.2f}" for venue, amount in row.entry_mins.items())
    reason = f"the least entry is too large for {entry_max:f} an entry: {least}"
    return msgspec.structs.replace(row, identity="doubted", reason=reason)


def shared_pairs(listings: Listings, quotes: Collection[str]) -> list[SharedPair]:
    """Pairs in one of ``quotes`` that at least two venues list, most traded first, those of unknown volume last."""
    symbols: dict[str, dict[str, str]] = {}
    volumes: dict[str, list[Decimal]] = {}
    for venue, rows in listings.items():
        for row in rows:
            if row.quote not in quotes:
                continue
            pair = f"{row.base}/{row.quote}"
            symbols.setdefault(pair, {}).setdefault(venue, row.symbol)
            if row.day_volume is not None:
                volumes.setdefault(pair, []).append(row.day_volume)
    found = [
        SharedPair(pair=pair, symbols=by_venue, day_volume=min(volumes[pair]) if pair in volumes else None)
        for pair, by_venue in symbols.items()
        if len(by_venue) >= VENUES_MIN
    ]
    return sorted(found, key=lambda row: (row.day_volume is None, -(row.day_volume or ZERO), row.pair))


def judged(
    pairs: Sequence[SharedPair],
    specs: Sequence[InstrumentSpec],
    venues: Sequence[VenueRef],
    trusted_coins: Collection[str],
) -> list[Proposal]:
    """``pairs`` with the engine's own verdict on ``specs``, in their order."""
    rows = build_rows(specs, venues, trusted_coins=trusted_coins)
    by_pair: dict[str, list[InstrumentRow]] = {}
    for row in rows:
        by_pair.setdefault(row.spec.pair, []).append(row)
    return [_judged(pair, by_pair.get(pair.pair, [])) for pair in pairs]


def _judged(pair: SharedPair, rows: Sequence[InstrumentRow]) -> Proposal:
    usable = [row for row in rows if not _fault(row)]
    reason = ""
    if len(usable) < VENUES_MIN:
        reason = next((fault for row in rows if (fault := _fault(row))), "")
        reason = reason or f"{len(rows)} venues gave a readable row, wanted at least {VENUES_MIN}"
    specs = [row.spec for row in usable]
    return Proposal(
        pair=pair.pair,
        symbols=pair.symbols if reason else {spec.venue: spec.symbol for spec in specs},
        day_volume=pair.day_volume,
        identity="doubted" if reason else _identity(specs),
        reason=reason,
        entry_mins={spec.venue: _entry_min(spec) for spec in specs},
        price=next((spec.reference_price for spec in specs if spec.reference_price > 0), ZERO),
    )


def _fault(row: InstrumentRow) -> str:
    spec = row.spec
    if not row.tradable_pair:
        return row.quarantine_reason.removeprefix(f"{spec.pair}: ")
    if spec.status is not TradingStatus.TRADING:
        return f"{spec.venue} {spec.symbol}: {spec.status.name.lower()}, not trading on both sides"
    return f"{spec.venue} {spec.symbol}: its end is announced" if spec.ending or spec.trading_until_wall_s else ""


def _identity(specs: Sequence[InstrumentSpec]) -> str:
    exchanges = {spec.venue.rsplit("_", 1)[0] for spec in specs}
    if len(exchanges) == 1:
        return "same_exchange"
    proved = {spec.venue.rsplit("_", 1)[0] for spec in specs if not unknown_identity(spec)}
    return "proved" if proved == exchanges else "trusted"


def _entry_min(spec: InstrumentSpec) -> Decimal:
    return max(spec.min_notional, max(spec.min_qty, spec.lot) * spec.reference_price)
