"""An executor's performer on an EntryWorld: a real core and journal, venues that write down what they send."""

from __future__ import annotations

import socket
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.execution.crash_points import nothing
from pipeline.execution.records import Outcome
from pipeline.execution.shared_reads import decode_opportunity
from pipeline.model.errors import VenueUnavailable
from pipeline.model.structs import OrderRequest
from pipeline.rehearsal.entry_world import EntryWorld
from shm.metrics import Metrics
from workers.executor.pages import ExecutorNumbers
from workers.executor.performer import Performer

MS = 1_000_000


class Line:
    """A plain connection that nobody answers on."""

    seal = 0

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.fd = self._ours.fileno()

    def came(self) -> bytes:
        """What the kernel has taken; b"" = nothing."""
        self._theirs.setblocking(False)
        try:
            return self._theirs.recv(1 << 16)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


class Venue:
    """Order entry that writes down what it signs and sends. ``on_send``: what happens with each send.

    ``line``: its plain connection (``VenueTrading.direct_line``); None: it takes bytes by ``launch``, signed here."""

    line: Line | None = None

    @property
    def signs_orders(self) -> bool:
        return self.line is None

    def __init__(self, log: list[str], *, up: bool = True, on_send: Callable[[], None] = lambda: None) -> None:
        self.log, self.up, self.on_send = log, up, on_send
        self.builds = True

    def prepare(self, order: OrderRequest) -> Callable[[], int]:
        if not self.builds:
            raise VenueUnavailable("symbol refused; nothing was sent")
        return lambda: self._send(order.client_id)

    def now_ms(self) -> int:
        return 7

    def sign(self, order: memoryview, start: int, stop: int, place: int) -> None:
        self.log.append("sign")

    def direct_line(self) -> tuple[Line, int] | None:
        if not self.up:
            raise VenueUnavailable("down; nothing was sent")
        return None if self.line is None else (self.line, self.line.fd)

    def launched(self, line: Line, symbol: str, client_id: str, wire: memoryview, taken: int) -> None:
        assert line is self.line and taken == len(wire)
        self._send(line.came().decode())

    def launch(self, symbol: str, client_id: str, payload: bytes) -> int:
        return self._send(payload.decode())

    def _send(self, text: str) -> int:
        if not self.up:
            raise VenueUnavailable("down; nothing was sent")
        self.log.append(f"send {text}")
        self.on_send()
        return 5


class Reports:
    """A queue of reports that takes everything."""

    def push(self, words: Any) -> bool:
        return True


def performer(core: Any, journal: Any, halt: Any, trading: dict[str, Any], **changes: Any) -> Performer:
    parts: dict[str, Any] = {
        "venue_ids": dict.fromkeys(trading, 0),
        "ask": lambda question: None,
        "numbers": ExecutorNumbers(Metrics.private()),
        "say": lambda level, text: None,
        "crash": lambda point: None,
        "reports": Reports(),
        "wake_detector": lambda: None,
        "on_fault": lambda: None,
    }
    return Performer(core, journal, halt, trading, **{**parts, **changes})


class WorldHalt:
    """The halt page of an EntryWorld, as the executor reads it."""

    def __init__(self, world: EntryWorld) -> None:
        self.page: Any = world.halt
        self.latched, self.lease_expiry_mono_ns, self.fenced = world.latched, world.lease_expiry_mono_ns, world.fenced
        self.venue_blocked, self.instrument_blocked = world.venue_blocked, world.instrument_blocked
        self.may_launch = world.may_launch

    def words(self) -> Any:
        return self.page


class Entry:
    """A performer on an EntryWorld whose opportunity is taken; ``at``: what happens at a crash point, by its name.

    :meth:`enter` goes a path: "exact"; "fast" by the sessions' own calls; "steps" over plain connections, one step
    after the other; "one call" over them as in production, with no hook: there "journalled" means where the journal's
    room is claimed, right before the call."""

    def __init__(self, folder: Path, *, path: str = "fast", **world: Any) -> None:
        self.world = EntryWorld(folder, **world)
        self.log: list[str] = []
        self.at: dict[str, Callable[[], None]] = {}
        self.passed: list[str] = []
        self.venues = {row.spec.venue: Venue(self.log) for row in self.world.rows}
        self.numbers = ExecutorNumbers(Metrics.private())
        self.halt = WorldHalt(self.world)
        if path in ("steps", "one call"):
            for venue in self.venues.values():
                venue.line = Line()
        if path == "one call":
            claim = self.world.journal.claim

            def claimed(size_bytes: int) -> Any:
                self._crash("journalled")
                return claim(size_bytes)

            self.world.journal.claim = claimed  # type: ignore[method-assign]
        self.performer = performer(
            self.world.core,
            self.world.journal,
            self.halt,
            self.venues,
            venue_ids={row.spec.venue: row.venue_id for row in self.world.rows},
            numbers=self.numbers,
            crash=nothing if path == "one call" else self._crash,
            clock=lambda: self.world.now_ns,
            wall=lambda: self.world.now().wall_ns,
        )
        self.world.fund_all()
        self.publish()

    def close(self) -> None:
        self.world.close()
        for venue in self.venues.values():
            if venue.line is not None:
                venue.line.close()

    def _crash(self, point: str) -> None:
        self.passed.append(point)
        self.at.get(point, lambda: None)()

    def pause(self, ms: float) -> None:
        self.world.now_ns += int(ms * MS)

    def publish(self) -> None:
        self.world.publish(0, [(Decimal(99), Decimal(5))], [(Decimal("99.1"), Decimal(5))])
        self.world.publish(1, [(Decimal(100), Decimal(5))], [(Decimal("100.1"), Decimal(5))])

    def record(self) -> Any:
        return self.world.record([(0, 1, Decimal("0.5"), Decimal("99.5")), (1, -1, Decimal("0.5"), Decimal("99.6"))])

    def enter(self, path: str) -> None:
        """An opportunity that is approved on this path."""
        if path != "exact":
            assert self.performer.enter_fast(self.record(), self.world.now_ns)
        else:
            self.performer.feed(decode_opportunity(self.record(), self.world.now_ns))

    @property
    def sent(self) -> int:
        return sum(line.startswith("send") for line in self.log)

    @property
    def states(self) -> list[str]:
        return [order.state.name for order in self.world.core.ledger.orders.values()]

    def refused(self) -> dict[str, int]:
        counters = self.numbers.metrics.counters()
        return {name.removeprefix("refused."): n for name, n in counters.items() if name.startswith("refused.") and n}

    def assert_flat(self) -> None:
        """Nothing left, nothing is held, nothing is to be sent: the operation failed without an order."""
        core = self.world.core
        assert not self.sent and self.states == ["NOT_SENT", "NOT_SENT"]
        assert not core.ledger.open_operations and not core.ledger.unsettled
        assert core.ledger.outcomes[Outcome.FAILED] == 1
        assert not core.balances.holding(), "every reservation is free again"
        assert not any(core.positions.delta().values())
