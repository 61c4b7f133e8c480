"""Order sessions of the executor: the first connection of each venue, and the alarm when one stays away.

No refusal is the last one: pauses by who refused (pipeline/exchanges/transport/backoff.py), for ever. Afterwards a
session keeps itself up. What does not come back is said, and said again, with the venue's or gateway's own words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from pipeline.exchanges.base import VenueTrading
from pipeline.exchanges.transport.backoff import KEY_RETRY_S, ReconnectPauses
from pipeline.model.errors import AuthRefused, VenueError
from shm.metrics import Metrics

DOWN_ALARM_S = 30.0
ALARM_EVERY_S = 300.0

Say = Callable[[str, str], None]


async def first_connection(trading: VenueTrading, say: Say, stop_requested: Callable[[], bool]) -> None:
    """Connect until it stands; afterwards the session keeps itself up."""
    pauses = ReconnectPauses()
    reported = False
    while not stop_requested():
        refused: VenueError | None = None
        try:
            await trading.connect()
            return
        except AuthRefused as error:
            refused = error
            say("critical", f"{trading.venue}: key refused, asked again every {KEY_RETRY_S:g} s: {error}")
        except (VenueError, TimeoutError, OSError) as error:
            refused = error if isinstance(error, VenueError) else None
            if not reported:
                reported = True
                say("warning", f"{trading.venue}: order entry not connected, tried again by itself: {error}")
        await asyncio.sleep(pauses.next_s(refused))


RATE_LIMIT_HITS = "answers by which the venue's rate limit refused a request"


class SessionWatch:
    """Says when a venue's sessions stay down, counts gateways' answers and rate limits, and names unreadable rows.

    ``trading``: by venue, filled as made; ``odd_rows``: names of such rows from elsewhere (bulk questions)."""

    def __init__(
        self,
        trading: Mapping[str, VenueTrading],
        metrics: Metrics,
        say: Say,
        odd_rows: Callable[[], list[str]] = list,
    ) -> None:
        self._trading = trading
        self._odd_rows = odd_rows
        self._metrics = metrics
        self._say = say
        self._down_since_ns: dict[str, int] = {}
        self._said_ns: dict[str, int] = {}
        self._counters: dict[str, int] = {}

    def tick(self, now_mono_ns: int) -> None:
        """Look at every venue."""
        for line in self._odd_rows():
            self._say("warning", line)
        for venue, trading in self._trading.items():
            text = "answers without the venue's own code, to orders and upgrades"
            self._count(f"gateway_answers.{venue}", text, trading.gateway_answers)
            self._count(f"rate_limit_hits.{venue}", RATE_LIMIT_HITS, trading.rate_limit_hits)
            for line in trading.take_odd_rows()[1]:
                self._say("warning", line)
            if trading.connected:
                self._back(venue, now_mono_ns)
            else:
                self._away(venue, trading, now_mono_ns)

    def _count(self, label: str, text: str, value: int) -> None:
        """Publish a count, once there is something to count."""
        if value or label in self._counters:
            if label not in self._counters:
                self._counters[label] = self._metrics.counter(label, text)
            self._metrics.set(self._counters[label], value)

    def _back(self, venue: str, now_ns: int) -> None:
        since_ns = self._down_since_ns.pop(venue, now_ns)
        if self._said_ns.pop(venue, 0):
            self._say("info", f"{venue}: order entry and private stream stand again after {_s(now_ns - since_ns)} s")

    def _away(self, venue: str, trading: VenueTrading, now_ns: int) -> None:
        down_ns = now_ns - self._down_since_ns.setdefault(venue, now_ns)
        said_ns = self._said_ns.get(venue, 0)
        due = now_ns - said_ns >= ALARM_EVERY_S * 1e9 if said_ns else down_ns >= DOWN_ALARM_S * 1e9
        if due:
            self._said_ns[venue] = now_ns
            reason = trading.why_down() or "not connected yet"
            self._say("critical", f"{venue}: down for {_s(down_ns)} s, tried again by itself: {reason}")


def _s(ns: int) -> int:
    return ns // 1_000_000_000
