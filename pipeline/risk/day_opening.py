"""What was open when the UTC day began: the day's loss counts from there, not from the entries.

Taken at the first valuation of the day. Where nothing is known of it (the first run, a lost file) everything counts
since its entry, so that a loss may count twice and is never left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import msgspec

from pipeline.execution.ledger import Ledger
from pipeline.model.structs import ZERO


class Valued(NamedTuple):
    """An open hedge at the mids of its books: when the older one was proved, what it has gained since its entry, of
    how many base coins."""

    proof_mono_ns: int
    usd: Decimal
    qty: Decimal


Gained = tuple[Decimal, Decimal]  # base coins, and USD that they have gained since their entry


@dataclass(frozen=True, slots=True)
class ForeignLook:
    """What trades of others had left at one look. ``held``: holdings that have a value; ``unknown``: base coins of
    those that have none; ``realised``: asset -> gained since the journal began."""

    held: Mapping[str, Gained]
    unknown: Mapping[str, Decimal]
    realised: Mapping[str, Decimal]


class DayOpening(msgspec.Struct, kw_only=True):
    """As the day began: open ``hedges``, holdings of others (``foreign``, None until they are valued), what others had
    ``realised`` since the journal began, by asset, and the names of what had no value (``not_valued``): it counts from
    its first one."""

    day: int  # UTC day number
    wall_ns: int
    hedges: dict[str, Gained] = {}
    foreign: dict[str, Gained] | None = None
    realised: dict[str, Decimal] = {}
    not_valued: set[str] = set()


class OpenAtMidnight:
    """Keeps the newest day's opening. ``stored``: as an earlier run left it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.opening: DayOpening | None = None
        self._checked = False
        self._ended_wall_ns = 0  # the journal's last record of the run before
        self._left_open: frozenset[str] = frozenset()  # hedges that were open in it then
        self._entries_count = True  # nothing is known of the day's beginning

    def restore(self, stored: DayOpening | None) -> None:
        """To be called before the first valuation."""
        self.opening = stored

    def run_begins(self, ended_wall_ms: int) -> None:
        """To be called once the journal is read. ``ended_wall_ms``: of its last record; 0 = there was none."""
        self._ended_wall_ns, self._left_open = ended_wall_ms * 1_000_000, frozenset(self._ledger.hedges)

    def begin(self, wall_ns: int, day: int, hedges: Mapping[str, Valued], foreign: ForeignLook | None) -> bool:
        """Begins ``day`` where it has not begun: with what was valued last. Nothing has been valued in this run where
        ``foreign`` is None. Returns whether it has begun."""
        self._check()
        if self.opening is not None and self.opening.day >= day:
            return False  # a wall clock that steps back begins no day again
        self._entries_count = self.opening is None
        self.opening = DayOpening(day=day, wall_ns=wall_ns)
        if not self._entries_count:
            self.opening.hedges = {name: (value.qty, value.usd) for name, value in hedges.items()}
            self.opening.not_valued = self._ledger.hedges.keys() - hedges.keys()
            if foreign is not None:
                self._foreign_begins(foreign)
        return True

    def _foreign_begins(self, look: ForeignLook) -> None:
        assert self.opening is not None
        self.opening.foreign, self.opening.realised = dict(look.held), dict(look.realised)
        self.opening.not_valued = self.opening.not_valued | look.unknown.keys()

    def _check(self) -> None:
        """Forgets what an earlier run stored of another journal: its hedges did not end in this one; and of an older
        copy of this one: it says nothing of the day's beginning, so that what is not open in it has not left since."""
        if self._checked:
            return
        self._checked, stored, based = True, self.opening, self._ledger.based_wall_ms.values()
        if stored is None:
            return
        if not based or min(based) * 1_000_000 > stored.wall_ns:
            self.opening = None
        elif self._ended_wall_ns < stored.wall_ns:
            stored.hedges = {name: gained for name, gained in stored.hedges.items() if name in self._left_open}

    def valued(self, hedges: Mapping[str, Valued], foreign: ForeignLook, today: Mapping[str, Decimal]) -> None:
        """After each valuation. ``today``: of what others realised what is of today, by asset."""
        opening = self.opening
        assert opening is not None
        if opening.foreign is None and not self._entries_count:
            self._foreign_begins(foreign)
        elif opening.foreign is None:
            opening.foreign = {}
            opening.realised = {asset: had - today.get(asset, ZERO) for asset, had in foreign.realised.items()}
        assert opening.foreign is not None
        # New ones each time: a thread may be writing those of before.
        opening.hedges = opening.hedges | {
            name: (value.qty, value.usd) for name, value in hedges.items() if name in opening.not_valued
        }
        opening.foreign = opening.foreign | {
            name: gained for name, gained in foreign.held.items() if name in opening.not_valued
        }
        opening.not_valued = opening.not_valued - hedges.keys() - foreign.held.keys()

    def foreign_change(self, look: ForeignLook) -> Decimal:
        """What holdings of others have gained since the day began, USD: what is realised takes what it had gained
        before with it. What has no value now counts neither as then nor as now."""
        if self.opening is None or self.opening.foreign is None:
            return ZERO
        before = ((qty, usd, look.unknown.get(name)) for name, (qty, usd) in self.opening.foreign.items())
        then = sum((usd * (1 - (ZERO if left is None else _share(left, qty))) for qty, usd, left in before), ZERO)
        return sum((usd for _, usd in look.held.values()), ZERO) - then

    def realised_since(self, realised: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Asset -> what others have realised since the day began."""
        if self.opening is None or self.opening.foreign is None:
            return {}
        before = self.opening.realised
        found = {asset: amount - before.get(asset, ZERO) for asset, amount in realised.items()}
        return {asset: amount for asset, amount in found.items() if amount}

    def of_open(self, names: Collection[str]) -> Decimal:
        """What the part of these hedges that is open still had gained when the day began, USD."""
        return sum((usd * self._left(name, qty) for name, (qty, usd) in self._hedges() if name in names), ZERO)

    def of_closed(self) -> Decimal:
        """What the parts of hedges that have been closed since had gained when the day began, USD."""
        return sum((usd * (1 - self._left(name, qty)) for name, (qty, usd) in self._hedges()), ZERO)

    def _hedges(self) -> Collection[tuple[str, tuple[Decimal, Decimal]]]:
        return () if self.opening is None else self.opening.hedges.items()

    def _left(self, name: str, qty: Decimal) -> Decimal:
        """Share of a hedge of ``qty`` that is open still."""
        hedge = self._ledger.hedges.get(name)
        return ZERO if hedge is None else min(Decimal(1), hedge.qty / qty)


def _share(left: Decimal, before: Decimal) -> Decimal:
    """How much of a holding is open still, 0..1; all of it where it had no coins, or has none: then it is not by its
    coins that it has gained."""
    return max(ZERO, min(Decimal(1), left / before)) if left and before else Decimal(1)
