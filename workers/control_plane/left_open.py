"""What stays open at the venues, ours and not ours, in the words of every command that says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.model.fixedpoint import plain


def not_ours_text(positions: Iterable[Mapping[str, Any]]) -> str:
    """What others hold of the positions, and its net exposure at marks (entry prices where there is none); "" where
    all is ours."""
    found, exposure, quotes = [], Decimal(0), set()
    for row in positions:
        qty = Decimal(str(row.get("foreign_qty") or 0))
        if qty:
            found.append(f"{plain(qty)} {row['symbol']} on {row['venue']}")
            exposure += qty * Decimal(str(row.get("mark_price") or row["entry_price"]))
            quotes.add(str(row.get("quote", "")))
    if not found:
        return ""
    money = f"{exposure:.0f} {'/'.join(sorted(quotes))}".rstrip()
    return f"not ours: {', '.join(found)}, net exposure {money}: close it at the venue"


def flat_line(*, flat: bool, hedges: int, positions: Sequence[Mapping[str, Any]]) -> str:
    """Whether all that is ours has left, and what is there besides."""
    foreign = not_ours_text(positions)
    ours = " (ours)" if foreign else ""
    return f"flat: {'yes' if flat else 'no'}{ours}; {hedges} hedges open" + (f"; {foreign}" if foreign else "")


def unwatched_lines(hedges: Sequence[Mapping[str, Any]], positions: Sequence[Mapping[str, Any]]) -> list[str]:
    """After a stop: who goes on with what stays open. `arb close` closes hedges, never what is not ours."""
    foreign = not_ours_text(positions)
    if hedges:
        then = "`arb up` goes on with it, `arb close --all` then closes the hedges"
        return [f"nobody watches what stays open: {then}", *([foreign] if foreign else [])]
    if positions and not foreign:
        return ["nobody watches what stays open: `arb up` goes on with it"]
    return [f"nobody watches what stays open; {foreign} (`arb close` does not)"] if foreign else []
