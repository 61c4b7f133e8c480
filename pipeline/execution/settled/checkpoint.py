"""Checkpoints: the ledger's state at a position of the journal, so that a start replays only what came behind it.

::

    <journal>/checkpoint-<seq, 16 digits>.bin          | magic "ARBCKPT1" 8 | body bytes u64 | crc32 of the body u32 |
                                                       | version u32 | body: msgpack of ``Checkpoint`` |
    <journal>/settled-<number, 8 digits>-<digest>.ids  CHUNK identities of 16 bytes (identities.py)

The recorder writes them: it folds the same records by the same code, beside the executor's path. A checkpoint that is
damaged, of another version, or does not fit the journal is passed over for an older one, then for the whole journal.
The ledger that it gives must have the digest that was written with it.

A new field of ``LedgerState``, ``Order`` or ``Operation`` has a default, so that the checkpoints of earlier builds are
read (a golden one is tested). What the records before such a checkpoint say of the new field is not folded again: the
default must be safe for them. ``VERSION`` grows where none is, or where an older state would be wrong: checkpoints of
earlier builds are passed over then, and the whole journal is replayed.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np

from pipeline.execution.accounts import Accounts
from pipeline.execution.crash_points import nothing
from pipeline.execution.external import ExternalState
from pipeline.execution.journal import (
    JournalEntry,
    JournalPosition,
    JournalReader,
    fits,
    segment_indices,
    segment_path,
)
from pipeline.execution.ledger import AUDIT_MAX, FUNDING_KEPT, Ledger, Operation, Order
from pipeline.execution.records import HedgeRecord, OperationStateRecord, Outcome, RecoveryRecord
from pipeline.execution.results.round_trips import RoundTrips
from pipeline.execution.settled.identities import CHUNK, IDENTITY_BYTES, Chunk, SettledIds
from pipeline.model.errors import JournalError
from pipeline.model.structs import ZERO

MAGIC = b"ARBCKPT1"
VERSION = 1
HEADER = struct.Struct("<8sQII")
KEPT = 2  # the newest two: the older one serves where the newer one is damaged
Key = tuple[str, str]


class LedgerState(msgspec.Struct, frozen=True):
    """Everything that a ledger remembers; what follows from it (indices, open objects) is built anew."""

    boot_epoch: int
    epochs: set[int]
    host_boot: str
    records: int
    orders: list[Order]
    unsettled: list[str]
    fills_seen: set[tuple[str, str, str]]
    retired_operations: int
    operations: list[Operation]
    open_operations: list[str]
    closings: dict[str, list[str]]
    hedges: dict[str, HedgeRecord]
    base_of: dict[Key, str]
    dust: dict[str, Decimal]
    breakers: dict[str, str]
    recoveries: dict[str, RecoveryRecord]
    since_wall_ns: dict[str, int]
    accounts: Accounts
    external: ExternalState
    moved_mono_ns: dict[Key, int]
    funding_seen: set[Key]
    payments_of: dict[Key, list[tuple[int, Decimal]]]
    funding_wall_ms: dict[str, int]
    baseline: dict[Key, tuple[Decimal, Decimal]]
    position_offsets: dict[Key, Decimal]
    based_wall_ms: dict[str, int]
    touched: dict[Key, int]
    outcomes: dict[int, int]
    trips_won: int
    trips_lost: int
    trips_pnl: dict[str, Decimal]
    trips_open: set[str]
    exits: int
    day: int
    day_pnl: Decimal
    total_pnl: Decimal
    audit: list[tuple[int, OperationStateRecord]]
    mono_ns: int
    wall_ns: int
    host_epochs: set[int] = set()
    mode: str = ""
    peak_pnl: Decimal = ZERO
    offset_entries: dict[Key, Decimal] = {}
    rearmed_mono_ns: dict[str, int] = {}
    funding_at: dict[Key, int] = {}
    known_until_wall_ns: int = 0


class Checkpoint(msgspec.Struct, frozen=True):
    """A ledger at ``position`` (everything before it is in). ``chunks``: content hashes of the files of identities."""

    position: JournalPosition
    state: LedgerState
    chunks: list[bytes]
    newest: bytes
    settled_digest: bytes
    ledger_digest: str


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Checkpoint)


def _converted(ledger: Ledger) -> dict[str, object]:
    """The fields of a state that are not the ledger's attributes of the same name as they are."""
    return {
        "orders": list(ledger.orders.values()),
        "unsettled": list(ledger.unsettled),
        "operations": list(ledger.operations.values()),
        "open_operations": list(ledger.open_operations),
        "closings": {name: [one.operation_id for one in group] for name, group in ledger.closings.items()},
        "payments_of": {key: list(payments) for key, payments in ledger.payments_of.items()},
        "outcomes": {int(outcome): count for outcome, count in ledger.outcomes.items()},
        "trips_won": ledger.round_trips.won,
        "trips_lost": ledger.round_trips.lost,
        "trips_pnl": ledger.round_trips.pnl,
        "trips_open": ledger.round_trips.open,
        "audit": list(ledger.audit),
        "wall_ns": ledger.last_wall_ns,
    }


