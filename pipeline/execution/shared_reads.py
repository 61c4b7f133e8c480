"""The core's ports on shared memory: proved reads of books, the halt page, the account page, opportunity records."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from pipeline.detection.opportunity_record import record_crc32
from pipeline.execution.events import AccountSnapshot, Opportunity, OpportunityLeg
from pipeline.execution.market import Instruments
from pipeline.model.config import VenueConfig
from pipeline.model.fixedpoint import from_fp
from pipeline.model.structs import Balance, Position
from shm import layout as ly
from shm.atomics import load_acquire
from shm.bookring import proof_mono_ns, read_book
from shm.jit import direct, njit, njit_bare
from shm.pages import AccountPage, HaltPage, may_send
from shm.words import Words, unpack_text

READ_ATTEMPTS = 4  # a book that is replaced during each of these is returned without proof, and refused
_FLOAT = struct.Struct("<d")
_INT = struct.Struct("<q")


@njit
def read_proved(words: Words, feed_off: int, book_index: int, out: Words) -> int:
    """Reads the newest whole book into ``out`` (int64[96], BR_*); returns the time of its proof (monotonic ns).

    ``words``: memory of all feeds; ``feed_off``: where the book's feed begins in it. -1 = no book. 0 = read but not
    proved: its connection is dead or another one, its writer is of another epoch, or it was replaced during each
    attempt. The proof is taken between two reads of the same publication: one taken after the copy alone could prove a
    book that had just been replaced.
    """
    if read_book(words, feed_off, book_index, out) <= 0:
        return -1
    for _ in range(READ_ATTEMPTS):
        seq = out[ly.BR_SEQ]
        proof: int = proof_mono_ns(words, feed_off, out)
        if read_book(words, feed_off, book_index, out) <= 0:
            return -1
        if out[ly.BR_SEQ] == seq:
            if out[ly.BR_WRITER_EPOCH] != words[feed_off + ly.SEG_EPOCH]:
                return 0
            return proof
    return 0


@njit_bare
def may_launch(words: Words, token: int, mono_ns: int, venue_id: int, instrument_id: int) -> bool:
    """Whether the executor of epoch ``token`` may send new risk on an instrument of a venue at ``mono_ns``.

    words: int64[HALT_WORDS], the halt page. False for numbers that the page has no block for.
    """
    if venue_id < 0 or venue_id >= ly.VENUE_CAPACITY or instrument_id < 0 or instrument_id >= ly.CATALOGUE_CAPACITY:
        return False
    if not may_send(words, 0, token, mono_ns):
        return False
    venue, instrument = ly.HALT_VENUE_OFF + venue_id, ly.HALT_INSTRUMENT_OFF + instrument_id
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

    def poll(self) -> AccountSnapshot | None:
        """What is new, or None. A venue is new when a later sweep of it has succeeded."""
        self._page.refresh()
        fresh: set[int] = set()
        for venue_id in self._venues:
            row = self._page.venue(venue_id)
            ended = int(row[ly.AV_SWEEP_END_MONO_NS]) if row is not None and row[ly.AV_STATE] == 1 else 0
            if ended and ended != self._seen.get(venue_id):
                self._seen[venue_id] = ended
                fresh.add(venue_id)
        if not fresh:
            return None
        positions, confirmed = self._positions(fresh)
        return AccountSnapshot(tuple(self._balances(fresh)), tuple(positions), confirmed)

    def _balances(self, fresh: set[int]) -> list[Balance]:
        found: list[Balance] = []
        for index in range(self._page.balance_count):
            row = self._page.balance(index)
            if row is None or int(row[ly.AB_VENUE]) not in fresh:
                continue
            exp = int(row[ly.AB_EXP])
            found.append(
                Balance(
                    venue=self._venues[int(row[ly.AB_VENUE])].name,
                    asset=unpack_text(row[ly.AB_ASSET : ly.AB_ASSET + ly.AB_ASSET_WORDS]),
                    free=from_fp(int(row[ly.AB_FREE_FP]), exp),
                    locked=from_fp(int(row[ly.AB_LOCKED_FP]), exp),
                    recv_mono_ns=int(row[ly.AB_CONFIRMED_MONO_NS]),
                    source="rest",
                )
            )
        return found

    def _positions(self, fresh: set[int]) -> tuple[list[Position], dict[str, int]]:
        found: list[Position] = []
        confirmed = {self._venues[v].name: self._seen[v] for v in fresh if self._venues[v].market == "futures"}
        for index in range(self._page.position_count):
            row = self._page.position(index)
            if row is None or int(row[ly.APO_VENUE]) not in fresh:
                continue
            instrument = self._instruments.get(int(row[ly.APO_INSTRUMENT]))
            if instrument is None:
                continue
            price = from_fp(int(row[ly.APO_ENTRY_PRICE_FP]), int(row[ly.APO_PRICE_EXP]))
            found.append(
                Position(
                    venue=instrument.spec.venue,
                    symbol=instrument.spec.symbol,
                    qty=from_fp(int(row[ly.APO_QTY_FP]), int(row[ly.APO_QTY_EXP])),
                    entry_price=price,
                    mark_price=price,
                    recv_mono_ns=int(row[ly.APO_CONFIRMED_MONO_NS]),
                )
            )
        return found, confirmed


def float_of(word: int) -> float:
    """The float64 whose bits an int64 word holds."""
    return float(_FLOAT.unpack(_INT.pack(word))[0])


def decode_opportunity(
    record: Words, dequeued_mono_ns: int, checksum: Callable[[Words], int] = record_crc32
) -> Opportunity:
    """An opportunity record (int64[OPPORTUNITY_WORDS]) as an event; only its checksum is compared, nothing judged."""
    crc_ok = int(checksum(record)) == int(record[ly.OP_CRC32])
    words = record.tolist()
    legs: list[OpportunityLeg] = []
    for number in range(min(max(words[ly.OP_LEG_COUNT], 0), ly.LEG_CAPACITY)):
        at = ly.OP_LEGS + number * ly.LEG_WORDS
        legs.append(
            OpportunityLeg(
                instrument_id=words[at + ly.LEG_INSTRUMENT],
                side=words[at + ly.LEG_SIDE],
                limit_price_fp=words[at + ly.LEG_LIMIT_PRICE_FP],
                qty_fp=words[at + ly.LEG_QTY_FP],
                book_seq=words[at + ly.LEG_BOOK_SEQ],
                update_id=words[at + ly.LEG_UPDATE_ID],
                proof_mono_ns=words[at + ly.LEG_PROOF_MONO_NS],
                recv_mono_ns=words[at + ly.LEG_RECV_MONO_NS],
                best_price_fp=words[at + ly.LEG_BEST_PRICE_FP],
                notional=float_of(words[at + ly.LEG_NOTIONAL]),
                row_epoch=words[at + ly.LEG_ROW_EPOCH],
                writer_epoch=words[at + ly.LEG_WRITER_EPOCH],
            )
        )
    return Opportunity(
        opportunity_id=words[ly.OP_ID],
        type=words[ly.OP_TYPE],
        pair_id=words[ly.OP_PAIR],
        detect_mono_ns=words[ly.OP_DETECT_MONO_NS],
        trigger_recv_mono_ns=words[ly.OP_TRIGGER_RECV_MONO_NS],
        trigger_publish_mono_ns=words[ly.OP_TRIGGER_PUBLISH_MONO_NS],
        edge_bps=float_of(words[ly.OP_EDGE_BPS]),
        entry_edge_bps=float_of(words[ly.OP_ENTRY_EDGE_BPS]),
        profit_quote=float_of(words[ly.OP_PROFIT_QUOTE]),
        trigger_instrument=words[ly.OP_TRIGGER_INSTRUMENT],
        direction_key=words[ly.OP_DIRECTION_KEY],
        legs=tuple(legs),
        crc_ok=crc_ok,
        dequeued_mono_ns=dequeued_mono_ns,
    )
