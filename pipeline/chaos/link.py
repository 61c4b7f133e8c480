"""A venue as a careful client meets it: with the product's own request budgets and silences before the wire."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pipeline.exchanges.transport.gateway_watch import GatewayWatch
from pipeline.exchanges.transport.throttle import Limit, Throttle
from pipeline.model.errors import GatewayRefused, RateLimited, VenueError, VenueUnavailable
from pipeline.model.structs import OrderRequest
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.faults import RequestFaults
from pipeline.sim.exchange.latency import NS_PER_S, ManualClock
from pipeline.sim.exchange.venue import SimVenue
from pipeline.virtual.venue_link import VenueLink
from pipeline.virtual.venue_rows import VenueRows

ORDERS, QUESTIONS = "orders", "questions"
QUESTIONS_PER_S = 100.0
BACK_NS = 2_000_000  # the way back of an answer to a question


class Budgets:
    """Budgets and silences of one venue. They outlive a process, as the product's segment does."""

    def __init__(self, orders_per_s: int, clock: ManualClock, rng: random.Random) -> None:
        limits = {
            ORDERS: Limit(orders_per_s, 1.0, part=1.0),
            QUESTIONS: Limit(QUESTIONS_PER_S, 1.0, part=1.0),
        }
        self.throttle = Throttle(limits, clock_ns=clock.mono_ns)
        self.gateway = GatewayWatch(self.throttle, clock_ns=clock.mono_ns, rng=rng)

    def can_place(self, orders: int) -> bool:
        """Whether so many orders fit now."""
        return self.throttle.delay_s(ORDERS, orders) == 0.0


class BudgetedLink(VenueLink):
    """Orders over the budget are not sent; questions wait for it."""

    def __init__(
        self,
        venue: SimVenue,
        account: SimAccount,
        emit: Callable[[object], None],
        budgets: Budgets,
        rows: VenueRows | None,
    ) -> None:
        super().__init__(venue, account, emit, rows)
        self._budgets = budgets

    def place(self, request: OrderRequest) -> int:
        """As :class:`VenueLink`; raises ``VenueUnavailable`` inside a silence or over the budget."""
        if self.connected and not self._budgets.throttle.try_acquire(ORDERS):
            raise VenueUnavailable(f"{self.name}: no budget for an order; nothing was sent", venue=self.name)
        return super().place(request)

    def answered(self, error: VenueError | None, faults: RequestFaults) -> None:
        """What a placement's answer asks for; a connection that closes answers nothing."""
        if isinstance(error, RateLimited) or not (faults.drop_request or faults.drop_response):
            self._budgets.gateway.note(error, ORDERS)

    def ask(self, operation: str, symbol: str, answer: Callable[[str], Any], client_id: str = "") -> None:
        """Waits until the budget and a silence allow it."""
        wait_s = self._budgets.throttle.delay_s(QUESTIONS, take=True)
        if wait_s:
            self._clock.call_later(int(wait_s * NS_PER_S) + 1, lambda: self.ask(operation, symbol, answer, client_id))
        else:
            super().ask(operation, symbol, answer, client_id)

    def _admit(self, operation: str, symbol: str, client_id: str) -> RequestFaults:
        faults = super()._admit(operation, symbol, client_id)
        if operation not in ("place", "cancel") and (faults.status == 429 or faults.page_status):
            error: VenueError = RateLimited(
                f"{self.name}: too many requests", retry_after_s=faults.retry_after_s, venue=self.name
            )
            if faults.page_status:
                error = GatewayRefused(f"{self.name}: a page", venue=self.name, code=faults.page_status)
            self._clock.call_later(BACK_NS, lambda: self._budgets.gateway.note(error, QUESTIONS))
        return faults
