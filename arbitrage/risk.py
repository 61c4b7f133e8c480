"""``RiskManager``: risk of a running instance: metrics, breakers, alerts, the emergency stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from arbitrage.instance import Instance
from arbitrage.orders import legs_of
from arbitrage.watching import Watch
from pipeline.model.structs import ArbitrageOpportunity
from pipeline.risk.exposure import RiskMetrics
from pipeline.risk.manager import BreakerStatus

AlertCallback = Callable[[str, RiskMetrics], object]


class RiskManager:
    """Reads and commands the risk manager of the executor, which judges every entry whether anybody looks or not.

    ``risk_alert_callback(alert_type, metrics)`` hears of ``CIRCUIT_BREAKER_TRIGGERED`` and of ``HIGH_EXPOSURE`` (above
    ``risk_limits.warn_exposure_usd``) as the executor raises them, each once, while it monitors. What it
    raises is logged and counted, and the next alert comes all the same.
    """

    def __init__(self, config: object, risk_alert_callback: AlertCallback | None = None) -> None:
        """``config``: what names the instance (see ``Instance``)."""
        self._instance = Instance(config)
        self.risk_alert_callback = risk_alert_callback
        self._watch = Watch(f"risk of {self._instance.name}", self._listen)
        self._heard = -1  # number of the newest alert; -1: those before the start are not given to callbacks

    # --- monitoring ---

    @property
    def is_monitoring(self) -> bool:
        """Whether it listens, and the executor answered the last time."""
        return self._watch.answered

    @property
    def callback_errors(self) -> int:
        """How often ``risk_alert_callback`` has raised."""
        return self._watch.callback_errors

    async def start_monitoring(self) -> None:
        """Hear of alerts from now on. Raises ControlError where no executor answers. Idempotent."""
        await self._watch.start()

    async def stop_monitoring(self) -> None:
        """Hear of nothing more; the executor goes on judging."""
        await self._watch.stop()

    async def _listen(self) -> None:
        request: dict[str, Any] = {} if self._heard < 0 else {"after": self._heard}
        reply = await self._instance.ask_executor("risk", **request)
        if reply["alert_count"] < self._heard:  # another run of the executor: it counts anew
            reply = await self._instance.ask_executor("risk", after=0)
        self._heard = reply["alert_count"]
        for alert in reply["alerts"]:
            metrics = msgspec.convert(alert["metrics"], RiskMetrics, strict=False)
            self._watch.tell(self.risk_alert_callback, alert["type"], metrics)

    # --- numbers ---

    def get_current_risk_metrics(self) -> RiskMetrics:
        """One reading of now. Raises ControlError where no executor answers."""
        return msgspec.convert(self._instance.executor("risk")["metrics"], RiskMetrics, strict=False)

    def get_risk_statistics(self) -> dict[str, Any]:
        """``circuit_breaker_triggers`` (of this run of the executor), ``daily_realized_pnl``, ``approvals``,
        ``refusals``, ``total_exposure_usd``; amounts as text. Raises ControlError."""
        return dict(self._instance.executor("risk")["statistics"])

    def get_circuit_breaker_status(self) -> BreakerStatus:
        """Tripped breakers by name, with their reasons. Raises ControlError."""
        rows = self._instance.executor("risk")["breakers"]
        return BreakerStatus(tuple(row["name"] for row in rows), {row["name"]: row["reason"] for row in rows})

    # --- decisions ---

    async def validate_opportunity_risk(self, opportunity: ArbitrageOpportunity) -> bool:
        """Whether the gate would take it now; nothing is sent. Why not: ``OpportunityDetector``'s method of that name.
        Raises BadInput, ControlError."""
        legs = await legs_of(self._instance, opportunity)
        return bool((await self._instance.ask_executor("validate", opportunity=legs))["approved"])

    async def force_emergency_shutdown(self, reason: str) -> None:
        """No new risk until ``rearm``: the breaker ``emergency`` is tripped, orders that rest are cancelled. Exits and
        repairs go on. Raises ControlError."""
        await self._instance.ask_executor("emergency", reason=reason)

    async def rearm(self, breaker: str, reason: str, *, anyway: bool = False) -> None:
        """Re-arm one breaker, as ``arb breakers --rearm``. Raises BadInput where it is not tripped, and, but for
        ``anyway``, where its reason still stands: it may trip again at once."""
        await self._instance.ask_executor("rearm", name=breaker, reason=reason, anyway=anyway)
