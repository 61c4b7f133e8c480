"""Order sessions of all venues: made, connected until they stand, closed. The executor has them, and the guard while it
stands in for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from pipeline.exchanges.base import EventSink, VenueTrading
from pipeline.market_data import MarketDataAggregator
from pipeline.model.config import PaperConfig
from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid, VenueError
from workers.account_clients import KeyRole, credentials_of
from workers.base import WorkerContext
from workers.executor.session_watch import first_connection

if TYPE_CHECKING:
    from pipeline.model.instruments import InstrumentRow
    from workers.executor.venues import Questions

CLOSE_S = 1.0


class Sessions:
    """``trading``: sessions by venue, filled by :meth:`open`. Their events go to ``sink``, in the running loop.

    ``role``: whose keys they use. ``say``: one line for operators; it must not wait.
    """

    def __init__(
        self,
        ctx: WorkerContext,
        market: MarketDataAggregator,
        sink: EventSink,
        *,
        role: KeyRole = KeyRole.TRADE,
        say: Callable[[str, str], None] | None = None,
    ) -> None:
        self.trading: dict[str, VenueTrading] = {}
        self._ctx = ctx
        self._market = market
        self._sink = sink
        self._role = role
        self._say = say or ctx.say
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Makes the session of every venue that is traded. Raises ConfigInvalid where a key is missing."""
        config, rows = self._ctx.config, self._market.instruments
        for venue in config.trading_venues:
            if config.mode is Mode.PAPER:
                from pipeline.paper import PaperTrading
                from pipeline.paper_chance import OrderChance

                own = {row.spec.symbol: row for row in rows if row.spec.venue == venue.name}
                folder = self._ctx.state_dir / "paper"
                self.trading[venue.name] = PaperTrading(
                    venue,
                    folder,
                    self._market,
                    own,
                    self._sink,
                    chance=OrderChance(config.paper.get(venue.name, PaperConfig())),
                    leverage=config.detection.hedge.leverage,
                )
            else:
                from pipeline.exchanges.factory import make_trading

                credentials = credentials_of(self._ctx, venue.exchange, self._role)
                if credentials is None:
                    raise ConfigInvalid([f"exchanges.{venue.exchange}: no keys in the state folder"])
                self.trading[venue.name] = make_trading(venue, credentials, self._sink)
        self.set_multipliers()

    def connect(self) -> None:
        """Begins to connect every session; each is tried until it stands."""
        for trading in self.trading.values():
            task = asyncio.get_running_loop().create_task(
                first_connection(trading, self._say, self._ctx.stop_requested)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def set_multipliers(self) -> None:
        """Tells every session what a contract of its venue holds."""
        for name, trading in self.trading.items():
            rows = (row for row in self._market.instruments if row.spec.venue == name)
            trading.set_multipliers({row.spec.symbol: row.spec.multiplier for row in rows})

    def follow_clocks(self, clocks: Mapping[str, tuple[int, int]], questions: Questions) -> None:
        """What the poller has read of the venues' clocks (``AccountReader.clocks``), to all that sign."""
        for venue, reading in clocks.items():
            if venue in self.trading:
                self.trading[venue].follow_clock(*reading)
        questions.follow_clocks(clocks)

    def can_place(self, venue: str, count: int) -> bool:
        """Whether the venue's own limit on requests takes so many orders now; none go where there is no session."""
        return venue in self.trading and self.trading[venue].can_place(count)

    def take_rows(self, changed: Iterable[InstrumentRow]) -> None:
        """Rows of the catalogue have changed."""
        self.set_multipliers()
        if self._ctx.config.mode is not Mode.PAPER:
            return
        from pipeline.paper import PaperTrading

        for row in changed:
            trading = self.trading.get(row.spec.venue)
            if isinstance(trading, PaperTrading):
                trading.take_row(row)

    async def close(self) -> None:
        """Closes every session, each within ``CLOSE_S``."""
        for task in list(self._tasks):
            task.cancel()
        for trading in self.trading.values():
            try:
                async with asyncio.timeout(CLOSE_S):
                    await trading.close()
            except (VenueError, TimeoutError, OSError) as error:
                self._say("warning", f"{trading.venue}: {error}")
