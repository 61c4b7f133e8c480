"""``BalanceMonitor``: balances of a running instance, and money that is kept from its orders."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

from arbitrage.instance import Instance
from arbitrage.watching import Watch
from pipeline.model.errors import BadInput

LowBalance = Callable[[str, str, Decimal], object]  # venue, asset, free


class BalanceMonitor:
    """Balances as the executor counts with them: from the private stream, confirmed by REST, less what is reserved.

    ``balance_alert_callback(venue, asset, free)`` hears of a balance below its threshold, once until it is above again;
    thresholds are those of ``start_monitoring`` and of ``inventory.alarms`` in the configuration. What it raises is
    logged and counted, and the next one comes all the same.
    """

    def __init__(self, config: object, balance_alert_callback: LowBalance | None = None) -> None:
        """``config``: what names the instance (see ``Instance``)."""
        self._instance = Instance(config)
        self.balance_alert_callback = balance_alert_callback
        self._thresholds: dict[tuple[str, str], Decimal] = {}
        self._low: set[tuple[str, str]] = set()
        self._watch = Watch(f"balances of {self._instance.name}", self._look)

    # --- monitoring ---

    @property
    def is_monitoring(self) -> bool:
        """Whether it looks, and the executor answered the last time."""
        return self._watch.answered

    @property
    def callback_errors(self) -> int:
        """How often ``balance_alert_callback`` has raised."""
        return self._watch.callback_errors

    async def start_monitoring(self, thresholds: dict[tuple[str, str], Decimal] | None = None) -> None:
        """Look once a second. ``thresholds``: (venue, asset) -> free amount. Raises ControlError."""
        self._thresholds = dict(thresholds or {})
        await self._watch.start()

    async def stop_monitoring(self) -> None:
        """Look no more."""
        await self._watch.stop()

    async def _look(self) -> None:
        rows = (await self._instance.ask_executor("balances"))["balances"]
        for row in rows:
            key, free = (str(row["venue"]), str(row["asset"])), Decimal(row["free"])
            threshold = self._thresholds.get(key)
            low = bool(row["low"]) if threshold is None else free < threshold
            if low and key not in self._low:
                self._watch.tell(self.balance_alert_callback, *key, free)
            (self._low.add if low else self._low.discard)(key)

    # --- questions ---

    async def get_balances(self) -> list[dict[str, Any]]:
        """Every balance: total, free, reserved, usable, age_ms of its confirmation, as ``arb balance``."""
        return list((await self._instance.ask_executor("balances"))["balances"])

    async def get_balance(self, venue: str, asset: str) -> Decimal:
        """What new orders may use there: free less reserved. Raises BadInput for a balance that nobody has."""
        for row in await self.get_balances():
            if (row["venue"], row["asset"]) == (venue, asset):
                return Decimal(row["usable"])
        raise BadInput(f"found no balance of {asset} at {venue}, wanted one of the account; see `arb balance`")

    async def check_sufficient_balance(self, venue: str, asset: str, amount: Decimal) -> bool:
        """Whether the balance is proved now (stream up, confirmed by REST in time) and covers ``amount``."""
        reply = await self._instance.ask_executor("check_balance", venue=venue, asset=asset, amount=str(amount))
        return bool(reply["sufficient"])

    # --- reservations ---

    async def reserve_balance(self, name: str, venue: str, asset: str, amount: Decimal, reason: str = "") -> None:
        """Keep an amount from new orders until it is released, over restarts. Raises BadInput beyond the usable."""
        request = {"name": name, "venue": venue, "asset": asset, "amount": format(amount, "f"), "reason": reason}
        await self._instance.ask_executor("set_aside", **request)

    async def release_balance(self, name: str) -> None:
        """Release what was reserved by that name. Raises BadInput where nothing was."""
        await self._instance.ask_executor("release", name=name)

    @contextlib.asynccontextmanager
    async def reserved(self, name: str, venue: str, asset: str, amount: Decimal) -> AsyncIterator[None]:
        """:meth:`reserve_balance` for a block."""
        await self.reserve_balance(name, venue, asset, amount)
        try:
            yield
        finally:
            await self.release_balance(name)
