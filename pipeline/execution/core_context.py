"""What the parts of the core share: the ledger, the outbox, the time of the event, ids, configuration, ports."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.execution.events import Action, Alert, Append, HaltPort, JournalPort, MarketPort, Now
from pipeline.execution.ledger import Ledger
from pipeline.execution.market import Instruments
from pipeline.execution.records import BreakerRecord, Record
from pipeline.model.config import EngineConfig

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
ID_PREFIX = "a"
ID_MAX = 28  # shortest limit of all venues (Gate.io text)
BOOT_EPOCH_MAX = 36**10 - 1


def base36(number: int) -> str:
    """Lower-case base 36 of a non-negative number."""
    digits = ""
    while True:
        number, rest = divmod(number, 36)
        digits = _DIGITS[rest] + digits
        if not number:
            return digits


class Ids:
    """Ids unique over all time: boot epoch (in the journal, +1 a run) and a counter. No clock, no randomness."""

    def __init__(self, boot_epoch: int) -> None:
        if not 0 < boot_epoch <= BOOT_EPOCH_MAX:
            raise ValueError(f"boot epoch out of range: {boot_epoch}")
        self.prefix = f"{ID_PREFIX}{base36(boot_epoch)}x"
        self._count = 0
        self._head = ""  # of the counter: all of its digits but the last
        self._head_of = 0  # the number that they are

    def next(self) -> str:
        """At most 28 letters and digits: "a", epoch (at most 10), "x", counter."""
        text = self.text(self.claim(1))
        assert len(text) <= ID_MAX, text
        return text

    def claim(self, count: int) -> int:
        """The counters of the next ``count`` ids: this one and those behind it (``prefix`` and base 36 make the id)."""
        first = self._count + 1
        self._count += count
        return first

    def text(self, counter: int) -> str:
        """The id of a claimed counter."""
        head, last = divmod(counter, 36)
        if head != self._head_of:
            self._head, self._head_of = base36(head), head
        return f"{self.prefix}{self._head}{_DIGITS[last]}"


@dataclass(slots=True)
class CoreContext:
    """One event's surroundings. ``record`` is the only way to change state, ``act`` the only way out."""

    config: EngineConfig
    ledger: Ledger
    instruments: Instruments
    market: MarketPort
    halt: HaltPort
    journal: JournalPort
    ids: Ids
    now: Now = field(default_factory=lambda: Now(0, 0))
    actions: list[Action] = field(default_factory=list)

    def record(self, record: Record) -> None:
        """Folds the record into the ledger and asks for it to be journalled."""
        self.ledger.apply(record, self.now.mono_ns, self.now.wall_ns)
        self.actions.append(Append(record))

    def act(self, action: Action) -> None:
        self.actions.append(action)

    def alert(self, severity: int, code: str, text: str) -> None:
        self.actions.append(Alert(severity, code, text))

    def trip(self, name: str, reason: str) -> None:
        """Trips a breaker once; an operator re-arms it."""
        if name not in self.ledger.breakers and self.config.features.enable_circuit_breakers:
            self.record(BreakerRecord(name, True, reason))
            self.alert(2, "breaker", f"{name}: {reason}")

    def drain(self) -> list[Action]:
        actions, self.actions = self.actions, []
        return actions
