"""What stays open at the venues, ours and not ours, in the words of every command that says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.model.fixedpoint import plain

START = "the next start (`arb status` names its command)"
Rows = Sequence[Mapping[str, Any]]


def not_ours_text(positions: Iterable[Mapping[str, Any]], coins: Iterable[Mapping[str, Any]] = ()) -> str:
    """What others hold of the positions, the ``coins`` that they left, and the net exposure of both at marks (entry
    prices where there is none); "" where all is ours."""
    found, exposure, quotes, unpriced = [], Decimal(0), set(), []
    for row in (*positions, *coins):
        qty = Decimal(str(row.get("foreign_qty") or 0))
        if not qty:
            continue
        name = row.get("symbol") or row["asset"]
        found.append(f"{plain(qty)} {name} on {row['venue']}")
        price = row.get("mark_price") or row.get("entry_price")
        if price is None:
            unpriced.append(str(name))
            continue
        exposure += qty * Decimal(str(price))
        quotes.add(str(row.get("quote", "")))
    if not found:
        return ""
    money = f"{exposure:.0f} {'/'.join(sorted(quotes))}".rstrip()
    money += f" and {', '.join(unpriced)} without a price" if unpriced else ""
    return f"not ours: {', '.join(found)}, net exposure {money}: close it at the venue"


def flat_line(*, flat: bool, hedges: int, positions: Rows, coins: Rows = ()) -> str:
    """Whether all that is ours has left, and what is there besides."""
    foreign = not_ours_text(positions, coins)
    ours = " (ours)" if foreign else ""
    return f"flat: {'yes' if flat else 'no'}{ours}; {hedges} hedges open" + (f"; {foreign}" if foreign else "")


def unwatched_lines(hedges: Rows, positions: Rows, coins: Rows = (), *, half_done: bool = False) -> list[str]:
    """After a stop: who goes on with what stays open (``half_done``: an operation or an order among it). `arb close`
    closes hedges, never what is not ours."""
    foreign = not_ours_text(positions, coins)
    if hedges:
        then = f"{START} goes on with it, `arb close --all` then closes the hedges"
        return [f"nobody watches what stays open: {then}", *([foreign] if foreign else [])]
    if half_done or (positions and not foreign):
        return [f"nobody watches what stays open: {START} goes on with it"]
    return [f"nobody watches what stays open; {foreign} (`arb close` does not)"] if foreign else []
