"""The catalogue: instruments read from the venues, written as rows into the shared catalogue page.

A row is appended once and never reused for another symbol. A changed tick, lot or multiplier begins a new row epoch and
halts the symbol (its feed flags the book) until an operator has confirmed the change by ``arb symbols add``; changed
fees, funding, status and wallet switches are rewritten in place. A symbol that was removed and comes back has its old
row in a new epoch. A quarantined one is judged again with every reading, and is paired once the doubt is gone.

A feed that meets a price with more digits than its row holds halts that book and reports how many it needs
(``wanted_digits``). The whole pair then gets a finer exponent and each of its rows a new epoch; the feeds start those
books anew. Between two of those writes the rows of the pair have different exponents: the detector compares only
instruments with equal exponents, and every reader refuses a book whose epoch is not its row's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pipeline.exchanges.fee_switch import read_fee_switch
from pipeline.exchanges.feed.types import WANTED_DIGITS
from pipeline.exchanges.funding_rates import FundingRates, Start
from pipeline.model.account_fees import FeeSwitch, true_fees, with_account_fees
from pipeline.model.catalogue_row import fit, row_to_words
from pipeline.model.clock import wall_ms
from pipeline.model.enums import TradingStatus
from pipeline.model.errors import ArbitrageEngineError, BadInput, VenueError
from pipeline.model.fixedpoint import EXP_MAX, EXTRA_DIGITS
from pipeline.model.instruments import (
    NOT_TRADED,
    InstrumentRow,
    NewestPrices,
    VenueRef,
    build_rows,
    changed_shape,
    first_epoch,
    shape_text,
)
from pipeline.model.networks import CoinNetwork
from pipeline.model.structs import InstrumentSpec
from pipeline.model.trading_times import at_time, ending_text, halted_text, just_opened
from pipeline.recovery.row_questions import WANTED_ROW
from pipeline.risk.fee_stock import PLAIN_FEES
from shm.layout_pages import CAT_FLAG_REMOVED, CATALOGUE_ROW
from shm.metrics import MetricsViews
from shm.pages import AccountPage
from workers.last_run.symbol_switch import SymbolChanges
from workers.networks_file import NetworksWriter
from workers.output import ALERT

if TYPE_CHECKING:
    from pipeline.exchanges.base import VenueClient
    from pipeline.model.config import EngineConfig, VenueConfig
    from shm.pages import CataloguePage

FETCH_TIMEOUT_S = 10.0
ENDS_PAUSE_S, ENDS_PAUSE_MAX_S = 10, 80  # until a list of announced ends that could not be read is asked for again
FEE_SWITCH_TIMEOUT_S = 2.0  # of a question that rows do not wait for: the last answer stands


class VenueFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A venue whose instruments could not be read, and why, as text for operators."""

    venue: str
    text: str


def _coin(reported: FeeSwitch | None) -> str | None:
    return None if reported is None else reported.coin


