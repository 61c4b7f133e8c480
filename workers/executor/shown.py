"""What the executor publishes, kept from ending it: views are worth less than the orders that they are about.

A state that cannot be shown is there again after a restart: five ends within a minute would be a storm, and the guard
would close every hedge for a row of a table. So this is an outermost frame, of everything that is only looked at.
"""

from __future__ import annotations

from collections.abc import Callable

from shm.metrics import Metrics
from workers.executor.publisher import Publisher

LOGGED_MAX = 8  # texts


class Shown:
    """``publisher`` behind it; what it raises is said once for each text, and counted (``views_failed``)."""

    def __init__(self, publisher: Publisher, metrics: Metrics, say: Callable[[str, str], None]) -> None:
        self._publisher = publisher
        self._metrics = metrics
        self._say = say
        self._failed = metrics.counter("views_failed", "times that a state could not be shown: a fault in a view")
        self._logged: set[str] = set()

    def tick(self, mono_ns: int) -> None:
        """As :meth:`Publisher.tick`."""
        try:
            self._publisher.tick(mono_ns)
        except Exception as error:  # noqa: BLE001  see above
            self._note(error)

    async def publish(self, *, stopped: bool = False) -> None:
        """As :meth:`Publisher.publish`."""
        try:
            await self._publisher.publish(stopped=stopped)
        except Exception as error:  # noqa: BLE001  see above
            self._note(error)

    def _note(self, error: Exception) -> None:
        self._metrics.inc(self._failed)
        text = f"{type(error).__name__}: {error}"[:200]
        if text not in self._logged and len(self._logged) < LOGGED_MAX:
            self._logged.add(text)
            self._say("error", f"the state cannot be shown: {text}; trading goes on, `arb status` shows older facts")
