"""``arb archive``: an own recording as Parquet, piece by piece: every frame as it came, and the tops of the books.

``<out>/frames/venue=V/date=D/<piece>.parquet`` has what was received, in order, with the instruments of then in its
metadata (``rows``); ``<out>/tops/...`` a row for each applied depth message, by the production codec and book. Every
file of a kind has the same columns and types. A file takes its name at the end. A piece that was read to its end has an
empty file in ``<out>/.done`` and is not read again: so the command may run every hour.
"""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from pipeline.book.recording.capture_books import CaptureBooks, books_as
from pipeline.book.recording.capture_files import SNAPSHOT, Capture
from pipeline.book.recording.pieces import SUFFIX, piece_files, read_pieces
from pipeline.exchanges.factory import feed_codec
from pipeline.model.errors import ArbitrageEngineError, BadInput
from pipeline.model.fixedpoint import from_fp
from workers.report.files import check_parquet

FRAMES, TOPS, DONE = "frames", "tops", ".done"
#: Columns by kind of file -> their types, by the names of pyarrow's own functions.
COLUMNS = {
    FRAMES: {"at_ns": "int64", "kind": "string", "symbol": "string", "payload": "binary"},
    TOPS: {
        "at_ns": "int64",
        "symbol": "string",
        "update_id": "int64",
        "bid": "float64",
        "bid_qty": "float64",
        "ask": "float64",
        "ask_qty": "float64",
        "crossed": "bool_",
        "beyond_horizon": "bool_",
    },
}
Rows = list[tuple[Any, ...]]


def archive(recording: Path, out: Path, *, keeps_writing: bool) -> dict[str, Any]:
    """Writes what is not there yet. ``keeps_writing``: the newest piece of each source is still being written, and is
    left for the next time.

    ``failed`` names each piece that cannot be read, and why; the others are written. ``rejected`` names the first frame
    of a piece and venue that the codec did not take, as the live feed did not; ``broken`` the symbols whose tops end
    before the piece does, or never begin, as an update of them is missing and no snapshot came after. ``unfinished``:
    newest pieces without an end: what is whole of them is written, and they are read again the next time. Raises
    BadInput where there is no recording, or no pyarrow; OSError where ``out`` takes nothing.
    """
    check_parquet("arb archive", "")
    sources = piece_files(recording)
    if not sources:
        raise BadInput(f"{recording}: found no pieces of feeds, wanted market/ of a state folder (`recording.market`)")
    fields: dict[str, Any] = {"files": [], "skipped": 0, "waiting": 0, "unfinished": 0, FRAMES: 0, TOPS: 0}
    fields |= {"not_recorded": 0, "rejected": [], "broken": [], "failed": []}
    for pieces in sources.values():
        done = pieces[:-1] if keeps_writing else pieces
        fields["waiting"] += len(pieces) - len(done)
        for piece in done:
            _piece(piece, out, fields, newest=piece == pieces[-1])
    return fields


def _piece(piece: Path, out: Path, fields: dict[str, Any], *, newest: bool) -> None:
    name = f"{piece.parent.name}-{piece.name.removesuffix(SUFFIX)}"
    mark = out / DONE / name  # a piece may hold no frame of a venue: its files do not say that it was read
    if mark.exists():
        fields["skipped"] += 1
        return
    cut: set[Path] = set()
    try:
        captures = read_pieces([piece], cut)
    except (ArbitrageEngineError, OSError) as error:  # removed to keep the quota, or damaged
        fields["failed"].append([str(piece), str(error)])
        return
    whole = True
    for capture in captures:
        fields["not_recorded"] += capture.dropped
        _write(out, FRAMES, name, capture, _frames(capture), fields)
        try:
            tops = _tops(capture, piece, fields)
        except ArbitrageEngineError as error:
            fields["failed"].append([str(piece), f"tops of {capture.name_of_venue}: {error}"])
            whole = False
        else:
            _write(out, TOPS, name, capture, tops, fields)
    if newest and cut:  # somebody may still be writing it
        fields["unfinished"] += 1
    elif whole:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _frames(capture: Capture) -> Rows:
    kinds = {True: "snapshot", False: "frame"}
    return [(row.time_ns, kinds[row.kind == SNAPSHOT], row.symbol, bytes(row.payload)) for row in capture.records]


class _Tops(CaptureBooks):
    """The books of a capture whose tops are collected: prices and quantities as the nearest binary floats, for sums and
    pictures; the exact digits are in the frames. A frame that the codec does not take ends nothing: a feed goes on."""

    def prepare(self) -> None:
        self.rows: Rows = []
        self.at_ns = 0
        self.rejected = ""  # the first one
        super().prepare()

    def step(self, index: int) -> None:
        self.at_ns = self.capture.records[index].time_ns
        super().step(index)
        self.rejected, self.damage = self.rejected or self.damage, ""

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


def _tops(capture: Capture, piece: Path, fields: dict[str, Any]) -> Rows:
    books = books_as(_Tops, capture, feed_codec)
    books.run()
    if books.rejected:
        place = books.rejected.partition(": ")[0]
        text = f"{capture.name_of_venue}: {books.books.counters.rejected} frames not understood"
        fields["rejected"].append([place, text])
    waiting = [books.instruments[index].symbol for index in books.books.needs_snapshot()]
    if waiting:
        fields["broken"].append([str(piece), f"{capture.name_of_venue}: {' '.join(waiting)}"])
    return books.rows


def _write(out: Path, kind: str, name: str, capture: Capture, rows: Rows, fields: dict[str, Any]) -> None:
    arrow = importlib.import_module("pyarrow")
    columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS[kind])
    types = {column: getattr(arrow, type_name)() for column, type_name in COLUMNS[kind].items()}
    arrays = [arrow.array(column, type=wanted) for column, wanted in zip(columns, types.values(), strict=True)]
    metadata = {"rows": msgspec.json.encode(capture.rows)}
    table = arrow.Table.from_arrays(arrays, schema=arrow.schema(list(types.items()), metadata=metadata))
    date = f"{datetime.fromtimestamp(capture.records[0].time_ns / 1e9, UTC):%Y-%m-%d}"
    path = out / kind / f"venue={capture.name_of_venue}" / f"date={date}" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    importlib.import_module("pyarrow.parquet").write_table(table, part, compression="zstd")
    part.replace(path)
    fields["files"].append(str(path))
    fields[kind] += len(rows)


def archive_text(fields: dict[str, Any]) -> str:
    """A line a field, then what was not understood and what failed."""
    counts = {key: value for key, value in fields.items() if key not in ("rejected", "broken", "failed")}
    lines = [f"{key:<16}{value}" for key, value in {**counts, "files": len(fields["files"])}.items()]
    lines += [f"note: {place}: {text}" for place, text in fields["rejected"]]
    lines += [
        f"note: {piece}: no tops to its end, an update or a snapshot lacks: {at}" for piece, at in fields["broken"]
    ]
    lines += [f"FAILED {piece}: {why}" for piece, why in fields["failed"]]
    if fields["failed"]:
        lines.append("a piece that fails at every run is damaged: move it away. One that is gone: run it more often")
    return "\n".join(lines)