class CatalogueService:
    """Reads the instruments of every configured venue and writes the catalogue page. One per supervisor.

    ``clients``: one per venue name, closed by the caller. ``say`` takes (level, text) for operators. ``networks_dir``:
    where the coins' networks are written (``networks.json``); None: nowhere.
    """

    def __init__(
        self,
        config: EngineConfig,
        clients: dict[str, VenueClient],
        page: CataloguePage,
        say: Callable[[str, str], None],
        networks_dir: Path | None = None,
        *,
        wall_s: Callable[[], int] = lambda: wall_ms() // 1000,
    ) -> None:
        self._wall_s = wall_s
        self.before_end_h = config.detection.no_entries_before_end_h
        self._clients = clients
        self.rates = FundingRates(clients, lambda: self.rows, self._write, say)
        self._page = page
        self._say = say
        self._venues = [
            VenueRef(name=v.name, venue_id=v.venue_id, feed_id=v.feed_id, trade=v.trade) for v in config.venues
        ]
        self._account_fees = config.fees
        self._switches: dict[str, FeeSwitch | None] = {}  # what each venue said of its fee coin, at its last reading
        self._trusted_coins = config.detection.every_trusted_coin
        self._symbols: dict[str, list[str]] = {v.name: list(v.symbols) for v in config.venues}
        self.rows: list[InstrumentRow] = []
        self._prices = NewestPrices()  # a row keeps the one that its exponents fit
        self.fees: dict[str, dict[str, int]] = {}  # paper only: venue -> symbol -> taker ppm in place of the listed one
        self.ends_unknown: dict[str, str] = {}  # venue -> why its list of announced ends cannot be read
        self._ends_again: dict[str, tuple[int, int]] = {}  # venue -> wall seconds of its next reading, and the pause
        self.removed: set[tuple[str, str]] = set()
        self._configured = {v.name: tuple(v.symbols) for v in config.venues}
        self._removed_before: set[tuple[str, str]] = set()  # by an earlier life: once their rows are there
        self.held: set[tuple[str, str]] = set()  # tick, lot or multiplier changed: halted until added again
        self.missing: set[tuple[str, str]] = set()  # halted, because the venue's newest list lacks them
        self._networks_file = None if networks_dir is None else NetworksWriter(networks_dir)
        self.networks: dict[str, Mapping[str, tuple[CoinNetwork, ...]]] = {}  # venue -> coin -> where it travels
        self.refused: set[str] = set()  # venues that refused an order for its row, until they are read
        self._plain_fees: set[str] = set()  # venues whose coin of fees is short: the next orders pay plain ones
        self._refusals: dict[int, int] = {}  # instrument -> how often, as last logged
        self._too_fine: dict[str, int] = {}  # pair -> digits of a price that no exponent holds: said once

    async def load(self, venues: Sequence[VenueConfig]) -> list[VenueFailure]:
        """Read the instruments of ``venues`` at once and publish what is new or changed; the venues that failed."""
        results = await asyncio.gather(
            *(self._fetch(venue.name, self._symbols[venue.name]) for venue in venues), return_exceptions=True
        )
        failures: list[VenueFailure] = []
        specs: list[InstrumentSpec] = []
        for venue, result in zip(venues, results, strict=True):
            if isinstance(result, ArbitrageEngineError | TimeoutError | OSError):
                text = str(result) or "no answer"
                failures.append(VenueFailure(venue=venue.name, text=f"{venue.name} ({venue.rest}): {text}"))
            elif isinstance(result, BaseException):
                raise result
            else:
                self.refused.discard(venue.name)
                missing = sorted(set(self._symbols[venue.name]) - {spec.symbol for spec in result})
                if missing:
                    self._say("warning", f"{venue.name} does not list, or not readably: {', '.join(missing)}")
                    unreadable = self._clients[venue.name].take_unreadable(missing)
                    self._halt_missing(venue.name, [symbol for symbol in missing if symbol not in unreadable])
                    self._stop_entries(venue.name, sorted(unreadable))
                specs.extend(result)
            for line in self._clients[venue.name].take_odd_rows()[1]:
                self._say("warning", line)
        self._merge(specs)
        self._judge_again()
        for key in sorted(self._removed_before):
            if self._id_of(key) >= 0:
                self._removed_before.discard(key)
                self.remove(*key)
        self._obey_times()
        self._write_networks()
        return failures

    def _write_networks(self) -> None:
        if self._networks_file is None or not self.networks:
            return
        traded = {coin for row in self.rows for coin in (row.spec.base, row.spec.quote)}
        try:
            self._networks_file.write(self.networks, traded)
        except OSError as error:  # proposals of transfers lack cost and time; nothing else waits for it
            self._say("warning", f"networks of coins cannot be written: {error.strerror}")

    def _at_time(self, spec: InstrumentSpec) -> InstrumentSpec:
        return at_time(spec, self._wall_s(), self.before_end_h)

    def _obey_times(self) -> None:
        """Announced ends come near without a new row of their venue, also while it does not answer."""
        for row in self.rows:
            spec = self._at_time(row.spec)
            if spec != row.spec:
                self._say_ending(row.spec, spec)
                self._write(msgspec.structs.replace(row, spec=spec))

    def _say_ending(self, old: InstrumentSpec | None, new: InstrumentSpec) -> None:
        if new.ending and (old is None or not old.ending):
            hedges = "stay" if new.unreadable else "leave"
            self._say("warning", f"{ending_text(new)}: no entries from now on, hedges {hedges}")

    async def _fetch(self, venue: str, symbols: Sequence[str]) -> list[InstrumentSpec]:
        await self._clients[venue].read_ends(symbols)
        self._tell_ends(venue)
        async with asyncio.timeout(FETCH_TIMEOUT_S):
            specs = await self._clients[venue].instruments(symbols)
        networks = self._clients[venue].networks()
        if networks:
            self.networks[venue] = networks
        await self._read_fee_switch(venue)
        own = self.fees.get(venue, {})
        found = [
            msgspec.structs.replace(spec, taker_fee_ppm=own[spec.symbol]) if spec.symbol in own else spec
            for spec in specs
        ]
        switch = FeeSwitch("") if venue in self._plain_fees else self._switches.get(venue)
        fees = true_fees(self._account_fees.get(venue), switch)
        return [with_account_fees(spec, fees) for spec in found]

    def _tell_ends(self, venue: str) -> None:
        """Says once that a venue's list of announced ends cannot be read, and that it can be again."""
        fault, before = self._clients[venue].ends_fault, self.ends_unknown.pop(venue, "")
        _, pause_s = self._ends_again.pop(venue, (0, 0))
        if fault:
            self.ends_unknown[venue] = fault
            pause_s = min(2 * pause_s or ENDS_PAUSE_S, ENDS_PAUSE_MAX_S)
            self._ends_again[venue] = (self._wall_s() + pause_s, pause_s)
        if fault and not before:
            text = f"{venue}: announced ends of trading cannot be read, {fault}"
            self._say("warning", f"{ALERT}{text}")
        elif before and not fault:
            self._say("info", f"{venue}: announced ends of trading are read again")

    def ends_due(self) -> list[str]:
        """Venues whose list of announced ends could not be read, and is asked for again, with growing pauses."""
        return [venue for venue, (due_s, _) in self._ends_again.items() if self._wall_s() >= due_s]

    async def _read_fee_switch(self, venue: str) -> None:
        """Asks which coin the venue takes fees in. Without an answer its last answer stays: that must not cost the
        rows, and the poller tells when the coin is another."""
        try:
            async with asyncio.timeout(FEE_SWITCH_TIMEOUT_S):
                self._switches[venue] = await read_fee_switch(self._clients[venue], self._account_fees.get(venue))
        except (VenueError, TimeoutError, OSError) as error:
            self._say("warning", f"{venue}: the coin of fees is not known: {str(error) or 'no answer'}")

    def other_fee_coins(self, page: AccountPage) -> list[str]:
        """Venues whose fees are taken in another coin by now (account page) than the rows count with."""
        if not page.mapped:
            return []
        return [
            venue.name
            for venue in self._venues
            if (coin := page.fee_coin(venue.venue_id)) is not None and coin != _coin(self._switches.get(venue.name))
        ]

    def _merge(self, specs: Sequence[InstrumentSpec]) -> None:
        # removed meanwhile: left out
        specs = [self._at_time(spec) for spec in specs if (spec.venue, spec.symbol) not in self.removed]
        self._prices.read(specs, self._wall_s())
        known = {(row.spec.venue, row.spec.symbol): row.instrument_id for row in self.rows}
        fresh = [spec for spec in specs if (spec.venue, spec.symbol) not in known]
        for spec in specs:
            instrument_id = known.get((spec.venue, spec.symbol))
            if instrument_id is not None:
                self._update(instrument_id, spec)
        if fresh:
            first = len(self.rows)
            self.rows = build_rows(fresh, self._venues, existing=self.rows, trusted_coins=self._trusted_coins)
            for number, row in enumerate(self.rows[first:], first):
                row = self.rows[number] = msgspec.structs.replace(row, row_epoch=first_epoch(row))
                self._page.append(row_to_words(row))
                self._say_ending(None, row.spec)
                if row.quarantine_reason not in ("", NOT_TRADED):
                    self._say("warning", f"quarantined {row.spec.venue} {row.spec.symbol}: {row.quarantine_reason}")

    def _judge_again(self) -> None:
        for row in self._prices.judged(self.rows, self._venues, self.removed, self._trusted_coins):
            self._write(row)
            if row.quarantine_reason:
                self._say("warning", f"quarantined {row.spec.venue} {row.spec.symbol}: {row.quarantine_reason}")
            else:
                self._say("info", f"{row.spec.venue} {row.spec.symbol}: no doubt is left, paired again")

    def _update(self, instrument_id: int, spec: InstrumentSpec) -> None:
        row = self.rows[instrument_id]
        key = (spec.venue, spec.symbol)
        spec = msgspec.structs.replace(spec, reference_price=row.spec.reference_price)
        epoch = row.row_epoch
        if changed_shape(row.spec, spec):
            epoch += 1
            self.held.add(key)
            was, now = shape_text(row.spec), shape_text(spec)
            text = f"{spec.venue} {spec.symbol}: tick, lot or multiplier changed ({was} to {now})"
            self._say("warning", f"{text}; halted until `arb symbols add {spec.venue} {spec.symbol}`")
        self.missing.discard(key)
        if key in self.held:
            spec = msgspec.structs.replace(spec, status=TradingStatus.HALTED)
        if spec == row.spec:
            return
        self._say_ending(row.spec, spec)
        changed = msgspec.structs.replace(row, spec=spec, row_epoch=epoch)
        try:
            self._write(changed)
        except ValueError as error:  # finer than the pair's exponents: the old numbers stay, halted
            self._say("error", f"{spec.venue} {spec.symbol}: {error}; restart to take the new numbers")
            self._write(
                msgspec.structs.replace(
                    row, spec=msgspec.structs.replace(row.spec, status=TradingStatus.HALTED), row_epoch=epoch
                )
            )

    def _halt_missing(self, venue: str, symbols: Sequence[str]) -> None:
        """An instrument whose row is gone is halted; the next reading that has it ends that."""
        for symbol in symbols:
            instrument_id = self._id_of((venue, symbol))
            if instrument_id < 0 or self.rows[instrument_id].spec.status == TradingStatus.HALTED:
                continue
            self.missing.add((venue, symbol))
            row = self.rows[instrument_id]
            self._write(
                msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, status=TradingStatus.HALTED))
            )
            self._say("error", f"{venue} {symbol}: halted until the venue lists it again")

    def row_notes(self) -> dict[str, dict[str, str]]:
        """What is amiss with instruments, as ``run.json`` has it."""
        gone = self.removed
        apart = [row for row in self.rows if row.prices_apart and (row.spec.venue, row.spec.symbol) not in gone]
        return {
            "halted_symbols": self.halted(),
            "ends_unknown": dict(self.ends_unknown),
            "prices_apart": {f"{row.spec.venue} {row.spec.symbol}": row.quarantine_reason for row in apart},
        }

    def halted(self) -> dict[str, str]:
        """Instrument ("venue symbol") -> why it is halted."""
        found: dict[str, str] = {}
        for row in self.rows:
            key = (row.spec.venue, row.spec.symbol)
            if row.spec.status is not TradingStatus.HALTED or key in self.removed:
                continue
            if key in self.held:
                why = "tick, lot or multiplier changed"
            else:
                why = "not listed by the venue" if key in self.missing else halted_text(row.spec, self._wall_s())
            found[" ".join(key)] = why
        return found

    def _stop_entries(self, venue: str, symbols: Sequence[str]) -> None:
        """An instrument whose row cannot be read keeps its last good one, for exits and repairs, and takes no entries.
        The next row that can be read ends that."""
        for symbol in symbols:
            instrument_id = self._id_of((venue, symbol))
            if instrument_id < 0 or self.rows[instrument_id].spec.ending:
                continue
            row = self.rows[instrument_id]
            self._write(
                msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, ending=True, unreadable=True))
            )
            self._say("error", f"{venue} {symbol}: its row cannot be read: no entries until it can")

    def _write(self, row: InstrumentRow) -> None:
        """Replace a row; raises ``ValueError``, before anything is written, where its numbers do not fit."""
        words = row_to_words(row)
        if (row.spec.venue, row.spec.symbol) in self.removed:
            words[CATALOGUE_ROW.flags] |= CAT_FLAG_REMOVED
        self._page.update(row.instrument_id, words)
        self.rows[row.instrument_id] = row

    def traded(self) -> list[InstrumentSpec]:
        """Instruments of the venues that orders are sent to."""
        names = {venue.name for venue in self._venues if venue.trade}
        return [row.spec for row in self.rows if row.spec.venue in names]

    def take_wanted(self, counters: Mapping[str, int]) -> bool:
        """Raise the exponents that a feed's counters ask for (``<venue>.wanted_digits.<instrument>``); True: any. Note
        the venues whose rows the executor asks for (``wanted_row.<instrument>``, ``plain_fees.<venue>``)."""
        raised = False
        for label, digits in counters.items():
            if label.startswith(PLAIN_FEES) and bool(digits) != (
                (venue := label[len(PLAIN_FEES) :]) in self._plain_fees
            ):
                self._plain_fees ^= {venue}
                self.refused.add(venue)
            if label.startswith(WANTED_ROW) and (number := int(label[len(WANTED_ROW) :])) < len(self.rows):
                if digits and self._refusals.get(number) != digits:
                    self.refused.add(self.rows[number].spec.venue)
                self._refusals[number] = digits
            _, found, instrument_id = label.partition(f".{WANTED_DIGITS}.")
            if found and digits and int(instrument_id) < len(self.rows):
                raised |= self.raise_price_exp(int(instrument_id), digits)
        return raised

    def raise_price_exp(self, instrument_id: int, digits: int) -> bool:
        """Give the pair of an instrument a price exponent of at least ``digits``.

        False where it has that already, and where its largest price would not fit: that is reported once, and the books
        stay halted.
        """
        pair = self.rows[instrument_id].spec.pair
        group = [row for row in self.rows if row.spec.pair == pair]
        if group[0].price_exp >= digits or (pair in self._too_fine and digits >= self._too_fine[pair]):
            return False
        for exp in range(min(EXP_MAX, digits + EXTRA_DIGITS), digits - 1, -1):
            finer = [msgspec.structs.replace(row, price_exp=exp, row_epoch=row.row_epoch + 1) for row in group]
            if fit(finer):
                for row in finer:
                    self._write(row)
                self._say("info", f"{pair}: a price has {digits} digits; exponent {group[0].price_exp} raised to {exp}")
                return True
        self._too_fine[pair] = digits
        self._say("error", f"{pair}: no exponent holds a price of {digits} digits beside its largest; halted")
        return False

    def changes(self) -> SymbolChanges:
        """What ``arb symbols add`` and ``remove`` have changed of what is configured."""
        found = SymbolChanges()
        for venue, configured in self._configured.items():
            now = self._symbols[venue]
            found.added.extend((venue, symbol) for symbol in now if symbol not in configured)
            found.removed.extend((venue, symbol) for symbol in configured if symbol not in now)
        found.removed.extend(sorted(self._removed_before - set(found.removed)))
        return found

    def change_again(self, kept: SymbolChanges) -> None:
        """What an earlier life of the instance was asked to add and remove; before the first :meth:`load`. A removed
        instrument has its row all the same: what is held there can leave."""
        for venue, symbol in kept.added:
            if venue in self._symbols and symbol not in self._symbols[venue]:
                self._symbols[venue].append(symbol)
        self._removed_before = {
            (venue, symbol) for venue, symbol in kept.removed if symbol in self._symbols.get(venue, ())
        }

    async def add(self, venue: VenueConfig, symbol: str) -> InstrumentRow:
        """Append one instrument while running, bring a removed one back, or end the halt of a changed one.

        Raises BadInput when the venue does not list it and when it is there already.
        """
        key = (venue.name, symbol)
        self._removed_before.discard(key)
        if self._id_of(key) >= 0 and key not in self.removed | self.held:
            raise BadInput(
                f"{venue.name} {symbol} is in the catalogue already, wanted a new one; see `arb symbols list`"
            )
        specs = await self._fetch(venue.name, [symbol])
        if not specs:
            raise BadInput(f"{venue.name} does not list {symbol}, wanted a symbol of its own; see `arb symbols list`")
        if symbol not in self._symbols[venue.name]:  # a second request may have added it while the venue was asked
            self._symbols[venue.name].append(symbol)
        instrument_id = self._id_of(key)
        if instrument_id < 0:
            self._merge(specs)
        elif key in self.removed:
            self._revive(instrument_id, specs[0])
        elif key in self.held:
            self.held.discard(key)
            self._update(instrument_id, self._at_time(specs[0]))
        return self.rows[self._id_of(key)]

    def _id_of(self, key: tuple[str, str]) -> int:
        """Number of the row of (venue, symbol), removed or not; -1 where there is none."""
        return next((row.instrument_id for row in self.rows if (row.spec.venue, row.spec.symbol) == key), -1)

    def _revive(self, instrument_id: int, spec: InstrumentSpec) -> None:
        spec = self._at_time(spec)
        row, key = self.rows[instrument_id], (spec.venue, spec.symbol)
        self.removed.discard(key)
        self.held.discard(key)
        spec = msgspec.structs.replace(spec, reference_price=row.spec.reference_price)
        try:
            self._write(msgspec.structs.replace(row, spec=spec, row_epoch=row.row_epoch + 1))
        except ValueError as error:
            self.removed.add(key)
            raise BadInput(f"{spec.venue} {spec.symbol}: {error}; restart to take the new numbers") from None

    def remove(self, venue: str, symbol: str) -> InstrumentRow:
        """Flag an instrument as removed: feeds unsubscribe, and no new position is opened. Raises BadInput."""
        for row in self.rows:
            if (row.spec.venue, row.spec.symbol) == (venue, symbol) and (venue, symbol) not in self.removed:
                self.removed.add((venue, symbol))
                self._symbols[venue].remove(symbol)
                self._write(row)
                return row
        raise BadInput(f"{venue} {symbol} is not in the catalogue, wanted one that is; see `arb symbols list`")


