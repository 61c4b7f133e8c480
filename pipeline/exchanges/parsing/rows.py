"""Lists of venues, decoded row by row: a row of somebody else that cannot be read costs itself, not the list.

A list is decoded whole, which is one call; only when that fails, or a row cannot be converted, is each row looked at by
itself. Whose an unreadable row is decides what it costs: a foreign one is counted and named; one of ours (it may be
money or an order) voids the answer, or, where the caller can do without it (:class:`OwnRows`), is kept as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import DecimalException
from typing import Generic, TypeVar

import msgspec

from pipeline.exchanges.base import CLIENT_ID_MAX
from pipeline.exchanges.transport.refusals import printable
from pipeline.model.errors import ProtocolViolation
from pipeline.model.structs import InstrumentSpec, UnreadableRow

Row = TypeVar("Row")
T = TypeVar("T")

#: Fields that name a row, in the order in which they are looked for.
NAMES = ("symbol", "name", "currency_pair", "contract", "currency", "asset", "coin", "id", "orderId", "text", "symbols")
NO_NAME = "?"
#: Fields that name the order of a row, as the venue does and as we do; an order's own ``id`` only where it is no fill.
ORDER_IDS = ("orderId", "order_id", "id")
CLIENT_IDS = ("origClientOrderId", "clientOrderId", "orderLinkId", "text")
ORDER_LIST = "orderListId"
NEWS_MAX = 64  # names that are kept for an operator between two looks
NAMES_MAX = 4096  # names that are remembered as reported

Fields = Mapping[str, object]
_UNREADABLE = (msgspec.DecodeError, ProtocolViolation, DecimalException, ValueError)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder()


class OddRows:
    """Rows that could not be read and were left out: how many, and which. One per client."""

    def __init__(self) -> None:
        self.count = 0
        self._reported: set[str] = set()
        self._unreadable: set[str] = set()
        self._news: list[str] = []

    def add(self, what: str, name: str, reason: str) -> None:
        """One row of the list ``what``; every name is news once."""
        self.count += 1
        if len(self._unreadable) < NAMES_MAX:
            self._unreadable.add(name)
        key = f"{what} {name}"
        if key not in self._reported and len(self._reported) < NAMES_MAX:
            self._reported.add(key)
            if len(self._news) < NEWS_MAX:
                self._news.append(f"{what}: row {name} left out: {reason}")

    def take_news(self) -> list[str]:
        """What was not reported yet, as lines for operators."""
        news, self._news = self._news, []
        return news

    def take_names(self) -> frozenset[str]:
        """Names of all rows that were left out since the last call; ``NO_NAME`` for those without."""
        names, self._unreadable = frozenset(self._unreadable), set()
        return names


class OwnRows(OddRows):
    """The odd rows of one question, whose rows of ours may be missing: ``unreadable`` says which, and the caller
    answers for them. ``name``: of the instrument or asset that the whole list is about, "" where it is about many."""

    def __init__(self, odd: OddRows, name: str = "") -> None:
        super().__init__()
        self._odd = odd
        self._name = name
        self.unreadable: list[UnreadableRow] = []

    def add(self, what: str, name: str, reason: str) -> None:
        self._odd.add(what, name, reason)

    def keep(self, what: str, fields: Fields, key: str, prefix: str, reason: str) -> bool:
        """Keeps one row of ours as missing; False where it does not say what it is about (``key``). ``prefix``: before
        our ids."""
        named = fields.get(key)
        name = named if isinstance(named, str) and named else self._name
        if name:
            order_id, client_id = _text(fields, ORDER_IDS), _text(fields, CLIENT_IDS).removeprefix(prefix)
            row = UnreadableRow(what=what, name=name, order_id=order_id, client_id=client_id, reason=reason)
            self.unreadable.append(row)
        return bool(name)


class Rows(Generic[Row]):
    """Decoder of a JSON list of ``Row``. ``or_one``: a reply that is one object is a list of one. ``of``: the field
    that names a row's instrument or asset; ``prefix``: before our own ids of orders."""

    def __init__(self, row_type: type[Row], *, or_one: bool = False, of: str = "", prefix: str = "") -> None:
        self._of = of
        self._prefix = prefix
        self._whole = msgspec.json.Decoder(list[row_type])  # type: ignore[valid-type]
        self._one = msgspec.json.Decoder(row_type)
        self._or_one = or_one

    def read(
        self,
        payload: bytes | memoryview,
        venue: str,
        what: str,
        convert: Callable[[Row], T],
        *,
        odd: OddRows | None = None,
        foreign: Callable[[Fields], bool] | None = None,
    ) -> list[T]:
        """``convert`` of every row, in the list's order.

        ``foreign``: whether a row that cannot be read is not ours, by its fields; None: every row is ours. Raises
        ``ProtocolViolation`` where the list itself, or a row of ours, cannot be read, the latter not with
        :class:`OwnRows` as ``odd``; what else ``convert`` raises is not caught.
        """
        return self.read_page(payload, venue, what, convert, odd=odd, foreign=foreign)[0]

    def read_page(
        self,
        payload: bytes | memoryview,
        venue: str,
        what: str,
        convert: Callable[[Row], T],
        *,
        odd: OddRows | None = None,
        foreign: Callable[[Fields], bool] | None = None,
    ) -> tuple[list[T], int]:
        """:meth:`read`, and how many rows the list had, those that were left out included: a full page has a next."""
        if self._or_one and bytes(payload[:1]) == b"{":
            payload = b"[%b]" % bytes(payload)
        try:
            rows: list[Row] = self._whole.decode(payload)
            return [convert(row) for row in rows], len(rows)
        except _UNREADABLE as error:
            if foreign is None and not isinstance(odd, OwnRows):
                raise _violation(venue, what, error, payload) from None
        return self._one_by_one(payload, venue, what, convert, odd or OddRows(), foreign)

    def _one_by_one(
        self,
        payload: bytes | memoryview,
        venue: str,
        what: str,
        convert: Callable[[Row], T],
        odd: OddRows,
        foreign: Callable[[Fields], bool] | None,
    ) -> tuple[list[T], int]:
        try:
            raws = _raws.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _violation(venue, what, error, payload) from None
        found: list[T] = []
        left_out: list[tuple[str, str]] = []
        for raw in raws:
            try:
                found.append(convert(self._one.decode(raw)))
            except _UNREADABLE as error:
                fields = _fields(bytes(raw))
                none_readable = foreign is any_row and len(left_out) == len(raws) - 1
                ours = none_readable or foreign is None or not foreign(fields)
                text = printable(str(error))
                kept = ours and isinstance(odd, OwnRows) and odd.keep(what, fields, self._of, self._prefix, text)
                if ours and not kept:
                    raise _violation(venue, what, error, bytes(raw)) from None
                left_out.append((name_of(fields), text))
        for name, reason in left_out:
            odd.add(f"{venue} {what}", name, reason)
        return found, len(raws)


