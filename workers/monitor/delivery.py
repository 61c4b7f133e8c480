"""Messages on their way: one bounded queue and one sender for each target, so that a target that is down delays nobody.

A target that is down is tried again with growing pauses; beyond ``queue_max`` the oldest message goes, and is counted.
Queues are kept in ``alerts.json``: a restart of the monitor forgets no message (and may send one twice).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial

from workers.monitor.alert_file import TargetState
from workers.monitor.alert_list import Message
from workers.monitor.lasting import lasting
from workers.monitor.targets import DeliveryFailed, Target

PAUSE_FIRST_S = 0.5
PAUSE_MAX_S = 30.0
Say = Callable[[str, str], None]


class Delivery:
    """All targets. ``states``: how each stands, for the file and for views."""

    def __init__(
        self, instance: str, targets: list[Target], states: Mapping[str, TargetState], queue_max: int, say: Say
    ) -> None:
        self._instance = instance
        self._targets = {target.name: target for target in targets}
        self._queue_max = queue_max
        self._say = say
        self.states = {name: states.get(name) or TargetState() for name in self._targets}
        self._news = {name: asyncio.Event() for name in self._targets}
        self._all_sent = asyncio.Event()
        self._senders: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to send, in the running loop."""
        self._senders = [
            asyncio.create_task(lasting(f"target {name}", partial(self._send_for_ever, target), self._say))
            for name, target in self._targets.items()
        ]

    def put(self, message: Message) -> None:
        """Send a message to every target that wants one of its severity."""
        for name, target in self._targets.items():
            if message.severity.rank < target.severity.rank:
                continue
            state = self.states[name]
            state.waiting.append(message)
            while len(state.waiting) > self._queue_max:
                del state.waiting[0]
                state.dropped += 1
            self._news[name].set()
            self._all_sent.clear()

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not any(state.waiting for state in self.states.values())

    async def flush(self, seconds: float) -> None:
        """Wait until nothing waits any more, at most so long."""
        if self.idle:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._all_sent.wait()

    async def close(self) -> None:
        """Stop sending."""
        for task in self._senders:
            task.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)  # one that has failed ends the others all the same

    async def _send_for_ever(self, target: Target) -> None:
        state, news = self.states[target.name], self._news[target.name]
        pause_s = PAUSE_FIRST_S
        while True:
            while not state.waiting:
                if self.idle:
                    self._all_sent.set()
                news.clear()
                await news.wait()
            message = state.waiting[0]
            try:
                await target.send(message, self._instance)
            except DeliveryFailed as error:
                state.failed_attempts += 1
                self._failed(target.name, state, error)
                if not error.final:
                    await asyncio.sleep(pause_s)
                    pause_s = min(PAUSE_MAX_S, pause_s * 2)
                    continue
                state.refused += 1
            else:
                pause_s = PAUSE_FIRST_S
                state.sent += 1
                state.last_sent_wall_ns = time.time_ns()
                if state.last_error:
                    state.last_error = ""
                    self._say("info", f"target {target.name}: takes messages again")
            if state.waiting and state.waiting[0] is message:  # else it was dropped meanwhile
                del state.waiting[0]

    def _failed(self, name: str, state: TargetState, error: DeliveryFailed) -> None:
        """Say it once for each way in which it fails."""
        if state.last_error != str(error):
            state.last_error = str(error)
            how = "this message is given up" if error.final else "tried again"
            self._say("error", f"target {name}: {error}; {how}, {len(state.waiting)} messages wait")
