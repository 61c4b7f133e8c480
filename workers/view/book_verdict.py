"""May a book be traded now, and if not, why and what solves it: for `arb inspect book`, and for the books of `arb
status`, `arb top` and the page (``workers/view/status.py``), which ask the same (:class:`BookJudge`).

The reasons are those of the one answer (``workers/tradable.py``) as far as they concern the book's venue and symbol,
and what book and catalogue row say themselves: the detector's gates of one book (``pipeline/detection/gates.py``), each
with the name of its refusal in front (``Refusal``; the detector counts ``refused.<name>``). What concerns a pair, a
size or a balance (skew, inventory, minimum, ...) is not judged here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from pipeline.model.enums import Refusal, TradingStatus
from pipeline.model.instruments import InstrumentRow, wallet_open
from pipeline.risk.breakers import LOOK, RESUME
from pipeline.trade_state import Effect, Reason
from shm.layout import BOOK, FLAG_CROSSED, FLAG_GAP, FLAG_HALTED, FLAG_UNPROVED
from shm.liveness import FEED_MISSED_BEATS, LivenessView
from shm.pages import HaltPage
from shm.words import Words
from workers.control_plane.instances import described, is_running
from workers.state_folder import instance_dir
from workers.tradable import InstanceReasons, books_alone

BY_ITSELF = f"it ends by itself; {LOOK} shows the feed"
CATALOGUE = "arb symbols list"
FLAGS = (
    (FLAG_GAP, Refusal.GAP, "updates are missing, a snapshot is awaited"),
    (FLAG_CROSSED, Refusal.CROSSED, "its best bid is not below its best ask"),
    (FLAG_UNPROVED, Refusal.UNPROVED, "it is not proved current"),
)
STATUSES = {
    TradingStatus.BUY_ONLY: "the venue takes buys only, a sell is refused",
    TradingStatus.SELL_ONLY: "the venue takes sells only, a buy is refused",
    TradingStatus.HALTED: "the venue has suspended it, or its tick, lot or multiplier has changed",
}


class BookState(NamedTuple):
    """The newest book of an instrument. ``status``: > 0 a whole record was read, 0 none is there, -1 torn.

    ``age_ms`` None: not proved. ``row_epoch``: of the catalogue row that the record was made with. ``removed``: out of
    the catalogue. ``writer_lives``: the feed runs, and is the one that wrote the record.
    """

    status: int
    flags: int = 0
    age_ms: float | None = None
    max_age_ms: int = 0
    row_epoch: int = 0
    writer_lives: bool = False
    removed: bool = False


def state_of_book(
    record: Words | Sequence[int],
    *,
    status: int,
    proof_mono_ns: int,
    feed_epoch: int,
    feed_lives: bool,
    now_mono_ns: int,
) -> BookState:
    """What a copy of a record (int64[BOOK.WORDS]) says whose feed is in its run ``feed_epoch``."""
    return BookState(
        status=status,
        flags=int(record[BOOK.flags]),
        age_ms=(now_mono_ns - proof_mono_ns) / 1e6 if proof_mono_ns else None,
        row_epoch=int(record[BOOK.row_epoch]),
        writer_lives=feed_lives and int(record[BOOK.writer_epoch]) == feed_epoch,
    )


def feed_lives(view: LivenessView | None) -> bool:
    """As the detector judges it."""
    return view is not None and view.alive() and not view.hung(missed_beats=FEED_MISSED_BEATS)


class BookJudge:
    """What keeps each book of an instance from being traded, as it stands at one moment.

    ``fields``: content of ``run.json``; ``reasons``: those of the one answer.
    """

    def __init__(self, instance: str, fields: Mapping[str, Any], reasons: Iterable[Reason]) -> None:
        alone = (replace(note, effect=Effect.DEGRADES) for note in books_alone(fields))
        self._reasons = [*reasons, *alone]
        self._page = HaltPage.attach(instance)

    def against(self, row: InstrumentRow, book: BookState) -> list[Reason]:
        """Every reason, the worst first; [] where it may be traded."""
        found = against(row, book, self._reasons)
        if self._page.mapped and self._page.instrument_blocked(row.instrument_id):
            found.append(_reason("the instrument is blocked", RESUME))
        return sorted(found, key=lambda reason: -reason.effect)


def verdict(instance: str, row: InstrumentRow, book: BookState) -> dict[str, Any]:
    """``tradable``, and ``sentence`` with the reasons why not, the worst first, and what solves that one."""
    fields = described(instance)
    reasons = InstanceReasons(instance, instance_dir(instance)).reasons(fields, running=is_running(instance))
    found = BookJudge(instance, fields, reasons).against(row, book)
    name = f"{row.spec.venue} {row.spec.symbol}"
    if not found:
        return {"tradable": True, "sentence": f"{name} may be traded now."}
    worst, *others = found
    besides = f"; besides: {'; '.join(reason.what for reason in others)}" if others else ""
    return {
        "tradable": False,
        "sentence": f"{name} may not be traded now: {worst.what}; solve: {worst.solve}{besides}.",
    }


def against(row: InstrumentRow, book: BookState, reasons: list[Reason]) -> list[Reason]:
    """What keeps a book from being traded: those of the instance's ``reasons`` that concern it, and its own."""
    spec = row.spec
    return [*(reason for reason in reasons if reason.concerns(spec.venue, spec.symbol)), *_own(row, book)]


