"""``OpportunityDetector``: the detection of a running instance, switched on and off, and asked."""

from __future__ import annotations

from arbitrage.instance import Instance
from arbitrage.market_data import add_symbol
from arbitrage.orders import legs_of
from arbitrage.results import refusal_of
from pipeline.model.enums import Refusal
from pipeline.model.errors import ArbitrageEngineError
from pipeline.model.structs import ArbitrageOpportunity
from workers.control_socket import ControlError


class OpportunityDetector:
    """The detector process. Exits of open hedges and manual opportunities go on while detection is stopped."""

    def __init__(self, config: object) -> None:
        """``config``: what names the instance (see ``Instance``)."""
        self._instance = Instance(config)

    async def start_detection(self) -> None:
        """Look for opportunities (again); the engine does from its start on, unless ``stop_detection`` or the
        configuration says otherwise. Raises ControlError."""
        await self._switch(True)

    async def stop_detection(self) -> None:
        """Look for no entry any more, until ``start_detection`` or a reload of the configuration: no restart of a
        process or of the whole instance ends it. What was found before may still be executed. Raises ControlError, also
        where the detector does not take it in."""
        await self._switch(False)

    async def _switch(self, enabled: bool) -> None:
        reply = await self._instance.ask_supervisor("detection", enabled=enabled)
        if not reply["in_force"]:
            raise ControlError("detection: the detector has not taken it in yet, and will as soon as it runs again")

    @property
    def is_detecting(self) -> bool:
        """Whether the detector of a running instance looks for opportunities."""
        try:
            reply = self._instance.supervisor("detection")
            return bool(reply["enabled"] and reply["in_force"])
        except ArbitrageEngineError:
            return False

    async def validate_opportunity_risk(self, opportunity: ArbitrageOpportunity) -> Refusal:
        """What the gate says of it on the books of now: ``Refusal.NONE`` (0) where it would be taken; nothing is sent.
        Raises BadInput."""
        legs = await legs_of(self._instance, opportunity)
        return refusal_of(await self._instance.ask_executor("validate", opportunity=legs))

    async def add_symbol_monitoring(self, symbol: str, venue: str = "") -> list[str]:
        """Read and compare one more pair, at ``venue`` or at every venue that lists it; the venues that do. Raises
        BadInput where none does."""
        return await add_symbol(self._instance, symbol, venue)
