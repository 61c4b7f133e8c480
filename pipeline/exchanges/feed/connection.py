"""One public connection of a feed: topics wanted, asked, acknowledged, refused; pings; stalls; its end.

The connection knows nothing of books: frames go to ``sink(payload, is_text, recv_mono_ns)``; the owner gives back
decoded control frames and says when the last other one came. It is opened once; the owner replaces it by a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from pipeline.exchanges.feed.public_stream import Control, ControlKind, PublicStream, Request
from pipeline.exchanges.transport.websocket import FrameSink, WsLink, open_ws
from pipeline.model.clock import mono_ns, wall_ms
from pipeline.model.errors import VenueRejected, VenueUnavailable

ACK_TIMEOUT_S = 5.0
REFUSED_RETRY_S = 60.0
ASKS_MAX = 3  # a topic that is neither acknowledged nor refused after so many requests ends the connection
STABLE_S = 10.0
CHANGE_AGAIN_S = 60.0
TICK_S = 0.25
PAUSE_NS = 1_000_000_000


class ConnectionRows:
    """Rows of the feed's connection table, shared by the markets of one exchange."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._free = deque(range(capacity))

    @property
    def roomy(self) -> bool:
        """A quarter is free: second connections must not take what first ones need."""
        return len(self._free) > self._capacity // 4

    def take(self) -> int:
        """The row that has been free for longest. Raises ``VenueRejected`` when all are in use."""
        if not self._free:
            raise VenueRejected("no free row in the feed's connection table")
        return self._free.popleft()

    def give_back(self, conn: int) -> None:
        """The row is free again."""
        self._free.append(conn)


