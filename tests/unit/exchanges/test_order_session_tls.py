"""Order sessions of all venues over TLS, as in production: orders go by our own TLS, and what is lost is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import uvloop

from pipeline.exchanges.transport import openssl
from pipeline.exchanges.transport.http1 import Http1Connection
from pipeline.exchanges.transport.tls import TlsTransport
from pipeline.exchanges.transport.websocket import WsLink
from pipeline.model.enums import OrderState
from pipeline.model.errors import VenueUnavailable
from pipeline.model.structs import OrderUpdate
from pipeline.model.venue_events import OutcomeKind, PlaceOutcome, SessionState
from shm.tls.sealed import send_sealed
from tests.worlds.exchange_world import SESSIONS, market_of, world
from tests.worlds.tls.certificates import certificates
from tests.worlds.tls.front import Front, front
from tests.worlds.trading_venue import TradingVenue
from tests.worlds.waiting import until_async


@asynccontextmanager
async def fronted(name: str) -> AsyncIterator[tuple[TradingVenue, Front]]:
    async with world(market_of(name)) as box, front() as made:
        it = TradingVenue(box, name, await made.venue(box.venue(name)))
        await it.open()
        try:
            yield it, made
        finally:
            await it.close()


def on(name: str, scenario: Callable[[TradingVenue, Front], Awaitable[None]]) -> None:
    async def body() -> None:
        async with fronted(name) as (it, made):
            await scenario(it, made)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())


def transport_of(it: TradingVenue) -> Any:
    session: Any = it.trading
    line = session.order_line()
    assert isinstance(line, (Http1Connection, WsLink))
    transport = line._transport
    return transport if isinstance(line, Http1Connection) else transport.underlying_transport  # type: ignore[union-attr]


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates().authority))


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("name", SESSIONS)
def test_an_order_is_placed_and_filled(name: str, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """``own``: else the library cannot be called, and orders go by Python's ``ssl``."""
    if not own:
        monkeypatch.setattr(openssl, "_found", lambda: (None, "none here"))

    async def scenario(it: TradingVenue, made: Front) -> None:
        assert isinstance(transport_of(it), TlsTransport) is own
        it.trading.place(it.buy("a1"))
        outcome = await it.events.one(PlaceOutcome, client_id="a1")
        assert outcome.kind is OutcomeKind.ACKED
        end = await it.events.one(OrderUpdate, client_id="a1", state=OrderState.FILLED)
        assert end.filled_qty == it.buy("a1").qty
        await it.trading.close()
        with pytest.raises(VenueUnavailable):
            it.trading.place(it.buy("a2"))

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_an_order_that_a_kernel_has_sent_is_filled_like_any_other(name: str) -> None:
    async def scenario(it: TradingVenue, made: Front) -> None:
        _payload, wire = it.filled_template()
        found: Any = None

        def ready() -> bool:
            nonlocal found
            found = it.trading.direct_line()
            return found is not None

        await until_async(ready, "nothing waits to be read")
        line, fd = found
        assert line.seal
        taken = send_sealed(line.seal, fd, np.frombuffer(wire, np.uint8), 0, len(wire))
        assert taken == len(wire)
        it.trading.launched(line, it.spec.symbol, "s1x1", memoryview(wire), taken)
        assert (await it.events.one(PlaceOutcome, client_id="s1x1")).kind is OutcomeKind.ACKED
        end = await it.events.one(OrderUpdate, client_id="s1x1", state=OrderState.FILLED)
        assert end.filled_qty == it.buy("s1x1").qty
        it.trading.place(it.buy("a2"))  # behind it, by the session's own call
        assert (await it.events.one(PlaceOutcome, client_id="a2")).kind is OutcomeKind.ACKED

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_what_is_in_flight_when_the_connection_dies_is_unknown_and_the_session_comes_back(name: str) -> None:
    async def scenario(it: TradingVenue, made: Front) -> None:
        it.trading.place(it.buy("a1"))
        made.cut()
        outcome = await it.events.one(PlaceOutcome, client_id="a1")
        assert outcome.kind is OutcomeKind.UNKNOWN
        await it.events.one(SessionState, state="down")
        await until_async(lambda: it.trading.connected and it.trading.can_place(1), "the session")
        it.trading.place(it.buy("a2"))
        assert (await it.events.one(PlaceOutcome, client_id="a2")).kind is OutcomeKind.ACKED

    on(name, scenario)


@pytest.mark.parametrize("name", SESSIONS)
def test_a_venue_with_a_certificate_of_nobody_is_unavailable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    async def body() -> None:
        async with world(market_of(name)) as box, front() as made:
            it = TradingVenue(box, name, await made.venue(box.venue(name)))
            session: Any = it.trading
            with pytest.raises(VenueUnavailable, match="cannot"):
                await session.open_order_entry()
            await it.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())
