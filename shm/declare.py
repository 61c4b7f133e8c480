"""Records and tables of 64-bit words, each declared once: offsets, numpy view, drawing, size and schema come from that.

A table is a class with one line for each field, and one object of it::

    class Notice(Table, words=2, writer="feed"):
        \"\"\"One publication, as the notice ring tells it.

        | seq | book_index |
        \"\"\"

        seq = word("index + 1, stored last", sync="notice.seq")
        book_index = word("book that was published")

    NOTICE = Notice()
    words[at + NOTICE.book_index]      # lower case: the word of a field
    at += NOTICE.WORDS                 # upper case: what the table itself is

Offsets are plain integers. The object is a module to Python, because numba takes a module's integers for constants at
compile time, as it does with globals (README.md, "Tables are modules"); ``mypy`` sees the fields of the class.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LINE_WORDS = 8  # words of a cache line
DRAWING_WIDTH = 116

INT = "int64"
FLOAT = "float64"
TEXT = "text"  # UTF-8, padded with zeros
ROWS = "rows"  # of another table

#: What the end of a field's name says about its unit; the longest that fits counts.
UNITS = {
    "_wall_ns": "ns since 1970",
    "_mono_ns": "ns of the monotonic clock",
    "_ns": "ns",
    "_ms": "ms",
    "_wall_s": "s since 1970",
    "_s": "s",
    "_ppm": "ppm",
    "_ppb": "parts per billion",
    "_bps": "bps",
    "price_fp": "quote per base, 10^-price_exp",
    "notional_fp": "quote, 10^-price_exp",
    "qty_fp": "base, 10^-qty_exp",
    "lot_fp": "base, 10^-qty_exp",
    "tick_fp": "quote per base, 10^-price_exp",
    "_exp": "digits after the point",
    "_words": "words",
    "_bytes": "bytes",
    "count": "items",
    "capacity": "items",
    "_off": "word offset",
}


class Field(NamedTuple):
    """One field of a table. ``offset``: word of the table's array; ``words``: 0 = as many as there are."""

    name: str
    offset: int
    words: int
    type: str
    unit: str
    writer: str
    doc: str
    sync: str
    codes: Mapping[int, str]
    flags: Mapping[int, str]
    rows: Table | None

    @property
    def items(self) -> int:
        """How many items stand in a field of rows."""
        return self.words // self.rows.WORDS if self.rows is not None else self.words


class _Declared(NamedTuple):
    """What a line of a class body says of its field."""

    type: str
    words: int
    at: int | None
    doc: str
    unit: str
    writer: str
    sync: str
    codes: Mapping[int, str]
    flags: Mapping[int, str]
    rows: Table | None


def _declare(type_: str, words: int, doc: str, rows: Table | None = None, **options: Any) -> int:
    """The integer that mypy sees; the class makes one of it."""
    given = {"at": None, "unit": "", "writer": "", "sync": "", "codes": {}, "flags": {}, **options}
    return cast(int, _Declared(type=type_, words=words, doc=doc, rows=rows, **given))


def word(
    doc: str,
    *,
    unit: str = "",
    writer: str = "",
    sync: str = "",
    at: int | None = None,
    codes: Mapping[int, str] | None = None,
    flags: Mapping[int, str] | None = None,
) -> int:
    """A field of one signed 64-bit word.

    ``unit``: where the name's ending does not say it (``UNITS``); ``writer``: where it is not the table's; ``sync``:
    the SYNC pair that orders it; ``at``: word in the record where it begins (default: behind the field before it);
    ``codes``, ``flags``: names of its values, or of its bits.
    """
    return _declare(INT, 1, doc, unit=unit, writer=writer, sync=sync, at=at, codes=codes or {}, flags=flags or {})


def real(doc: str, *, unit: str = "", writer: str = "", at: int | None = None) -> int:
    """A field of one word that holds the bits of a float64."""
    return _declare(FLOAT, 1, doc, unit=unit, writer=writer, at=at)


def words_of(count: int, doc: str, *, unit: str = "", writer: str = "", sync: str = "", at: int | None = None) -> int:
    """A field of ``count`` signed words."""
    return _declare(INT, count, doc, unit=unit, writer=writer, sync=sync, at=at)


def reals_of(count: int, doc: str, *, unit: str = "", writer: str = "", at: int | None = None) -> int:
    """A field of ``count`` float64."""
    return _declare(FLOAT, count, doc, unit=unit, writer=writer, at=at)


