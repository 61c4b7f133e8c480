"""One sentence about a book: may it be traded now, and if not, why and what solves it.

The reasons are those of the one answer (``workers/tradable.py``) as far as they concern the book's venue and symbol;
beside them stand what only the book itself says: its flags, its age, and what the catalogue says of its instrument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.model.enums import TradingStatus
from pipeline.model.instruments import InstrumentRow
from pipeline.tradable import LOOK, RESUME, Effect, Reason
from shm.layout import FLAG_CROSSED, FLAG_GAP, FLAG_HALTED, FLAG_UNPROVED
from shm.pages import HaltPage
from workers.control_plane.instances import described, is_running
from workers.state_folder import instance_dir
from workers.tradable import InstanceReasons

BY_ITSELF = f"it ends by itself; {LOOK} shows the feed"
FLAGS = (
    (FLAG_GAP, "updates are missing, a snapshot is awaited"),
    (FLAG_CROSSED, "its best bid is not below its best ask"),
    (FLAG_UNPROVED, "it is not proved current"),
)


class BookState(NamedTuple):
    """``published``: a whole record was read. ``age_ms`` None: never proved. ``removed``: out of the catalogue."""

    published: bool
    flags: int = 0
    age_ms: float | None = None
    max_age_ms: int = 0
    removed: bool = False


def verdict(instance: str, row: InstrumentRow, book: BookState) -> dict[str, Any]:
    """``tradable``, and ``sentence`` with the worst reason why not and what solves it."""
    running = is_running(instance)
    reasons = InstanceReasons(instance, instance_dir(instance)).reasons(described(instance), running=running)
    page = HaltPage.attach(instance)
    if page.mapped and page.instrument_blocked(row.instrument_id):
        reasons.append(_reason("the instrument is blocked", RESUME))
    found = against(row, book, reasons)
    name = f"{row.spec.venue} {row.spec.symbol}"
    if not found:
        return {"tradable": True, "sentence": f"{name} may be traded now."}
    worst = max(found, key=lambda reason: reason.effect)
    more = f" (and {len(found) - 1} more reasons: {LOOK})" if len(found) > 1 else ""
    return {
        "tradable": False,
        "sentence": f"{name} may not be traded now: {worst.what}; solve: {worst.solve}{more}.",
    }


def against(row: InstrumentRow, book: BookState, reasons: list[Reason]) -> list[Reason]:
    """What keeps a book from being traded: those of the instance's ``reasons`` that concern it, and its own."""
    return [reason for reason in [*reasons, *_own(row, book)] if _concerns(reason, row)]


def _reason(what: str, solve: str) -> Reason:
    return Reason(what=what, solve=solve, effect=Effect.DEGRADES)


def _own(row: InstrumentRow, book: BookState) -> list[Reason]:
    """What book and catalogue say against it, the first that would have to be solved first."""
    found = []
    name = f"{row.spec.venue} {row.spec.symbol}"
    if book.removed:
        found.append(_reason("it was taken out of the catalogue", f"arb symbols add {name}"))
    if not row.tradable_pair:
        solve = "arb symbols list shows why; name the coin in detection.trusted_coins where it is the same everywhere"
        found.append(_reason("the coin is quarantined: it pairs with no other venue's", solve))
    if book.flags & FLAG_HALTED or row.spec.status is TradingStatus.HALTED:
        what = "its tick, lot, multiplier or status has changed, or the venue has suspended it"
        found.append(_reason(what, f"arb symbols list; arb symbols add {name} confirms a change"))
    if not book.published:
        found.append(_reason("no readable book of it is in shared memory", BY_ITSELF))
        return found
    found += [_reason(text, BY_ITSELF) for flag, text in FLAGS if book.flags & flag]
    if book.age_ms is None:
        found.append(_reason("it was never proved current", BY_ITSELF))
    elif book.max_age_ms and book.age_ms > book.max_age_ms:
        what = f"it was proved current {book.age_ms:.0f} ms ago, detection.max_age_to_trade_ms is {book.max_age_ms}"
        found.append(_reason(what, "the next update or ping proves it again"))
    return found


def _concerns(reason: Reason, row: InstrumentRow) -> bool:
    """Whether a reason keeps this instrument from being traded: those that stop everything, and those that name it."""
    if reason.effect is Effect.NOTE:
        return False
    if reason.effect >= Effect.STOPS:
        return True
    venue, symbol = row.spec.venue, row.spec.symbol
    of_others = (
        "breaker ", "venue ", "feed of ", "account of ", "margin of ", "recovery ", "process ", "the disk ",
    )  # fmt: skip
    mine = (
        f"breaker venue.{venue}:", f"breaker fee.{venue}.{symbol}:", f"venue {venue}:", f"feed of {venue}:",
        f"account of {venue}:", f"margin of {venue} {symbol}:",
    )  # fmt: skip
    return reason.what.startswith(mine) or not reason.what.startswith(of_others)


def book_age_limit_ms(fields: Mapping[str, Any]) -> int:
    """``detection.max_age_to_trade_ms`` of the configuration that ``run.json`` names; 0 where it cannot be read."""
    from pipeline.model.config_load import load_config
    from pipeline.model.errors import ArbitrageEngineError

    try:
        return load_config(fields["config"]).detection.max_age_to_trade_ms if fields.get("config") else 0
    except ArbitrageEngineError:
        return 0
