"""The engine's own recordings: what feeds and the detector write down, as messages in gzip files.

A recording is the folder ``market/`` of an instance: one folder a source (``feed.<exchange>``, ``detector``), in it
pieces named ``<unix ns of their beginning>.arb.gz``. A piece is one gzip stream of messages
``| length uint32 | kind uint32 | payload |``; the first one is a ``PIECE``. A piece whose writer was killed ends in the
middle: what is whole before that counts.

| kind | payload |
|---|---|
| ``DROPPED`` | uint64: messages that the ring or the disk did not take, at this place |
| ``PIECE`` | JSON of :class:`Piece` |
| ``FRAME`` | receive time (monotonic ns, int64), market (uint16: in ``Piece.markets``), connection (uint16), frame |
| ``SNAPSHOT`` | request time, market, length of the symbol (uint16), the symbol, the REST reply |
| ``DETECTOR_STATE``, ``DETECTOR_WORDS`` | of the detector: ``pipeline.detection.input_log`` |
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from pipeline.book.recording.byte_ring import DROPPED, RingWriter, dropped_count
from pipeline.book.recording.capture_files import FRAME as FRAME_RECORD
from pipeline.book.recording.capture_files import GZIP_MAGIC, Capture, Record
from pipeline.book.recording.capture_files import SNAPSHOT as SNAPSHOT_RECORD
from pipeline.model.clock import boot_id, mono_ns, wall_ns
from pipeline.model.errors import BadInput

FORMAT = 1
PIECE = 1
FRAME = 2
SNAPSHOT = 3
DETECTOR_STATE = 4
DETECTOR_WORDS = 5

SUFFIX = ".arb.gz"
DETECTOR = "detector"
MESSAGE = struct.Struct("<II")
HEAD = struct.Struct("<qHH")
LENGTH_MAX = 1 << 30


class RecordedRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One instrument as the catalogue listed it; quantities in base coin."""

    symbol: str
    base: str
    quote: str
    tick: str
    step: str
    min_qty: str
    min_notional: str
    taker_bps: str
    multiplier: str
    quarantine: str = ""  # "yes": it was compared with nothing (another coin of the same name)


class RecordedMarket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One venue of the source, and its instruments."""

    venue: str
    dialect: str
    market: str
    rows: list[RecordedRow] = []


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """What a piece begins with. ``wall_ns`` and ``mono_ns``: the same moment by both clocks."""

    format: int = FORMAT
    source: str
    boot_id: str
    wall_ns: int
    mono_ns: int
    markets: list[RecordedMarket] = []


def begin_piece(ring: RingWriter, source: str, markets: Sequence[RecordedMarket]) -> bool:
    """Writes the header of a new piece; False = the ring has no room."""
    piece = Piece(source=source, boot_id=boot_id(), wall_ns=wall_ns(), mono_ns=mono_ns(), markets=list(markets))
    return ring.write(PIECE, msgspec.json.encode(piece))


def is_recording(path: Path) -> bool:
    """Whether the path is a recording (a folder of sources), a source's folder or one piece."""
    if path.is_file():
        return path.name.endswith(SUFFIX)
    return any(any(path.glob(pattern)) for pattern in (f"*{SUFFIX}", f"*/*{SUFFIX}"))


def piece_files(path: Path, *, detector: bool = False) -> dict[str, list[Path]]:
    """The pieces of a recording by source, oldest first; feeds alone, or the detector alone."""
    files = [path] if path.is_file() else [*path.glob(f"*{SUFFIX}"), *path.glob(f"*/*{SUFFIX}")]
    found: dict[str, list[Path]] = {}
    for file in sorted(files, key=lambda each: (each.parent.name, each.name)):
        if (file.parent.name == DETECTOR) == detector:
            found.setdefault(file.parent.name, []).append(file)
    return found


def messages(file: Path, cut: set[Path] | None = None) -> Iterator[tuple[int, bytes]]:
    """(kind, payload) of every whole message of a piece, which is put into ``cut`` where its end is missing (also where
    it holds nothing yet). Raises ``BadInput`` where the file cannot be opened, or a message says a length that none can
    have."""
    count = 0
    cut = set() if cut is None else cut
    try:
        with gzip.open(file, "rb") as handle:
            while len(head := handle.read(MESSAGE.size)) == MESSAGE.size:
                length, kind = MESSAGE.unpack(head)
                if length > LENGTH_MAX:
                    raise BadInput(f"{file}: a message of {length} bytes: this is no recording, or it is damaged")
                payload = handle.read(length)
                if len(payload) < length:
                    cut.add(file)
                    return
                count += 1
                yield kind, payload
        if not count:
            cut.add(file)  # just opened: not even its header is on the disk
    except (EOFError, zlib.error):
        cut.add(file)  # its writer was killed: what is whole was given
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile) and (count or file.stat().st_size < len(GZIP_MAGIC)):
            cut.add(file)
            return  # the same, within its first or its last bytes
        raise BadInput(f"cannot read recording {file}: {error.strerror or error}") from None


