"""Times of the command line: a span back from now, or an ISO time. What has no zone is UTC, as all that is shown is."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from pipeline.model.errors import BadInput
from pipeline.model.units import NS_PER_S

WALL_NS_MAX = 2**63 - 1  # the year 2262: the largest stamp of SQLite and the journal
_SPAN = re.compile(r"(\d+)([smhd])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def since_wall_ns(text: str, option: str = "--since", command: str = "arb report") -> int:
    """Wall-clock ns: ``""`` = 0, ``90m`` = a span back from now, else an ISO time. Raises BadInput."""
    if not text:
        return 0
    span = _SPAN.match(text)
    if span:
        return max(0, time.time_ns() - int(span[1]) * _SECONDS[span[2]] * NS_PER_S)
    try:
        at = datetime.fromisoformat(text)
        zoned = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return max(0, min(int(zoned.timestamp() * NS_PER_S), WALL_NS_MAX))
    except (ValueError, OverflowError):
        raise BadInput(
            f"{option}: found {text!r}, wanted an ISO time (UTC) or a span, e.g. `{command} {option} 24h`"
        ) from None
