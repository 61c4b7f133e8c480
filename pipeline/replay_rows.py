"""Instrument rows and books for replays in recorded time: captures in, catalogue rows out."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np

from pipeline.book.recording.capture_books import read_captures
from pipeline.book.recording.capture_files import Capture
from pipeline.book.recording.contents import CaptureContents
from pipeline.book.recording.digits import Digits
from pipeline.book.recording.message_order import RecordedBooks
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec, recording_shapes
from pipeline.model.catalogue_row import row_to_words
from pipeline.model.dialects import facts_of
from pipeline.model.enums import FeeAssetRule, InstrumentKind
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import digits_after_point, parse_decimal
from pipeline.model.instruments import QUARANTINED, InstrumentRow
from pipeline.model.structs import InstrumentSpec
from pipeline.model.units import PPM_PER_BPS
from shm.layout_pages import CATALOGUE_ROW
from shm.words import Words

ROWS_FILE = "instruments.json"
QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "USD")  # to split a bare symbol


class RowSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of ``instruments.json``."""

    base: str
    quote: str
    tick: str = ""
    step: str = ""
    min_qty: str = "0"
    min_notional: str = "0"
    taker_bps: str = "0"
    maker_bps: str = "0"


@dataclass
class Listed:
    """An instrument of a capture before exponents are agreed over venues."""

    symbol: str
    row: RowSpec
    digits: Digits
    multiplier: Decimal
    fee_ppm: int
    quarantined: bool = False
    price_exp: int = 0
    qty_exp: int = 0
    instrument_id: int = -1

    @property
    def pair(self) -> str:
        """Canonical name of the pair, ``BASE/QUOTE``."""
        return f"{self.row.base}/{self.row.quote}"


@dataclass
class ReplayVenue:
    """One capture: its instruments, and its books once they are open."""

    capture: Capture
    feed: int = 0
    instruments: list[Listed] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    owners: dict[int, str] = field(default_factory=dict)  # record index of a snapshot -> symbol
    books: VenueBooks = field(init=False)
    recorded: RecordedBooks = field(init=False)

    def open_books(self, words: Words, offset: int, feed: int, capacity: int) -> None:
        """Makes the books on ``words`` at ``offset``."""
        self.feed = feed
        self.books = VenueBooks(
            codec=feed_codec(self.capture.dialect, self.capture.market),
            words=words,
            feed_off=offset,
            venue_id=feed,
            capacity=capacity,
            recorded_time=True,
        )
        for index, listed in enumerate(self.instruments):
            self.books.add(
                book_index=index,
                instrument_id=listed.instrument_id,
                symbol=listed.symbol,
                price_exp=listed.price_exp,
                qty_exp=listed.qty_exp,
                row_epoch=1,
                qty_multiplier=listed.multiplier,
            )
        self.recorded = RecordedBooks(self.capture, self.books, self.owners)


def open_venues(paths: list[str | Path], fees: str) -> list[ReplayVenue]:
    """Reads every capture and lists its instruments with rows and fees; raises ``BadInput``."""
    if not paths:
        raise BadInput("no capture given")
    known = _read_rows(Path(paths[0]).parent / ROWS_FILE)
    schedule = FeeChoice(fees)
    venues = []
    shapes = recording_shapes()
    for capture in (capture for path in paths for capture in read_captures(path, shapes)):
        venue = ReplayVenue(capture)
        _list_instruments(venue, _own_rows(capture) or known.get(capture.venue, {}), schedule)
        venues.append(venue)
    _agree_on_exponents(venues)
    return venues


def _own_rows(capture: Capture) -> dict[str, RowSpec]:
    """The rows of an own recording, which has its engine's catalogue."""
    columns = RowSpec.__struct_fields__
    return {
        symbol: RowSpec(**{name: value for name, value in row.items() if name in columns})
        for symbol, row in capture.rows.items()
    }


def _read_rows(path: Path) -> dict[str, dict[str, RowSpec]]:
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, RowSpec]])
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"instrument rows {path}: {error}") from None


class FeeChoice:
    """``--fees``: ``zero``, ``standard``, a number of bps, or a JSON file ``{venue: bps | {symbol: bps}}``."""

    def __init__(self, text: str) -> None:
        self.standard = text == "standard"
        self.flat: Decimal | None = Decimal(0) if text == "zero" else None
        self.by_venue: dict[str, str | float | dict[str, str | float]] = {}
        if self.standard or self.flat is not None:
            return
        path = Path(text)
        if path.is_file():
            try:
                self.by_venue = msgspec.json.decode(
                    path.read_bytes(), type=dict[str, str | float | dict[str, str | float]]
                )
            except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
                raise BadInput(f"fees {path}: {error}") from None
            return
        try:
            self.flat = parse_decimal(text)
        except ValueError:
            raise BadInput(f"fees {text!r}: wanted zero, standard, a number of bps, or a JSON file") from None

    def taker_ppm(self, venue: str, symbol: str, standard_bps: str) -> int:
        """Taker fee of one instrument in ppm, rounded up. Raises ``BadInput``."""
        if self.flat is not None:
            bps = self.flat
        else:
            chosen: str | float | dict[str, str | float] | None = self.by_venue.get(venue)
            if isinstance(chosen, dict):
                chosen = chosen.get(symbol)
            if chosen is None and not self.standard:
                raise BadInput(f"fees: nothing for {symbol} of {venue}")
            try:
                bps = parse_decimal(standard_bps if chosen is None else str(chosen))
            except ValueError as error:
                raise BadInput(f"fees of {symbol} of {venue}: {error}") from None
        if not -1000 < bps < 1000:
            raise BadInput(f"fees of {symbol} of {venue}: {bps} bps is out of range")
        return -int((-bps * PPM_PER_BPS).to_integral_value(rounding="ROUND_FLOOR"))


