"""One MEXC REST request as its handler sees it, and the shape of a route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.mexc.formats import MexcError
from pipeline.sim.wire.rate_limits import Budget


class ApiRequest(msgspec.Struct, frozen=True):
    """One request after the checks. ``account`` is None on public calls."""

    params: dict[str, str]
    account: SimAccount | None
    now_ms: int
    deadline_ms: int

    def required(self, name: str) -> str:
        """A parameter as text. Raises ``MexcError`` when it is missing or empty."""
        value = self.params.get(name, "")
        if not value:
            raise MexcError(700004, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return value

    def integer(self, name: str, default: int) -> int:
        """A whole number from 0; ``default`` when it is missing. Raises ``MexcError`` for another text."""
        text = self.params.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit():
            raise MexcError(700004, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return int(text)

    def decimal(self, name: str) -> Decimal | None:
        """A number; None when it is missing. Raises ``MexcError`` when it is not finite."""
        text = self.params.get(name, "")
        if not text:
            return None
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite() or not text.isascii() or "_" in text:
            raise MexcError(700004, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return value

    @property
    def owner(self) -> SimAccount:
        """The account that signed; only signed routes may ask."""
        assert self.account is not None
        return self.account


Handler = Callable[[ApiRequest], Awaitable[Any]]


class Route(msgspec.Struct, frozen=True):
    """A handler and its rules. ``operation``: one of ``faults.OPERATIONS``; ``weight``: MEXC's request weight."""

    handler: Handler
    operation: str
    weight: int
    signed: bool = False
    budget: Budget | None = None  # besides the weights


def instrument_of(venue: SimVenue, symbol: str) -> SimInstrument:
    """Raises ``MexcError`` for an unknown symbol."""
    instrument = venue.instruments.get(symbol)
    if instrument is None:
        raise MexcError(-1121, "Invalid symbol.")
    return instrument
