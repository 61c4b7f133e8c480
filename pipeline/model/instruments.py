"""Which instruments exist, which pair they belong to, and whether they may be traded against each other.

Two instruments share a tradable pair only where base and quote agree, the coin's identity agrees, and the price
ratio is plausible. In doubt an instrument is quarantined: it keeps its books but gets pair id -1, with the reason as
text. A ticker does not identify a coin (the same ticker is often another coin on another venue). What was in doubt is
judged again with each reading of the venues: prices, and answers about a coin, may have been wrong for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b

import msgspec

from pipeline.model.config import TRUSTED_COINS
from pipeline.model.enums import InstrumentKind
from pipeline.model.fixedpoint import pair_exponents, plain
from pipeline.model.structs import CoinIdentity, InstrumentSpec

QUARANTINED = -1
NOT_TRADED = "its exchange has trade: false, so its books are read and nothing is traded there"
#: Declared rate 1, for limits in dollars only, in the detector as in the gate: profit and loss keeps them apart, and a
#: pair has one quote. Another stable coin takes the rate of its book against one of these.
USD_COINS = frozenset({"USD", "USDT", "USDC"})
PRICES_APART = "prices "  # how the doubt begins that only prices raise
PRICE_RATIO_MAX = Decimal("1.10")  # reference prices further apart than this are not the same coin
TOGETHER_S = 60  # prices of one reading of all venues are so close; the next one comes two minutes later
READINGS_AGREED = 5
HEADROOM = Decimal(100)  # largest price and quantity that books must hold: this many times the known ones
LARGEST_QTY_DEFAULT = Decimal(10) ** 9
LARGEST_PRICE_DEFAULT = Decimal(10) ** 7


class VenueRef(msgspec.Struct, frozen=True, kw_only=True):
    """Dense ids of a venue, as the configuration orders them. ``trade``: whether orders are sent there."""

    name: str
    venue_id: int
    feed_id: int
    trade: bool = True


class InstrumentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the catalogue. ``instrument_id`` is the row's index and never reused within an instance."""

    instrument_id: int
    venue_id: int
    feed_id: int
    book_index: int
    pair_id: int
    base_asset_id: int
    quote_asset_id: int
    price_exp: int
    qty_exp: int
    row_epoch: int
    spec: InstrumentSpec
    quarantine_reason: str = ""

    @property
    def tradable_pair(self) -> bool:
        """Whether it may be traded against other instruments of its pair (not quarantined)."""
        return self.pair_id != QUARANTINED

    @property
    def prices_apart(self) -> bool:
        """Whether it is quarantined for its price alone."""
        return self.quarantine_reason.startswith(f"{self.spec.pair}: {PRICES_APART}")


def identity_conflict(a: CoinIdentity | None, b: CoinIdentity | None) -> str:
    """Why two coins whose identity both venues give are not proved to be the same; "" when they are.

    They are the same where both name the same contract on at least one network, and differ on none; without a common
    network they stay in doubt. "" as well where an identity is missing.
    """
    if a is None or b is None:
        return ""
    left, right = dict(a.networks), dict(b.networks)
    shared = sorted(set(left) & set(right))
    for network in shared:
        if left[network] != right[network]:
            return f"contract on {network} differs: {left[network] or 'native'} and {right[network] or 'native'}"
    if not shared:
        return f"no common network: {', '.join(sorted(left))} and {', '.join(sorted(right))}"
    return ""


def price_conflict(a: Decimal, b: Decimal) -> str:
    """Why two reference prices cannot be of one coin; "" when plausible or unknown."""
    if a <= 0 or b <= 0:
        return ""
    ratio = max(a, b) / min(a, b)
    if ratio > PRICE_RATIO_MAX:
        return f"{PRICES_APART}{a} and {b} are {ratio:.3f} apart, at most {PRICE_RATIO_MAX} is plausible"
    return ""


def unknown_identity(spec: InstrumentSpec) -> bool:
    """Whether the venue gave no identity of the coin (most give it only to a key)."""
    return spec.identity is None or not spec.identity.networks


