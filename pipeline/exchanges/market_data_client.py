"""Base of the clients of dialects that read market data alone (``trade = false`` in their manifest)."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.exchanges.base import HttpCall
from pipeline.exchanges.rest_client import RestVenueClient
from pipeline.model.errors import VenueUnavailable
from pipeline.model.structs import Balance, FeeSchedule, Fill, OrderUpdate, Position


class MarketDataClient(RestVenueClient):
    """Every question that needs a key raises ``VenueUnavailable``: nothing is sent."""

    def _none(self) -> VenueUnavailable:
        text = f"{self.venue}: the dialect {self.config.dialect} reads market data alone; nothing was sent"
        return VenueUnavailable(text, venue=self.venue)

    def _sign(self, method: str, path: str, query: str, body: bytes) -> HttpCall:
        raise self._none()

    async def balances(self) -> list[Balance]:
        raise self._none()

    async def positions(self) -> list[Position]:
        raise self._none()

    async def fees(self, symbols: Sequence[str]) -> list[FeeSchedule]:
        raise self._none()

    async def query_order(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate | None:
        raise self._none()

    async def open_orders(self, symbol: str) -> list[OrderUpdate]:
        raise self._none()

    async def finished_orders(self, symbol: str, since_wall_ms: int) -> list[OrderUpdate]:
        raise self._none()

    async def fills(self, symbol: str, since_wall_ms: int) -> list[Fill]:
        raise self._none()

    async def cancel(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate:
        raise self._none()

    async def cancel_all(self, symbol: str) -> list[OrderUpdate]:
        raise self._none()