def _text(fields: Fields, keys: Sequence[str]) -> str:
    """The first of ``keys`` that names something."""
    values = (fields.get(key) for key in keys)
    return next((printable(str(value), 80) for value in values if isinstance(value, str | int) and value != ""), "")


def name_of(fields: Fields) -> str:
    """What a row calls itself; ``NO_NAME`` for one without a name."""
    for key in NAMES:
        value = fields.get(key)
        value = ",".join(map(str, value)) if isinstance(value, list) else value
        if isinstance(value, str | int) and value != "":
            return printable(str(value), 40)
    return NO_NAME


def in_order(symbols: Sequence[str], specs: Iterable[InstrumentSpec | None]) -> list[InstrumentSpec]:
    """The specs of ``symbols``, in their order; None is a row that was not wanted."""
    found = {spec.symbol: spec for spec in specs if spec is not None}
    return [found[symbol] for symbol in symbols if symbol in found]


def any_row(_fields: Fields) -> bool:
    """Every row may be left out, but not all of them: one of ours that is missing is noticed where it is looked for."""
    return True


def not_of_symbols(symbols: Collection[str], key: str) -> Callable[[Fields], bool]:
    """Foreign are rows whose ``key`` names none of ``symbols``; a row whose ``key`` is no text may be ours."""

    def foreign(fields: Fields) -> bool:
        name = fields.get(key)
        return isinstance(name, str) and name not in symbols

    return foreign


def not_of_assets(symbols: Collection[str], key: str) -> Callable[[Fields], bool]:
    """Foreign are rows whose asset ``key`` is neither base nor quote of ``symbols``: parts between ``_``, or where
    symbols have no ``_`` their beginning or end. A row whose ``key`` is no text may be ours."""

    def ours(asset: str, symbol: str) -> bool:
        return asset in symbol.split("_") if "_" in symbol else symbol.startswith(asset) or symbol.endswith(asset)

    def foreign(fields: Fields) -> bool:
        asset = fields.get(key)
        return isinstance(asset, str) and not any(ours(asset, symbol) for symbol in symbols)

    return foreign


def not_our_order(*id_keys: str, prefix: str = "") -> Callable[[Fields], bool]:
    """Foreign are orders and fills whose client id cannot be one of ours (``prefix``, then letters and digits): none,
    or of another form. A row without such a field may be ours, but for a list of orders (OCO) among orders."""

    def may_be_ours(text: object) -> bool:
        if not isinstance(text, str) or not text.startswith(prefix):
            return False
        client_id = text[len(prefix) :]
        return 0 < len(client_id) <= CLIENT_ID_MAX and client_id.isascii() and client_id.isalnum()

    def foreign(fields: Fields) -> bool:
        present = [key for key in id_keys if key in fields]
        if not present:
            return ORDER_LIST in fields
        return not any(may_be_ours(fields[key]) for key in present)

    return foreign


def _fields(raw: bytes) -> Fields:
    try:
        value = _any.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _violation(venue: str, what: str, error: Exception, payload: bytes | memoryview) -> ProtocolViolation:
    if isinstance(error, ProtocolViolation):
        return error
    head = printable(bytes(payload[:120]))
    return ProtocolViolation(f"{venue}: {what} is not what its documents say: {error}: {head}", venue=venue)
