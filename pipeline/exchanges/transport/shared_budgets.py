"""Which budgets of the venues this process shares with others, and where it publishes what it uses of them.

A process joins once (:func:`join`); every client that is made from then on publishes its spend in the process's segment
(``spend.py``) and counts that of all other processes of this user. A process that has not joined counts alone.

One budget is: a market of a dialect at one host (or all of them, ``Limit.of_host``), and this host's address or one
account; an account is named by a hash of its key.
"""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.exchanges.transport.throttle import Limit, Window, window_ns_of
from pipeline.model.structs import Credentials

if TYPE_CHECKING:
    from pipeline.exchanges.transport.spend import SpendTable
    from pipeline.model.config import VenueConfig

NO_LIMIT = 0  # of what has only silences


class Joined:
    """This process's part; its segment is made when the first client needs it."""

    def __init__(self, instance: str, process: str) -> None:
        self.instance = instance
        self.process = process
        self.lock = threading.RLock()
        self._table: SpendTable | None = None
        self._windows: dict[int, Window] = {}
        self._account_of: dict[str, str] = {}

    def same_account(self, key: str, trade_key: str) -> None:
        """``key`` is another one of the account of ``trade_key``: their budgets are one."""
        self._account_of[key] = trade_key

    def account_of(self, credentials: Credentials | None) -> str:
        """The key that stands for the account."""
        key = "" if credentials is None else credentials.api_key
        return self._account_of.get(key, key)

    @property
    def table(self) -> SpendTable:
        """Raises ShmError."""
        with self.lock:
            if self._table is None:
                from pipeline.exchanges.transport.spend import SpendTable  # numba: who asks no venue does without it

                self._table = SpendTable.create(self.instance, self.process)
            return self._table

    def window(self, identity: int, label: str, limit: Limit) -> Window:
        """The window of one budget, the same one for the same ``identity``."""
        with self.lock:
            found = self._windows.get(identity)
            if found is None:
                most = NO_LIMIT if limit.capacity == float("inf") else int(limit.capacity)
                row = self.table.row(identity, label, most, window_ns_of(limit))
                found = self._windows[identity] = Window(limit, row)
            return found

    def refresh(self) -> None:
        """With the beat: finds processes that came, where this one has asked a venue at all."""
        if self._table is not None:
            with self.lock:
                self._table.refresh()

    def leave(self) -> None:
        """The process ends, or this part of it; clients that are made later count alone."""
        global _joined
        if _joined is self:
            _joined = None
        with self.lock:
            if self._table is not None:
                self._table.leave()
                self._table = None


class VenueBudgets:
    """The windows of one venue's client; what a :class:`Throttle` shares."""

    def __init__(self, joined: Joined, venue: VenueConfig, credentials: Credentials | None) -> None:
        self._joined = joined
        self._venue = venue
        self._account = joined.account_of(credentials)
        self.lock = joined.lock
        self.fence = joined.table.fence
        self.refresh = joined.table.refresh

    def window(self, bucket: str, limit: Limit) -> Window:
        """The window of the venue's ``bucket``."""
        whose = f"account {self._account}" if limit.account else "address"
        market, name = ("", self._venue.exchange) if limit.of_host else (self._venue.market, self._venue.name)
        place = f"{self._venue.dialect} {market} {urlsplit(self._venue.rest).netloc}"
        text = f"{place} {whose} {bucket} {limit.capacity} {limit.window_s}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return self._joined.window(int.from_bytes(digest, "little", signed=True), f"{name} {bucket}", limit)


_joined: Joined | None = None


def join(instance: str, process: str) -> Joined:
    """From here on this process shares its budgets as ``process`` of ``instance``."""
    global _joined
    _joined = Joined(instance, process)
    return _joined


def joined() -> Joined | None:
    """What this process has joined; None: it counts alone."""
    return _joined


def budgets_of(venue: VenueConfig, credentials: Credentials | None) -> VenueBudgets | None:
    """What the throttle of a client of ``venue`` shares; None: nothing. Raises ShmError."""
    return None if _joined is None else VenueBudgets(_joined, venue, credentials)


def _forget() -> None:
    global _joined
    _joined = None


os.register_at_fork(after_in_child=_forget)  # a segment has one writing process