def piece_of(file: Path, payload: bytes) -> Piece:
    """A piece's header; raises ``BadInput``."""
    try:
        piece = msgspec.json.decode(payload, type=Piece)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: its first message is no header of a recording: {error}") from None
    if piece.format != FORMAT:
        raise BadInput(f"{file}: recorded in format {piece.format}, this build reads format {FORMAT}")
    return piece


class _Reading:
    """Captures by venue while the pieces of one recording are read."""

    def __init__(self) -> None:
        self.captures: dict[str, Capture] = {}
        self._offsets: dict[str, int] = {}  # boot -> unix ns - monotonic ns, of its first piece

    def read(self, file: Path, cut: set[Path] | None = None) -> None:
        """Adds a piece's records; a place where messages were dropped makes its captures damaged, and goes on."""
        piece: Piece | None = None
        offset_ns = 0
        for number, (kind, payload) in enumerate(messages(file, cut), 1):
            if kind == PIECE:
                piece = piece_of(file, payload)
                offset_ns = self._offsets.setdefault(piece.boot_id, piece.wall_ns - piece.mono_ns)
                for market in piece.markets:
                    self._list(file, market)
            elif piece is None:
                raise BadInput(f"{file}: its first message is no header of a recording: kind={kind}")
            elif kind == DROPPED:
                for market in piece.markets:
                    capture = self.captures[market.venue]
                    capture.dropped += dropped_count(payload)
            elif kind in (FRAME, SNAPSHOT):
                self._record(file, number, kind, payload, piece, offset_ns)

    def _list(self, file: Path, market: RecordedMarket) -> None:
        capture = self.captures.setdefault(market.venue, Capture(name=str(file.parent), venue=""))
        capture.venue = f"{market.dialect}_{market.market}"
        capture.venue_name = market.venue
        for row in market.rows:
            capture.rows[row.symbol] = msgspec.structs.asdict(row)
            if market.market == "futures":
                capture.multipliers[row.symbol] = Decimal(row.multiplier)

    def _record(self, file: Path, number: int, kind: int, payload: bytes, piece: Piece, offset_ns: int) -> None:
        try:
            time_ns, market, extra = HEAD.unpack_from(payload)
            symbol = payload[HEAD.size : HEAD.size + extra].decode() if kind == SNAPSHOT else ""
        except (struct.error, UnicodeDecodeError) as error:
            raise BadInput(f"{file}: message {number} is damaged: {error}") from None
        if market >= len(piece.markets):
            raise BadInput(f"{file}: message {number} is of market {market}, the header lists {len(piece.markets)}")
        body = payload[HEAD.size + (extra if kind == SNAPSHOT else 0) :]
        record_kind, conn = (FRAME_RECORD, extra) if kind == FRAME else (SNAPSHOT_RECORD, 0)
        records = self.captures[piece.markets[market].venue].records
        records.append(Record(time_ns + offset_ns, record_kind, body, symbol, str(file), number, conn))


def read_pieces(files: Iterable[Path], cut: set[Path] | None = None) -> list[Capture]:
    """The captures of pieces, one a venue that has records. ``cut``: as of :func:`messages`, which says what is
    raised."""
    reading = _Reading()
    for file in files:
        reading.read(file, cut)
    return [capture for _, capture in sorted(reading.captures.items()) if capture.records]


def read_recording(path: Path) -> list[Capture]:
    """A recording's captures, one a venue that has records; raises ``BadInput`` where there is none."""
    captures = read_pieces(file for files in piece_files(path).values() for file in files)
    if not captures:
        raise BadInput(f"{path}: the recording holds no frame of a feed")
    return captures


def message(kind: int, payload: bytes) -> bytes:
    """One message as it stands in a piece."""
    return MESSAGE.pack(len(payload), kind) + payload


__all__ = [
    "DROPPED",
    "Piece",
    "RecordedMarket",
    "RecordedRow",
    "begin_piece",
    "is_recording",
    "message",
    "messages",
    "read_pieces",
    "read_recording",
]