def text_of(words: int, doc: str, *, writer: str = "", at: int | None = None) -> int:
    """A field of text: UTF-8 in ``words`` words, padded with zeros (:mod:`shm.words`)."""
    return _declare(TEXT, words, doc, writer=writer, at=at)


def rows_of(table: Table, count: int, doc: str, *, at: int | None = None) -> int:
    """A field of ``count`` rows of another table; 0 = as many as the segment has room for (then it is the last one)."""
    return _declare(ROWS, count * table.WORDS, doc, rows=table, at=at)


if TYPE_CHECKING:  # a module has any attribute to mypy; a table has its fields
    _Module = object
else:
    _Module = ModuleType


class Table(_Module):
    """A record, a row or a segment; see the module's docstring.

    ``words``: its size, which its fields must not exceed (default: up to the end of its last field). ``start``: word
    of the array where it begins, where it is always the same one. ``writer``: who writes it. ``kind``: of a segment.
    Raises ``ValueError`` for fields that overlap or do not fit.
    """

    NAME: str
    START: int
    WORDS: int
    END: int
    KIND: int
    FIELDS: tuple[Field, ...]

    def __init_subclass__(cls, *, words: int = 0, start: int = 0, writer: str = "", kind: int = 0) -> None:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).upper()
        at = 0
        fields: list[Field] = []
        for key, declared in [item for item in vars(cls).items() if isinstance(item[1], _Declared)]:
            if declared.at is not None:
                if declared.at < at:
                    raise ValueError(f"{name}.{key} begins at word {declared.at}, inside of the field before it: {at}")
                at = declared.at
            fields.append(_field(key, start + at, declared, writer))
            at += declared.words
        if words and at > words:
            raise ValueError(f"{name} has {at} words of fields, declared are {words}")
        size = words or at
        made = {"NAME": name, "START": start, "WORDS": size, "END": start + size, "KIND": kind, "FIELDS": tuple(fields)}
        cls._made = {**made, **{field.name: field.offset for field in fields}}  # type: ignore[attr-defined]

    def __init__(self) -> None:
        made: dict[str, Any] = type(self)._made  # type: ignore[attr-defined]
        if not TYPE_CHECKING:
            super().__init__(f"table {made['NAME']}", type(self).__doc__)
        vars(self).update(made)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self.NAME}.{name} is declared, not set")


def unit_of(name: str) -> str:
    """The unit that a field's name ends in; "" where it says none."""
    endings = [ending for ending in UNITS if name.endswith(ending)]
    return UNITS[max(endings, key=len)] if endings else ""


def _field(name: str, offset: int, declared: _Declared, writer: str) -> Field:
    return Field(
        name=name,
        offset=offset,
        words=declared.words,
        type=declared.type,
        unit=declared.unit or (unit_of(name) if declared.type in (INT, FLOAT) else ""),
        writer=declared.writer or writer,
        doc=declared.doc,
        sync=declared.sync,
        codes=declared.codes,
        flags=declared.flags,
        rows=declared.rows,
    )


def tables_of(namespace: Mapping[str, Any]) -> list[Table]:
    """The tables among a module's names (``vars(module)``), in the order of their declaration."""
    return [value for value in namespace.values() if isinstance(value, Table)]


def signature(table: Table) -> tuple[Any, ...]:
    """What two processes must agree on: names, places, types, units and codes of all fields."""
    fields = [
        (f.name, f.offset, f.words, f.type, f.unit, sorted(f.codes.items()), sorted(f.flags.items()))
        + ((f.rows.NAME,) if f.rows is not None else ())
        for f in table.FIELDS
    ]
    return table.NAME, table.START, table.WORDS, table.KIND, fields


def padded(text: str, width_words: int) -> bytes:
    """UTF-8, zero padded, in ``width_words`` words of 8 octets; cut at the last whole character that fits."""
    whole = text.encode()[: width_words * 8].decode(errors="ignore").encode()
    return whole.ljust(width_words * 8, b"\0")


def unpadded(octets: bytes) -> str:
    """Inverse of :func:`padded`; octets that are no UTF-8 become replacement characters."""
    return octets.split(b"\0", 1)[0].decode(errors="replace")


def dtype_of(table: Table) -> np.dtype[np.void]:
    """numpy's structured type of one record, with its gaps; fields of no fixed length are left out."""
    import numpy as np  # imported here: a command that halts knows the tables and must not wait for numpy

    fields = [field for field in table.FIELDS if field.words]
    return np.dtype(
        {
            "names": [field.name for field in fields],
            "formats": [_format(field) for field in fields],
            "offsets": [(field.offset - table.START) * 8 for field in fields],
            "itemsize": table.WORDS * 8,
        }
    )