#: Fields that are the ledger's attributes of the same name, as they are.
PLAIN = tuple(name for name in LedgerState.__struct_fields__ if name not in _converted(Ledger()))


def state_of(ledger: Ledger) -> LedgerState:
    """What a checkpoint keeps of a ledger."""
    return LedgerState(**_converted(ledger), **{name: getattr(ledger, name) for name in PLAIN})  # type: ignore[arg-type]


def ledger_of(state: LedgerState) -> Ledger:
    """A ledger in this state, but for its identities of settled orders. Raises KeyError where a name is unknown."""
    ledger = Ledger()
    for name in PLAIN:
        setattr(ledger, name, getattr(state, name))
    ledger.orders = {order.client_id: order for order in state.orders}
    ledger.by_order_id = {(o.intent.venue, o.order_id): o.client_id for o in state.orders if o.order_id}
    ledger.unsettled = {name: ledger.orders[name] for name in state.unsettled}
    ledger.operations = {operation.operation_id: operation for operation in state.operations}
    ledger.open_operations = {name: ledger.operations[name] for name in state.open_operations}
    ledger.closings = {name: [ledger.operations[one] for one in group] for name, group in state.closings.items()}
    ledger.payments_of = {key: deque(rows, maxlen=FUNDING_KEPT) for key, rows in state.payments_of.items()}
    ledger.outcomes = {outcome: state.outcomes.get(int(outcome), 0) for outcome in Outcome}
    ledger.round_trips = RoundTrips(state.trips_won, state.trips_lost, state.trips_pnl, state.trips_open)
    ledger.audit = deque(state.audit, maxlen=AUDIT_MAX)
    ledger.last_wall_ns = state.wall_ns
    return ledger


# --- files ---


def checkpoint_paths(directory: Path) -> list[Path]:
    """Checkpoints of the journal in ``directory``, oldest first."""
    return sorted(directory.glob("checkpoint-????????????????.bin"))


def _chunk_path(directory: Path, number: int, digest: bytes) -> Path:
    return directory / f"settled-{number:08d}-{digest.hex()}.ids"


