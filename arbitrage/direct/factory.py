"""Makes direct exchanges by the names of their venues, opens them together and closes them all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec

from arbitrage.direct.composite import CompositeExchange
from arbitrage.exchanges import PrivateExchangeInterface, PublicExchangeInterface, public_class
from pipeline.model.config import EngineConfig
from pipeline.model.dialects import dialect_names
from pipeline.model.errors import BadInput

ExchangeObject = PublicExchangeInterface | PrivateExchangeInterface
Source = ExchangeObject | EngineConfig | None


class FullExchangeFactory:
    """``exchanges``: objects by exchange, as an engine is given them: endpoints, symbols, key. A venue of an exchange
    that is not among them is made with its own public endpoints and no key.

    async with FullExchangeFactory(simulated.private_exchanges) as factory:
        mexc, gateio = (await factory.create_multiple_exchanges(["mexc_spot", "gateio_spot"])).values()
    """

    def __init__(self, exchanges: Mapping[str, ExchangeObject] | None = None) -> None:
        self._exchanges = {str(name): exchange for name, exchange in (exchanges or {}).items()}
        self._open: list[CompositeExchange] = []

    async def create_exchange(self, name: str, source: Source = None, symbols: Sequence[str] = ()) -> CompositeExchange:
        """The venue ``name`` (``"mexc_spot"``), open. ``source``: the exchange object, or a configuration that has the
        venue (market data alone); ``symbols``: checked to be listed.

        Raises BadInput for a venue that nobody knows, ConfigInvalid, and a VenueError where it cannot be opened."""
        made = self._make(name, source)
        await made.__aenter__()
        self._open.append(made)
        for symbol in symbols:
            await made.get_symbol_info(symbol)
        return made

    async def create_multiple_exchanges(
        self, names: Sequence[str], symbols: Sequence[str] = ()
    ) -> dict[str, CompositeExchange]:
        """All at once; where one cannot be opened none stays open."""
        made = await asyncio.gather(
            *(self.create_exchange(name, symbols=symbols) for name in names), return_exceptions=True
        )
        failed = [error for error in made if isinstance(error, BaseException)]
        if failed:
            await self.close_all()
            raise failed[0]
        return {name: one for name, one in zip(names, made, strict=True) if isinstance(one, CompositeExchange)}

    async def close_all(self) -> None:
        """Closes every exchange that this factory has opened."""
        opened, self._open = self._open, []
        await asyncio.gather(*(exchange.close() for exchange in opened))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_all()

    def _make(self, name: str, source: Source) -> CompositeExchange:
        if isinstance(source, EngineConfig):
            known = {venue.name: venue for venue in source.venues}
            if name not in known:
                raise BadInput(f"exchange: found {name!r}, wanted a venue of the configuration: {', '.join(known)}")
            return CompositeExchange(known[name])
        exchange, _, market = name.rpartition("_")
        if exchange not in dialect_names():
            raise BadInput(
                f"exchange: found {name!r}, wanted EXCHANGE_MARKET, as 'x_spot', with an exchange of: "
                f"{', '.join(dialect_names())}"
            )
        given = source or self._exchanges.get(exchange) or public_class(exchange)(markets=(market,))
        venue = msgspec.structs.replace(given.venue_config(market), name=name)
        return CompositeExchange(venue, given.hand_over() if isinstance(given, PrivateExchangeInterface) else None)
