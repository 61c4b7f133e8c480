"""What the parts of the execution core share while they handle an event: state, time, ports, and the actions so far."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from pipeline.execution.events import Action, Alert, Append, HaltPort, JournalPort, MarketPort, Now
from pipeline.execution.ledger import Ledger
from pipeline.execution.market import Instruments
from pipeline.execution.records import BreakerRecord, Record
from pipeline.model.config import EngineConfig

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_DIGITS = frozenset(_DIGITS)
ID_PREFIX = "a"  # of the executor
GUARD_ID_PREFIX = "g"  # of the guard, while it stands in for it
ID_MAX = 28  # shortest limit of all venues (Gate.io text)
BOOT_EPOCH_MAX = 36**10 - 1
EXTERNAL_ALERT = "external"  # code of what the world did to the accounts
MOVED_KEPT = 5


def base36(number: int) -> str:
    """Lower-case base 36 of a non-negative number."""
    digits = ""
    while True:
        number, rest = divmod(number, 36)
        digits = _DIGITS[rest] + digits
        if not number:
            return digits


def epoch_of(client_id: str) -> int | None:
    """Boot epoch of an id of an engine's form (see :class:`Ids`); None for every other text."""
    epoch, mark, counter = client_id[1:].partition("x")
    if (
        not client_id.startswith((ID_PREFIX, GUARD_ID_PREFIX))
        or not mark
        or not epoch
        or not counter
        or len(client_id) > ID_MAX
    ):
        return None
    if not _ID_DIGITS.issuperset(epoch) or not _ID_DIGITS.issuperset(counter):
        return None
    return int(epoch, 36)


class Ids:
    """Ids of operations and orders, unique over all runs: prefix, the run's boot epoch, "x", a counter (base 36).

    Raises ValueError for a boot epoch outside 1..``BOOT_EPOCH_MAX``. No clock, no randomness.
    """

    def __init__(self, boot_epoch: int, prefix: str = ID_PREFIX) -> None:
        if not 0 < boot_epoch <= BOOT_EPOCH_MAX:
            raise ValueError(f"boot epoch out of range: {boot_epoch}")
        self.prefix = f"{prefix}{base36(boot_epoch)}x"
        self._count = 0
        self._head = ""  # digits of the last counter but its last one
        self._head_of = 0  # the number that those digits are

    def next(self) -> str:
        """The next id: at most 28 letters and digits, as every venue takes."""
        text = self.text(self.claim(1))
        assert len(text) <= ID_MAX, text
        return text

    def claim(self, count: int) -> int:
        """Reserves ``count`` ids; returns the counter of the first one (:meth:`text` makes the id of a counter)."""
        first = self._count + 1
        self._count += count
        return first

    def text(self, counter: int) -> str:
        """The id of a reserved counter."""
        head, last = divmod(counter, 36)
        if head != self._head_of:
            self._head, self._head_of = base36(head), head
        return f"{self.prefix}{self._head}{_DIGITS[last]}"


@dataclass(slots=True)
class CoreContext:
    """State and ports of the core, the time of the event under way, and the actions that it has caused so far.

    :meth:`record` is the only way to change the ledger, :meth:`act` the only way to ask for anything outside.
    """

    config: EngineConfig
    ledger: Ledger
    instruments: Instruments
    market: MarketPort
    halt: HaltPort
    journal: JournalPort
    ids: Ids
    now: Now = field(default_factory=lambda: Now(0, 0))
    taking_over: bool = False  # the guard's: hedges leave by their futures leg first, and nothing new begins
    actions: list[Action] = field(default_factory=list)
    #: (wall ns, text) of the newest alerts of what the world did to the accounts in this run, newest last.
    moved: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=MOVED_KEPT))

    def record(self, record: Record) -> None:
        """Folds the record into the ledger and asks for it to be appended to the journal."""
        self.ledger.apply(record, self.now.mono_ns, self.now.wall_ns)
        self.actions.append(Append(record))

    def act(self, action: Action) -> None:
        """Asks the caller to perform ``action``, behind those asked for before."""
        self.actions.append(action)

    def alert(self, severity: int, code: str, text: str) -> None:
        """Asks for an alert; ``severity`` 0 note, 1 warning, 2 critical."""
        if code == EXTERNAL_ALERT:
            self.moved.append((self.now.wall_ns, text))
        self.actions.append(Alert(severity, code, text))

    def trip(self, name: str, reason: str) -> None:
        """Trips the breaker ``name`` unless it is tripped already; only an operator re-arms it."""
        if name not in self.ledger.breakers and self.config.features.enable_circuit_breakers:
            self.record(BreakerRecord(name, True, reason))
            self.alert(2, "breaker", f"{name}: {reason}")

    def drain(self) -> list[Action]:
        """The actions asked for since the last call, in order."""
        actions, self.actions = self.actions, []
        return actions
