"""What a simulated venue lists of an account besides orders: funding, money that came or went, forced closes."""

from __future__ import annotations

from pipeline.model.enums import InstrumentKind
from pipeline.model.structs import ForcedClose, Funding, MoneyMove
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.history import shown_book
from pipeline.sim.exchange.venue import SimVenue
from pipeline.virtual.venue_rows import VenueRows

MOVES = {"deposit": "deposit", "withdraw": "withdraw"}  # reasons of the account's book that no order caused
LISTS = {"liquidation": "liquidates", "adl": "auto_deleverages"}


def funding(venue: SimVenue, account: SimAccount, since_wall_ms: int) -> tuple[Funding, ...]:
    """Funding bookings, oldest first."""
    return tuple(
        Funding(
            venue=venue.name,
            symbol=row.symbol,
            event_id=str(row.entry_id),
            asset=row.asset,
            amount=row.change,
            venue_wall_ms=row.ts_ms,
        )
        for row in shown_book(account, venue.now_ms())
        if row.reason == "fund" and row.ts_ms >= since_wall_ms
    )


def money_moves(venue: SimVenue, account: SimAccount, since_wall_ms: int) -> tuple[MoneyMove, ...]:
    """Deposits and withdrawals, oldest first; a futures wallet calls either a transfer."""
    futures = venue.kind is not InstrumentKind.SPOT
    return tuple(
        MoneyMove(
            venue=venue.name,
            asset=row.asset,
            amount=row.change,
            reason="transfer" if futures else MOVES[row.reason],
            listed_in="account_book",
            event_id=str(row.entry_id),
            venue_wall_ms=row.ts_ms,
        )
        for row in shown_book(account, venue.now_ms())
        if row.reason in MOVES and row.ts_ms >= since_wall_ms
    )


def forced_closes(rows: VenueRows, since_wall_ms: int) -> tuple[ForcedClose, ...]:
    """Liquidations and deleveragings, oldest first; settlements are in no list of these."""
    return tuple(
        ForcedClose(
            venue=rows.venue.name,
            symbol=row.symbol,
            order_id=rows.order_text(row.order_id),
            cause=row.kind,
            price=row.fill_price,
            listed_in=LISTS[row.kind],
            venue_wall_ms=row.ts_ms,
        )
        for row in rows.account.forced
        if row.kind in LISTS and row.ts_ms >= since_wall_ms
    )
