"""The core's ports on shared memory: proved reads of books, the halt page, the account page, opportunity records."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from decimal import Decimal

from pipeline.detection.opportunity_record import record_crc32
from pipeline.execution.events import AccountSnapshot, Opportunity, OpportunityLeg
from pipeline.execution.market import Instruments
from pipeline.model.config import VenueConfig
from pipeline.model.enums import AccountState
from pipeline.model.fixedpoint import from_fp
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import Balance, Position
from shm.atomics import load_acquire
from shm.bookring import proof_mono_ns, read_book
from shm.jit import direct, njit, njit_bare
from shm.layout import BOOK, HEADER, LEG, LEG_CAPACITY, OPPORTUNITY
from shm.layout_pages import (
    ACCOUNT_BALANCE,
    ACCOUNT_POSITION,
    ACCOUNT_VENUE,
    ASSET_WORDS,
    CATALOGUE_CAPACITY,
    HALT,
    POSITION_HAS_LIQUIDATION,
    POSITION_HAS_MAINTENANCE,
    POSITION_UNREADABLE,
    VENUE_CAPACITY,
)
from shm.pages import AccountPage, HaltPage, may_send
from shm.words import Words, unpack_text

READ_ATTEMPTS = 4  # a book that is replaced during each of these is returned without proof, and refused
_FLOAT = struct.Struct("<d")
_INT = struct.Struct("<q")


@njit
def read_proved(words: Words, feed_off: int, book_index: int, out: Words) -> int:
    """Reads the newest whole book into ``out`` (int64[BOOK.WORDS]); returns the time of its proof (monotonic ns).

    ``words``: memory of all feeds; ``feed_off``: where the book's feed begins in it. -1 = no book. 0 = read but not
    proved: its connection is dead or another one, its writer is of another epoch, or it was replaced during each
    attempt. The proof is taken between two reads of the same publication: one taken after the copy alone could prove a
    book that had just been replaced.
    """
    if read_book(words, feed_off, book_index, out) <= 0:
        return -1
    for _ in range(READ_ATTEMPTS):
        seq = out[BOOK.seq]
        proof: int = proof_mono_ns(words, feed_off, out)
        if read_book(words, feed_off, book_index, out) <= 0:
            return -1
        if out[BOOK.seq] == seq:
            if out[BOOK.writer_epoch] != words[feed_off + HEADER.epoch]:
                return 0
            return proof
    return 0


@njit_bare
def may_launch(words: Words, token: int, mono_ns: int, venue_id: int, instrument_id: int) -> bool:
    """Whether the executor of epoch ``token`` may send new risk on an instrument of a venue at ``mono_ns``.

    words: int64[HALT.END], the halt page. False for numbers that the page has no block for.
    """
    if venue_id < 0 or venue_id >= VENUE_CAPACITY or instrument_id < 0 or instrument_id >= CATALOGUE_CAPACITY:
        return False
    if not may_send(words, 0, token, mono_ns):
        return False
    venue, instrument = HALT.venue_blocked + venue_id, HALT.instrument_blocked + instrument_id
    # SYNC halt.block: acquire; pairs with HaltPage._block
    return load_acquire(words, venue) == 0 and load_acquire(words, instrument) == 0


class ShmHalt:
    """The halt page as a ``HaltPort``. ``token``: the executor's liveness epoch; a lease for another token is none."""

    def __init__(self, page: HaltPage, token: int) -> None:
        self._page = page
        self.token = token
        self._may_launch = direct(may_launch, page.words, token, 0, 0, 0)

    def latched(self) -> bool:
        """Whether the halt latch is set."""
        return bool(self._page.latched)

    def lease_expiry_mono_ns(self) -> int:
        """Until when the lease runs; 0 when another executor holds it, or none."""
        token, expiry = self._page.lease
        return expiry if token == self.token else 0

    def fenced(self) -> bool:
        """Whether the guard has taken over: nothing may be sent."""
        return bool(self._page.fenced)

    def venue_blocked(self, venue_id: int) -> bool:
        """Whether new risk on a venue is blocked."""
        return bool(self._page.venue_blocked(venue_id))

    def instrument_blocked(self, instrument_id: int) -> bool:
        """Whether new risk on an instrument is blocked."""
        return bool(self._page.instrument_blocked(instrument_id))

    def words(self) -> Words | None:
        """The page itself (int64), for the jitted verdict; None while no guard has made one."""
        return self._page.words if self._page.mapped else None

    def may_launch(self, mono_ns: int, venue_id: int, instrument_id: int) -> bool:
        """Lease held, no halt, venue and instrument not blocked: one look right before the bytes of new risk leave."""
        return bool(self._may_launch(self._page.words, self.token, mono_ns, venue_id, instrument_id))

    def refresh(self) -> None:
        """Maps the page anew where the guard has made another one."""
        self._page.refresh()


