"""``arb replay --detector``: the live detector's kernels on what the live detector read, bit for bit.

A recording (``pipeline.book.recording.pieces``) has the detector's state at the beginning of every piece and then every
word that decided something, in the order of reading. The same kernels run on them in one process, without a clock and
without books; each record that they push is compared with the one that was pushed then, all 64 words of it, ids and
stamps among them. A span ends where messages were dropped, or a piece is cut; the next state begins another.

``--out``: one JSON line per record, as the executor decodes it. ``digest``: the SHA-256 of the replayed records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from pipeline.book.recording.byte_ring import dropped_count
from pipeline.book.recording.capture_books import output_file
from pipeline.book.recording.pieces import (
    DETECTOR_STATE,
    DETECTOR_WORDS,
    DROPPED,
    PIECE,
    is_recording,
    messages,
    piece_files,
    piece_of,
)
from pipeline.detection.input_log import REPLAYING
from pipeline.detection.input_recording import LOG_WORDS, DetectorState, state_of
from pipeline.detection.input_replay import replay_entries
from pipeline.detection.kernel_arrays import nothing, private_ports
from pipeline.detection.memory import DETECTOR_COUNTERS, DETECTOR_SETTINGS, INPUT_LOG
from pipeline.detection.opportunity_record import decode_record
from pipeline.model.catalogue_row import words_to_row
from pipeline.model.errors import BadInput
from pipeline.model.instruments import InstrumentRow
from shm.layout import LEG, OPPORTUNITY
from shm.layout_pages import CATALOGUE_ROW
from shm.queue import pop
from shm.words import Words

QUEUE_CAPACITY = 8192  # more than the records of one part of the log


class Totals(msgspec.Struct):
    """What came out, over all spans."""

    spans: int = 0
    entries: int = 0
    evaluations: int = 0
    opportunities: int = 0  # records that were pushed, replayed
    equal: int = 0  # of them those that are the live ones, bit for bit
    unequal: int = 0
    dropped: int = 0  # messages that were not recorded
    unusable: int = 0  # parts of the log that no state stands before
    diverged: list[str] = []


class Span:
    """The kernels' memory from one recorded state on."""

    def __init__(self, state: DetectorState) -> None:
        mem = np.frombuffer(state.mem, dtype=np.int64)
        self.log_off = int(mem[INPUT_LOG.log_off])
        self.mem: Words = np.zeros(self.log_off + LOG_WORDS, dtype=np.int64)
        self.mem[: len(mem)] = mem
        self.flt = np.frombuffer(state.flt, dtype=np.float64).copy()
        self.mem[INPUT_LOG.mode] = REPLAYING
        self.mem[DETECTOR_SETTINGS.bell_fd] = -1
        for setting in (DETECTOR_SETTINGS.hist_scan, DETECTOR_SETTINGS.hist_publish, DETECTOR_SETTINGS.hist_receive):
            self.mem[setting] = -1
        inventory = np.zeros(2, dtype=np.int64) if state.limited else nothing()  # rows come from the log
        self.ports = private_ports(nothing(), capacity=QUEUE_CAPACITY, inventory=inventory)
        self._state = state
        self._catalogue = state.catalogue_rows()
        self._rows: dict[int, InstrumentRow] = {}
        self._evaluations = int(self.mem[DETECTOR_COUNTERS.evaluations])

    def play(self, words: Words, totals: Totals) -> Iterator[Words]:
        """One part of the log; the records that it led to."""
        if len(words) > LOG_WORDS:
            raise BadInput(
                f"the recording has a part of {len(words)} words, more than a detector writes: it is damaged"
            )
        mem = self.mem
        mem[self.log_off : self.log_off + len(words)] = words
        mem[INPUT_LOG.at], mem[INPUT_LOG.end] = self.log_off, self.log_off + len(words)
        equal, unequal = int(mem[INPUT_LOG.equal]), int(mem[INPUT_LOG.unequal])
        totals.entries += int(replay_entries(self.ports, mem, self.flt))
        totals.equal += int(mem[INPUT_LOG.equal]) - equal
        totals.unequal += int(mem[INPUT_LOG.unequal]) - unequal
        evaluations = int(mem[DETECTOR_COUNTERS.evaluations])
        totals.evaluations += evaluations - self._evaluations
        self._evaluations = evaluations
        out = np.zeros(OPPORTUNITY.WORDS, dtype=np.int64)
        while pop(self.ports.opps, 0, self.ports.opps_cursor, 0, out):
            out[OPPORTUNITY.seq] = 0  # its place in this queue
            yield out

    @property
    def fault(self) -> str:
        """Where the replay went another way; "" = nowhere."""
        kind = int(self.mem[INPUT_LOG.fault])
        at = int(self.mem[INPUT_LOG.fault_at]) - self.log_off
        return f"word {at} of a part of the log is no entry of kind {kind}" if kind else ""

    def line(self, record: Words) -> dict[str, object]:
        """A record in words and decimals."""
        legs = int(record[OPPORTUNITY.leg_count])
        for k in range(legs):
            number = int(record[OPPORTUNITY.legs + k * LEG.WORDS + LEG.instrument])
            if number not in self._rows:
                row = self._catalogue[number]
                venue = self._state.venues[int(row[CATALOGUE_ROW.venue])]
                self._rows[number] = words_to_row(number, row, venue)
        return msgspec.to_builtins(decode_record(record, self._rows), builtin_types=())  # type: ignore[no-any-return]


def run_inputs(path: Path, out: Path | None = None) -> dict[str, object]:
    """Replays a recording's detector; raises ``BadInput`` where there is none, or one of another build's layout."""
    by_source = piece_files(path, detector=True) if is_recording(path) else {}
    files = [file for pieces in by_source.values() for file in pieces]
    if not files:
        raise BadInput(f"{path}: no recording of a detector; recording.market: true makes one (arb demo --record)")
    totals, digest = Totals(), hashlib.sha256()
    with output_file(out) as sink:
        for span, record in _records(files, totals):
            totals.opportunities += 1
            digest.update(record.tobytes())
            if sink is not None:
                _write(sink, span, record)
    fields = msgspec.structs.asdict(totals)
    exact = bool(totals.spans and not (totals.unequal or totals.dropped or totals.unusable or totals.diverged))
    return {"exact": exact, **fields, "digest": digest.hexdigest()}


def _write(sink: IO[bytes], span: Span, record: Words) -> None:
    sink.write(msgspec.json.encode(span.line(record)) + b"\n")


def _records(files: list[Path], totals: Totals) -> Iterator[tuple[Span, Words]]:
    """Every record of every span, in order."""
    span: Span | None = None
    cut: set[Path] = set()
    for file in files:
        if span is not None and cut:  # its recorder was killed in the middle: what it had not written yet is gone
            totals.dropped += 1
            span = None
        cut.clear()
        for kind, payload in messages(file, cut):
            if kind == PIECE:
                piece_of(file, payload)
            elif kind == DETECTOR_STATE:
                span = Span(state_of(payload))
                totals.spans += 1
            elif kind == DROPPED:
                totals.dropped += dropped_count(payload)
                span = None
            elif kind == DETECTOR_WORDS and span is None:
                totals.unusable += 1
            elif kind == DETECTOR_WORDS and span is not None:
                for record in span.play(np.frombuffer(payload, dtype=np.int64), totals):
                    yield span, record
                if span.fault:
                    totals.diverged.append(f"{file.name}: {span.fault}")
                    span = None
