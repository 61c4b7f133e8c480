"""What processes have used of common budgets: each publishes its own spend, and reads the sum of all.

A budget is a limit in any window of time; rows with the same ``identity`` are one budget. Each process writes rows in a
segment of its own (:class:`shm.layout_pages.Budgets`) and reads those of every other process of this user, of all
instances and installations with the same layout. Nobody locks.

Two processes that take the last unit at once: each stores its spend, fences, and only then reads the others', so that
at least one of them sees both and takes its own back (:meth:`SpendRow.take_back`) before anything is sent.

A row counts units in slices of time, a word for each: slice number and units, stored at once. A slice counts until
``SLICES`` later ones have begun, which is a window after its end. The segment of a process that has ended is read like
any other until its windows and silences have passed; then whoever sees it first removes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import numpy as np

from pipeline.model.clock import mono_ns, wall_ns
from shm.atomics import fence_seq_cst, load_acquire, store_release
from shm.errors import SegmentMismatch, SegmentMissing
from shm.jit import direct, njit
from shm.layout_pages import BUDGET_CAPACITY, BUDGET_LABEL_WORDS, BUDGET_ROW, BUDGETS, SPEND_SLOTS
from shm.segment import SHM_FOLDER, Segment, cleanup_instance, list_segments, owner_lives, segment_name
from shm.words import Words, pack_text, unpack_text

OF_ALL = "BUDGETS"  # in the place of an instance's name, which has no capitals: no janitor of an instance comes here
SLICES = 60  # of a window
UNIT_BITS = 24
UNITS_MAX = (1 << UNIT_BITS) - 1
LOOK_NS = 5_000_000_000  # dead segments are looked at so often
FRESH_NS = 50_000_000  # a folder that changed so recently may change again under the same stamp
ABANDONED_S = 3 * 86_400  # what nobody here can read: longer than any silence


def warm() -> None:
    """The kernels of this module once, and the fence."""
    words = np.zeros(BUDGET_ROW.WORDS, dtype=np.int64)
    units_of(words, 0, 0)
    store_release(words, 0, 0)
    fence_seq_cst()


@njit
def units_of(words: Words, row: int, now_slice: int) -> int:
    """What the row at word ``row`` has used within the window that ends in ``now_slice``."""
    total = 0
    for i in range(SPEND_SLOTS):
        # SYNC spend.slice: acquire; pairs with the release in SpendRow.add
        entry = load_acquire(words, row + BUDGET_ROW.slices + i)
        if now_slice - (entry >> UNIT_BITS) <= SLICES:
            total += entry & UNITS_MAX
    return total


class Spent(msgspec.Struct, frozen=True):
    """One budget as all processes have used it. Times: s, and ns of the monotonic clock."""

    identity: int
    label: str
    limit: int
    window_s: float
    used: int
    silent_until_ns: int


class SpendRow:
    """One budget: this process's row, which is made when it first uses it, and those of the others."""

    __slots__ = (
        "_at", "_slice", "_store_release", "_table", "_units", "_words",
        "identity", "label", "limit", "others_rows", "slice_ns", "window_ns",
    )  # fmt: skip

    def __init__(self, table: SpendTable, identity: int, label: str, limit: int, window_ns: int) -> None:
        self._table = table
        self._words = table.words
        self._store_release = table.store_release
        self._at = 0
        self._slice, self._units = -1, 0  # the newest slice that this process wrote, and what stands in it
        self.identity = identity
        self.label = label
        self.limit = limit
        self.window_ns = window_ns
        self.slice_ns = -(-window_ns // SLICES)
        self.others_rows = table.rows_of_others(identity)

    def _made(self) -> bool:
        """Whether there is a row to write to. Beyond ``BUDGET_CAPACITY`` budgets this process counts alone."""
        if not self._at:
            self._at = self._table.make_row(self)
        return bool(self._at)

    def add(self, now_ns: int, units: int) -> int:
        """Publishes ``units`` as used now; returns the slice, for :meth:`take_back`."""
        number = now_ns // self.slice_ns
        if self._made():
            before = self._units if number == self._slice else 0
            self._slice, self._units = number, min(UNITS_MAX, before + units)
            # SYNC spend.slice: release; pairs with the acquire in units_of
            self._store_release(
                self._words, self._at + BUDGET_ROW.slices + number % SPEND_SLOTS, number << UNIT_BITS | self._units
            )
        return number

    def take_back(self, number: int, units: int) -> None:
        """Nothing was sent after all: right behind the :meth:`add` that returned ``number``."""
        if self._at:
            self._units = max(0, self._units - units)
            self._store_release(
                self._words, self._at + BUDGET_ROW.slices + number % SPEND_SLOTS, number << UNIT_BITS | self._units
            )

    def others(self, now_ns: int) -> int:
        """Units that the other processes have used within the window."""
        number = now_ns // self.slice_ns
        return sum(int(units_of(words, at, number)) for words, at in self.others_rows)

    def others_ends(self, now_ns: int) -> Iterator[tuple[int, int]]:
        """(when they leave the window, units) of the other processes' slices, in no order."""
        number = now_ns // self.slice_ns
        for words, at in self.others_rows:
            for i in range(SPEND_SLOTS):
                entry = int(load_acquire(words, at + BUDGET_ROW.slices + i))
                if entry & UNITS_MAX and number - (entry >> UNIT_BITS) <= SLICES:
                    yield ((entry >> UNIT_BITS) + SLICES + 1) * self.slice_ns, entry & UNITS_MAX

    def silence(self, until_mono_ns: int) -> None:
        """Nobody may send before."""
        if self._made():
            store_release(self._words, self._at + BUDGET_ROW.silent_until_mono_ns, until_mono_ns)

    def others_silent_until_ns(self) -> int:
        """The latest moment before which another process must send nothing; 0 = none."""
        at = BUDGET_ROW.silent_until_mono_ns
        return max((int(load_acquire(words, row + at)) for words, row in self.others_rows), default=0)


class SpendTable:
    """This process's segment, and the maps of all others. Made by :meth:`create`."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self.words = segment.words
        self.store_release = direct(store_release, self.words, 0, 0)
        self.fence = direct(fence_seq_cst)  #: Between :meth:`SpendRow.add` and the look at the others.
        self._rows: dict[int, SpendRow] = {}
        self._made = 0
        self._others: dict[str, Words] = {}
        self._counts: dict[str, int] = {}  # rows of each that are known
        self._by_identity: dict[int, list[tuple[Words, int]]] = {}
        self._stamp_ns = 0
        self._look_at_ns = 0

    @classmethod
    def create(cls, instance: str, process: str) -> SpendTable:
        """Raises ShmError. What processes that have ended have used is counted from the first moment."""
        name = segment_name(OF_ALL, f"{instance}.{process}.{os.getpid()}.{mono_ns():x}")
        segment = Segment.create(name, size_words=BUDGETS.END, kind=BUDGETS.KIND, instance=OF_ALL)
        segment.set_ready()
        table = cls(segment)
        table.refresh()
        return table

    def row(self, identity: int, label: str, limit: int, window_ns: int) -> SpendRow:
        """One budget: the same object for the same ``identity``."""
        if identity not in self._rows:
            self._rows[identity] = SpendRow(self, identity, label, limit, window_ns)
        return self._rows[identity]

    def rows_of_others(self, identity: int) -> list[tuple[Words, int]]:
        """(words, word of the row) of the other processes' rows of a budget; always the same list."""
        return self._by_identity.setdefault(identity, [])

    def make_row(self, row: SpendRow) -> int:
        """The word of a new row of this process; 0: there is no room."""
        if self._made == BUDGET_CAPACITY:
            return 0
        at, words = BUDGETS.rows + self._made * BUDGET_ROW.WORDS, self.words
        words[at + BUDGET_ROW.identity] = row.identity
        words[at + BUDGET_ROW.limit] = row.limit
        words[at + BUDGET_ROW.window_ns] = row.window_ns
        words[at + BUDGET_ROW.slice_ns] = row.slice_ns
        label_at = at + BUDGET_ROW.label
        words[label_at : label_at + BUDGET_LABEL_WORDS] = pack_text(row.label, BUDGET_LABEL_WORDS)
        self._made += 1
        # SYNC spend.count: release; pairs with the acquire in _rows_of
        store_release(words, BUDGETS.row_count, self._made)
        return int(at)

    def refresh(self) -> None:
        """Finds segments and rows that came, forgets those that went, removes what has passed. About 2 us where nothing
        changed; call it before a request that may wait, and with the beat."""
        now_ns = mono_ns()
        stamp_ns = os.stat(SHM_FOLDER).st_mtime_ns
        if stamp_ns != self._stamp_ns or now_ns >= self._look_at_ns:
            self._look_at_ns = now_ns + LOOK_NS
            self._stamp_ns = stamp_ns if wall_ns() - stamp_ns > FRESH_NS else 0
            self._look(now_ns)
        for name, words in self._others.items():
            if int(load_acquire(words, BUDGETS.row_count)) != self._counts[name]:
                self._learn(name, words)

    def _learn(self, name: str, words: Words) -> None:
        """The rows of another's segment that are new."""
        found = _rows_of(words)
        for at in found[self._counts[name] :]:
            self.rows_of_others(int(words[at + BUDGET_ROW.identity])).append((words, at))
        self._counts[name] = len(found)

    def _forget(self, name: str) -> None:
        words = self._others.pop(name)
        del self._counts[name]
        for rows in self._by_identity.values():
            rows[:] = [row for row in rows if row[0] is not words]

    def _look(self, now_ns: int) -> None:
        names = set(list_segments(OF_ALL)) - {self._segment.name}
        for name in self._others.keys() - names:
            self._forget(name)
        for name in names - self._others.keys():
            try:
                self._others[name] = _attach(name).words
                self._counts[name] = 0
            except SegmentMissing:  # a newborn, which will be READY under the same stamp, or one that died as such
                self._stamp_ns = 0
            except SegmentMismatch:  # another user's, or another layout
                continue
        for name in cleanup_instance(OF_ALL, lambda name: self._is_over(name, now_ns)):
            if name in self._others:
                self._forget(name)

    def _is_over(self, name: str, now_ns: int) -> bool:
        """Whether another's owner is dead and nothing of it counts any more."""
        if name == self._segment.name or _lives(name):
            return False
        words = self._others.get(name)
        return _is_abandoned(name) if words is None else _has_passed(words, now_ns)

    def leave(self) -> None:
        """Ends this process's part; what it has used still counts until its windows have passed."""
        if _has_passed(self.words, mono_ns()):
            self._segment.unlink()
        self._segment.close()


def spent_of(instance: str, now_ns: int) -> list[Spent]:
    """What all processes of this user have used of the budgets that processes of ``instance`` know."""
    ours, found = set(), []
    for name in list_segments(OF_ALL):
        try:
            words = _attach(name).words
        except (SegmentMissing, SegmentMismatch):
            continue
        rows = list(_spent_rows(words, now_ns))
        found += rows
        if name.startswith(segment_name(OF_ALL, f"{instance}.x")[:-1]):
            ours |= {row.identity for row in rows}
    sums: dict[int, Spent] = {}
    for row in found:
        if row.identity in ours:
            known = sums.get(row.identity)
            if known is not None:
                silent_ns = max(known.silent_until_ns, row.silent_until_ns)
                row = msgspec.structs.replace(known, used=known.used + row.used, silent_until_ns=silent_ns)
            sums[row.identity] = row
    return sorted(sums.values(), key=lambda row: row.label)


def _rows_of(words: Words) -> range:
    # SYNC spend.count: acquire; pairs with the release in SpendTable.row
    count = min(BUDGET_CAPACITY, int(load_acquire(words, BUDGETS.row_count)))
    return range(BUDGETS.rows, BUDGETS.rows + count * BUDGET_ROW.WORDS, BUDGET_ROW.WORDS)


def _spent_rows(words: Words, now_ns: int) -> Iterator[Spent]:
    for at in _rows_of(words):
        label_at = at + BUDGET_ROW.label
        yield Spent(
            identity=int(words[at + BUDGET_ROW.identity]),
            label=unpack_text(words[label_at : label_at + BUDGET_LABEL_WORDS]),
            limit=int(words[at + BUDGET_ROW.limit]),
            window_s=int(words[at + BUDGET_ROW.window_ns]) / 1e9,
            used=int(units_of(words, at, now_ns // int(words[at + BUDGET_ROW.slice_ns]))),
            silent_until_ns=int(load_acquire(words, at + BUDGET_ROW.silent_until_mono_ns)),
        )


def _has_passed(words: Words, now_ns: int) -> bool:
    """Nothing in the segment counts any more."""
    for at in _rows_of(words):
        if int(load_acquire(words, at + BUDGET_ROW.silent_until_mono_ns)) > now_ns:
            return False
        if units_of(words, at, now_ns // int(words[at + BUDGET_ROW.slice_ns])):
            return False
    return True


def _attach(name: str) -> Segment:
    """What any installation of the same layout has written."""
    return Segment.attach(name, kind=BUDGETS.KIND, instance=OF_ALL, unchecked=("build hash",))


def _lives(name: str) -> bool:
    try:
        return owner_lives(name)
    except (SegmentMissing, SegmentMismatch):
        return False


def _is_abandoned(name: str) -> bool:
    """Of what cannot be read: a newborn whose owner has died, and another layout's that is older than any silence."""
    try:
        found = os.stat(SHM_FOLDER / name[1:])
        return wall_ns() / 1e9 - found.st_ctime > ABANDONED_S or not _attach(name).ready
    except SegmentMissing:
        return True
    except (SegmentMismatch, FileNotFoundError):
        return False