class AccountReader:
    """Balances and positions that the poller has confirmed since the last call, as events of the core."""

    def __init__(self, page: AccountPage, venues: Sequence[VenueConfig], instruments: Instruments) -> None:
        self._page = page
        self._venues = {venue.venue_id: venue for venue in venues}
        self._instruments = instruments
        self._seen: dict[int, int] = {}
        self._wrong: set[int] = set()  # venues whose account stands in a mode in which it is not read

    def poll(self) -> AccountSnapshot | None:
        """What is new, or None. A venue is new when a later sweep of it has succeeded, or its modes became wrong: of
        that one nothing else is told."""
        self._page.refresh()
        fresh: set[int] = set()
        before, self._wrong = self._wrong, self._in_wrong_modes()
        for venue_id in self._venues:
            row = self._page.venue(venue_id)
            ended = (
                int(row[ACCOUNT_VENUE.sweep_end_mono_ns])
                if row is not None and row[ACCOUNT_VENUE.state] in (AccountState.OK, AccountState.UNSETTLED)
                else 0
            )
            if ended and ended != self._seen.get(venue_id):
                self._seen[venue_id] = ended
                fresh.add(venue_id)
        if not fresh and self._wrong <= before:
            return None
        positions, confirmed, unreadable = self._positions(fresh)
        clocks = self.clocks()
        coins = {self._venues[number].name: self._page.fee_coin(number) for number in fresh}
        reported = {venue: coin for venue, coin in coins.items() if coin is not None}
        return AccountSnapshot(
            tuple(self._balances(fresh)),
            tuple(positions),
            confirmed,
            {name: offset_ns for name, (offset_ns, _) in clocks.items()},
            {name: read_ns for name, (_, read_ns) in clocks.items()},
            reported,
            tuple(unreadable),
            {self._venues[number].name: self._settled(number) for number in fresh | self._wrong},
        )

    def _state(self, venue_id: int) -> int:
        row = self._page.venue(venue_id)
        return AccountState.NEVER if row is None else int(row[ACCOUNT_VENUE.state])

    def _settled(self, venue_id: int) -> bool:
        """Whether the account's modes are known, and as wanted."""
        return self._state(venue_id) not in (AccountState.UNSETTLED, AccountState.SETTINGS_WRONG)

    def _in_wrong_modes(self) -> set[int]:
        return {number for number in self._venues if self._state(number) == AccountState.SETTINGS_WRONG}

    def clocks(self) -> dict[str, tuple[int, int]]:
        """Venue -> (its unix time less our monotonic time, when it was read), of all whose clock was ever read: also of
        one whose account does not answer."""
        self._page.refresh()
        found: dict[str, tuple[int, int]] = {}
        for number, venue in self._venues.items():
            row = self._page.venue(number)
            if row is not None and row[ACCOUNT_VENUE.clock_offset_ns]:
                offset_ns, read_ns = row[ACCOUNT_VENUE.clock_offset_ns], row[ACCOUNT_VENUE.clock_read_mono_ns]
                found[venue.name] = int(offset_ns), int(read_ns)
        return found

    def _balances(self, fresh: set[int]) -> list[Balance]:
        found: list[Balance] = []
        for index in range(self._page.balance_count):
            row = self._page.balance(index)
            if row is None or int(row[ACCOUNT_BALANCE.venue]) not in fresh:
                continue
            exp = int(row[ACCOUNT_BALANCE.exp])
            found.append(
                Balance(
                    venue=self._venues[int(row[ACCOUNT_BALANCE.venue])].name,
                    asset=unpack_text(row[ACCOUNT_BALANCE.asset : ACCOUNT_BALANCE.asset + ASSET_WORDS]),
                    free=from_fp(int(row[ACCOUNT_BALANCE.free_fp]), exp),
                    locked=from_fp(int(row[ACCOUNT_BALANCE.locked_fp]), exp),
                    recv_mono_ns=int(row[ACCOUNT_BALANCE.confirmed_mono_ns]),
                    source="rest",
                )
            )
        return found

    def _positions(self, fresh: set[int]) -> tuple[list[Position], dict[str, int], list[tuple[str, str]]]:
        found: list[Position] = []
        unreadable: list[tuple[str, str]] = []
        confirmed = {self._venues[v].name: self._seen[v] for v in fresh if self._venues[v].market == "futures"}
        for index in range(self._page.position_count):
            row = self._page.position(index)
            if row is None or int(row[ACCOUNT_POSITION.venue]) not in fresh:
                continue
            instrument = self._instruments.get(int(row[ACCOUNT_POSITION.instrument]))
            if instrument is None:
                continue
            if int(row[ACCOUNT_POSITION.known]) & POSITION_UNREADABLE:
                unreadable.append((instrument.spec.venue, instrument.spec.symbol))
            else:
                found.append(_position(instrument, row))
        return found, confirmed, unreadable