def _list_instruments(venue: ReplayVenue, known: dict[str, RowSpec], fees: FeeChoice) -> None:
    contents = CaptureContents(venue.capture, feed_codec(venue.capture.dialect, venue.capture.market))
    venue.owners = contents.owners
    name = venue.capture.name_of_venue
    for symbol, digits in sorted(contents.digits.items()):
        row = known.get(symbol)
        if row is None:
            base, quote = split_symbol(symbol)
            base_tier = facts_of(venue.capture.dialect).markets[venue.capture.market].taker_bps
            row = RowSpec(base=base, quote=quote, taker_bps=base_tier)
            venue.assumed.append(f"{name}:{symbol}")
        venue.instruments.append(
            Listed(
                symbol=symbol,
                row=row,
                digits=digits,
                multiplier=venue.capture.multipliers.get(symbol, Decimal(1)),
                fee_ppm=fees.taker_ppm(name, symbol, row.taker_bps),
                quarantined=bool(venue.capture.rows.get(symbol, {}).get("quarantine")),
            )
        )


def split_symbol(symbol: str) -> tuple[str, str]:
    """(base, quote) of ``BTC_USDT`` or ``BTCUSDT``; a symbol that ends in no quote that we know pairs with nothing."""
    base, _, quote = symbol.partition("_")
    if quote:
        return base, quote
    for known in QUOTES:
        if symbol.endswith(known) and len(symbol) > len(known):
            return symbol[: -len(known)], known
    return symbol, symbol


def _agree_on_exponents(venues: list[ReplayVenue]) -> None:
    """One price and one quantity exponent per pair: enough for every venue's own digits and rows.

    Raises ``BadInput`` where they do not fit int64 together.
    """
    pairs: dict[str, list[Listed]] = {}
    for venue in venues:
        for listed in venue.instruments:
            pairs.setdefault(listed.pair, []).append(listed)
    for pair, group in pairs.items():
        together = Digits()
        finest = Decimal(1)
        for listed in group:
            own = listed.digits
            together.price = max(together.price, own.price, _digits(listed.row.tick))
            together.qty = max(together.qty, own.qty, _digits(listed.row.step))
            together.largest_price = max(together.largest_price, own.largest_price)
            together.largest_qty = max(together.largest_qty, own.largest_qty * max(1.0, float(listed.multiplier)))
            if digits_after_point(listed.multiplier) > digits_after_point(finest):
                finest = listed.multiplier
        price_exp, qty_exp = together.exponents(pair, finest)
        for listed in group:
            listed.price_exp, listed.qty_exp = price_exp, qty_exp


def _digits(text: str) -> int:
    return digits_after_point(parse_decimal(text)) if text else 0


def catalogue_words(venues: list[ReplayVenue]) -> tuple[list[InstrumentRow], Words]:
    """Instrument rows of all captures (id = index) and their catalogue words."""
    rows: list[InstrumentRow] = []
    pairs: dict[str, int] = {}
    assets: dict[str, int] = {}
    venue_ids: dict[str, int] = {}  # two captures of one venue are one venue
    for feed, venue in enumerate(venues):
        venue_id = venue_ids.setdefault(venue.capture.name_of_venue, len(venue_ids))
        futures = venue.capture.market == "futures"
        for book_index, listed in enumerate(venue.instruments):
            listed.instrument_id = len(rows)
            row = listed.row
            unit = Decimal(1).scaleb(-listed.qty_exp)
            spec = InstrumentSpec(
                venue=venue.capture.name_of_venue,
                symbol=listed.symbol,
                base=row.base,
                quote=row.quote,
                kind=InstrumentKind.PERPETUAL if futures else InstrumentKind.SPOT,
                tick=parse_decimal(row.tick) if row.tick else Decimal(1).scaleb(-listed.price_exp),
                lot=parse_decimal(row.step) if row.step else max(unit, listed.multiplier if futures else unit),
                min_qty=parse_decimal(row.min_qty),
                min_notional=parse_decimal(row.min_notional),
                multiplier=listed.multiplier,
                taker_fee_ppm=listed.fee_ppm,
                fee_rule=FeeAssetRule.QUOTE if futures else FeeAssetRule.RECEIVED,
            )
            rows.append(
                InstrumentRow(
                    instrument_id=len(rows),
                    venue_id=venue_id,
                    feed_id=feed,
                    book_index=book_index,
                    pair_id=QUARANTINED if listed.quarantined else pairs.setdefault(spec.pair, len(pairs)),
                    base_asset_id=assets.setdefault(spec.base, len(assets)),
                    quote_asset_id=assets.setdefault(spec.quote, len(assets)),
                    price_exp=listed.price_exp,
                    qty_exp=listed.qty_exp,
                    row_epoch=1,
                    spec=spec,
                )
            )
    words = np.zeros((len(rows), CATALOGUE_ROW.WORDS), dtype=np.int64)
    for row_number, instrument in enumerate(rows):
        words[row_number] = row_to_words(instrument)
    return rows, words
