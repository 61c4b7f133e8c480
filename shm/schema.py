"""All that is declared of shared memory, taken as one: its hash, and which table a segment's body is."""

from __future__ import annotations

import functools

from shm import layout, layout_pages
from shm.declare import Table, schema_of, tables_of

SHARED_TABLES: tuple[Table, ...] = tuple(dict.fromkeys([*tables_of(vars(layout)), *tables_of(vars(layout_pages))]))
"""Every record, row and segment that processes share."""

SEGMENTS: dict[int, Table] = {table.KIND: table for table in SHARED_TABLES if table.KIND}
"""The body of a segment by its header's ``kind``."""


@functools.cache
def schema_hash() -> int:
    """Hash of every declaration and constant of shared memory, in each segment's header: two sides with different
    offsets never meet. A signed 64-bit word."""
    return schema_of(vars(layout), vars(layout_pages))