def conflict(a: InstrumentSpec, b: InstrumentSpec, trusted_coins: Collection[str] = TRUSTED_COINS) -> str:
    """Why two instruments of one ticker pair must not be traded against each other; "" when they may.

    Across exchanges a missing identity is a conflict, but for a coin of ``trusted_coins``: there ticker and price
    ratio suffice.
    """
    same_exchange = a.venue.rsplit("_", 1)[0] == b.venue.rsplit("_", 1)[0]
    if not same_exchange:
        silent = next((spec for spec in (a, b) if unknown_identity(spec)), None)
        if silent is None:
            reason = identity_conflict(a.identity, b.identity)
            if reason:
                return reason
        elif silent.base not in trusted_coins:
            return (
                f"{silent.venue} gives no identity of the coin {silent.base} (with a key it may); "
                "detection.also_trusted_coins names coins that may be paired by ticker and price alone"
            )
    return price_conflict(a.reference_price, b.reference_price)


def _with_exchange_identity(specs: Sequence[InstrumentSpec]) -> list[InstrumentSpec]:
    """A contract row names no coin: it takes the identity of the same ticker on the spot market of its exchange."""
    by_exchange = {s.venue.rsplit("_", 1)[0]: s.identity for s in specs if s.identity is not None}
    return [
        spec
        if spec.identity is not None
        else msgspec.structs.replace(spec, identity=by_exchange.get(spec.venue.rsplit("_", 1)[0]))
        for spec in specs
    ]


def _groups(specs: Sequence[InstrumentSpec], trusted_coins: Collection[str]) -> list[list[int]]:
    """Partition indices of one ticker pair into groups without conflict; the largest group comes first."""
    groups: list[list[int]] = []
    known = _with_exchange_identity(specs)
    for index, spec in enumerate(known):
        for group in groups:
            if not any(conflict(known[other], spec, trusted_coins) for other in group):
                group.append(index)
                break
        else:
            groups.append([index])
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def _pair_verdicts(specs: Sequence[InstrumentSpec], trusted_coins: Collection[str]) -> list[str]:
    """Quarantine reason per spec of one ticker pair ("" = may pair).

    Without a majority it is not known which coin is the right one: all are quarantined. Instruments without an
    identity have no vote against those that have one.
    """
    specs = _with_exchange_identity(specs)
    groups = _groups(specs, trusted_coins)
    verdicts = ["" for _ in specs]
    if len(groups) == 1:
        return verdicts

    def silent(group: list[int]) -> bool:
        return all(unknown_identity(specs[i]) and specs[i].base not in trusted_coins for i in group)

    groups.sort(key=silent)  # stable: the largest group with an identity comes first
    exchanges = [{specs[i].venue.rsplit("_", 1)[0] for i in group} for group in groups if not silent(group)]
    main_is_proved = len(exchanges) == 1 or (
        len(exchanges) > 1 and len(exchanges[0]) >= 2 and len(exchanges[0]) > len(exchanges[1])
    )
    for number, group in enumerate(groups):
        if number == 0 and main_is_proved:
            continue
        against = groups[0] if number else groups[1]
        for index in group:
            reasons = (conflict(specs[other], specs[index], trusted_coins) for other in against)
            reason = next((text for text in reasons if text), "identity in doubt")
            verdicts[index] = f"{specs[index].pair}: {reason}"
    return verdicts


def largest_price(specs: Sequence[InstrumentSpec]) -> Decimal:
    """The largest price that books of one pair must be able to hold, quote per base."""
    prices = [spec.reference_price for spec in specs if spec.reference_price > 0]
    return max(prices) * HEADROOM if prices else LARGEST_PRICE_DEFAULT


def _largest(specs: Sequence[InstrumentSpec]) -> tuple[Decimal, Decimal]:
    prices = [spec.reference_price for spec in specs if spec.reference_price > 0]
    price = largest_price(specs)
    if not prices:
        return price, LARGEST_QTY_DEFAULT
    # a book level worth more than 10^10 quote units is not a book level
    qty = min(Decimal(10) ** 15, max(Decimal(1), Decimal(10) ** 10 / min(prices)))
    return price, qty


def first_epoch(row: InstrumentRow) -> int:
    """The epoch that a catalogue begins the row with: a number of what the row's books are counted in.

    Feeds and their books outlive the process that writes the catalogue. Its next life may find other exponents, which
    follow the prices of the day, or another instrument at the same index: that must not be the epoch of the books that
    stand, and what is the same needs no new books.
    """
    spec = row.spec
    steps = [str(step.normalize()) for step in (spec.tick, spec.lot, spec.multiplier)]
    parts = (spec.venue, spec.symbol, row.price_exp, row.qty_exp, *steps)
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=6).digest(), "little")