def _reason(what: str, solve: str) -> Reason:
    return Reason(what=what, solve=solve, effect=Effect.DEGRADES)


def _own(row: InstrumentRow, book: BookState) -> list[Reason]:
    """What book and catalogue say against it, the first that would have to be solved first."""
    name = f"{row.spec.venue} {row.spec.symbol}"
    found = []
    if book.removed:
        found.append(_reason("it was taken out of the catalogue", f"arb symbols add {name}"))
    for refusal, what, solve in (*_row_refusals(row, name), *_record_refusals(row, book, name)):
        found.append(_reason(f"{refusal.name.lower()}: {what}", solve))
    return found


Found = tuple[Refusal, str, str]


def _row_refusals(row: InstrumentRow, name: str) -> Iterator[Found]:
    """(refusal, what, what solves it) of the catalogue row."""
    spec = row.spec
    if not row.tradable_pair:
        solve = f"{CATALOGUE} shows why; name the coin in detection.also_trusted_coins where it is the same everywhere"
        yield Refusal.QUARANTINED, "the coin is quarantined: it pairs with no other venue's", solve
    if spec.status in STATUSES:
        yield Refusal.STATUS, STATUSES[spec.status], f"{CATALOGUE}; arb symbols add {name} confirms a change"
    if spec.ending:
        unreadable, ends = "its row at the venue cannot be read", "within detection.no_entries_before_end_h it ends"
        yield Refusal.STATUS, unreadable if spec.unreadable else ends, f"{CATALOGUE} shows it"
    if not wallet_open(spec):
        what = "the venue takes no deposit or no withdrawal of the coin"
        yield Refusal.STATUS, what, "the venue opens its wallet again; the catalogue reads it every 2 minutes"


def _record_refusals(row: InstrumentRow, book: BookState, name: str) -> Iterator[Found]:
    """(refusal, what, what solves it) of the record."""
    if book.status <= 0:
        torn = book.status < 0
        what = (
            "its feed died while writing it, or replaces it all the time"
            if torn
            else "no readable book of it is in shared memory"
        )
        yield Refusal.TORN if torn else Refusal.NO_BOOK, what, BY_ITSELF
        return
    for flag, refusal, what in FLAGS:
        if book.flags & flag:
            yield refusal, what, BY_ITSELF
    if book.flags & FLAG_HALTED:
        what = "its tick, lot, multiplier or status has changed, or the venue has suspended it"
        yield Refusal.HALTED, what, f"{CATALOGUE}; arb symbols add {name} confirms a change"
    elif book.row_epoch != row.row_epoch:
        what = f"it is of epoch {book.row_epoch} of its catalogue row, which is at {row.row_epoch}"
        yield Refusal.HALTED, what, BY_ITSELF
    if not book.writer_lives:
        yield Refusal.WRITER_DEAD, "the feed that wrote it has ended or hangs", BY_ITSELF
    if book.age_ms is None:
        yield Refusal.UNPROVED, "its connection is down or another one: it is not proved current", BY_ITSELF
    elif book.max_age_ms and book.age_ms > book.max_age_ms:
        what = f"it was proved current {book.age_ms:.0f} ms ago, detection.max_age_to_trade_ms is {book.max_age_ms}"
        yield Refusal.QUIET_UNPROVED, what, "the next frame of its connection proves it again"


def book_age_limit_ms(fields: Mapping[str, Any]) -> int:
    """``detection.max_age_to_trade_ms`` of the configuration that ``run.json`` names; 0 where it cannot be read."""
    from pipeline.model.config_load import load_config
    from pipeline.model.errors import ArbitrageEngineError

    try:
        return load_config(fields["config"]).detection.max_age_to_trade_ms if fields.get("config") else 0
    except ArbitrageEngineError:
        return 0
