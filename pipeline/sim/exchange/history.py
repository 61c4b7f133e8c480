"""What an account looked like some time ago: orders, wallets and positions, for a venue whose REST answers are stale.

Real venues answer queries from replicas that lag behind the matching engine. The fault ``stale`` sets for one request
how old its answers are; the venue's queries then look here. Times are the clock's monotonic nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from contextvars import ContextVar

from pipeline.sim.exchange.accounts import BookEntry, SimAccount, SimPosition, Wallet
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.orders import SimOrder

# Age of the answers of the request that this task serves; 0 = current.
STALE_NS: ContextVar[int] = ContextVar("stale_ns", default=0)
STATES_MAX = 5_000  # states of one wallet or position kept; older moments show the oldest


def shown_book(account: SimAccount, now_ms: int) -> list[BookEntry]:
    """The account book that the request which this task serves is shown, oldest first; ``now_ms``: the venue's time."""
    newest_ms = now_ms - STALE_NS.get() // NS_PER_MS
    return [entry for entry in account.book if entry.ts_ms <= newest_ms or not STALE_NS.get()]


class History:
    """States of one venue's accounts, appended as they change."""

    def __init__(self) -> None:
        self._orders: dict[int, list[tuple[int, SimOrder]]] = {}
        self._wallets: dict[tuple[int, str], deque[tuple[int, Wallet]]] = {}
        self._positions: dict[tuple[int, str], deque[tuple[int, SimPosition]]] = {}

    def record_order(self, now_ns: int, order: SimOrder) -> None:
        self._orders.setdefault(order.order_id, []).append((now_ns, order.copy()))

    def record_wallet(self, now_ns: int, account: SimAccount, asset: str, wallet: Wallet) -> None:
        kept = self._wallets.setdefault((id(account), asset), deque(maxlen=STATES_MAX))
        kept.append((now_ns, Wallet(wallet.free, wallet.locked, wallet.update_seq)))

    def record_position(self, now_ns: int, account: SimAccount, position: SimPosition) -> None:
        key = (id(account), f"{position.symbol}:{position.mode}")
        self._positions.setdefault(key, deque(maxlen=STATES_MAX)).append((now_ns, position.copy()))

    def order_at(self, order_id: int, at_ns: int) -> SimOrder | None:
        """The order as it was; None if it was not there yet."""
        states = self._orders.get(order_id, [])
        count = bisect_right(states, at_ns, key=lambda state: state[0])
        return states[count - 1][1].copy() if count else None

    def wallet_at(self, account: SimAccount, asset: str, at_ns: int) -> Wallet | None:
        """None if there was no such wallet yet."""
        states = self._wallets.get((id(account), asset))
        if not states:
            return None
        before = [wallet for noted_ns, wallet in states if noted_ns <= at_ns]
        if before:
            return before[-1]
        return states[0][1] if len(states) == STATES_MAX else None

    def position_at(self, account: SimAccount, position: SimPosition, at_ns: int) -> SimPosition:
        """The position as it was; flat if it was never touched before."""
        states = self._positions.get((id(account), f"{position.symbol}:{position.mode}"), ())
        before = [state for noted_ns, state in states if noted_ns <= at_ns]
        if before:
            return before[-1].copy()
        return SimPosition(
            symbol=position.symbol, mode=position.mode, leverage=position.leverage, is_cross=position.is_cross
        )