def _write(path: Path, content: bytes, passing: Callable[[str], None]) -> None:
    """The file is there whole and on the device, or not at all."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fdatasync(out.fileno())
        passing("checkpointing")
        os.rename(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def write_checkpoint(
    directory: Path, ledger: Ledger, position: JournalPosition, *, passing: Callable[[str], None] = nothing
) -> Path:
    """Writes the state of ``ledger``, in which everything before ``position`` is folded; removes old ones.

    ``passing`` is called at the places where a death matters: ``checkpointing``, a file is whole and has not its name
    yet; ``checkpointed``, the old ones have not gone yet. Raises OSError (a full disk): the checkpoints before stay.
    """
    settled = ledger.settled
    chunks = [_kept_chunk(directory, number, settled, passing) for number in range(1, len(settled.full) + 1)]
    kept = Checkpoint(position, state_of(ledger), chunks, settled.newest(), settled.digest, ledger.digest())
    body = _ENCODER.encode(kept)
    path = directory / f"checkpoint-{position.next_seq:016d}.bin"
    _write(path, HEADER.pack(MAGIC, len(body), zlib.crc32(body), VERSION) + body, passing)
    passing("checkpointed")
    for old in checkpoint_paths(directory)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def set_unfit_aside(directory: Path) -> list[str]:
    """Renames the checkpoints that cannot serve this journal, so that none is taken for its newest or its oldest: it
    was lost or restored from an older copy, they are damaged, or of a build that this one cannot read. What was wrong.
    Raises OSError where one cannot be read for the moment.
    """
    found: list[str] = []
    for path in checkpoint_paths(directory):
        try:
            _, position = read_checkpoint(path)
            problem = "" if fits(directory, position) else f"checkpoint is not of this journal: path={path}"
        except JournalError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
                raise cause from None
            problem = str(error)
        if problem:
            path.rename(path.with_suffix(".unfit"))
            found.append(problem)
    for old in sorted(directory.glob("checkpoint-*.unfit"), key=lambda path: path.stat().st_mtime_ns)[:-KEPT]:
        old.unlink(missing_ok=True)
    return found


def read_checkpoint(path: Path) -> tuple[Ledger, JournalPosition]:
    """The ledger and position of one checkpoint. Raises JournalError where it is damaged or of other code."""
    try:
        content = path.read_bytes()
        magic, length, crc, version = HEADER.unpack_from(content, 0)
        body = content[HEADER.size : HEADER.size + length]
        if magic == MAGIC and version != VERSION:
            raise JournalError(
                f"checkpoint of another version: path={path} version={version} wanted={VERSION}; the build that wrote "
                "it reads it"
            )
        if magic != MAGIC or len(body) != length or zlib.crc32(body) != crc:
            raise JournalError(f"checkpoint damaged: path={path}")
        kept = _DECODER.decode(body)
        ledger = ledger_of(kept.state)
        chunks = [_read_chunk(path.parent, number, want) for number, want in enumerate(kept.chunks, 1)]
    except (OSError, struct.error, msgspec.MsgspecError, KeyError) as error:
        raise JournalError(f"checkpoint cannot be read: path={path} {error}") from error
    ledger.settled.restore(chunks, kept.newest, kept.settled_digest)
    if ledger.digest() != kept.ledger_digest:
        raise JournalError(f"checkpoint gives another state than was written: path={path}")
    ledger.external.unpriced.clear()  # no record says it any more
    return ledger, kept.position


# --- identities ---


def _mapped(path: Path) -> Chunk:
    """The file's content, read by the kernel where it is looked at. Raises OSError, ValueError for one that is too
    short."""
    return np.memmap(path, np.uint64, "r", shape=(CHUNK, IDENTITY_BYTES // 8))


def _read_chunk(directory: Path, number: int, want: bytes) -> Chunk:
    path = _chunk_path(directory, number, want)
    content = path.read_bytes()
    if len(content) != CHUNK * IDENTITY_BYTES or _digest(content) != want:
        raise JournalError(f"identities of settled orders damaged: path={path}")
    return _mapped(path)


def _kept_chunk(directory: Path, number: int, settled: SettledIds, passing: Callable[[str], None]) -> bytes:
    """Hash of the full array of this number; its file is there, and mapped in its place. One that is mapped already was
    checked before, and is written again only where its file has gone."""
    chunk = settled.full[number - 1]
    if (
        isinstance(chunk, np.memmap)
        and (kept := Path(str(chunk.filename))).exists()
        and kept.parent.samefile(directory)
    ):
        return bytes.fromhex(kept.stem.rpartition("-")[2])
    content = chunk.tobytes()
    digest = _digest(content)
    path = _chunk_path(directory, number, digest)
    if not path.exists() or path.read_bytes() != content:
        _write(path, content, passing)
    settled.full[number - 1] = _mapped(path)
    return digest


def map_settled(directory: Path, settled: SettledIds) -> None:
    """Puts the mapping of its file in the place of each full array that the recorder has written. Called in a thread
    beside the one that the ledger is folded in: a full array does not change. What cannot be read now stays as it is.
    """
    for at in settled.in_memory:
        for path in directory.glob(f"settled-{at + 1:08d}-*.ids"):
            with contextlib.suppress(OSError, ValueError):
                mapped = _mapped(path)
                if np.array_equal(mapped, settled.full[at]):  # another one is of another journal
                    settled.full[at] = mapped


@dataclass(slots=True)
class Recovered:
    """A journal folded: from the newest checkpoint that holds, else from its beginning.

    ``position``: where the journal goes on, None where there is none yet. ``replayed``: records behind the checkpoint.
    ``problems``: why checkpoints were passed over.
    """

    ledger: Ledger = field(default_factory=Ledger)
    position: JournalPosition | None = None
    replayed: int = 0
    problems: list[str] = field(default_factory=list)

    def fold(self, entry: JournalEntry) -> None:
        """Applies the next entry. Raises JournalError where it cannot follow."""
        self.ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
        self.replayed += 1


def newest_checkpoint(directory: Path) -> Recovered:
    """The state of the newest checkpoint that is whole and fits the journal; an empty one where there is none.

    Raises JournalError where there is none and the journal's beginning is gone too.
    """
    found = Recovered()
    for path in reversed(checkpoint_paths(directory)):
        try:
            ledger, position = read_checkpoint(path)
        except JournalError as error:
            found.problems.append(str(error))
            continue
        if fits(directory, position):
            found.ledger, found.position = ledger, position
            return found
        found.problems.append(f"checkpoint is not of this journal: path={path}")
    indices = segment_indices(directory)
    if indices and indices[0] != 1:
        raise JournalError(
            f"journal begins with {segment_path(directory, indices[0]).name} and no checkpoint holds: "
            f"{'; '.join(found.problems) or 'there is none'}. Restore checkpoint-*.bin and settled-*.ids from a backup"
        )
    return found


def recover(directory: Path) -> Recovered:
    """What a journal says, for reading only. Raises JournalError."""
    found = newest_checkpoint(directory)
    reader = JournalReader(directory, found.position)
    try:
        while entries := reader.poll(1000):
            for entry in entries:
                found.fold(entry)
    finally:
        reader.close()
    found.position = reader.position
    return found
