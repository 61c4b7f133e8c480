"""``arb archive``: an own recording as Parquet, piece by piece: every frame as it came, and the tops of the books.

``<out>/frames/venue=V/date=D/<piece>.parquet`` has what was received, in order, with the instruments of then in its
metadata (``rows``); ``<out>/tops/...`` a row for each applied depth message, by the production codec and book. A file
that is there is whole (it takes its name at the end), and is not made again: so the command may run every hour.
"""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from pipeline.book.recording.capture_books import CaptureBooks, books_as
from pipeline.book.recording.capture_files import SNAPSHOT, Capture
from pipeline.book.recording.pieces import SUFFIX, piece_files, read_recording
from pipeline.exchanges.factory import feed_codec
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import from_fp
from workers.report.files import check_parquet

FRAMES, TOPS = "frames", "tops"
Columns = dict[str, list[Any]]


def archive(recording: Path, out: Path, *, keeps_writing: bool) -> dict[str, Any]:
    """Writes what is not there yet. ``keeps_writing``: the newest piece of each source is still being written, and is
    left for the next time. Raises BadInput where there is no recording, or no pyarrow; OSError."""
    check_parquet("arb archive", "")
    sources = piece_files(recording)
    if not sources:
        raise BadInput(f"{recording}: found no pieces of feeds, wanted market/ of a state folder (`recording.market`)")
    fields: dict[str, Any] = {"files": [], "skipped": 0, "waiting": 0, FRAMES: 0, TOPS: 0, "not_recorded": 0}
    for pieces in sources.values():
        done = pieces[:-1] if keeps_writing else pieces
        fields["waiting"] += len(pieces) - len(done)
        for piece in done:
            _piece(piece, out, fields)
    return fields


def _piece(piece: Path, out: Path, fields: dict[str, Any]) -> None:
    name = f"{piece.parent.name}-{piece.name.removesuffix(SUFFIX)}.parquet"
    mark = out / FRAMES / ".done" / name  # a piece may hold no frame of a venue: its files do not say that it was read
    if mark.exists():
        fields["skipped"] += 1
        return
    try:
        captures = read_recording(piece)
    except BadInput as error:
        if "no frame" not in str(error):
            raise
        captures = []
    for capture in captures:
        fields["not_recorded"] += capture.dropped
        first_ns = capture.records[0].time_ns
        place = Path(f"venue={capture.name_of_venue}") / f"date={datetime.fromtimestamp(first_ns / 1e9, UTC):%Y-%m-%d}"
        for kind, columns in ((FRAMES, _frames(capture)), (TOPS, _tops(capture))):
            path = out / kind / place / name
            _write(path, columns, {"rows": msgspec.json.encode(capture.rows)})
            fields["files"].append(str(path))
            fields[kind] += len(columns["at_ns"])
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _frames(capture: Capture) -> Columns:
    return {
        "at_ns": [record.time_ns for record in capture.records],
        "kind": ["snapshot" if record.kind == SNAPSHOT else "frame" for record in capture.records],
        "symbol": [record.symbol for record in capture.records],
        "payload": [bytes(record.payload) for record in capture.records],
    }


class _Tops(CaptureBooks):
    """The books of a capture whose tops are collected: prices and quantities as the nearest binary floats, for sums and
    pictures; the exact digits are in the frames."""

    def prepare(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.at_ns = 0
        super().prepare()

    def step(self, index: int) -> None:
        self.at_ns = self.capture.records[index].time_ns
        super().step(index)

    def line(self, book_index: int) -> None:
        crossed, _, beyond = self.books.doubts(book_index)
        instrument, top = self.instruments[book_index], self.books.top(book_index)
        row: tuple[Any, ...] = (self.at_ns, instrument.symbol, top.update_id)
        for price, qty in ((top.bid, top.bid_qty), (top.ask, top.ask_qty)):
            row += (
                float(from_fp(price, instrument.price_exp)) if price else None,
                float(from_fp(qty, instrument.qty_exp)) if price else None,
            )
        self.rows.append((*row, bool(crossed), bool(beyond)))


def _tops(capture: Capture) -> Columns:
    names = ("at_ns", "symbol", "update_id", "bid", "bid_qty", "ask", "ask_qty", "crossed", "beyond_horizon")
    books = books_as(_Tops, capture, feed_codec)
    books.run()
    return {name: [row[at] for row in books.rows] for at, name in enumerate(names)}


def _write(path: Path, columns: Columns, metadata: dict[str, bytes]) -> None:
    arrow = importlib.import_module("pyarrow")
    types = {"payload": arrow.binary(), "bid": arrow.float64(), "ask": arrow.float64()}
    types |= {"bid_qty": arrow.float64(), "ask_qty": arrow.float64(), "symbol": arrow.string()}
    arrays = {name: arrow.array(values, type=types.get(name)) for name, values in columns.items()}
    table = arrow.table(arrays).replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    importlib.import_module("pyarrow.parquet").write_table(table, part, compression="zstd")
    part.replace(path)
