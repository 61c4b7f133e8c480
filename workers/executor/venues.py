"""The executor's venues: order entry and private streams in its loop, REST questions in a thread of their own.

Bulk replies are fetched and decoded in the questions' loop, so that no callback of the order path waits for a JSON
document; answers come back as events of the execution core.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from pipeline.exchanges.base import VenueClient, balances_when_asked
from pipeline.execution.events import (
    FILL_LISTS,
    FORCED_LISTS,
    ORDER_LISTS,
    POSITION_LISTS,
    AddMargin,
    BalancesAnswer,
    CoreEvent,
    FetchBalances,
    FetchFills,
    FetchFunding,
    FetchInstrument,
    FetchMoney,
    FetchRiskTiers,
    FillsAnswer,
    FundingAnswer,
    InstrumentAnswer,
    MarginAnswer,
    MoneyAnswer,
    QueryAnswer,
    QueryOrder,
    Question,
    RiskTiersAnswer,
    SweepAnswer,
    SweepVenue,
)
from pipeline.model.clock import mono_ns, wall_ms
from pipeline.model.errors import (
    AuthRefused,
    ClockRefused,
    ProtocolViolation,
    RateLimited,
    RowsUnreadable,
    VenueError,
    VenueRejected,
)
from pipeline.model.structs import Balance, Fill, ForcedClose, OrderUpdate, Position, UnreadableRow

SWEEP_CONCURRENCY = 4  # requests of one sweep at a time: hedges and cancels keep their share of the budget
ANSWER_TIMEOUT_S = 5.0
SWEEP_TIMEOUT_S = 20.0
SWEEP_SYMBOL_S = 1.0  # what the narrowest budget of a venue may make one symbol wait
READ_PAUSES_S = (0.1, 0.4, 1.0)  # before the second, third and last attempt of one reading
FAULTS = (VenueError, TimeoutError, OSError)
PASSING = (RateLimited, ClockRefused)  # of this request alone: no word about what the venue takes a moment later
Answer = TypeVar("Answer")


class Questions:
    """REST side of all venues, on its own thread and loop. ``loop``: the executor's, in which answers are delivered."""

    def __init__(self, make_clients: Callable[[], dict[str, VenueClient]], loop: asyncio.AbstractEventLoop) -> None:
        self._make_clients = make_clients
        self._home = loop
        self._deliver: Callable[[CoreEvent], None] = _dropped
        self._clients: dict[str, VenueClient] = {}
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[CoreEvent]] = set()
        self._thread = threading.Thread(target=self._run, name="questions", daemon=True)

    def start(self, deliver: Callable[[CoreEvent], None]) -> None:
        """Begins to answer; ``deliver`` takes the answers, in the executor's loop."""
        self._deliver = deliver
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._open())
        self._loop.run_forever()

    async def _open(self) -> None:
        self._clients = self._make_clients()

    def close(self, timeout_s: float = 2.0) -> None:
        """Closes the clients, ends the thread, where it has begun, and closes its loop."""
        if self._thread.is_alive():
            future = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
            try:
                future.result(timeout_s)
            except TimeoutError:
                future.cancel()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._loop.close()

    async def _close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients.values():
            await client.close()

    def odd_rows(self) -> list[str]:
        """Rows of lists that could not be read and were left out, each name once, as lines for operators."""
        return [line for client in list(self._clients.values()) for line in client.take_odd_rows()[1]]

    def follow_clocks(self, clocks: Mapping[str, tuple[int, int]]) -> None:
        """What the poller has read of the venues' clocks: a question is signed by that, too."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._follow_clocks, clocks)

    def _follow_clocks(self, clocks: Mapping[str, tuple[int, int]]) -> None:
        for venue, reading in clocks.items():
            if venue in self._clients:
                self._clients[venue].follow_clock(*reading)

    def ask(self, question: Question) -> None:
        """Asks; the answer comes as an event, an error inside it, whatever the error: who asked waits for it. Behind
        the close nobody does."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._start, question)

    def set_countdown(self, venue: str, seconds: int, symbols: Sequence[str]) -> asyncio.Future[bool] | None:
        """Sets a venue's dead-man timer, or those of ``symbols``; whether it took it comes later. None: it has none,
        or nobody can be asked."""
        client = self._clients.get(venue)
        if client is None or not client.has_countdown or not self._thread.is_alive():
            return None
        work = asyncio.run_coroutine_threadsafe(self._countdown(venue, seconds, symbols), self._loop)
        return asyncio.wrap_future(work, loop=self._home)

    def countdown_factor(self, venue: str) -> int:
        """How many times as long as it is asked for the venue's dead-man timer may run."""
        client = self._clients.get(venue)
        return 1 if client is None else client.countdown_factor

    def depth_snapshot(self, venue: str, symbol: str) -> asyncio.Future[bytes] | None:
        """A venue's book by REST, as received; raises the errors of ``VenueClient`` where it is awaited. None: nobody
        can be asked."""
        client = self._clients.get(venue)
        if client is None or not self._thread.is_alive():
            return None
        work = asyncio.run_coroutine_threadsafe(client.depth_snapshot(symbol), self._loop)
        return asyncio.wrap_future(work, loop=self._home)

    async def _countdown(self, venue: str, seconds: int, symbols: Sequence[str]) -> bool:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._clients[venue].set_countdown(seconds, symbols)
        except FAULTS:
            return False
        return True

    def _start(self, question: Question) -> None:
        work: Coroutine[Any, Any, CoreEvent]
        if isinstance(question, QueryOrder):
            work = self._query(question)
        elif isinstance(question, FetchFills):
            work = self._fills(question)
        elif isinstance(question, FetchFunding):
            work = self._funding(question)
        elif isinstance(question, FetchMoney):
            work = self._money(question)
        elif isinstance(question, SweepVenue):
            work = self._sweep(question)
        elif isinstance(question, AddMargin):
            work = self._add_margin(question)
        elif isinstance(question, FetchRiskTiers):
            work = self._risk_tiers(question)
        elif isinstance(question, FetchInstrument):
            work = self._instrument(question)
        else:
            work = self._balances(question)
        task: asyncio.Task[CoreEvent] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._answer(question, done))

    def _answer(self, question: Question, task: asyncio.Task[CoreEvent]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # closing
            return
        error = task.exception()
        if error is None:
            event = task.result()
        else:  # a bug of ours: reported, and an answer all the same
            event = failed(question, _words(error))
            message = f"question failed: {type(question).__name__}"
            self._loop.call_exception_handler({"message": message, "exception": error, "task": task})
        self._home.call_soon_threadsafe(self._deliver, event)

    async def _query(self, question: QueryOrder) -> QueryAnswer:
        venue, symbol, client_id = question.venue, question.symbol, question.client_id
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                update = await self._clients[venue].query_order(symbol, client_id, question.order_id)
        except FAULTS as error:
            return QueryAnswer(venue, symbol, client_id, None, _words(error))
        return QueryAnswer(venue, symbol, client_id, update)

    async def _fills(self, question: FetchFills) -> FillsAnswer:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                fills = await self._clients[question.venue].fills(question.symbol, question.since_wall_ms)
        except RowsUnreadable as error:
            return FillsAnswer(question.venue, question.symbol, tuple(error.rows), _words(error))
        except FAULTS as error:
            return FillsAnswer(question.venue, question.symbol, (), _words(error))
        return FillsAnswer(question.venue, question.symbol, tuple(fills))

    async def _funding(self, question: FetchFunding) -> FundingAnswer:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                rows = await self._clients[question.venue].funding(question.since_wall_ms)
        except RowsUnreadable as error:
            return FundingAnswer(question.venue, tuple(error.rows), _words(error))
        except FAULTS as error:
            return FundingAnswer(question.venue, (), _words(error))
        return FundingAnswer(question.venue, tuple(rows))

    async def _money(self, question: FetchMoney) -> MoneyAnswer:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                moves = await self._clients[question.venue].money_moves(question.since_wall_ms)
        except RowsUnreadable as error:
            return MoneyAnswer(question.venue, tuple(error.rows), _words(error))
        except FAULTS as error:
            return MoneyAnswer(question.venue, (), _words(error))
        return MoneyAnswer(question.venue, tuple(moves))

    async def _add_margin(self, question: AddMargin) -> MarginAnswer:
        venue, symbol, amount = question.venue, question.symbol, question.amount
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._clients[venue].add_margin(symbol, amount)
        except FAULTS as error:
            refused = isinstance(error, VenueRejected) and not isinstance(error, PASSING)
            return MarginAnswer(venue, symbol, amount, _words(error), refused=refused)
        return MarginAnswer(venue, symbol, amount)

    async def _risk_tiers(self, question: FetchRiskTiers) -> RiskTiersAnswer:
        venue, symbol = question.venue, question.symbol
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return RiskTiersAnswer(venue, symbol, await self._clients[venue].risk_tiers(symbol))
        except FAULTS as error:
            return RiskTiersAnswer(venue, symbol, (), _words(error))

    async def _instrument(self, question: FetchInstrument) -> InstrumentAnswer:
        venue, symbol = question.venue, question.symbol
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                rows = await self._clients[venue].instruments([symbol])
        except FAULTS as error:
            return InstrumentAnswer(venue, symbol, None, _words(error))
        return InstrumentAnswer(venue, symbol, rows[0] if rows else None)

    async def _balances(self, question: FetchBalances) -> BalancesAnswer:
        async def one(venue: str) -> list[Balance]:
            return await balances_when_asked(self._clients[venue])

        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                found = await asyncio.gather(*(one(venue) for venue in question.venues))
        except FAULTS as error:
            return BalancesAnswer(question.token, (), _words(error))
        return BalancesAnswer(question.token, tuple(balance for balances in found for balance in balances))

    async def _sweep(self, question: SweepVenue) -> SweepAnswer:
        """One complete sweep: open, finished, fills per symbol, then balances and positions. Any fault = incomplete,
        but for rows of ours, or lists of one symbol, that cannot be read: the answer names what it lacks."""
        venue, began_mono_ns, began_wall_ms = question.venue, mono_ns(), wall_ms()
        client = self._clients[venue]
        orders: list[OrderUpdate] = []
        fills: list[Fill] = []
        balances: list[Balance] = []
        positions: list[Position] = []
        forced: list[ForcedClose] = []
        missing: list[UnreadableRow] = []
        gate, since_ms = asyncio.Semaphore(SWEEP_CONCURRENCY), question.since_wall_ms

        async def symbol_sweep(symbol: str) -> None:
            async with gate:
                orders.extend(await readable(lambda: client.open_orders(symbol), ORDER_LISTS, missing, symbol))
                ended = await readable(lambda: client.finished_orders(symbol, since_ms), ORDER_LISTS, missing, symbol)
                orders.extend(ended)
                fills.extend(await readable(lambda: client.fills(symbol, since_ms), FILL_LISTS, missing, symbol))

        error_text = ""
        try:
            async with asyncio.timeout(SWEEP_TIMEOUT_S + SWEEP_SYMBOL_S * len(question.symbols)):
                await asyncio.gather(*(symbol_sweep(symbol) for symbol in question.symbols))
                balances = await patiently(lambda: balances_when_asked(client))
                positions = await readable(client.positions, POSITION_LISTS, missing)
                forced = await readable(lambda: client.forced_closes(since_ms), FORCED_LISTS, missing)
        except FAULTS as error:
            error_text = _words(error)
        return SweepAnswer(
            venue=venue,
            began_mono_ns=began_mono_ns,
            began_wall_ms=began_wall_ms,
            since_wall_ms=question.since_wall_ms,
            symbols=question.symbols,
            orders=tuple(orders),
            fills=tuple(fills),
            balances=tuple(balances),
            positions=tuple(positions),
            forced=tuple(forced),
            error=error_text,
            unreadable=tuple(missing),
        )


def _dropped(event: CoreEvent) -> None:
    """Where answers go before the start: nothing is asked before it."""


async def patiently(ask: Callable[[], Awaitable[list[Answer]]]) -> list[Answer]:
    """A reading of a sweep, asked again after a fault that may pass: one 503 in a thousand must not void the sweep of
    a thousand symbols. Reading changes nothing; a refused key is not knocked with again."""
    for pause_s in READ_PAUSES_S:
        try:
            return await ask()
        except (AuthRefused, RowsUnreadable):
            raise
        except FAULTS:
            await asyncio.sleep(pause_s)
    return await ask()


async def readable(
    ask: Callable[[], Awaitable[list[Answer]]], what: str, missing: list[UnreadableRow], symbol: str = ""
) -> list[Answer]:
    """What can be read of a list, :func:`patiently`; what it lacks is added to ``missing``. A list of one ``symbol``
    that cannot be read at all is one such row."""
    try:
        return await patiently(ask)
    except RowsUnreadable as error:
        missing.extend(msgspec.structs.replace(row, what=what) for row in error.unreadable)
        return error.rows
    except ProtocolViolation as error:
        if not symbol:
            raise
        missing.append(UnreadableRow(what=what, name=symbol, reason=error.message))
        return []


def failed(question: Question, error: str) -> CoreEvent:
    """The answer to a question that could not even be asked."""
    if isinstance(question, QueryOrder):
        return QueryAnswer(question.venue, question.symbol, question.client_id, None, error)
    if isinstance(question, FetchFills):
        return FillsAnswer(question.venue, question.symbol, (), error)
    if isinstance(question, FetchFunding):
        return FundingAnswer(question.venue, (), error)
    if isinstance(question, FetchMoney):
        return MoneyAnswer(question.venue, (), error)
    if isinstance(question, AddMargin):
        return MarginAnswer(question.venue, question.symbol, question.amount, error)
    if isinstance(question, FetchRiskTiers):
        return RiskTiersAnswer(question.venue, question.symbol, (), error)
    if isinstance(question, FetchInstrument):
        return InstrumentAnswer(question.venue, question.symbol, None, error)
    if isinstance(question, FetchBalances):
        return BalancesAnswer(question.token, (), error)
    return SweepAnswer(
        venue=question.venue,
        began_mono_ns=mono_ns(),
        began_wall_ms=wall_ms(),
        since_wall_ms=question.since_wall_ms,
        symbols=question.symbols,
        error=error,
    )


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200] if str(error) else type(error).__name__
