"""Section ``paper``: what the simulated account of a venue begins with, and what its orders meet (mode paper alone)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal

import msgspec


class PaperConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The simulated account of one venue. What it begins with is read once, when the account is made."""

    #: Of the account at its beginning: on spot half dollars, half the coins that are traded there in equal parts; for
    #: contracts all dollars. Absent, like ``balances``: 10,000 dollars, and on spot 5,000 USD of every coin.
    capital_usd: Decimal | None = None
    balances: dict[str, Decimal] = {}  # amounts by coin at the beginning, instead; a coin that is not named: none
    latency_ms: Decimal = Decimal(5)  # to the venue and through its matching: half of the orders take longer
    latency_p99_ms: Decimal | None = None  # one in a hundred takes longer; absent: each takes latency_ms
    missed_ppm: int = 0  # orders that come too late: others have taken what the book shows, the other leg stands alone
    late_ppm: int = (
        0  # orders that are executed and whose answer comes late_ms later: UNKNOWN, and looked for meanwhile
    )
    late_ms: int = 3000  # how much later


def check_paper(paper: Mapping[str, PaperConfig], venues: Collection[str], errors: list[str]) -> None:
    """Append a line for each entry that names no venue of ``venues``, or contradicts itself."""
    for name, entry in paper.items():
        path = f"paper.{name}"
        if name not in venues:
            errors.append(f"{path}: no such venue; configured: {', '.join(sorted(venues))}")
        if entry.capital_usd is not None and entry.balances:
            errors.append(f"{path}: found capital_usd and balances, wanted one of them")
        tail = entry.latency_p99_ms
        if tail is not None and tail.is_finite() and entry.latency_ms.is_finite() and tail < entry.latency_ms:
            errors.append(f"{path}.latency_p99_ms: found {tail}, wanted at least latency_ms ({entry.latency_ms})")