def build_rows(
    specs: Sequence[InstrumentSpec],
    venues: Sequence[VenueRef],
    *,
    existing: Sequence[InstrumentRow] = (),
    trusted_coins: Collection[str] = TRUSTED_COINS,
) -> list[InstrumentRow]:
    """Rows for ``specs`` appended to ``existing`` (which keep their ids, pairs and exponents).

    Ids are dense: instruments by order, pairs and assets by first appearance, book indices per feed.
    Raises ``ValueError`` for a spec of an unknown venue or a symbol listed twice.
    """
    by_name = {venue.name: venue for venue in venues}
    rows = list(existing)
    seen = {(row.spec.venue, row.spec.symbol) for row in rows}
    pairs: dict[str, int] = {row.spec.pair: row.pair_id for row in rows if row.tradable_pair}
    exponents = {row.spec.pair: (row.price_exp, row.qty_exp) for row in rows}
    assets: dict[str, int] = {}
    next_book: dict[int, int] = {}
    for row in rows:
        assets.setdefault(row.spec.base, row.base_asset_id)
        assets.setdefault(row.spec.quote, row.quote_asset_id)
        next_book[row.feed_id] = max(next_book.get(row.feed_id, 0), row.book_index + 1)
    for spec in specs:
        if spec.venue not in by_name:
            raise ValueError(f"instrument {spec.symbol} names venue {spec.venue!r}, known: {sorted(by_name)}")
    # What is not traded has no vote on which coin is the right one.
    voters = [spec for spec in specs if by_name[spec.venue].trade]
    old = [row.spec for row in rows if by_name[row.spec.venue].trade]
    verdicts = iter(_verdicts(old, voters, trusted_coins))
    for spec in specs:
        venue = by_name[spec.venue]
        reason = next(verdicts) if venue.trade else NOT_TRADED
        if (spec.venue, spec.symbol) in seen:
            raise ValueError(f"instrument {spec.symbol} of {spec.venue} is listed twice")
        seen.add((spec.venue, spec.symbol))
        if spec.pair not in exponents:
            same = [other for other in specs if other.pair == spec.pair]
            price, qty = _largest(same)
            exponents[spec.pair] = pair_exponents(
                (s.tick for s in same), (s.lot for s in same), largest_price=price, largest_qty=qty
            )
        price_exp, qty_exp = exponents[spec.pair]
        rows.append(
            InstrumentRow(
                instrument_id=len(rows),
                venue_id=venue.venue_id,
                feed_id=venue.feed_id,
                book_index=next_book.setdefault(venue.feed_id, 0),
                pair_id=QUARANTINED if reason else pairs.setdefault(spec.pair, len(pairs)),
                base_asset_id=assets.setdefault(spec.base, len(assets)),
                quote_asset_id=assets.setdefault(spec.quote, len(assets)),
                price_exp=price_exp,
                qty_exp=qty_exp,
                row_epoch=1,
                spec=spec,
                quarantine_reason=reason,
            )
        )
        next_book[venue.feed_id] += 1
    return rows


def _verdicts(
    old: Sequence[InstrumentSpec], new: Sequence[InstrumentSpec], trusted_coins: Collection[str]
) -> list[str]:
    """Quarantine reasons of ``new``, judged together with the instruments that already exist."""
    result: dict[int, str] = {}
    for pair in {spec.pair for spec in new}:
        known = [spec for spec in old if spec.pair == pair]
        indices = [i for i, spec in enumerate(new) if spec.pair == pair]
        verdicts = _pair_verdicts([*known, *(new[i] for i in indices)], trusted_coins)
        result.update(zip(indices, verdicts[len(known) :], strict=True))
    return [result[i] for i in range(len(new))]