class WantedRows:
    """What running processes ask of the catalogue, by the counters of feeds and executor, and the account page; and
    what the clock asks of it: funding rates near their stamps, read by tasks that ``start`` begins."""

    def __init__(self, instance: str, feeds: Sequence[str], catalogue: CatalogueService, start: Start) -> None:
        self._catalogue = catalogue
        self._start = start
        self._processes = [*(f"feed.{feed}" for feed in feeds), "executor"]
        self._metrics = MetricsViews(instance)
        self._account = AccountPage.attach(instance)

    def look(self) -> list[str]:
        """Where a feed met a price that its row cannot hold: gives the whole pair a finer exponent and a new epoch.

        Returns the venues that are to be read again: one whose fees are taken in another coin by now, or where the
        executor met a refusal that spoke of a row; one that opens an instrument; and one whose announced ends could
        not be read.
        """
        self._catalogue.rates.look(wall_ms() // 1000, self._start)
        for process in self._processes:
            self._catalogue.take_wanted(self._metrics.counters(process))
        self._account.refresh()
        return [
            *self._catalogue.other_fee_coins(self._account),
            *self._catalogue.refused,
            *just_opened((row.spec for row in self._catalogue.rows), wall_ms() // 1000),
            *self._catalogue.ends_due(),
        ]