def _format(field: Field) -> Any:
    if field.type == TEXT:
        return f"S{field.words * 8}"
    if field.rows is not None:
        return (dtype_of(field.rows), (field.items,))
    plain = "<f8" if field.type == FLOAT else "<i8"
    return plain if field.words == 1 else (plain, (field.words,))


def view(table: Table, words: npt.NDArray[np.int64], at: int = 0, count: int = 1) -> npt.NDArray[np.void]:
    """``count`` records of the table from word ``at`` on (of a segment: 0), as numpy records on the same memory."""
    begin = at + table.START
    return words[begin : begin + count * table.WORDS].view(dtype_of(table))


def values(table: Table, words: npt.NDArray[np.int64], at: int = 0) -> dict[str, Any]:
    """The fields of the record at word ``at`` by name: int, float, str, or a list of them; fields of rows left out."""
    return {field.name: value_of(field, words, at) for field in table.FIELDS if field.rows is None}


def value_of(field: Field, words: npt.NDArray[np.int64], at: int = 0) -> Any:
    """One field's value of the record at word ``at`` of int64 words: str for text, float for reals, else int; a list of
    them where the field has several words."""
    part = words[at + field.offset : at + field.offset + field.words]
    if field.type == TEXT:
        return unpadded(part.astype("<i8").tobytes())
    found = (part.view("<f8") if field.type == FLOAT else part).tolist()
    return found[0] if field.words == 1 else found


def meaning(field: Field, value: Any) -> str:
    """What a coded value means: the name of the code, or of the bits that are set; "" where there is nothing to say."""
    if field.codes:
        return field.codes.get(value, "unknown")
    if field.flags and isinstance(value, int):
        known = [name for bit, name in field.flags.items() if value & bit]
        rest = value & ~sum(field.flags)
        return " ".join(known + ([f"unknown:{rest:#x}"] if rest else []))
    return ""


def drawing(table: Table) -> list[str]:
    """The record in lines of eight words: ``| field | field[words] | 0 |``, 0 = a word that nobody uses."""
    rows: list[tuple[int, int, list[str]]] = []
    for begin, size, text in _cells(table):
        if not rows or begin % LINE_WORDS == 0:
            rows.append((begin, begin + size, [text]))
        else:
            rows[-1] = (rows[-1][0], begin + size, [*rows[-1][2], text])
    labels = [_label(begin, end) for begin, end, _ in rows]
    width = max((len(label) for label in labels), default=0)
    lines: list[str] = []
    for label, (_, _, cells) in zip(labels, rows, strict=True):
        prefix = "" if table.WORDS <= LINE_WORDS and len(rows) == 1 else f"{label:<{width}} "
        lines += _wrapped(prefix, cells)
    return lines


def _cells(table: Table) -> Iterator[tuple[int, int, str]]:
    """(word in the record, words, text) of every field and gap."""
    at = 0
    for field in table.FIELDS:
        begin = field.offset - table.START
        yield from _gap(at, begin)
        yield begin, field.words, _cell(field)
        at = begin + field.words
    yield from _gap(at, table.WORDS)


def _cell(field: Field) -> str:
    if field.rows is not None:
        return f"{field.name}: {f'{field.items} ' if field.words else ''}{field.rows.NAME} ..."
    return field.name if field.words == 1 else f"{field.name}[{field.words or '...'}]"


def _gap(begin: int, end: int) -> Iterator[tuple[int, int, str]]:
    size = end - begin
    if size > 3:
        yield begin, size, f"0[{size}]"
    else:
        yield from ((begin + k, 1, "0") for k in range(size))


def _label(begin: int, end: int) -> str:
    first, last = begin // LINE_WORDS, max(begin, end - 1) // LINE_WORDS
    return f"line {first}" if first == last else f"line {first}..{last}"


def _wrapped(prefix: str, cells: list[str]) -> list[str]:
    lines = [f"{prefix}|"]
    for cell in cells:
        if len(lines[-1]) + len(cell) + 3 > DRAWING_WIDTH:
            lines.append(f"{' ' * len(prefix)}|")
        lines[-1] += f" {cell} |"
    return lines


def schema_of(*namespaces: Mapping[str, Any]) -> int:
    """Hash over all tables and integer constants among the names of modules, as a signed 64-bit word."""
    names: dict[str, Any] = {}
    for namespace in namespaces:
        names.update(namespace)
    constants = sorted((name, value) for name, value in names.items() if name.isupper() and isinstance(value, int))
    text = repr((constants, sorted(signature(table) for table in tables_of(names))))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