def _position(instrument: InstrumentRow, row: Words) -> Position:
    """A position of the account page; ``row``: int64[ACCOUNT_POSITION.WORDS]."""
    exp, reported = int(row[ACCOUNT_POSITION.price_exp]), int(row[ACCOUNT_POSITION.known])
    liquidation = from_fp(int(row[ACCOUNT_POSITION.liquidation_price_fp]), exp)
    maintenance = from_fp(int(row[ACCOUNT_POSITION.maintenance_fp]), exp)
    return Position(
        venue=instrument.spec.venue,
        symbol=instrument.spec.symbol,
        qty=from_fp(int(row[ACCOUNT_POSITION.qty_fp]), int(row[ACCOUNT_POSITION.qty_exp])),
        entry_price=from_fp(int(row[ACCOUNT_POSITION.entry_price_fp]), exp),
        mark_price=from_fp(int(row[ACCOUNT_POSITION.mark_price_fp]), exp),
        recv_mono_ns=int(row[ACCOUNT_POSITION.confirmed_mono_ns]),
        margin=from_fp(int(row[ACCOUNT_POSITION.margin_fp]), exp),
        unrealised_pnl=from_fp(int(row[ACCOUNT_POSITION.upnl_fp]), exp),
        liquidation_price=liquidation if reported & POSITION_HAS_LIQUIDATION else None,
        maintenance_rate=Decimal(int(row[ACCOUNT_POSITION.maintenance_ppm])) / 1_000_000,
        maintenance_margin=maintenance if reported & POSITION_HAS_MAINTENANCE else None,
    )


def float_of(word: int) -> float:
    """The float64 whose bits an int64 word holds."""
    return float(_FLOAT.unpack(_INT.pack(word))[0])


def decode_opportunity(
    record: Words, dequeued_mono_ns: int, checksum: Callable[[Words], int] = record_crc32
) -> Opportunity:
    """An opportunity record (int64[OPPORTUNITY.WORDS]) as an event; only its checksum is compared, nothing judged."""
    crc_ok = int(checksum(record)) == int(record[OPPORTUNITY.crc32])
    words = record.tolist()
    legs: list[OpportunityLeg] = []
    for number in range(min(max(words[OPPORTUNITY.leg_count], 0), LEG_CAPACITY)):
        at = OPPORTUNITY.legs + number * LEG.WORDS
        legs.append(
            OpportunityLeg(
                instrument_id=words[at + LEG.instrument],
                side=words[at + LEG.side],
                limit_price_fp=words[at + LEG.limit_price_fp],
                qty_fp=words[at + LEG.qty_fp],
                book_seq=words[at + LEG.book_seq],
                update_id=words[at + LEG.update_id],
                proof_mono_ns=words[at + LEG.proof_mono_ns],
                recv_mono_ns=words[at + LEG.recv_mono_ns],
                best_price_fp=words[at + LEG.best_price_fp],
                notional=float_of(words[at + LEG.notional]),
                row_epoch=words[at + LEG.row_epoch],
                writer_epoch=words[at + LEG.writer_epoch],
            )
        )
    return Opportunity(
        opportunity_id=words[OPPORTUNITY.id],
        type=words[OPPORTUNITY.type],
        pair_id=words[OPPORTUNITY.pair],
        detect_mono_ns=words[OPPORTUNITY.detect_mono_ns],
        trigger_recv_mono_ns=words[OPPORTUNITY.trigger_recv_mono_ns],
        trigger_publish_mono_ns=words[OPPORTUNITY.trigger_publish_mono_ns],
        edge_bps=float_of(words[OPPORTUNITY.edge_bps]),
        entry_edge_bps=float_of(words[OPPORTUNITY.entry_edge_bps]),
        profit_quote=float_of(words[OPPORTUNITY.profit_quote]),
        trigger_instrument=words[OPPORTUNITY.trigger_instrument],
        direction_key=words[OPPORTUNITY.direction_key],
        legs=tuple(legs),
        crc_ok=crc_ok,
        dequeued_mono_ns=dequeued_mono_ns,
    )
