"""Recording what the detector reads: its log taken away after every step, its whole state at the beginning of a piece.

What the kernels read they write down themselves (``input_log``). What Python changes between two steps (prices, caps,
exits of hedges, which feeds live) is written as the words that changed; a new topology is a new state.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec
import numpy as np

from pipeline.detection import cycle_size, cycles, depth_walk, input_log, scan_loop, topology
from pipeline.detection import memory as detector_memory
from pipeline.detection.input_log import CHANGE, KIND_BITS, RECORDING
from pipeline.detection.input_replay import CHANGE_HEAD, CHANGED_FLT, CHANGED_MEM
from pipeline.detection.memory import DETECTOR, INPUT_LOG, Floats, Memory
from pipeline.model.clock import mono_ns
from pipeline.model.errors import BadInput
from shm import layout, layout_pages
from shm.declare import schema_of
from shm.layout_pages import CATALOGUE_ROW
from shm.words import Words

LOG_WORDS = 1 << 18  # 2 MiB: a step is at an end with LOG_ENOUGH_WORDS of them, so that the last pass has the rest
S = 1_000_000_000
AGAIN_NS = S


class InputSink(Protocol):
    """Where the recording goes; each call says whether it was taken."""

    def begin(self) -> bool:
        """A new piece."""

    def state(self, data: bytes) -> bool:
        """A :class:`DetectorState`."""

    def words(self, data: bytes) -> bool:
        """Entries of the log, whole ones."""

    def missed(self, count: int) -> bool:
        """So many entries are not there."""


class DetectorState(msgspec.Struct, frozen=True, kw_only=True):
    """The detector at one moment: what a replay begins with. ``rows``: int64[n, CATALOGUE_ROW.WORDS]; ``mem``, ``flt``:
    its memory up to what was last read; ``limited``: it sizes by inventory."""

    layout: int
    limited: bool
    venues: list[str]
    rows: bytes
    mem: bytes
    flt: bytes

    def catalogue_rows(self) -> Words:
        """A copy of the catalogue rows of this moment, int64[n, CATALOGUE_ROW.WORDS]."""
        return np.frombuffer(self.rows, dtype=np.int64).reshape(-1, CATALOGUE_ROW.WORDS).copy()


@functools.cache
def layout_of_log() -> int:
    """Hash of every table that state and entries are made of: a replay of another layout is refused."""
    modules = (detector_memory, cycles, topology, depth_walk, cycle_size, scan_loop, input_log, layout, layout_pages)
    return schema_of(*(vars(module) for module in modules))


def state_of(data: bytes) -> DetectorState:
    """A recorded state; raises ``BadInput`` where it is none, or of another layout."""
    try:
        state = msgspec.msgpack.decode(data, type=DetectorState)
    except msgspec.DecodeError as error:
        raise BadInput(f"the recording's detector state cannot be read: {error}") from None
    if state.layout != layout_of_log():
        raise BadInput(
            "the detector was recorded by a build whose memory is laid out otherwise: replay it with that build; its "
            "frames can be replayed with this one (arb replay --exact)"
        )
    return state


class InputRecorder:
    """Between one detector and a sink. All calls by the thread that runs the kernels."""

    def __init__(self, sink: InputSink, piece_ns: int) -> None:
        self._sink = sink
        self._piece_ns = piece_ns
        self._next_piece_ns = 0
        self._state_due = True

    def renew(self) -> None:
        """The detector's memory is another one: its state is written before the next step."""
        self._state_due = True

    def before_step(self, memory: Memory, rows: Words, venues: list[str], *, limited: bool) -> None:
        """Begins a piece or writes the state where either is due. ``rows``: int64[n, CATALOGUE_ROW.WORDS]."""
        now_ns = mono_ns()
        if now_ns >= self._next_piece_ns:
            self._next_piece_ns = now_ns + (self._piece_ns if self._sink.begin() else AGAIN_NS)
            self._state_due = True
        if self._state_due:
            self._write_state(memory, rows, venues, limited)

    def _write_state(self, memory: Memory, rows: Words, venues: list[str], limited: bool) -> None:
        mem, seen = memory.mem, int(memory.mem[INPUT_LOG.seen_off])
        mem[seen : int(mem[INPUT_LOG.log_off])] = 0  # what was read before is not in this state
        mem[INPUT_LOG.at] = mem[INPUT_LOG.log_off]
        mem[INPUT_LOG.missed] = 0
        mem[INPUT_LOG.mode] = RECORDING
        state = DetectorState(
            layout=layout_of_log(),
            limited=limited,
            venues=venues,
            rows=rows.tobytes(),
            mem=mem[:seen].tobytes(),
            flt=memory.flt.tobytes(),
        )
        self._state_due = not self._sink.state(msgspec.msgpack.encode(state))

    def flush(self, memory: Memory) -> None:
        """Takes the log away. What the sink does not take, or what found no room in the log, ends what can be replayed:
        a new state begins the next part."""
        mem = memory.mem
        start, at = int(mem[INPUT_LOG.log_off]), int(mem[INPUT_LOG.at])
        if self._state_due or at == start:  # without a state nothing of it can be replayed
            mem[INPUT_LOG.at] = start
            return
        taken = self._sink.words(mem[start:at].tobytes())
        mem[INPUT_LOG.at] = start
        if mem[INPUT_LOG.missed]:
            self._sink.missed(int(mem[INPUT_LOG.missed]))
        self._state_due = not taken or bool(mem[INPUT_LOG.missed])

    @contextmanager
    def changing(self, memory: Memory) -> Iterator[None]:
        """Around what changes words of the memory outside of the kernels' steps."""
        mem, flt = memory.mem, memory.flt
        end = int(mem[INPUT_LOG.seen_off])
        mem_before, flt_before = mem[:end].copy(), flt.copy()
        yield
        mem_before[DETECTOR.input_log : DETECTOR.input_log + INPUT_LOG.WORDS] = mem[
            DETECTOR.input_log : DETECTOR.input_log + INPUT_LOG.WORDS
        ]
        self._note(memory, CHANGED_MEM, np.flatnonzero(mem_before != mem[:end]), mem)
        self._note(memory, CHANGED_FLT, np.flatnonzero(flt_before.view(np.int64) != flt.view(np.int64)), flt)

    def _note(self, memory: Memory, which: int, indices: Words, array: Words | Floats) -> None:
        mem = memory.mem
        at, words = int(mem[INPUT_LOG.at]), CHANGE_HEAD + 2 * len(indices)
        if not len(indices) or self._state_due:
            return
        if at + words > int(mem[INPUT_LOG.end]):
            self._state_due = True
            return
        mem[at], mem[at + 1], mem[at + 2] = CHANGE | words << KIND_BITS, which, len(indices)
        entry = mem[at + CHANGE_HEAD : at + words]
        entry[0::2], entry[1::2] = indices, array[indices].view(np.int64)
        mem[INPUT_LOG.at] = at + words


__all__ = ["DetectorState", "InputRecorder", "InputSink", "layout_of_log", "state_of"]
