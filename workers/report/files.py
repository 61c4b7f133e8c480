"""A report as files: one HTML page, CSV files, Parquet files. What was there under the same names is replaced."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation, localcontext
from pathlib import Path
from typing import Any

from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import plain
from workers.report.html_page import report_page
from workers.report.tables import TABLES, Table

PYARROW_INSTALL = "pip install 'pyarrow>=18'"
DECIMAL_DIGITS = 38  # of a Parquet decimal128
DECIMAL_PLACES = 18


def check_parquet(who: str = "--parquet", instead: str = ", or use --csv DIR") -> None:
    """Raises BadInput, with the command that mends it, where the optional package pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise BadInput(f"{who}: found no package pyarrow, wanted it (it is optional); {PYARROW_INSTALL}{instead}")


def written(
    report: Mapping[str, Any],
    tables: Mapping[str, Table],
    *,
    html: Path | None,
    csv_folder: Path | None,
    parquet_folder: Path | None,
) -> list[str]:
    """Write what is asked for; the files. Folders are made. Raises OSError, and BadInput where pyarrow is missing."""
    files = []
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(report_page(report, tables), encoding="utf-8")
        files.append(str(html))
    for folder, suffix, encode in ((csv_folder, "csv", csv_bytes), (parquet_folder, "parquet", parquet_bytes)):
        if folder is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            path = folder / f"{name}.{suffix}"
            path.write_bytes(encode(tables[name]))
            files.append(str(path))
    return files


def _columns(table: Table) -> list[str]:
    """Every column that a row has, in the order in which they first come."""
    return list(dict.fromkeys(name for row in table for name in row))


def csv_bytes(table: Table) -> bytes:
    """A table as CSV (RFC 4180, UTF-8) with a header; decimals without exponents, nothing for what is not known."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _columns(table), lineterminator="\r\n")
    writer.writeheader()
    for row in table:
        writer.writerow({name: plain(value) if isinstance(value, Decimal) else value for name, value in row.items()})
    return out.getvalue().encode()


def parquet_bytes(table: Table) -> bytes:
    """A table as Parquet; decimals as decimal128(38, 18), as text where one does not fit.

    Raises BadInput where pyarrow is missing."""
    check_parquet()
    arrow = importlib.import_module("pyarrow")
    arrays = {name: _array(arrow, [row.get(name) for row in table]) for name in _columns(table)}
    sink = arrow.BufferOutputStream()
    importlib.import_module("pyarrow.parquet").write_table(arrow.table(arrays), sink, compression="zstd")
    return bytes(sink.getvalue())


def _array(arrow: Any, values: list[Any]) -> Any:
    """One column; a decimal with more places than a Parquet decimal has is rounded to them. A column with one that fits
    none is text."""
    if not any(isinstance(value, Decimal) for value in values):
        return arrow.array(values)
    step = Decimal(1).scaleb(-DECIMAL_PLACES)
    try:
        with localcontext(prec=DECIMAL_DIGITS):
            rounded = [value if value is None else Decimal(value).quantize(step) for value in values]
    except InvalidOperation:
        return arrow.array([value if value is None else plain(Decimal(value)) for value in values])
    return arrow.array(rounded, type=arrow.decimal128(DECIMAL_DIGITS, DECIMAL_PLACES))
