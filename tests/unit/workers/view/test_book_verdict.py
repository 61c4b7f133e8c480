"""What ``arb inspect book`` says against a book is what the detector's gates of one book say, by the same names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.detection.gates import book_gate, read_leg, status_gate
from pipeline.detection.memory import DETECTOR_SETTINGS, FEED_READER
from pipeline.model.catalogue_row import words_to_row
from pipeline.model.enums import InstrumentKind, Refusal, TradingStatus
from pipeline.rehearsal.detection_world import NOW, Listing, World
from shm.bookring import proof_mono_ns, read_book
from shm.layout import BOOK, FLAG_CROSSED, FLAG_GAP, FLAG_HALTED, FLAG_UNPROVED, HEADER
from shm.layout_pages import CAT_FLAG_DEPOSIT, CAT_FLAG_ENDING, CAT_FLAG_IDENTITY, CAT_FLAG_WITHDRAW, CATALOGUE_ROW
from workers.view.book_verdict import against, state_of_book

MS = 1_000_000
MAX_AGE_MS = 100
OPEN = CAT_FLAG_IDENTITY | CAT_FLAG_DEPOSIT | CAT_FLAG_WITHDRAW
SEEN_BY_A_PAIR = {Refusal.QUARANTINED}  # the detector asks them of a direction, not of a book


def world(published: bool = True, listing: Listing | None = None, **record: int) -> World:
    made = World([listing or Listing(flags=OPEN), Listing(feed=1)])
    if published:
        made.publish(0, [(10_000, 5)], [(10_010, 5)], **record)
    return made


def of(**listing: int) -> Callable[[], World]:
    return lambda: world(listing=Listing(**{"flags": OPEN, **listing}))  # type: ignore[arg-type]


def disconnected() -> World:
    made = world()
    made.disconnect(0)
    return made


def dead() -> World:
    made = world()
    made.memory.feeds[0, FEED_READER.alive] = 0
    return made


def another_writer() -> World:
    made = world()
    made.feeds[HEADER.epoch] = 2
    return made


def aged(ms: int) -> Callable[[], World]:
    def make() -> World:
        made = world()
        made.now(NOW + ms * MS)
        return made

    return make


def torn() -> World:
    made = world()
    for word in np.flatnonzero(made.feeds[: made.feed_words] == 2):  # every sequence number of the first record
        made.feeds[word] = 3
    return made


#: scene -> what makes it, and the one refusal (NONE: it may be traded)
SCENES: dict[str, tuple[Callable[[], World], Refusal]] = {
    "whole": (world, Refusal.NONE),
    "at the limit of age": (aged(MAX_AGE_MS), Refusal.NONE),
    "never published": (lambda: world(published=False), Refusal.NO_BOOK),
    "torn": (torn, Refusal.TORN),
    "gap": (lambda: world(flags=FLAG_GAP), Refusal.GAP),
    "crossed": (lambda: world(flags=FLAG_CROSSED), Refusal.CROSSED),
    "unproved": (lambda: world(flags=FLAG_UNPROVED), Refusal.UNPROVED),
    "no connection": (disconnected, Refusal.UNPROVED),
    "halted": (lambda: world(flags=FLAG_HALTED), Refusal.HALTED),
    "epoch of the row": (lambda: world(row_epoch=2), Refusal.HALTED),
    "dead feed": (dead, Refusal.WRITER_DEAD),
    "feed born again": (another_writer, Refusal.WRITER_DEAD),
    "old": (aged(MAX_AGE_MS + 1), Refusal.QUIET_UNPROVED),
    "suspended": (of(status=TradingStatus.HALTED), Refusal.STATUS),
    "buys only": (of(status=TradingStatus.BUY_ONLY), Refusal.STATUS),
    "sells only": (of(status=TradingStatus.SELL_ONLY), Refusal.STATUS),
    "ending": (of(flags=OPEN | CAT_FLAG_ENDING), Refusal.STATUS),
    "no deposit": (of(flags=OPEN & ~CAT_FLAG_DEPOSIT), Refusal.STATUS),
    "no withdrawal": (of(flags=OPEN & ~CAT_FLAG_WITHDRAW), Refusal.STATUS),
    "a contract needs no wallet": (of(kind=InstrumentKind.PERPETUAL, flags=CAT_FLAG_IDENTITY), Refusal.NONE),
    "quarantined": (of(pair_id=-1), Refusal.QUARANTINED),
}


def detector_says(made: World) -> set[Refusal]:
    """The gates of one book, and of its status on either side, as the detector asks them."""
    mem = made.mem
    status = read_leg(made.ports.feeds, mem, 0, 0)
    codes = {book_gate(made.ports.feeds, mem, 0, 0, status, int(mem[DETECTOR_SETTINGS.now_ns]))}
    codes |= {status_gate(mem, 0, side) for side in (1, -1)}
    return {Refusal(int(code)) for code in codes} - {Refusal.NONE}


def inspect_says(made: World) -> set[Refusal]:
    """The refusals that stand in front of the sentences."""
    row, record = made.rows[0], np.zeros(BOOK.WORDS, dtype=np.int64)
    status = int(read_book(made.feeds, 0, int(row[CATALOGUE_ROW.book_index]), record))
    lives, now_ns = bool(made.memory.feeds[0, FEED_READER.alive]), int(made.mem[DETECTOR_SETTINGS.now_ns])
    proof = int(proof_mono_ns(made.feeds, 0, record))
    state = state_of_book(
        record,
        status=status,
        proof_mono_ns=proof,
        feed_epoch=int(made.feeds[HEADER.epoch]),
        feed_lives=lives,
        now_mono_ns=now_ns,
    )
    reasons = against(words_to_row(0, row, "a_spot"), state._replace(max_age_ms=MAX_AGE_MS), [])
    return {Refusal[reason.what.partition(":")[0].upper()] for reason in reasons}


@pytest.mark.parametrize("scene", SCENES)
def test_inspect_refuses_what_the_detector_refuses_and_by_the_same_name(scene: str) -> None:
    make, wanted = SCENES[scene]
    made = make()
    assert made.mem[DETECTOR_SETTINGS.max_age_ns] == MAX_AGE_MS * MS
    said = inspect_says(made)
    assert said == {wanted} - {Refusal.NONE}
    assert said - SEEN_BY_A_PAIR == detector_says(made)


def test_every_refusal_of_one_book_has_a_scene() -> None:
    """The detector's codes up to STATUS are those of a book, but for the skew of two; TORN stands behind."""
    of_a_book = {code for code in Refusal if 0 < code <= Refusal.STATUS} - {Refusal.SKEW} | {Refusal.TORN}
    assert of_a_book == {refusal for _, refusal in SCENES.values()} - {Refusal.NONE}
