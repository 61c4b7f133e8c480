"""What the components that look at an instance once a second share: the looking, and a user's callbacks."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline.model.errors import ArbitrageEngineError

POLL_S = 1.0
CALLBACKS_END_S = 1.0  # for callbacks that run at the stop: to end by themselves, and to end when they are cancelled
logger = logging.getLogger("arbitrage")


class Watch:
    """Looks once a second from :meth:`start` to :meth:`stop`; a look that is not answered is logged, and the next one
    comes all the same.

    A user's callback is called through :meth:`tell`: what it raises is logged and counted (``callback_errors``) and
    ends neither the looking nor the stop.
    """

    def __init__(self, name: str, look: Callable[[], Awaitable[None]]) -> None:
        """``name``: what is watched, for the log. ``look``: one look; raises an ArbitrageEngineError where nobody
        answers."""
        self.name = name
        self.callback_errors = 0
        self._look = look
        self._answered = False
        self._task: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def answered(self) -> bool:
        """Whether it looks, and the last look was answered."""
        return self._task is not None and not self._task.done() and self._answered

    async def start(self) -> None:
        """Look now and once a second from now on. Raises what the first look raises. Idempotent."""
        if self._task is not None and not self._task.done():
            return
        await self._look()
        self._answered = True
        self._task = asyncio.create_task(self._poll(), name=self.name)

    async def stop(self) -> None:
        """Look no more. Whatever has ended the looking is logged and not raised. Callbacks that do not end soon are
        cancelled, but for one that stops it."""
        await self._look_no_more()
        await self._end_calls()

    async def _look_no_more(self) -> None:
        task, self._task, self._answered = self._task, None, False
        if task is None:
            return
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("%s: the watch had ended", self.name, exc_info=error)

    async def _end_calls(self) -> None:
        calls = self._calls - {asyncio.current_task()}
        if not calls:
            return
        _, late = await asyncio.wait(calls, timeout=CALLBACKS_END_S)
        for call in late:
            call.cancel()
        if late:
            _, deaf = await asyncio.wait(late, timeout=CALLBACKS_END_S)
            logger.warning("%s: %d callbacks were cancelled by the stop, %d go on", self.name, len(late), len(deaf))

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._look()
                self._answered = True
            except ArbitrageEngineError as error:
                if self._answered:
                    logger.warning("%s: %s", self.name, error)
                self._answered = False

    def tell(self, callback: Callable[..., object] | None, *news: object) -> None:
        """Call a user's callback, if there is one, as a task of its own in the running loop; a coroutine function is
        awaited there."""
        if callback is not None:
            call = asyncio.create_task(_called(callback, news), name=f"callback of {self.name}")
            self._calls.add(call)
            call.add_done_callback(self._callback_ended)

    def _callback_ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        error = None if call.cancelled() else call.exception()
        if error is not None:
            self.callback_errors += 1
            logger.error("%s: the callback raised", self.name, exc_info=error)


async def _called(callback: Callable[..., object], news: tuple[Any, ...]) -> None:
    answer = callback(*news)
    if inspect.isawaitable(answer):
        await answer
