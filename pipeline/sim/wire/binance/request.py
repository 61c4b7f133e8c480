"""One request of Binance as its handler sees it, and the shape of a route; REST and WebSocket API alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance.auth import missing
from pipeline.sim.wire.binance.formats import BinanceError


class ApiRequest(msgspec.Struct, frozen=True):
    """One request after the checks. ``account`` is None on public calls without a key."""

    params: dict[str, str]
    account: SimAccount | None
    now_ms: int
    deadline_ms: int = 0

    def required(self, name: str) -> str:
        """A parameter as text. Raises ``BinanceError`` when it is missing or empty."""
        value = self.params.get(name, "")
        if not value:
            raise missing(name)
        return value

    def integer(self, name: str, default: int) -> int:
        """A whole number from 0; ``default`` when it is missing. Raises ``BinanceError`` for another text."""
        text = self.params.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit():
            raise BinanceError(
                -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
            )
        return int(text)

    def decimal(self, name: str, zero: tuple[int, str] | None = None) -> Decimal | None:
        """A positive number; None when it is missing. Raises ``BinanceError``; ``zero``: the refusal of 0."""
        text = self.params.get(name, "")
        if not text:
            return None
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite() or not text.isascii() or "_" in text or value < 0:
            raise BinanceError(-1100, f"Illegal characters found in parameter '{name}'.")
        if value == 0:
            raise BinanceError(*(zero or (-1013, f"Invalid {name}.")))
        return value

    @property
    def owner(self) -> SimAccount:
        """The account that signed; only signed routes may ask."""
        assert self.account is not None
        return self.account


Handler = Callable[[ApiRequest], Awaitable[Any]]


class Route(msgspec.Struct, frozen=True):
    """A handler and its rules. ``operation``: one of ``faults.OPERATIONS``; ``weight``: of the address's budget;
    ``keyed``: not signed, and yet a key must be named."""

    handler: Handler
    operation: str
    weight: int
    signed: bool = True
    keyed: bool = False


def instrument_of(venue: SimVenue, symbol: str) -> SimInstrument:
    """Raises ``BinanceError`` for an unknown symbol."""
    instrument = venue.instruments.get(symbol)
    if instrument is None:
        raise BinanceError(-1121, "Invalid symbol.")
    return instrument
