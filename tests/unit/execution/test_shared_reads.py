"""The core's eyes on shared memory: proved books, decoded opportunities."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.detection.opportunity_record import record_crc32_of
from pipeline.execution.shared_reads import decode_opportunity, may_launch, read_proved
from shm.bookring import conn_close, conn_frame, conn_open, init_feed, publish_book
from shm.layout import BOOK, HEADER, LEG, LEG_CAPACITY, OPPORTUNITY, feed_segment_words
from shm.layout_pages import CATALOGUE_CAPACITY, HALT, VENUE_CAPACITY
from tests.naive import execution as naive

CAPACITY = 2


def feed_words(epoch: int = 3) -> np.ndarray:
    words = np.zeros(feed_segment_words(CAPACITY), np.int64)
    words[HEADER.epoch] = epoch
    init_feed(words, 0, CAPACITY)
    return words


def record(generation: int, *, conn: int = 1, instrument: int = 0, recv_ns: int = 1000, epoch: int = 3) -> np.ndarray:
    found = np.zeros(BOOK.WORDS, np.int64)
    found[BOOK.instrument] = instrument
    found[BOOK.conn] = conn
    found[BOOK.conn_generation] = generation
    found[BOOK.recv_mono_ns] = recv_ns
    found[BOOK.writer_epoch] = epoch
    return found


@given(
    st.integers(0, 12),
    st.booleans(),
    st.integers(-1, 2),
    st.integers(0, 10**6),
    st.booleans(),
    st.integers(0, CAPACITY),
)
@settings(max_examples=80, deadline=None)
def test_the_proved_read_is_its_plain_twin(
    publications: int, closed: bool, conn_shift: int, frame_ns: int, other_epoch: bool, index: int
) -> None:
    words = feed_words()
    generation = conn_open(words, 0, 1, 0, 100)
    for number in range(publications):
        publish_book(words, 0, 0, record(generation, conn=1 + conn_shift, recv_ns=1000 + number))
    conn_frame(words, 0, 1, frame_ns)
    if other_epoch:
        words[HEADER.epoch] += 1
    if closed:
        conn_close(words, 0, 1)
    ours, theirs = np.zeros(BOOK.WORDS, np.int64), np.zeros(BOOK.WORDS, np.int64)
    assert read_proved(words, 0, index, ours) == naive.read_proved(words, 0, index, theirs)
    assert (ours == theirs).all()


def test_an_opportunity_is_decoded_and_a_flipped_bit_is_seen() -> None:
    words = np.zeros(OPPORTUNITY.WORDS, np.int64)
    words[OPPORTUNITY.id], words[OPPORTUNITY.type], words[OPPORTUNITY.leg_count] = 42, 0, 2
    words[OPPORTUNITY.edge_bps] = struct.unpack("<q", struct.pack("<d", 12.5))[0]
    for number, side in enumerate((1, -1)):
        at = OPPORTUNITY.legs + number * LEG.WORDS
        words[at + LEG.instrument], words[at + LEG.side], words[at + LEG.qty_fp] = number, side, 10**8
    words[OPPORTUNITY.crc32] = record_crc32_of(words)
    found = decode_opportunity(words, 7)
    assert (found.opportunity_id, found.edge_bps, found.dequeued_mono_ns, found.crc_ok) == (42, 12.5, 7, True)
    assert [(leg.instrument_id, leg.side, leg.qty_fp) for leg in found.legs] == [(0, 1, 10**8), (1, -1, 10**8)]
    words[OPPORTUNITY.legs + LEG.qty_fp] ^= 1 << 40
    assert not decode_opportunity(words, 7).crc_ok
    words[OPPORTUNITY.leg_count] = 2**40
    assert len(decode_opportunity(words, 7).legs) == LEG_CAPACITY, "an absurd count is bounded"


@given(
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(-1, VENUE_CAPACITY),
    st.sampled_from([-1, 0, 1, 2, CATALOGUE_CAPACITY - 1, CATALOGUE_CAPACITY]),
    st.integers(0, 3),
    st.integers(0, 3),
)
@settings(deadline=None)
def test_new_risk_leaves_only_with_lease_no_halt_and_no_block(
    latched: bool, token: int, expiry: int, venue: int, instrument: int, blocked: int, halted: int
) -> None:
    words = np.zeros(HALT.END, np.int64)
    words[HALT.latch], words[HALT.lease_token], words[HALT.lease_expiry_mono_ns] = latched, token, expiry
    words[HALT.venue_blocked + blocked] = 1
    words[HALT.instrument_blocked + halted] = 1
    places = 0 <= venue < VENUE_CAPACITY and 0 <= instrument < CATALOGUE_CAPACITY
    wanted = not latched and token == 1 and expiry > 2 and places and venue != blocked and instrument != halted
    assert may_launch(words, 1, 2, venue, instrument) == wanted
