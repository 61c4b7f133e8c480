"""Notices of the venues' streams that money has moved without an order: kept until it is booked, or they are old."""

from __future__ import annotations

from pipeline.execution.core_context import CoreContext
from pipeline.model.venue_events import MoneyNotice
from pipeline.recovery.differences import Key

NOTICE_NS = 60_000_000_000


class MoneyNotices:
    """By venue and asset; also of balances that no sweep has taken yet."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self._kept: dict[Key, list[MoneyNotice]] = {}

    def keep(self, notice: MoneyNotice) -> None:
        """A new one."""
        key = (notice.venue, notice.asset)
        self._kept[key] = [*self.of(key), notice]

    def of(self, key: Key) -> list[MoneyNotice]:
        """Those that may explain a difference: old ones do not."""
        oldest_ns = self._context.now.mono_ns - NOTICE_NS
        return [notice for notice in self._kept.get(key, ()) if notice.recv_mono_ns > oldest_ns]

    def booked(self, key: Key) -> None:
        """What they told of is in the ledger."""
        self._kept.pop(key, None)

    def based(self, key: Key, asked_mono_ns: int) -> bool:
        """The first balance was taken, asked for at that time: it holds what was told before. Whether more was."""
        later = [notice for notice in self.of(key) if notice.recv_mono_ns >= asked_mono_ns]
        self._kept.pop(key, None)
        if later:
            self._kept[key] = later
        return bool(later)