def judged_again(
    rows: Sequence[InstrumentRow],
    venues: Sequence[VenueRef],
    prices: Mapping[tuple[str, str], Decimal],
    gone: Collection[tuple[str, str]],
    *,
    trusted_coins: Collection[str] = TRUSTED_COINS,
    agreed: Callable[[InstrumentRow, Sequence[InstrumentRow]], bool] = lambda row, group: True,
) -> list[InstrumentRow]:
    """Quarantined ones of ``rows`` as they are once the doubt is gone, or is another one.

    ``prices``: the newest by (venue, symbol); ``gone``: removed by somebody, without a vote. What may be traded stays
    so, and what is in conflict with it stays in quarantine. A doubt about the coin ends by what venues say of it, never
    because one of them says nothing now. ``agreed``: asked of one whose price is in no conflict now, and of all that
    have a vote on its pair, whether its doubt may end.
    """
    traded = {venue.name for venue in venues if venue.trade}
    pairs = {row.spec.pair: row.pair_id for row in rows if row.tradable_pair}
    found: list[InstrumentRow] = []
    for pair in sorted({row.spec.pair for row in rows if row.quarantine_reason and row.spec.venue in traded}):
        group = [row for row in rows if row.spec.pair == pair and row.spec.venue in traded]
        group = [row for row in group if (row.spec.venue, row.spec.symbol) not in gone]
        specs = [
            msgspec.structs.replace(spec, reference_price=prices.get((spec.venue, spec.symbol), spec.reference_price))
            for spec in (row.spec for row in group)
        ]
        known = _with_exchange_identity(specs)
        all_known = not any(unknown_identity(one) for one in known)
        paired = [one for row, one in zip(group, known, strict=True) if row.tradable_pair]
        for row, spec, one, reason in zip(group, specs, known, _pair_verdicts(specs, trusted_coins), strict=True):
            if row.tradable_pair or not (row.prices_apart or all_known):
                continue
            against = next((text for other in paired if (text := conflict(other, one, trusted_coins))), "")
            doubt = reason or (against and f"{pair}: {against}")
            if not doubt and row.prices_apart and not agreed(row, group):
                continue
            pair_id = QUARANTINED if doubt else pairs.setdefault(pair, len(pairs))
            judged = msgspec.structs.replace(row, spec=spec, pair_id=pair_id, quarantine_reason=doubt)
            if not doubt or judged.prices_apart != row.prices_apart:
                found.append(judged)
    return found


class NewestPrices:
    """Prices by (venue, symbol), and how often those of a pair have agreed again.

    Two coins of one ticker pass each other's price now and then, and a price of an hour ago says nothing about one of
    now: a doubt about a price ends once all prices of the pair are of one time, and have agreed in ``READINGS_AGREED``
    readings one after the other. Nothing else would part them again.
    """

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], tuple[Decimal, int]] = {}  # price, and when it was read
        self._agreed: dict[tuple[str, str], tuple[int, int]] = {}  # readings in agreement, and when the last one was
        self._counted: dict[tuple[str, str], tuple[int, int]] = {}  # the same, of the judgement under way

    def read(self, specs: Iterable[InstrumentSpec], wall_s: int) -> None:
        """Rows of instruments as their venues list them at ``wall_s``; those without a price tell nothing."""
        known = (spec for spec in specs if spec.reference_price > 0)
        self._newest |= {(spec.venue, spec.symbol): (spec.reference_price, wall_s) for spec in known}

    def judged(
        self,
        rows: Sequence[InstrumentRow],
        venues: Sequence[VenueRef],
        gone: Collection[tuple[str, str]],
        trusted_coins: Collection[str],
    ) -> list[InstrumentRow]:
        """:func:`judged_again` by these prices."""
        self._counted = {}
        prices = {key: price for key, (price, _) in self._newest.items()}
        found = judged_again(rows, venues, prices, gone, trusted_coins=trusted_coins, agreed=self._have_agreed)
        self._agreed = self._counted  # what was not in agreement now begins anew
        return found

    def _have_agreed(self, row: InstrumentRow, group: Sequence[InstrumentRow]) -> bool:
        keys = [(one.spec.venue, one.spec.symbol) for one in group]
        times_s = [self._newest[key][1] for key in keys if key in self._newest]
        key = (row.spec.venue, row.spec.symbol)
        count, counted_s = self._agreed.get(key, (0, 0))
        if times_s and min(times_s) > counted_s and max(times_s) - min(times_s) <= TOGETHER_S:
            count, counted_s = count + 1, max(times_s)
        self._counted[key] = (count, counted_s)
        return count >= READINGS_AGREED


def changed_shape(old: InstrumentSpec, new: InstrumentSpec) -> bool:
    """Whether tick, lot or multiplier changed, so that the instrument's numbers mean something else than before."""
    return (old.tick, old.lot, old.multiplier) != (new.tick, new.lot, new.multiplier)


def shape_text(spec: InstrumentSpec) -> str:
    """Tick, lot and multiplier, for people."""
    return f"{plain(spec.tick)}, {plain(spec.lot)}, {plain(spec.multiplier)}"


def wallet_open(spec: InstrumentSpec) -> bool:
    """Whether the base coin can be moved in and out of the venue (futures need no wallet of the base coin)."""
    if spec.kind is InstrumentKind.PERPETUAL or spec.identity is None:
        return True
    return spec.identity.deposit_enabled and spec.identity.withdraw_enabled