class FeedConnection:
    """State of one connection. ``conn`` is its row in the feed's connection table."""

    def __init__(
        self,
        public: PublicStream,
        *,
        venue: str,
        conn: int,
        sink: FrameSink,
        last_data_ns: Callable[[], int],
        life_s: float,
        stall_after_s: float,
        on_ack: Callable[[FeedConnection, tuple[str, ...]], None],
        on_refused: Callable[[FeedConnection, tuple[str, ...], str], None],
        is_quiet: Callable[[FeedConnection], Awaitable[bool]],
    ) -> None:
        self._public = public
        self.venue = venue
        self.conn = conn
        self.life_s = life_s
        self.stall_after_s = stall_after_s
        self._sink = sink
        self._on_ack = on_ack
        self._on_refused = on_refused
        self._is_quiet = is_quiet
        self._confirmed_ns = 0  # when the venue last confirmed that there is nothing to say
        self._link: WsLink | None = None
        self._closed = asyncio.Event()
        self.end_reason = ""
        self.wanted: dict[str, None] = {}  # ordered
        self.acked: set[str] = set()
        self.refused: dict[str, str] = {}
        self._asked: dict[str, tuple[float, int]] = {}  # topic -> (loop time of the last request, requests)
        self.last_data_ns = last_data_ns
        self.renew_asked = False
        self.on_time = False  # proofs count only while the frames are of now; a new connection shows it first

    # --- opening and closing ---

    async def open(self) -> None:
        """Connect. Raises ``VenueUnavailable``, ``RateLimited``, ``GatewayRefused``."""
        self._link = await open_ws(
            self._public.url(),
            venue=self.venue,
            on_frame=self._sink,
            on_close=self._ended,
            headers=self._public.headers(),
        )

    def _ended(self, reason: str) -> None:
        self.end_reason = self.end_reason or reason
        self._closed.set()

    @property
    def is_open(self) -> bool:
        """The socket stands."""
        return self._link is not None and self._link.is_open

    def carries(self, topic: str) -> bool:
        """The connection stands and the venue has acknowledged ``topic``."""
        return self.is_open and topic in self.acked

    @property
    def age_s(self) -> float:
        """Seconds since the socket was opened."""
        return (mono_ns() - self._link.opened_mono_ns) / 1e9 if self._link is not None else 0.0

    def is_behind(self, other: FeedConnection) -> bool:
        """Whether ``other``, all of whose topics this one carries, has had data long after this one's last. What comes
        with a subscription does not count."""
        stall_ns, data_ns = self.stall_after_s * 1e9, other.last_data_ns()
        old_enough = other.age_s * 1e9 - (mono_ns() - data_ns) > 3 * stall_ns
        return old_enough and data_ns - self.last_data_ns() > stall_ns

    @property
    def complete(self) -> bool:
        """Every topic that was asked for is acknowledged or refused."""
        return all(topic in self.acked or topic in self.refused for topic in self.wanted)

    @property
    def due(self) -> bool:
        """It should be changed for a new one: the venue has announced its end, or its time is over."""
        return self.renew_asked or 0 < self.life_s <= self.age_s

    def put_off_change(self) -> None:
        """It could not be replaced now: once more in a while, also where the venue has announced its end."""
        self.renew_asked = False
        self.life_s = self.age_s + CHANGE_AGAIN_S

    def drop(self, reason: str) -> None:
        """End the connection now, without a closing handshake; the first reason counts."""
        self.end_reason = self.end_reason or reason
        if self._link is not None:
            self._link.disconnect(reason)

    def close(self) -> None:
        """End the connection politely."""
        self.end_reason = self.end_reason or "closed by us"
        if self._link is not None:
            self._link.close()

    # --- topics ---

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Ask for topics, at the pace that the venue allows."""
        fresh = [topic for topic in topics if topic not in self.acked]
        for topic in fresh:
            self.wanted[topic] = None
            self.refused.pop(topic, None)
        await self._send(self._public.subscribe(fresh, self._public.take_ids(len(fresh)), wall_ms() // 1000))

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        """End topics; those that were not asked for are ignored."""
        known = [topic for topic in topics if topic in self.wanted]
        for topic in known:
            self.wanted.pop(topic, None)
            self.acked.discard(topic)
            self._asked.pop(topic, None)
        await self._send(self._public.unsubscribe(known, self._public.take_ids(len(known)), wall_ms() // 1000))

    async def _send(self, requests: Sequence[Request]) -> None:
        loop = asyncio.get_running_loop()
        for request in requests:
            if self._link is None or not self._link.is_open:
                return
            with contextlib.suppress(VenueUnavailable):
                self._link.send_text(request.payload)
            for topic in request.topics:
                asked = self._asked.get(topic, (0.0, 0))[1]
                if topic in self.wanted:
                    self._asked[topic] = (loop.time(), asked + 1)
            await asyncio.sleep(1.0 / self._public.frames_per_s_max)

    def on_control(self, control: Control) -> None:
        """Apply one control frame. An acknowledgement that names nothing is of the oldest open request: answers come
        in the order of the requests."""
        if control.kind is ControlKind.ACK:
            topics = tuple(topic for topic in control.topics or self._oldest_asked() if topic in self.wanted)
            self.acked.update(topics)
            if topics:
                self._on_ack(self, topics)
        elif control.kind is ControlKind.REFUSED:
            topics = tuple(topic for topic in control.topics if topic in self.wanted and topic not in self.acked)
            self.refused.update(dict.fromkeys(topics, control.reason))
            self._asked.update({topic: (self._asked[topic][0], 0) for topic in topics if topic in self._asked})
            self._on_refused(self, topics, control.reason)
        elif control.kind is ControlKind.RECONNECT:
            self.renew_asked = True

    def _oldest_asked(self) -> tuple[str, ...]:
        open_topics = [topic for topic in self._asked if topic not in self.acked and topic not in self.refused]
        return tuple(sorted(open_topics, key=lambda topic: self._asked[topic][0])[:1])

    # --- watch ---

    async def watch(self) -> None:
        """Ping, ask again for what was not answered, end when silent or broken. Returns when the connection is gone."""
        loop = asyncio.get_running_loop()
        next_ping = loop.time() + self._public.ping_interval_s
        looked_ns = resumed_ns = mono_ns()
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._closed.wait()
                break
            link = self._link
            if link is None:
                return
            now_ns = mono_ns()
            paused = now_ns - looked_ns > PAUSE_NS  # we stood still, not the venue: what came is not read yet
            looked_ns = now_ns
            if paused:
                resumed_ns = now_ns  # nor has a ping been sent meanwhile
                continue
            if now_ns - max(link.last_frame_mono_ns, resumed_ns) > self.stall_after_s * 1e9:
                self.drop(f"no frame for {self.stall_after_s:g} s")
                continue
            if self.acked and self._silent_ns() > 3 * self.stall_after_s * 1e9:
                # pongs come, data does not: nothing happens in its markets, or its subscriptions are dead
                if await self._is_quiet(self):
                    self._confirmed_ns = mono_ns()
                elif self._silent_ns() > 3 * self.stall_after_s * 1e9:
                    self.drop(f"no data for {3 * self.stall_after_s:g} s")
                continue
            await self._ask_again(loop.time())
            if loop.time() >= next_ping:
                next_ping = loop.time() + self._public.ping_interval_s
                ping = self._public.ping(wall_ms() // 1000)
                if ping:
                    with contextlib.suppress(VenueUnavailable):
                        link.send_text(ping)
        if self._link is not None:
            await self._link.reraise()

    def _silent_ns(self) -> int:
        return mono_ns() - max(self.last_data_ns(), self._confirmed_ns)

    async def _ask_again(self, now: float) -> None:
        """What was not answered in time; after a while also what was refused."""
        again = [topic for topic in self.refused if now - self._asked.get(topic, (now, 0))[0] > REFUSED_RETRY_S]
        if again:
            await self.subscribe(again)
        late = [
            topic
            for topic in self.wanted
            if topic not in self.acked
            and topic not in self.refused
            and now - self._asked.get(topic, (now, 0))[0] > ACK_TIMEOUT_S
        ]
        if not late:
            return
        if any(self._asked[topic][1] >= ASKS_MAX for topic in late):
            self.drop(f"{len(late)} subscriptions not answered: {late[0]}")
            return
        await self.subscribe(late)
