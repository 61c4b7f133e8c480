"""Gate.io: whether an account is classic, asked once a minute; what a question without an answer costs.

The mode is asked of the unified account's own path, and where that does not answer of the key's details. Neither
answer is money: without one the mode that was seen last stands, and it is reported. Where none was ever seen, the mode
is unknown: balances go on, and no entry is made, as a unified account's sums mean something else. Only the very first
question, and those of an account that is refused, are awaited to their end; every other goes on beside the balances,
where its answer does not come at once.

*Source:* Gate.io API v4, "Unified": unified_mode; "Account": detail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.gateio.account_settings import check_account_mode, parse_account_mode, parse_key_mode
from pipeline.model.clock import mono_ns
from pipeline.model.errors import RateLimited, VenueError

EVERY_NS = 60_000_000_000  # an operator changes the account's mode by hand, and only while nothing is open
AGAIN_NS = 10_000_000_000  # after a question without an answer
TIMEOUT_S = 2.0  # of each path
SOON_S = 0.2  # so long balances wait for an answer; one that comes later is taken with those after it
PATHS = (("/unified/unified_mode", parse_account_mode), ("/account/detail", parse_key_mode))


class AccountMode:
    """The mode of one account. ``ask(path)``: a signed GET."""

    def __init__(self, venue: str, ask: Callable[[str], Awaitable[HttpReply]]) -> None:
        self._venue = venue
        self._ask = ask
        self._due_mono_ns = 0
        self._asking: asyncio.Task[str | None] | None = None
        self._refused = False  # the mode that was seen last is not classic: an operator may set it at any time
        self._seen: str | None = None  # the newest answer
        self.fault = ""  # why the last question had no answer

    @property
    def known(self) -> bool:
        """Whether the account was seen in any mode, or was not asked for it yet."""
        return self._seen is not None or not self.fault

    async def check(self) -> None:
        """Asks where it is due. Raises ``AccountSettingsWrong`` for an account that is not classic, and
        ``RateLimited``."""
        if self._asking is None and (self._refused or mono_ns() >= self._due_mono_ns):
            self._asking = asyncio.create_task(self._read_mode())
        if self._asking is not None:
            first = self._seen is None and not self.fault
            await asyncio.wait((self._asking,), timeout=None if first or self._refused else SOON_S)
        if self._asking is not None and self._asking.done():
            answer, self._asking = self._asking, None
            mode = answer.result()
            self._seen = mode or self._seen
            self._due_mono_ns = mono_ns() + (EVERY_NS if mode else AGAIN_NS)
        if self._seen is not None:
            self._refused = True
            check_account_mode(self._venue, self._seen)
            self._refused = False

    async def close(self) -> None:
        """Ends a question that is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait((self._asking,))

    async def _read_mode(self) -> str | None:
        faults = []
        for path, parse in PATHS:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    mode = parse(self._venue, (await self._ask(path)).body)
            except RateLimited:
                raise
            except (VenueError, TimeoutError) as error:  # a key without the right, an account that was never unified
                faults.append(str(error) or f"{path}: no answer within {TIMEOUT_S:g} s")
                continue
            self.fault = ""
            return mode
        self.fault = "; ".join(faults)
        return None
