"""What stays open at the venues, ours and not ours, in the words of every command that says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.model.fixedpoint import plain

START = "the next start (`arb status` names its command)"
Rows = Sequence[Mapping[str, Any]]


def not_ours_text(positions: Iterable[Mapping[str, Any]], coins: Iterable[Mapping[str, Any]] = ()) -> str:
    """What others hold of the positions and of the ``coins`` by their trades, and the net exposure of both at marks
    (entry prices where there is none); "" where all is ours. What came or went is no exposure: :func:`moved_text`."""
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


def moved_text(coins: Iterable[Mapping[str, Any]]) -> str:
    """Coins that came or went without a trade: stock, which nobody has to trade; "" where there are none."""
    came, gone = list[str](), list[str]()
    for row in coins:
        qty = Decimal(str(row.get("moved_qty") or 0))
        if qty:
            (came if qty > 0 else gone).append(f"{plain(abs(qty))} {row['asset']} on {row['venue']}")
    words = (("deposited (or came without a trade)", came), ("withdrawn (or gone without a trade)", gone))
    return "; ".join(f"{what} since the journal began: {', '.join(found)}" for what, found in words if found)


def flat_line(*, flat: bool, hedges: int, positions: Rows, coins: Rows = ()) -> str:
    """Whether all that is ours has left, and what is there besides."""
    foreign, moved = not_ours_text(positions, coins), moved_text(coins)
    ours = " (ours)" if foreign else ""
    first = f"flat: {'yes' if flat else 'no'}{ours}; {hedges} hedges open"
    dust = ", ".join(f"{plain(row['qty'])} {row['symbol']} on {row['venue']}" for row in positions if is_dust(row))
    dust = f"left by closed hedges: {dust}" if dust and flat else ""
    return "; ".join(text for text in (first, dust, foreign, moved) if text)


def is_dust(row: Mapping[str, Any]) -> bool:
    """Whether a position is what closed hedges have left: no open one and nobody else holds any of it. (Of an open
    operation's legs that is said as well: what is half done is asked besides.)"""
    return row.get("age_s") is None and not Decimal(str(row.get("foreign_qty") or 0))


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
